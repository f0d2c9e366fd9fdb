/**
 * The store contract, part 2: what goes in comes out unchanged, names, sizes and limits, and reads of one stream.
 */
import assert from "node:assert/strict";
import type { Append, EventMetadata, EventStore, NewEvent } from "../store/event-store.ts";
import {
  appendTo,
  asStored,
  assertCommitted,
  assertConflict,
  assertContiguous,
  assertRefused,
  assertRejects,
  beside,
  commit,
  event,
  events,
  ids,
  nextTurn,
  readLog,
  readWhole,
  storeCase,
  withoutPosition,
} from "./store-contract-support.ts";
import type { StoreCase } from "./store-contract-support.ts";

const ODD_IDS = [
  "a",
  "A",
  "a ",
  " a",
  "a-b",
  "-",
  "--",
  "é",
  "e\u0301",
  "日本語",
  "😀👩‍👩‍👧",
  "שלום",
  "a%",
  "a_",
  "a*",
  "it's",
  'say "hi"',
  "back\\slash",
  "a/b/../c",
  "a?b=c&d#e",
  "tab\tnew\nline",
  "$ce-order",
  "null",
  "__proto__",
  "constructor",
  "'; DROP TABLE events; --",
  "i".repeat(256),
  "€".repeat(256),
];

const BAD_STREAMS = ["", "order", "order-", "-1", "1order-1", "or der-1", "ordér-1", "order-a\0b", "order-\ud800", "order-\udc00a", `order-${"i".repeat(257)}`, `${"c".repeat(65)}-1`];

const ODD_DATA = ['{"a":1}', ' { "a" : 1.0 } ', '"text 😀 é e\u0301 \u2028"', "null", "[]", "12345678901234567890.10", '{"b":1,"a":2,"b":3}', "not JSON at all: 'quoted' \\ %s", '"\\u0000"'];

const FULL: EventMetadata = {
  correlationId: "correlation",
  causationId: "causation 😀",
  commandId: "command",
  fingerprint: "f".repeat(64),
  schemaVersion: 7,
  traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  user: { text: "é\u2028", number: 1.5, yes: true, nothing: null, list: [1, [2, { three: 3 }]], nested: { deep: { deeper: "x" } } },
};

/** Runs a change that frozen data may answer with an error. */
function tryTo(change: () => void): void {
  try {
    change();
  } catch (error) {
    assert.ok(error instanceof TypeError, "frozen data throws a TypeError");
  }
}

async function versionOf(store: EventStore, stream: string): Promise<number> {
  return (await store.readStream(stream)).version;
}

export const dataCases: readonly StoreCase[] = [
  storeCase("metadata, recordedAt, type, id and data come back as they went in, through the stream and through the log", async ({ store, another }) => {
    const news = [
      event({ metadata: FULL, recordedAt: 1_234_567_890_123 }),
      event({ metadata: { ...FULL, user: {} }, recordedAt: 0 }),
      event({ metadata: { correlationId: "", causationId: "a", commandId: "b", schemaVersion: 1 } }),
      event({ type: "t".repeat(200) }),
      event({ type: "Ünï cödé 😀" }),
      ...ODD_DATA.map((data) => event({ data })),
    ];
    const append: Append = { stream: "order-1", expected: 0, events: news };
    assertCommitted((await store.append([append]))[0]);
    for (const reader of [store, await another()]) {
      const whole = await readWhole(reader, "order-1");
      assert.deepEqual(withoutPosition(whole), asStored(append, 1));
      assert.deepEqual((await readLog(reader)).events, whole);
    }
  }),

  storeCase("nothing keeps a reference: what was passed in may change afterwards", async ({ store }) => {
    const user = { list: [1, 2], nested: { a: 1 } };
    const flat = { tenant: "t-1" };
    const metadata = { correlationId: "c", causationId: "c", commandId: "c", user: user as Record<string, unknown> };
    const one: { -readonly [K in keyof NewEvent]: NewEvent[K] } = event({ metadata });
    const two = event({ metadata: { ...metadata, user: flat } });
    const batch = [{ stream: "order-1", expected: 0, events: [one, two] }];
    const expected = structuredClone(asStored(batch[0] as Append, 1));
    const answer = store.append(batch);
    const change = (): void => {
      user.list.push(3);
      user.nested.a++;
      flat.tenant = "changed";
      metadata.correlationId = "changed";
      one.type = "Changed";
      one.data = "changed";
      batch[0]?.events.push(event());
      batch.push({ stream: "order-2", expected: 0, events: [event()] });
    };
    change();
    assertCommitted((await answer)[0]);
    change();
    assert.deepEqual(withoutPosition(await readWhole(store, "order-1")), expected);
    assert.equal((await readLog(store)).events.length, 2);
  }),

  storeCase("nothing keeps a reference: what was handed out may change afterwards", async ({ store }) => {
    const { position } = await commit(store, "order-1", 0, [event({ metadata: FULL }), event()]);
    const before = structuredClone(await store.readStream("order-1"));
    const log = structuredClone((await readLog(store)).pages);
    const { missing } = assertConflict(await appendTo(store, "order-1", 0), 2);
    const slices = [before.events, (await store.readStream("order-1")).events, (await readLog(store)).pages[0]?.events ?? [], missing ?? []];
    tryTo(() => ((position as Record<string, number>)["log"] = 99));
    for (const list of slices) {
      for (const one of list) {
        const open = one as unknown as { version: number; data: string; position: Record<string, number>; metadata: { commandId: string; user?: { list: unknown[] } } };
        tryTo(() => (open.version = 99));
        tryTo(() => (open.data = "changed"));
        tryTo(() => (open.position["log"] = 99));
        tryTo(() => (open.metadata.commandId = "changed"));
        tryTo(() => void open.metadata.user?.list.push("changed"));
      }
      tryTo(() => void (list as unknown[]).splice(0));
    }
    for (const page of (await readLog(store)).pages) tryTo(() => ((page.through as Record<string, number>)["log"] = 99));
    assert.deepEqual((await readLog(store)).pages, log);
    assert.deepEqual((await store.readStream("order-1")).events, log[0]?.events);
    assert.equal((await commit(store, "order-1", 2)).version, 3);
  }),

  storeCase("ids in every script and with every odd character name streams of their own", async ({ store, another }) => {
    const appends = ODD_IDS.map((id): Append => ({ stream: `order-${id}`, expected: 0, events: events(2) }));
    for (const append of appends) assertCommitted((await store.append([append]))[0]);
    for (const reader of [store, await another()]) {
      for (const append of appends) assert.deepEqual(withoutPosition(await readWhole(reader, append.stream)), asStored(append, 1));
    }
    assertContiguous((await readLog(store, { categories: ["order"] })).events);
    assert.equal((await readLog(store)).events.length, ODD_IDS.length * 2);
  }),

  storeCase("bad names, NUL and lone surrogates are refused, and nothing is written", async (context) => {
    const { store } = context;
    for (const stream of [...BAD_STREAMS, 5, null, undefined]) assertRefused(await appendTo(store, stream as string, "any"), "invalid");
    for (const stream of BAD_STREAMS) await assertRejects(context, () => store.readStream(stream), "InvalidArgument");
    const bad: Partial<Record<keyof NewEvent, unknown>>[] = [
      { type: "" },
      { type: "t".repeat(201) },
      { type: "a\0b" },
      { type: "\ud800" },
      { type: 5 },
      { id: "" },
      { id: "a\0b" },
      { id: undefined },
      { data: { a: 1 } },
      { data: undefined },
      { data: "\udc00" },
      { data: "a\0b" },
      { recordedAt: "now" },
      { recordedAt: Number.NaN },
      { metadata: undefined },
      { metadata: null },
      { metadata: { correlationId: 5, causationId: "a", commandId: "a" } },
      { metadata: { ...FULL, user: "text" } },
      { metadata: { ...FULL, user: { big: 1n } } },
    ];
    for (const flaw of bad) assertRefused(await appendTo(store, "order-1", "any", [event(), event(flaw as Partial<NewEvent>)]), "invalid");
    for (const list of [[], undefined, "text", [null], [5]] as unknown[]) {
      assertRefused((await store.append([{ stream: "order-1", expected: "any", events: list as NewEvent[] }]))[0], "invalid");
    }
    const twin = event();
    assertRefused(await appendTo(store, "order-1", "any", [twin, twin]), "invalid");
    assert.equal(await versionOf(store, "order-1"), 0);
    assert.equal((await readLog(store)).events.length, 0);
    assert.equal((await commit(store, "order-1", 0)).version, 1);
  }),

  storeCase("a large event comes back whole", async ({ store, another }) => {
    const size = Math.min(Math.floor(store.capabilities.maxAppendBytes / 2), 4 * 1024 * 1024);
    const news = [event({ data: JSON.stringify("x".repeat(size - 8)) }), event({ data: JSON.stringify("😀".repeat(Math.floor(size / 16))) })];
    await commit(store, "order-1", 0, news);
    const read = await readWhole(await another(), "order-1");
    assert.equal(read.length, 2);
    for (const [index, one] of news.entries()) assert.ok(read[index]?.data === one.data, "the text is the same");
  }),

  storeCase("an append over the byte limit is refused for good, counted in UTF-8, and leaves its stream and neighbours alone", async ({ store }) => {
    const { maxAppendBytes } = store.capabilities;
    const third = Math.ceil(maxAppendBytes / 3);
    const tooLarge = [
      [event({ data: "x".repeat(maxAppendBytes + 1) })],
      [event({ data: "€".repeat(third + 1) })],
      [event(), event({ data: "x".repeat(third + 1) }), event({ data: "x".repeat(third + 1) }), event({ data: "x".repeat(third + 1) })],
    ];
    for (const news of tooLarge) {
      const [left, outcome, right] = await store.append([
        { stream: "order-1", expected: "any", events: events(1) },
        { stream: "order-2", expected: 0, events: news },
        { stream: "order-3", expected: "any", events: events(1) },
      ]);
      assertCommitted(left);
      assert.equal(assertRefused(outcome, "too-large").retryable, false);
      assertCommitted(right);
    }
    assert.equal(await versionOf(store, "order-2"), 0);
    assert.equal(await versionOf(store, "order-1"), 3);
    assert.equal(await versionOf(store, "order-3"), 3);
  }),

  storeCase("a batch takes the most appends it names, and refuses those beyond", async ({ store }) => {
    const most = store.capabilities.maxAppendsInBatch;
    const size = Math.min(most, 5000);
    const outcomes = await store.append(Array.from({ length: size + (size === most ? 2 : 0) }, (_, index) => ({ stream: `order-${index}`, expected: 0, events: events(1) })));
    for (const outcome of outcomes.slice(0, size)) assertCommitted(outcome);
    for (const outcome of outcomes.slice(size)) assertRefused(outcome, "too-large");
    assert.equal((await readLog(store)).events.length, size);
  }),

  storeCase("a stream is read forward from a version, with a limit, and on from next", async ({ store }) => {
    await commit(store, "order-1", 0, events(10));
    await commit(store, "order-2", 0, events(3));
    const whole = await readWhole(store, "order-1");
    assert.deepEqual(whole.map((one) => one.version), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for (const limit of [1, 3, 10, 11]) assert.deepEqual(await readWhole(store, "order-1", "forward", limit), whole);
    const middle = await store.readStream("order-1", { from: 4, limit: 3 });
    assert.deepEqual({ ...middle, events: ids(middle.events) }, { events: ids(whole.slice(3, 6)), version: 10, firstVersion: 1, next: 7 });
    const tail = await store.readStream("order-1", { from: 8 });
    assert.deepEqual({ ...tail, events: ids(tail.events) }, { events: ids(whole.slice(7)), version: 10, firstVersion: 1, next: undefined });
    for (const from of [11, 1000]) {
      assert.deepEqual(await store.readStream("order-1", { from }), { events: [], version: 10, firstVersion: 1, next: undefined });
    }
  }),

  storeCase("a stream is read backward from a version, with a limit, and on from next", async ({ store }) => {
    await commit(store, "order-1", 0, events(10));
    const whole = await readWhole(store, "order-1");
    const reversed = [...whole].reverse();
    for (const limit of [1, 3, 10, 11]) assert.deepEqual(await readWhole(store, "order-1", "backward", limit), reversed);
    const last = await store.readStream("order-1", { direction: "backward", limit: 1 });
    assert.deepEqual({ ...last, events: ids(last.events) }, { events: ids(whole.slice(9)), version: 10, firstVersion: 1, next: 9 });
    const middle = await store.readStream("order-1", { direction: "backward", from: 6, limit: 2 });
    assert.deepEqual({ ...middle, events: ids(middle.events) }, { events: ids([whole[5], whole[4]] as typeof whole), version: 10, firstVersion: 1, next: 4 });
    const first = await store.readStream("order-1", { direction: "backward", from: 2 });
    assert.deepEqual({ ...first, events: ids(first.events) }, { events: ids([whole[1], whole[0]] as typeof whole), version: 10, firstVersion: 1, next: undefined });
    assert.deepEqual(await store.readStream("order-1", { direction: "backward", from: 1000 }), await store.readStream("order-1", { direction: "backward" }));
  }),

  storeCase("a stream of 10,000 events is read whole, forward and backward", async ({ store, another }) => {
    const news = events(10_000);
    for (let version = 0; version < news.length; version += 500) await commit(store, "order-1", version, news.slice(version, version + 500));
    const forward = await readWhole(await another(), "order-1");
    assert.deepEqual(ids(forward), ids(news));
    assertContiguous(forward);
    assert.deepEqual(ids(await readWhole(store, "order-1", "backward")), ids(news).reverse());
    assert.deepEqual(ids((await readLog(store)).events), ids(news));
    assertConflict(await appendTo(store, "order-1", 9_999), 10_000);
  }),

  storeCase("a stream that is read while it is written is never torn and never goes back", async ({ store, another }) => {
    const reader = await another();
    let acknowledged = 0;
    let writing = true;
    const writes = beside(
      (async () => {
        for (let version = 0; version < 100; version++) {
          await commit(store, "order-1", version);
          acknowledged = version + 1;
        }
      })().finally(() => (writing = false)),
    );
    let before = 0;
    do {
      const atLeast = acknowledged;
      const slice = await reader.readStream("order-1");
      assert.ok(slice.version >= Math.max(before, atLeast), `read version ${slice.version} after ${before} was read and ${atLeast} acknowledged`);
      assert.equal(slice.events.length, slice.version);
      assertContiguous(slice.events);
      before = slice.version;
      await nextTurn();
    } while (writing);
    await writes;
  }),
];
