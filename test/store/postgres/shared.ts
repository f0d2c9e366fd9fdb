/** What tests and the processes that they start share. */
import type { Append, EventStore, ExpectedVersion, StoredEvent } from "../../../src/store/event-store.ts";
import type { Position } from "../../../src/store/position.ts";

/** An append of events with the given ids. */
export function appendOf(stream: string, expected: ExpectedVersion, ids: readonly string[], data = "{}"): Append {
  const events = ids.map((id) => ({ id, type: "Happened", data, metadata: { correlationId: id, causationId: id, commandId: id }, recordedAt: 1_700_000_000_000 }));
  return { stream, expected, events };
}

/** Every event of the log by its id, after a check that no id stands twice, that positions grow (and in a plain log have no gaps) and versions are contiguous. */
export async function readChecked(store: EventStore, after: Position = {}, { gaps = false } = {}): Promise<Map<string, StoredEvent>> {
  const found = new Map<string, StoredEvent>();
  const versions = new Map<string, number>();
  let position = after["log"] ?? 0;
  for await (const page of store.readAll({ after })) {
    for (const event of page.events) {
      if (found.has(event.id)) throw new Error(`${event.id} stands twice`);
      const here = event.position["log"] ?? 0;
      if (gaps ? here <= position : here !== position + 1) throw new Error(`position ${here} follows ${position}`);
      position = here;
      if (after["log"] === undefined && event.version !== (versions.get(event.stream) ?? 0) + 1) throw new Error(`version ${event.version} of ${event.stream} follows ${versions.get(event.stream)}`);
      versions.set(event.stream, event.version);
      found.set(event.id, event);
    }
  }
  return found;
}

/** Resolves when the condition holds; looked at every few milliseconds, for at most `withinMs`. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

/** Small, seeded. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The streams that the children write. */
export const STREAMS = ["order-1", "order-2", "order-3", "cart-1", "cart-2", "cart-3"] as const;
