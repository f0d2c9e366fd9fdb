/**
 * The contract is only worth what it catches: each store here breaks one promise, and the cases named beside it must turn red.
 */
import { AssertionError } from "node:assert/strict";
import { describe, expect, it } from "vitest";
import type { Append, AppendOutcome, EventStore, LogPage, ReadLogOptions, StoredEvent } from "../../src/store/event-store.ts";
import { eventStoreCases, eventStoreContract } from "../../src/testing/store-contract.ts";
import type { StoreCase } from "../../src/testing/store-contract.ts";
import { memoryHarness } from "../store/memory/memory-harness.ts";

type Wrap = (store: EventStore) => EventStore;
type Pages = AsyncIterable<LogPage>;

/** The store with some of its methods replaced. */
function changed(store: EventStore, change: Partial<EventStore>): EventStore {
  return {
    capabilities: store.capabilities,
    identity: (signal) => store.identity(signal),
    append: (appends) => store.append(appends),
    readStream: (stream, options) => store.readStream(stream, options),
    readAll: (options) => store.readAll(options),
    subscribe: (options) => store.subscribe(options),
    close: () => store.close(),
    ...change,
  };
}

/** Replaces pages of both kinds of reading. */
function paged(map: (pages: Pages, options: ReadLogOptions) => Pages): Wrap {
  return (store) => changed(store, { readAll: (options = {}) => map(store.readAll(options), options), subscribe: (options = {}) => map(store.subscribe(options), options) });
}

function eachPage(map: (page: LogPage, index: number) => LogPage): Wrap {
  return paged(async function* (pages) {
    let index = 0;
    for await (const page of pages) yield map(page, index++);
  });
}

function without<T extends object>(options: T | undefined, key: keyof T): T {
  const rest = { ...options } as T;
  delete rest[key];
  return rest;
}

/** Replaces the appends on their way in. */
function appending(map: (append: Append) => Append): Wrap {
  return (store) => changed(store, { append: (appends) => store.append(appends.map(map)) });
}

function outcome(map: (outcome: AppendOutcome, append: Append) => AppendOutcome): Wrap {
  return (store) => changed(store, { append: async (appends) => (await store.append(appends)).map((one, index) => map(one, appends[index] as Append)) });
}

let fresh = 0;

const MUTANTS: readonly { readonly broken: string; readonly wrap: Wrap; readonly red: readonly string[] }[] = [
  {
    broken: "does not check the expected version",
    wrap: appending((append) => ({ ...append, expected: typeof append.expected === "number" ? "any" : append.expected })),
    red: ["an exact version commits on exactly that version", "of two writers racing on one version exactly one wins, and the other one learns the actual version"],
  },
  {
    broken: "takes none for any",
    wrap: appending((append) => ({ ...append, expected: append.expected === "none" ? "any" : append.expected })),
    red: ["0 and none commit on an empty stream only"],
  },
  {
    broken: "takes exists for any",
    wrap: appending((append) => ({ ...append, expected: append.expected === "exists" ? "any" : append.expected })),
    red: ["exists commits where the stream holds something, any commits always"],
  },
  {
    broken: "doubles events that come again",
    wrap: (store) => {
      const seen = new Set<string>();
      return changed(store, {
        append: (appends) =>
          store.append(
            appends.map((append) => {
              const again = append.events?.some?.((one) => seen.has(one?.id)) === true;
              for (const one of append.events ?? []) seen.add(one?.id);
              return again ? { ...append, expected: "any", events: append.events.map((one) => ({ ...one, id: `${one.id}-${fresh++}` })) } : append;
            }),
          ),
      });
    },
    red: ["the same event ids again are answered as the first time and stand once", "the same event ids again stand once with any and exists too"],
  },
  {
    broken: "answers a repeated append with the version the stream is at",
    wrap: (store) =>
      changed(store, {
        append: async (appends) =>
          Promise.all(
            (await store.append(appends)).map(async (one, index) =>
              one.kind === "committed" ? { ...one, version: (await store.readStream((appends[index] as Append).stream)).version } : one,
            ),
          ),
      }),
    red: ["the same event ids again are answered as the first time and stand once"],
  },
  {
    broken: "tells an outcome that is not that of the answer",
    wrap: (store) =>
      changed(store, {
        append: async (appends, onOutcome) => {
          if (appends.length > 1) onOutcome?.(0, { kind: "unknown", cause: undefined });
          return store.append(appends);
        },
      }),
    red: ["an outcome that is told before the batch is answered is that of the answer, and is told once"],
  },
  {
    broken: "tells an outcome twice",
    wrap: (store) =>
      changed(store, {
        append: async (appends, onOutcome) => {
          const outcomes = await store.append(appends);
          if (appends.length > 1) for (let twice = 0; twice < 2; twice++) onOutcome?.(0, outcomes[0] as AppendOutcome);
          return outcomes;
        },
      }),
    red: ["an outcome that is told before the batch is answered is that of the answer, and is told once"],
  },
  {
    broken: "commits the part of an append that stands not yet",
    wrap: (store) =>
      changed(store, {
        append: async (appends) =>
          Promise.all(
            appends.map(async (append) => {
              const [first] = await store.append([append]);
              if (first?.kind !== "conflict" || !first.missing?.some((one) => append.events.some((mine) => mine.id === one.id))) return first as AppendOutcome;
              const standing = new Set(first.missing.map((one) => one.id));
              const rest = append.events.filter((one) => !standing.has(one.id));
              if (rest.length === 0) return first;
              return (await store.append([{ ...append, expected: "any", events: rest }]))[0] as AppendOutcome;
            }),
          ),
      }),
    red: ["an append of which only a part stands already is a conflict and writes nothing"],
  },
  {
    broken: "tears an append into single ones",
    wrap: (store) =>
      changed(store, {
        append: async (appends) => {
          const outcomes: AppendOutcome[] = [];
          for (const append of appends) {
            let last = (await store.append([{ ...append, events: append.events.slice(0, 1) }]))[0] as AppendOutcome;
            for (const one of append.events.slice(1)) if (last.kind === "committed") [last] = (await store.append([{ ...append, expected: last.version, events: [one] }])) as [AppendOutcome];
            outcomes.push(last);
          }
          return outcomes;
        },
      }),
    red: ["an append of several events is there as a whole or not at all, for every reader"],
  },
  {
    broken: "fails the neighbours of a failing append",
    wrap: (store) =>
      changed(store, {
        append: async (appends) => {
          const outcomes = await store.append(appends);
          const failed = outcomes.find((one) => one.kind !== "committed");
          return failed === undefined ? outcomes : outcomes.map(() => failed);
        },
      }),
    red: ["the outcomes of a batch stand in the order of its appends, and a failing one leaves its neighbours alone"],
  },
  {
    broken: "answers a batch in another order",
    wrap: (store) => changed(store, { append: async (appends) => (await store.append(appends)).toReversed() }),
    red: ["the outcomes of a batch stand in the order of its appends, and a failing one leaves its neighbours alone"],
  },
  {
    broken: "takes two appends of one stream in a batch",
    wrap: (store) => changed(store, { append: async (appends) => (await Promise.all(appends.map((one) => store.append([one])))).flat() }),
    red: ["a batch holds one append for each stream: the second one is refused, the first one stands", "a batch takes the most appends it names, and refuses those beyond"],
  },
  {
    broken: "names a wrong actual version",
    wrap: outcome((one) => (one.kind === "conflict" ? { ...one, actual: one.actual + 1 } : one)),
    red: ["of two writers racing on one version exactly one wins, and the other one learns the actual version"],
  },
  {
    broken: "hands back the wrong missing events",
    wrap: outcome((one) => (one.kind === "conflict" && one.missing !== undefined ? { ...one, missing: one.missing.slice(1) } : one)),
    red: ["the missing events of a conflict, when it gives them, are those after the expected version, exactly"],
  },
  {
    broken: "acknowledges before it writes",
    wrap: (store) => {
      let version = 0;
      return changed(store, {
        append: async (appends) => {
          setImmediate(() => void store.append(appends));
          return appends.map((one) => ({ kind: "committed", version: (version += one.events.length), position: { log: version } }));
        },
      });
    },
    red: ["what was acknowledged is seen by a read through another process at once", "a store that is closed while busy answers every append truly and ends every iterator with StoreClosed"],
  },
  {
    broken: "serves its reads from a cache",
    wrap: (store) => {
      const cache = new Map<string, ReturnType<EventStore["readStream"]>>();
      return changed(store, {
        readStream: (stream, options) => {
          const key = JSON.stringify([stream, options]);
          const known = cache.get(key) ?? store.readStream(stream, options);
          cache.set(key, known);
          return known;
        },
      });
    },
    red: ["what was acknowledged is seen by a read through another process at once"],
  },
  {
    broken: "skips an event at the hand-over to live",
    wrap: (store) =>
      changed(store, {
        subscribe: async function* (options = {}) {
          let caughtUp = false;
          for await (const page of store.subscribe(options)) {
            yield caughtUp && page.events.length > 0 ? { ...page, events: page.events.slice(1) } : page;
            caughtUp ||= page.caughtUp;
            if (caughtUp) await new Promise((resolve) => setImmediate(resolve));
          }
        },
      }),
    red: [
      "a subscription that starts before the first write gives an empty page that has caught up, then everything",
      "subscriptions that start in the middle of writing miss nothing and repeat nothing at the hand-over to live",
    ],
  },
  {
    broken: "repeats an event at the hand-over to live",
    wrap: (store) =>
      changed(store, {
        subscribe: async function* (options = {}) {
          let last: StoredEvent | undefined;
          for await (const page of store.subscribe(options)) {
            yield last !== undefined && page.events.length > 0 ? { ...page, events: [last, ...page.events] } : page;
            if (page.caughtUp) last = page.events.at(-1);
          }
        },
      }),
    red: ["subscriptions that start in the middle of writing miss nothing and repeat nothing at the hand-over to live"],
  },
  {
    broken: "reverses its pages",
    wrap: eachPage((page) => ({ ...page, events: page.events.toReversed() })),
    red: ["pages of every size give the same log, in the order of its lanes and streams"],
  },
  {
    broken: "does not move through past filtered events",
    wrap: paged(async function* (pages, options) {
      let through = options.after ?? {};
      for await (const page of pages) {
        if (options.categories === undefined) through = page.through;
        else through = page.events.at(-1)?.position ?? through;
        yield { ...page, through };
      }
    }),
    red: [
      "through reaches the end of a log whose last events, or all of them, are filtered",
      "a filtered subscription gives its categories only, and its through moves past all others",
      "on a log whose events are all filtered, through moves within 100 ms",
    ],
  },
  {
    broken: "moves through ahead of its events",
    wrap: eachPage((page) => ({ ...page, through: page.events.length === 0 ? page.through : { log: (page.through["log"] ?? 0) + 1 } })),
    red: ["reading goes on from the through of every page, and nothing is skipped or repeated"],
  },
  {
    broken: "lets categories through whose name begins alike",
    wrap: (store) => {
      const wide = (options: ReadLogOptions = {}): ReadLogOptions =>
        options.categories?.includes("order") === true ? { ...options, categories: [...options.categories, "order2"] } : options;
      return changed(store, { readAll: (options) => store.readAll(wide(options)), subscribe: (options) => store.subscribe(wide(options)) });
    },
    red: ["a category filter lets its categories through and no other, not even one whose name begins alike"],
  },
  {
    broken: "reads the whole log before the first page",
    wrap: (store) =>
      changed(store, {
        readAll: async function* (options) {
          const pages: LogPage[] = [];
          for await (const page of store.readAll(options)) pages.push(page);
          yield* pages;
        },
      }),
    red: ["a read of the log pulls its pages: what was appended while the consumer was busy is still read"],
  },
  {
    broken: "does not keep to the page size",
    wrap: (store) => changed(store, { readAll: (options) => store.readAll(without(options, "pageSize")), subscribe: (options) => store.subscribe(without(options, "pageSize")) }),
    red: ["pages of every size give the same log, in the order of its lanes and streams", "a slow consumer gets pages of its size, whole and in order, and holds up nobody else"],
  },
  {
    broken: "never says that it has caught up",
    wrap: eachPage((page) => ({ ...page, caughtUp: false })),
    red: ["an empty log gives one empty page that has caught up", "a subscription that starts before the first write gives an empty page that has caught up, then everything"],
  },
  {
    broken: "polls every 120 ms",
    wrap: (store) =>
      changed(store, {
        subscribe: async function* (options = {}) {
          for await (const page of store.subscribe(options)) {
            yield page;
            if (page.caughtUp) await new Promise((resolve) => setTimeout(resolve, 120));
          }
        },
      }),
    red: ["on a log whose events are all filtered, through moves within 100 ms", "an append of another process wakes a subscription within 100 ms"],
  },
  {
    broken: "ignores the signal",
    wrap: (store) =>
      changed(store, {
        readStream: (stream, options) => store.readStream(stream, without(options, "signal")),
        readAll: (options) => store.readAll(without(options, "signal")),
        subscribe: (options) => store.subscribe(without(options, "signal")),
      }),
    red: ["an abort ends reads and waiting subscriptions with Aborted, and nothing else"],
  },
  {
    broken: "ends a subscription silently when it closes",
    wrap: (store) =>
      changed(store, {
        subscribe: async function* (options) {
          try {
            yield* store.subscribe(options);
          } catch (error) {
            if ((error as { code?: string }).code !== "StoreClosed") throw error;
          }
        },
      }),
    red: ["a store that is closed while busy answers every append truly and ends every iterator with StoreClosed"],
  },
  {
    broken: "does not close",
    wrap: (store) => changed(store, { close: async () => undefined }),
    red: ["close is idempotent, and every later call is answered with its name", "a store that is closed while busy answers every append truly and ends every iterator with StoreClosed"],
  },
  {
    broken: "rejects after close instead of answering",
    wrap: (store) => {
      let closed = false;
      return changed(store, {
        append: async (appends) => (closed ? Promise.reject(new Error("closed")) : store.append(appends)),
        close: () => {
          closed = true;
          return store.close();
        },
      });
    },
    red: ["close is idempotent, and every later call is answered with its name"],
  },
  {
    broken: "starts anew from a position beyond its end",
    wrap: paged(async function* (pages, options) {
      try {
        yield* pages;
      } catch (error) {
        if ((error as { code?: string }).code !== "StoreRewound") throw error;
        yield { events: [], through: options.after ?? {}, caughtUp: true };
      }
    }),
    red: ["a position beyond the end of the log is recognised: this is not the log it was made on", "a store that was reset has another identity, and refuses the positions of its former life"],
  },
  {
    broken: "keeps its identity through a reset",
    wrap: (store) => changed(store, { identity: async () => ({ id: "always-the-same" }) }),
    red: ["a store that was reset has another identity, and refuses the positions of its former life"],
  },
  {
    broken: "makes up an identity for each process",
    wrap: (store) => {
      const id = `identity-of-instance-${fresh++}`;
      return changed(store, { identity: async () => ({ id }) });
    },
    red: ["the identity has its form and is the same for every process"],
  },
  {
    broken: "loses metadata of the caller",
    wrap: appending((append) => ({ ...append, events: append.events?.map?.((one) => (one?.metadata?.user === undefined ? one : { ...one, metadata: { ...one.metadata, user: {} } })) })),
    red: ["metadata, recordedAt, type, id and data come back as they went in, through the stream and through the log"],
  },
  {
    broken: "writes its data anew as JSON",
    wrap: appending((append) => ({
      ...append,
      events: append.events?.map?.((one) => {
        try {
          return { ...one, data: JSON.stringify(JSON.parse(one.data)) };
        } catch {
          return one;
        }
      }),
    })),
    red: ["metadata, recordedAt, type, id and data come back as they went in, through the stream and through the log"],
  },
  {
    broken: "reads what it was given only later",
    wrap: (store) =>
      changed(store, {
        append: async (appends) => {
          await Promise.resolve();
          return store.append(appends);
        },
      }),
    red: ["nothing keeps a reference: what was passed in may change afterwards"],
  },
  {
    broken: "hands out what it holds, open to change",
    wrap: (store) => {
      const copies = new Map<string, StoredEvent>();
      const open = (list: readonly StoredEvent[]): StoredEvent[] =>
        list.map((one) => {
          const copy = copies.get(one.id) ?? structuredClone(one);
          copies.set(one.id, copy);
          return copy;
        });
      return changed(paged(async function* (pages) {
        for await (const page of pages) yield { ...page, events: open(page.events) };
      })(store), {
        readStream: async (stream, options) => {
          const slice = await store.readStream(stream, options);
          return { ...slice, events: open(slice.events) };
        },
      });
    },
    red: ["nothing keeps a reference: what was handed out may change afterwards"],
  },
  {
    broken: "takes ids that differ in case, or in how they are composed, for one",
    wrap: (store) => {
      const folded = (stream: string): string => (typeof stream === "string" ? stream.toLowerCase().normalize("NFC") : stream);
      return changed(store, {
        append: (appends) => store.append(appends.map((one) => ({ ...one, stream: folded(one.stream) }))),
        readStream: (stream, options) => store.readStream(folded(stream), options),
      });
    },
    red: ["ids in every script and with every odd character name streams of their own"],
  },
  {
    broken: "takes names with NUL",
    wrap: appending((append) => (append.stream === "order-a\0b" ? { ...append, stream: "order-ab" } : append)),
    red: ["bad names, NUL and lone surrogates are refused, and nothing is written"],
  },
  {
    broken: "counts its byte limit in UTF-16 units",
    wrap: appending((append) => (append.events?.[0]?.data?.startsWith?.("€") === true ? { ...append, events: [{ ...(append.events[0] as Append["events"][0]), data: "short" }] } : append)),
    red: ["an append over the byte limit is refused for good, counted in UTF-8, and leaves its stream and neighbours alone"],
  },
  {
    broken: "reads backward from the wrong end",
    wrap: (store) => changed(store, { readStream: async (stream, options = {}) => store.readStream(stream, { ...options, direction: "forward" }) }),
    red: ["a stream is read backward from a version, with a limit, and on from next"],
  },
  {
    broken: "forgets next when a slice is full",
    wrap: (store) => changed(store, { readStream: async (stream, options) => ({ ...(await store.readStream(stream, options)), next: undefined }) }),
    red: ["a stream is read forward from a version, with a limit, and on from next", "a stream of 10,000 events is read whole, forward and backward"],
  },
  {
    broken: "counts versions from 0",
    wrap: (store) =>
      changed(store, {
        readStream: async (stream, options) => {
          const slice = await store.readStream(stream, options);
          return { ...slice, events: slice.events.map((one) => ({ ...one, version: one.version - 1 })) };
        },
      }),
    red: ["versions count 1, 2, 3 through single and larger appends, and the outcome names the last event"],
  },
];

function caseNamed(name: string): StoreCase {
  const found = eventStoreCases.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no case is named: ${name}`);
  return found;
}

describe("the contract of event stores", () => {
  it.each(MUTANTS.flatMap(({ broken, wrap, red }) => red.map((name) => ({ broken, wrap, name }))))("turns red for a store that $broken: $name", async ({ wrap, name }) => {
    await expect(caseNamed(name).run(memoryHarness(wrap, 400))).rejects.toBeInstanceOf(AssertionError);
  });

  it("stays green for a store that is wrapped and not broken", async () => {
    for (const contractCase of eventStoreCases) await contractCase.run(memoryHarness((store) => eachPage((page) => page)(changed(store, {}))));
  });

  it("has cases with names of their own", () => {
    expect(new Set(eventStoreCases.map((one) => one.name)).size).toBe(eventStoreCases.length);
  });

  it("says which need was not met when a case is skipped", async () => {
    const result = await caseNamed("the same event ids again stand once with any and exists too").run(
      memoryHarness((store) => changed(store, { capabilities: { ...store.capabilities, idempotentAny: false } })),
    );
    expect(result).toEqual({ skipped: "the memory store does not have idempotentAny" });
  });

  it("hands every case to the test framework, and skips through its context", async () => {
    const notes: (string | undefined)[] = [];
    const registered = new Map<string, (context: { skip(note?: string): void }) => Promise<void>>();
    eventStoreContract(memoryHarness(), { describe: (_, body) => body(), it: (name, body) => registered.set(name, body) });
    expect([...registered.keys()]).toEqual(eventStoreCases.map((one) => one.name));
    await registered.get("after closing and opening again everything stands where it stood")?.({ skip: (note) => notes.push(note) });
    expect(notes).toEqual(["the memory store does not have durable"]);
  });
});
