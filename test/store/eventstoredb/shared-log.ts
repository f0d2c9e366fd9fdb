/** A part of a log that others have written to, as a store of its own: categories with a prefix, and everything from a place on. For servers that cannot be emptied. */
import { assertStreamName } from "../../../src/store/stream-name.ts";
import type { AppendOutcome, EventStore, LogPage, ReadLogOptions, StoredEvent } from "../../../src/store/event-store.ts";
import type { Position } from "../../../src/store/position.ts";

export function partOf(store: EventStore, prefix: string, begin: Position): EventStore {
  const outer = (stream: string): string => {
    try {
      assertStreamName(stream);
      return prefix + stream;
    } catch {
      return stream;
    }
  };
  const inner = (event: StoredEvent): StoredEvent => ({ ...event, stream: event.stream.slice(prefix.length) });
  const innerOutcome = (outcome: AppendOutcome): AppendOutcome => (outcome.kind === "conflict" && outcome.missing !== undefined ? { ...outcome, missing: outcome.missing.map(inner) } : outcome);
  const outerOptions = ({ after, categories, ...rest }: ReadLogOptions): ReadLogOptions => ({
    ...rest,
    after: after === undefined || Object.keys(after).length === 0 ? begin : after,
    ...(categories !== undefined && { categories: categories.map((category) => prefix + category) }),
  });
  async function* pages(of: AsyncIterable<LogPage>): AsyncGenerator<LogPage> {
    for await (const page of of) {
      const events = page.events.filter((event) => event.stream.startsWith(prefix)).map(inner);
      if (events.length > 0 || page.events.length === 0 || page.caughtUp) yield { ...page, events };
    }
  }
  return {
    capabilities: store.capabilities,
    identity: (signal) => store.identity(signal),
    append: async (appends) => (await store.append(appends.map((append) => ({ ...append, stream: outer(append.stream) })))).map(innerOutcome),
    async readStream(stream, options) {
      const slice = await store.readStream(outer(stream), options);
      return { ...slice, events: slice.events.map(inner) };
    },
    readAll: (options = {}) => pages(store.readAll(outerOptions(options))),
    subscribe: (options = {}) => pages(store.subscribe(outerOptions(options))),
    close: () => store.close(),
  };
}
