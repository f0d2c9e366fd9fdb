/**
 * The store contract, part 4: closing, opening again, identity, and a log that is not the one it was.
 */
import assert from "node:assert/strict";
import type { EventStore } from "../store/event-store.ts";
import {
  appendTo,
  assertCode,
  assertCommitted,
  assertContiguous,
  assertRefused,
  assertRejects,
  byLane,
  commit,
  event,
  events,
  fill,
  firstPage,
  follow,
  ids,
  readLog,
  readWhole,
  storeCase,
  within,
} from "./store-contract-support.ts";
import type { CaseContext, StoreCase } from "./store-contract-support.ts";

async function assertClosed(context: CaseContext, store: EventStore): Promise<void> {
  assertRefused(await appendTo(store, "order-1", "any"), "closed");
  const [one, two] = await store.append([
    { stream: "order-1", expected: "any", events: events(1) },
    { stream: "order-2", expected: 0, events: events(1) },
  ]);
  assertRefused(one, "closed");
  assertRefused(two, "closed");
  await assertRejects(context, () => store.readStream("order-1"), "StoreClosed");
  await assertRejects(context, () => readLog(store), "StoreClosed");
  await assertRejects(context, () => firstPage(store.subscribe()), "StoreClosed");
}

async function assertRewound(context: CaseContext, store: EventStore, after: Readonly<Record<string, number>>): Promise<void> {
  await assertRejects(context, () => readLog(store, { after }), "StoreRewound");
  await assertRejects(context, () => readLog(store, { after, categories: ["order"] }), "StoreRewound");
  await assertRejects(context, () => firstPage(store.subscribe({ after })), "StoreRewound");
}

export const lifeCases: readonly StoreCase[] = [
  storeCase("a store says what it can do", async ({ store }) => {
    const { groupsInFlight, maxAppendBytes, maxAppendsInBatch, ...flags } = store.capabilities;
    for (const limit of [groupsInFlight, maxAppendBytes, maxAppendsInBatch]) assert.ok(Number.isSafeInteger(limit) && limit >= 1, `a limit is a whole number from 1, not ${limit}`);
    for (const name of ["totalOrder", "idempotentAny", "remembersStreams", "inTransaction", "durable", "multiProcess"] as const) assert.equal(typeof flags[name], "boolean", name);
  }),

  storeCase("the identity has its form and is the same for every process", async ({ store, another }) => {
    const { id } = await store.identity();
    assert.match(id, /^[A-Za-z0-9-]{12,36}$/);
    assert.equal((await store.identity()).id, id);
    await commit(store, "order-1", 0);
    assert.equal((await (await another()).identity()).id, id);
  }),

  storeCase(
    "after closing and opening again everything stands where it stood",
    async (context) => {
      const { store } = context;
      await fill(store, ["order-1", "cart-1", "order-2"], 30);
      const last = events(3);
      const answer = await commit(store, "order-1", 10, last);
      const before = await readLog(store);
      const { id } = await store.identity();
      const again = await context.reopen();
      assert.equal((await again.identity()).id, id);
      const after = await readLog(again);
      // Lanes may come in another order; within each of them nothing may.
      assert.deepEqual(byLane(after.events), byLane(before.events));
      assert.deepEqual(after.through, before.through);
      assert.deepEqual(await commit(again, "order-1", 10, last), answer, "the same ids again are still answered as the first time");
      assert.equal((await commit(again, "order-1", 13)).version, 14);
      const rest = await readLog(again, { after: before.through });
      assert.equal(rest.events.length, 1, "positions go on where they were");
      assertContiguous(await readWhole(again, "order-1"));
    },
    "durable",
  ),

  storeCase("close is idempotent, and every later call is answered with its name", async (context) => {
    const { store } = context;
    await commit(store, "order-1", 0);
    await within(context, Promise.all([store.close(), store.close()]), "close ends");
    await within(context, store.close(), "close ends again");
    await assertClosed(context, store);
  }),

  storeCase("a store that is closed while busy answers every append truly and ends every iterator with StoreClosed", async (context) => {
    const { store, another } = context;
    const other = await another();
    await fill(store, ["order-0"], 10);
    const waiting = follow(context, store);
    const filtered = follow(context, store, { categories: ["nothing"] });
    await waiting.until(() => waiting.pages.at(-1)?.caughtUp === true, "it has caught up");
    await filtered.until(() => filtered.pages.at(-1)?.caughtUp === true, "it has caught up");
    const pulled = store.readAll({ pageSize: 2 })[Symbol.asyncIterator]();
    assert.equal((await pulled.next()).done, false);

    const sent = Array.from({ length: 40 }, (_, index) => ({ stream: `cart-${index}`, expected: 0, events: [event()] }));
    const answers = sent.map((append) => store.append([append]));
    const closing = store.close();
    const late = await within(context, appendTo(store, "cart-late", 0), "an append after close is answered");
    await within(context, closing, "close ends");
    const outcomes = (await within(context, Promise.all(answers), "every append is answered")).map((list) => list[0]);

    assertRefused(late, "closed");
    const standing = new Set((await readLog(other)).events.map((one) => one.id));
    for (const [index, outcome] of outcomes.entries()) {
      const id = sent[index]?.events[0]?.id as string;
      if (outcome?.kind === "committed") assert.ok(standing.has(id), "an acknowledged append stands");
      else if (outcome?.kind !== "unknown") {
        assertRefused(outcome, "closed");
        assert.ok(!standing.has(id), "a refused append does not stand");
      }
    }
    assertCode(await within(context, waiting.ended, "a waiting subscription ends"), "StoreClosed");
    assertCode(await within(context, filtered.ended, "a filtered subscription ends"), "StoreClosed");
    await assertRejects(context, () => pulled.next(), "StoreClosed");
    await assertClosed(context, store);
    assertCommitted(await appendTo(other, "order-0", 10));
  }),

  storeCase("closing one process's store leaves the other's alone", async (context) => {
    const { store, another } = context;
    const other = await another();
    const follower = follow(context, other);
    await commit(store, "order-1", 0);
    await store.close();
    await commit(other, "order-1", 1);
    await follower.until(() => follower.events.length >= 2, "both events come");
    await follower.stop();
  }),

  storeCase("a position beyond the end of the log is recognised: this is not the log it was made on", async (context) => {
    const { store } = context;
    await commit(store, "order-1", 0, events(3));
    const { through } = await readLog(store);
    const beyond = Object.fromEntries(Object.entries(through).map(([lane, offset]) => [lane, offset + 1_000_000]));
    await assertRewound(context, store, beyond);
    assert.equal((await readLog(store, { after: through })).events.length, 0);
  }),

  storeCase(
    "a store that was reset has another identity, and refuses the positions of its former life",
    async (context) => {
      const { store } = context;
      await fill(store, ["order-1", "cart-1"], 20);
      const { id } = await store.identity();
      const { through } = await readLog(store);
      const fresh = await context.reset();
      assert.notEqual((await fresh.identity()).id, id);
      await assertRewound(context, fresh, through);
      assert.equal((await readLog(fresh)).events.length, 0);
      const one = event();
      assert.equal((await commit(fresh, "order-1", 0, [one])).version, 1);
      assert.deepEqual(ids((await readLog(fresh)).events), ids([one]));
    },
    "reset",
  ),
];
