/**
 * The store contract, part 3: the log as pages, filtered or not, up to its end or for ever.
 */
import assert from "node:assert/strict";
import type { EventStore, LogPage } from "../store/event-store.ts";
import { START, covers } from "../store/position.ts";
import {
  appendTo,
  assertCode,
  assertCommitted,
  assertContiguous,
  beside,
  byStream,
  commit,
  event,
  events,
  fill,
  firstPage,
  follow,
  ids,
  nextTurn,
  now,
  readLog,
  readWhole,
  storeCase,
  within,
} from "./store-contract-support.ts";
import type { CaseContext, StoreCase } from "./store-contract-support.ts";

const STREAMS = ["order-1", "cart-1", "order-2", "cart_items-1", "order2-1"];

/** What each stream holds must have come, once and in order. */
async function assertAllOf(store: EventStore, got: readonly { readonly id: string; readonly stream: string }[], streams: readonly string[]): Promise<void> {
  for (const stream of streams) {
    const own = got.filter((one) => one.stream === stream);
    assert.deepEqual(ids(own), ids(await readWhole(store, stream)), `the events of ${stream}`);
  }
  assert.equal(got.length, got.filter((one) => streams.includes(one.stream)).length, "and of no other stream");
}

/** The median time from an acknowledged append to the first page whose `through` covers it. */
async function medianDelay(context: CaseContext, writer: EventStore, reader: EventStore, stream: string, categories?: readonly string[]): Promise<number> {
  const follower = follow(context, reader, categories === undefined ? {} : { categories });
  await follower.until(() => follower.pages.some((page) => page.caughtUp), "the subscription catches up");
  const delays: number[] = [];
  for (let round = 0; round < 7; round++) {
    const { position } = await commit(writer, stream, "any");
    const start = now();
    await follower.until(() => covers((follower.pages.at(-1) as LogPage).through, position), "through covers the append");
    delays.push(now() - start);
  }
  await follower.stop();
  return delays.sort((a, b) => a - b)[3] as number;
}

export const logCases: readonly StoreCase[] = [
  storeCase("an empty log gives one empty page that has caught up", async ({ store }) => {
    for (const options of [{}, { categories: ["order"] }, { after: START }]) {
      const { pages } = await readLog(store, options);
      assert.deepEqual(pages.map((page) => [page.events.length, page.caughtUp]), [[0, true]]);
    }
  }),

  storeCase("pages of every size give the same log, in the order of its lanes and streams", async ({ store, another }) => {
    const news = await fill(store, STREAMS, 23);
    const { events: log, through } = await readLog(store);
    assert.deepEqual(ids(log).sort(), ids(news).sort());
    await assertAllOf(store, log, STREAMS);
    assertContiguous(log);
    const reader = await another();
    for (const pageSize of [1, 2, 7, 23, 24, 1000]) {
      const sized = await readLog(reader, { pageSize });
      assert.deepEqual(byStream(sized.events), byStream(log));
      assert.ok(covers(sized.through, through) && covers(through, sized.through), "every page size ends in the same place");
    }
  }),

  storeCase("reading goes on from the through of every page, and nothing is skipped or repeated", async ({ store }) => {
    await fill(store, STREAMS, 20);
    for (const categories of [undefined, ["cart"], ["order", "order2"]]) {
      const filter = categories === undefined ? {} : { categories };
      const { pages, events: log, through } = await readLog(store, { ...filter, pageSize: 3 });
      let seen = 0;
      for (const page of pages) {
        seen += page.events.length;
        const rest = await readLog(store, { ...filter, after: page.through });
        assert.deepEqual(ids(rest.events).sort(), ids(log.slice(seen)).sort());
        assert.ok(covers(rest.through, through), "the rest ends where the whole did");
      }
    }
  }),

  storeCase(
    "with one lane, reading goes on after the position of every event",
    async ({ store }) => {
      await fill(store, STREAMS, 12);
      const { events: log } = await readLog(store);
      for (const [index, one] of log.entries()) assert.deepEqual(ids((await readLog(store, { after: one.position })).events), ids(log.slice(index + 1)));
    },
    "totalOrder",
  ),

  storeCase("at the end of the log there is one empty page, and through stays where it is", async ({ store }) => {
    const { position } = await commit(store, "order-1", 0, events(3));
    const { through } = await readLog(store);
    assert.ok(covers(through, position));
    for (const options of [{ after: through }, { after: through, categories: ["order"] }, { after: through, categories: ["cart"] }]) {
      const rest = await readLog(store, options);
      assert.deepEqual(rest.pages.map((page) => page.events.length), [0]);
      assert.ok(covers(rest.through, through) && covers(through, rest.through));
    }
  }),

  storeCase("a category filter lets its categories through and no other, not even one whose name begins alike", async ({ store }) => {
    await fill(store, STREAMS, 25);
    for (const categories of [["order"], ["cart"], ["order2"], ["cart", "order"], ["cart_items", "nothing"]]) {
      for (const pageSize of [1, 3, 1000]) {
        const { events: log } = await readLog(store, { categories, pageSize });
        await assertAllOf(store, log, STREAMS.filter((stream) => categories.includes(stream.slice(0, stream.indexOf("-")))));
      }
    }
    assert.equal((await readLog(store, { categories: [] })).events.length, 0);
  }),

  storeCase("through reaches the end of a log whose last events, or all of them, are filtered", async ({ store }) => {
    await commit(store, "order-1", 0);
    for (let version = 0; version < 30; version++) {
      const { position } = await commit(store, "cart-1", version);
      if (version % 10 !== 9) continue;
      for (const categories of [["order"], ["nothing"], []]) {
        const { through } = await readLog(store, { categories, pageSize: 2 });
        assert.ok(covers(through, position), `through of ${categories.join()} covers the last append`);
      }
    }
  }),

  storeCase("a read of the log pulls its pages: what was appended while the consumer was busy is still read", async ({ store }) => {
    await commit(store, "order-1", 0, events(8));
    const read: string[] = [];
    let pages = 0;
    for await (const page of store.readAll({ pageSize: 2 })) {
      pages++;
      read.push(...ids(page.events));
      if (pages === 1) await commit(store, "order-1", 8, events(40));
      for (let turn = 0; turn < 5; turn++) await nextTurn();
    }
    assert.deepEqual(read, ids(await readWhole(store, "order-1")));
    assert.equal(read.length, 48);
  }),

  storeCase("a log that is read while it is written shows no gap, and holds what was acknowledged before", async ({ store, another }) => {
    const reader = await another();
    const acknowledged: string[] = [];
    let writing = true;
    const writers = STREAMS.slice(0, 3).map(async (stream) => {
      for (let version = 0; version < 40; version++) {
        const one = event();
        await commit(store, stream, version, [one]);
        acknowledged.push(one.id);
      }
    });
    const writes = beside(Promise.all(writers).finally(() => (writing = false)));
    do {
      const before = [...acknowledged];
      const { events: log } = await readLog(reader, { pageSize: 7 });
      assertContiguous(log);
      const got = new Set(ids(log));
      assert.ok(before.every((id) => got.has(id)), "an acknowledged event is in every later read");
      await nextTurn();
    } while (writing);
    await writes;
    assert.equal((await readLog(reader)).events.length, 120);
  }),

  storeCase("a subscription that starts before the first write gives an empty page that has caught up, then everything", async (context) => {
    const { store } = context;
    const follower = follow(context, store);
    await follower.until(() => follower.pages.some((page) => page.caughtUp), "it catches up with the empty log");
    assert.equal(follower.events.length, 0);
    await fill(store, STREAMS, 20);
    await follower.until(() => follower.events.length >= 20, "all 20 events come");
    await follower.until(() => follower.pages.at(-1)?.caughtUp === true, "it has caught up again");
    await assertAllOf(store, follower.events, STREAMS);
    await follower.stop();
  }),

  storeCase("a subscription that starts after the writes gives all of them, says so, and goes on live", async (context) => {
    const { store } = context;
    await fill(store, STREAMS, 20);
    const follower = follow(context, store, { pageSize: 3 });
    await follower.until(() => follower.events.length >= 20 && follower.pages.at(-1)?.caughtUp === true, "it has caught up");
    await commit(store, "order-1", 4, events(5));
    await follower.until(() => follower.events.length >= 25, "the later events come");
    await assertAllOf(store, follower.events, STREAMS);
    await follower.stop();
  }),

  storeCase("subscriptions that start in the middle of writing miss nothing and repeat nothing at the hand-over to live", async (context) => {
    const { store, another } = context;
    const other = await another();
    const followers: ReturnType<typeof follow>[] = [];
    const writers = [store, other].map(async (writer, index) => {
      for (let version = 0; version < 120; version++) {
        assertCommitted(await appendTo(writer, `order-${index}`, version));
        if (version % 20 === 10) followers.push(follow(context, version % 40 === 10 ? store : other, { pageSize: [1, 3, 1000][(version / 10) % 3] as number }));
        if (version % 5 === 0) await nextTurn();
      }
    });
    await Promise.all(writers);
    assert.equal(followers.length, 12);
    for (const follower of followers) {
      await follower.until(() => follower.events.length >= 240, "all 240 events come");
      await assertAllOf(store, follower.events, ["order-0", "order-1"]);
      await follower.stop();
    }
  }),

  storeCase("a subscription goes on from the through of every page of an earlier one", async (context) => {
    const { store } = context;
    await fill(store, ["order-1", "cart-1"], 12);
    const first = follow(context, store, { pageSize: 2, categories: ["order"] });
    await first.until(() => first.events.length >= 6 && first.pages.at(-1)?.caughtUp === true, "it has caught up");
    await first.stop();
    let seen = 0;
    for (const page of first.pages) {
      seen += page.events.length;
      const rest = follow(context, store, { after: page.through, categories: ["order"] });
      await rest.until(() => rest.events.length >= 6 - seen && rest.pages.at(-1)?.caughtUp === true, "the rest comes");
      await rest.stop();
      assert.deepEqual(ids(rest.events), ids(first.events.slice(seen)));
    }
  }),

  storeCase("a filtered subscription gives its categories only, and its through moves past all others", async (context) => {
    const { store } = context;
    const follower = follow(context, store, { categories: ["order", "order2"], pageSize: 2 });
    await fill(store, STREAMS, 25);
    const { position } = await commit(store, "cart-1", 5);
    await follower.until(() => follower.pages.some((page) => covers(page.through, position)), "through covers the last append");
    await assertAllOf(store, follower.events, ["order-1", "order-2", "order2-1"]);
    await follower.stop();
  }),

  storeCase("on a log whose events are all filtered, through moves within 100 ms", async (context) => {
    const median = await medianDelay(context, context.store, context.store, "cart-1", ["order"]);
    assert.ok(median <= 100, `the median of 7 was ${median.toFixed(1)} ms`);
  }),

  storeCase("an append of another process wakes a subscription within 100 ms", async (context) => {
    const median = await medianDelay(context, await context.another(), context.store, "order-1");
    assert.ok(median <= 100, `the median of 7 was ${median.toFixed(1)} ms`);
  }),

  storeCase("a slow consumer gets pages of its size, whole and in order, and holds up nobody else", async (context) => {
    const { store } = context;
    await commit(store, "order-1", 0, events(4));
    const abort = new AbortController();
    const slow: LogPage[] = [];
    const fast = follow(context, store);
    const reading = (async () => {
      for await (const page of store.subscribe({ pageSize: 5, signal: abort.signal })) {
        slow.push(page);
        if (slow.length === 1) {
          for (let version = 4; version < 204; version += 50) await commit(store, "order-1", version, events(50));
          await fast.until(() => fast.events.length >= 204, "the other subscription goes on");
        }
        if (slow.reduce((sum, each) => sum + each.events.length, 0) >= 204) break;
        await nextTurn();
      }
    })();
    await within(context, reading, "the slow consumer gets everything");
    assert.ok(slow.every((page) => page.events.length <= 5));
    assert.deepEqual(ids(slow.flatMap((page) => page.events)), ids(await readWhole(store, "order-1")));
    await fast.stop();
  }),

  storeCase("a subscription that the consumer leaves is over, and the store goes on", async (context) => {
    const { store } = context;
    await fill(store, ["order-1"], 5);
    for (let round = 0; round < 5; round++) {
      const page = await within(context, firstPage(store.subscribe({ pageSize: 2 })), "the first page comes");
      assert.equal(page.events.length, 2);
    }
    const follower = follow(context, store);
    await commit(store, "order-1", 5);
    await follower.until(() => follower.events.length >= 6, "a new subscription works");
    await follower.stop();
    await within(context, store.close(), "close ends");
  }),

  storeCase("an abort ends reads and waiting subscriptions with Aborted, and nothing else", async (context) => {
    const { store } = context;
    await fill(store, ["order-1"], 10);
    const gone = AbortSignal.abort(new Error("not needed any more"));
    const attempts: (() => Promise<unknown>)[] = [
      () => store.readStream("order-1", { signal: gone }),
      () => readLog(store, { signal: gone }),
      () => firstPage(store.subscribe({ signal: gone })),
    ];
    for (const attempt of attempts) {
      const error: unknown = await within(context, attempt().then(() => undefined, (caught: unknown) => caught), "an aborted read ends");
      assertCode(error, "Aborted");
    }
    const abort = new AbortController();
    const reading = (async () => {
      for await (const page of store.readAll({ pageSize: 2, signal: abort.signal })) {
        assert.ok(page.events.length <= 2);
        abort.abort();
      }
    })();
    assertCode(await within(context, reading.then(() => undefined, (caught: unknown) => caught), "an aborted read of the log ends"), "Aborted");
    const waiting = follow(context, store);
    const other = follow(context, store);
    await waiting.until(() => waiting.pages.at(-1)?.caughtUp === true, "it has caught up");
    await waiting.stop();
    await commit(store, "order-1", 10);
    await other.until(() => other.events.length >= 11, "the other subscription goes on");
    await other.stop();
    assert.equal(waiting.events.length, 10);
  }),
];
