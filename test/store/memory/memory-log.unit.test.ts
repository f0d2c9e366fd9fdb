import { describe, expect, it } from "vitest";
import { memoryBackend, memoryLog, memoryStore } from "../../../src/store/memory/index.ts";
import type { EventStore, NewEvent } from "../../../src/store/event-store.ts";

let serial = 0;
function event(overrides: Partial<NewEvent> = {}): NewEvent {
  serial++;
  return { id: `e-${serial}`, type: "Happened", data: "{}", metadata: { correlationId: "c", causationId: "c", commandId: "c" }, recordedAt: serial, ...overrides };
}

async function appendTo(store: EventStore, stream: string, count = 1): Promise<void> {
  const [outcome] = await store.append([{ stream, expected: "any", events: Array.from({ length: count }, () => event()) }]);
  expect(outcome?.kind).toBe("committed");
}

describe("the memory store", () => {
  it("shares what it holds with every store on the same log, and with no other", async () => {
    const log = memoryLog();
    const [one, two, stranger] = [memoryStore({ log }), memoryStore({ log }), memoryStore()];
    await appendTo(one, "order-1");
    expect((await two.readStream("order-1")).version).toBe(1);
    expect((await stranger.readStream("order-1")).version).toBe(0);
    expect(await two.identity()).toEqual(await one.identity());
    expect(await stranger.identity()).not.toEqual(await one.identity());
  });

  it("wakes a waiting subscription within the microtasks of the append", async () => {
    const store = memoryStore();
    const pages = store.subscribe()[Symbol.asyncIterator]();
    expect((await pages.next()).value).toMatchObject({ events: [], caughtUp: true });
    let woken = false;
    const next = pages.next().then(() => (woken = true));
    let turned = false;
    setImmediate(() => (turned = true));
    await appendTo(store, "order-1");
    await next;
    expect([woken, turned]).toEqual([true, false]);
  });

  it("gives many waiting subscriptions one page for a batch, and forgets those that ended", async () => {
    const store = memoryStore();
    const abort = new AbortController();
    const iterators = Array.from({ length: 50 }, (_, index) => store.subscribe(index < 25 ? { signal: abort.signal } : {})[Symbol.asyncIterator]());
    for (const one of iterators) await one.next();
    const waiting = iterators.map((one) => one.next().catch((error: unknown) => error));
    abort.abort();
    await store.append(["order-1", "order-2"].map((stream) => ({ stream, expected: 0, events: [event(), event()] })));
    const results = await Promise.all(waiting);
    for (const result of results.slice(0, 25)) expect(result).toMatchObject({ code: "Aborted" });
    for (const result of results.slice(25)) expect(result).toMatchObject({ value: { events: { length: 4 }, caughtUp: true } });
  });

  it("ends a subscription that waits when its consumer leaves", async () => {
    const store = memoryStore();
    const pages = store.subscribe()[Symbol.asyncIterator]();
    await pages.next();
    const waiting = pages.next();
    await pages.return?.();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(await pages.next()).toEqual({ done: true, value: undefined });
  });

  it("answers calls of next that overlap one after the other", async () => {
    const store = memoryStore();
    await appendTo(store, "order-1", 6);
    const pages = store.readAll({ pageSize: 2 })[Symbol.asyncIterator]();
    const results = await Promise.all([pages.next(), pages.next(), pages.next(), pages.next()]);
    expect(results.map((one) => (one.done === true ? "done" : one.value.events.map((each) => each.version)))).toEqual([[1, 2], [3, 4], [5, 6], "done"]);
  });

  it("looks through a long filtered log in bounded pages that move on", async () => {
    const store = memoryStore();
    for (let batch = 0; batch < 25; batch++) await appendTo(store, "cart-1", 10_000);
    await appendTo(store, "order-1");
    const pages = [];
    for await (const page of store.readAll({ categories: ["order"] })) pages.push(page);
    expect(pages.map((page) => [page.events.length, page.through["log"], page.caughtUp])).toEqual([
      [0, 100_000, false],
      [0, 200_000, false],
      [1, 250_001, true],
    ]);
  });

  it("gives an any-append that overlaps in part, or comes in another order, a conflict", async () => {
    const store = memoryStore();
    const [one, two, three] = [event(), event(), event()];
    await store.append([{ stream: "order-1", expected: "any", events: [one, two] }]);
    for (const events of [[two, three], [two, one], [three, one], [one, two, three]]) {
      expect(await store.append([{ stream: "order-1", expected: "any", events }])).toEqual([{ kind: "conflict", actual: 2 }]);
    }
    expect(await store.append([{ stream: "order-1", expected: "exists", events: [two] }])).toMatchObject([{ kind: "committed", version: 2 }]);
  });

  it("takes the byte limit it was given, and refuses one that is none", async () => {
    const store = memoryStore({ maxAppendBytes: 500 });
    expect(store.capabilities.maxAppendBytes).toBe(500);
    expect(await store.append([{ stream: "order-1", expected: 0, events: [event({ data: "x".repeat(500) })] }])).toMatchObject([{ kind: "refused", code: "too-large" }]);
    for (const maxAppendBytes of [0, -1, 1.5, Number.NaN]) expect(() => memoryStore({ maxAppendBytes })).toThrow(expect.objectContaining({ code: "InvalidArgument" }) as Error);
  });

  it.each([{ pageSize: 0 }, { pageSize: 1.5 }, { after: { log: -1 } }, { categories: ["not a category"] }])("refuses to read the log with %j", async (options) => {
    await expect((async () => {
      for await (const page of memoryStore().readAll(options)) expect(page).toBeUndefined();
    })()).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  it.each([{ from: -1 }, { from: 1.5 }, { limit: -1 }, { limit: Number.NaN }])("refuses to read a stream with %j", async (options) => {
    await expect(memoryStore().readStream("order-1", options)).rejects.toMatchObject({ code: "InvalidArgument" });
  });
});

describe("the memory backend", () => {
  it("holds events, snapshots and views, and closes all of them", async () => {
    const backend = memoryBackend();
    await appendTo(backend.events, "order-1");
    expect(await backend.snapshots?.load("order-1")).toBeUndefined();
    expect(await backend.views?.builds("orders")).toEqual([]);
    await backend.close();
    await backend.close();
    await expect(backend.events.readStream("order-1")).rejects.toMatchObject({ code: "StoreClosed" });
    await expect(backend.snapshots?.load("order-1")).rejects.toMatchObject({ code: "StoreClosed" });
    await expect((async () => backend.views?.builds("orders"))()).rejects.toMatchObject({ code: "StoreClosed" });
  });
});
