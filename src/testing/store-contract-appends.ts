/**
 * The store contract, part 1: what an append checks, what it answers, and that it happens once.
 */
import assert from "node:assert/strict";
import type { Append, EventStore, ExpectedVersion } from "../store/event-store.ts";
import {
  appendTo,
  asStored,
  assertCommitted,
  assertConflict,
  assertContiguous,
  assertRefused,
  beside,
  commit,
  event,
  events,
  fill,
  ids,
  nextTurn,
  readLog,
  readWhole,
  storeCase,
  withoutPosition,
} from "./store-contract-support.ts";
import type { StoreCase } from "./store-contract-support.ts";

async function versionOf(store: EventStore, stream: string): Promise<number> {
  return (await store.readStream(stream)).version;
}

export const appendCases: readonly StoreCase[] = [
  storeCase("a new stream holds nothing and is at version 0", async ({ store }) => {
    for (const direction of ["forward", "backward"] as const) {
      const slice = await store.readStream("order-1", { direction });
      assert.deepEqual({ ...slice, firstVersion: 1 }, { events: [], version: 0, firstVersion: 1, next: undefined });
    }
  }),

  storeCase("versions count 1, 2, 3 through single and larger appends, and the outcome names the last event", async ({ store }) => {
    assert.equal((await commit(store, "order-1", 0)).version, 1);
    const second = await commit(store, "order-1", 1, events(3));
    assert.equal(second.version, 4);
    assert.equal((await commit(store, "order-1", 4)).version, 5);
    const whole = await readWhole(store, "order-1");
    assert.deepEqual(whole.map((one) => one.version), [1, 2, 3, 4, 5]);
    assert.deepEqual(whole[3]?.position, second.position);
  }),

  storeCase("0 and none commit on an empty stream only", async ({ store }) => {
    assert.equal((await commit(store, "order-1", 0)).version, 1);
    assert.equal((await commit(store, "order-2", "none", events(2))).version, 2);
    for (const expected of [0, "none"] as const) {
      assertConflict(await appendTo(store, "order-1", expected), 1);
      assertConflict(await appendTo(store, "order-2", expected), 2);
    }
    assert.equal(await versionOf(store, "order-1"), 1);
    assert.equal(await versionOf(store, "order-2"), 2);
  }),

  storeCase("an exact version commits on exactly that version", async ({ store }) => {
    assertConflict(await appendTo(store, "order-1", 1), 0);
    assert.equal(await versionOf(store, "order-1"), 0);
    await commit(store, "order-1", 0, events(3));
    for (const wrong of [1, 2, 4, 1000]) assertConflict(await appendTo(store, "order-1", wrong), 3);
    assert.equal((await commit(store, "order-1", 3)).version, 4);
    assert.equal(await versionOf(store, "order-1"), 4);
  }),

  storeCase("exists commits where the stream holds something, any commits always", async ({ store }) => {
    assertConflict(await appendTo(store, "order-1", "exists"), 0);
    assert.equal((await commit(store, "order-1", "any")).version, 1);
    assert.equal((await commit(store, "order-1", "exists", events(2))).version, 3);
    assert.equal((await commit(store, "order-1", "any")).version, 4);
    assertContiguous(await readWhole(store, "order-1"));
  }),

  storeCase("an expectation that the store does not know is refused", async ({ store }) => {
    for (const expected of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "whatever", null, undefined]) {
      assertRefused(await appendTo(store, "order-1", expected as ExpectedVersion), "invalid");
    }
    assert.equal(await versionOf(store, "order-1"), 0);
  }),

  storeCase("the missing events of a conflict, when it gives them, are those after the expected version, exactly", async ({ store }) => {
    await commit(store, "order-1", 0, events(5));
    const whole = await readWhole(store, "order-1");
    for (const expected of [0, "none", 1, 3, 4, 7] as const) {
      const { missing } = assertConflict(await appendTo(store, "order-1", expected, events(2)), 5);
      if (missing === undefined) continue;
      const from = expected === "none" ? 0 : expected;
      assert.deepEqual(missing, whole.slice(from, from + missing.length));
    }
    assert.equal((await readLog(store)).events.length, 5);
  }),

  storeCase("an append of several events is there as a whole or not at all, for every reader", async ({ store, another }) => {
    const reader = await another();
    let writing = true;
    const writes = beside(
      (async () => {
        for (let index = 0; index < 40; index++) await commit(store, "order-1", index * 5, events(5));
      })().finally(() => (writing = false)),
    );
    do {
      const { events: read, version } = await reader.readStream("order-1");
      assert.equal(version % 5, 0, `version ${version} lies inside an append of 5`);
      assert.equal(read.length, version, "a slice reaches the version it names");
      await nextTurn();
    } while (writing);
    await writes;
    assertConflict(await appendTo(store, "order-1", 199, events(5)), 200);
    assert.equal((await readLog(store)).events.length, 200);
  }),

  storeCase("of two writers racing on one version exactly one wins, and the other one learns the actual version", async ({ store, another }) => {
    const other = await another();
    for (let version = 0; version < 25; version++) {
      const news = [event(), event()] as const;
      const racers = version % 2 === 0 ? [store, other] : [other, store];
      const outcomes = await Promise.all(racers.map((racer, index) => appendTo(racer, "order-1", version, [news[index as 0 | 1]])));
      const winner = outcomes.findIndex((outcome) => outcome.kind === "committed");
      assertCommitted(outcomes[winner]);
      const { missing } = assertConflict(outcomes[1 - winner], version + 1);
      if (missing !== undefined) assert.deepEqual(ids(missing), ids([news[winner as 0 | 1]]));
      assert.deepEqual(ids((await store.readStream("order-1", { from: version + 1 })).events), ids([news[winner as 0 | 1]]));
    }
  }),

  storeCase("writers in two processes who try again after each conflict all get in, once each and without a gap", async ({ store, another }) => {
    const other = await another();
    const written = await Promise.all(
      [store, other, store, other].map(async (writer) => {
        const own = events(12);
        for (const one of own) {
          let expected = await versionOf(writer, "order-1");
          for (;;) {
            const outcome = await appendTo(writer, "order-1", expected, [one]);
            if (outcome.kind === "committed") break;
            assert.ok(outcome.kind === "conflict", `a race is won or lost, not ${outcome.kind}`);
            assert.ok(outcome.actual > expected, "a stream is never behind what was read of it");
            expected = outcome.actual;
          }
        }
        return own;
      }),
    );
    const whole = await readWhole(store, "order-1");
    assertContiguous(whole);
    assert.deepEqual(ids(whole).sort(), ids(written.flat()).sort());
    for (const own of written) {
      const mine = new Set(ids(own));
      assert.deepEqual(ids(whole).filter((id) => mine.has(id)), ids(own), "each writer's events keep their order");
    }
  }),

  storeCase("what was acknowledged is seen by a read through another process at once", async ({ store, another }) => {
    const other = await another();
    for (let version = 0; version < 20; version++) {
      const [writer, reader] = version % 2 === 0 ? [store, other] : [other, store];
      const one = event();
      await commit(writer, "order-1", version, [one]);
      const slice = await reader.readStream("order-1", { direction: "backward", limit: 1 });
      assert.equal(slice.version, version + 1);
      assert.deepEqual(ids(slice.events), [one.id]);
      assert.equal((await readLog(reader)).events.length, version + 1);
    }
  }),

  storeCase("the same event ids again are answered as the first time and stand once", async ({ store, another }) => {
    const other = await another();
    const [first, second] = [events(2), events(3)];
    const begun = await commit(store, "order-1", "none", first);
    const gone = await commit(store, "order-1", 2, second);
    assert.deepEqual(await commit(store, "order-1", 2, second), gone, "while they are the last ones");
    await commit(store, "order-1", 5, events(2));
    for (const writer of [store, other]) {
      assert.deepEqual(await commit(writer, "order-1", "none", first), begun);
      assert.deepEqual(await commit(writer, "order-1", 0, first), begun);
      assert.deepEqual(await commit(writer, "order-1", 2, second), gone);
    }
    assert.equal(await versionOf(store, "order-1"), 7);
    assert.equal((await readLog(store)).events.length, 7);
  }),

  storeCase("the same append sent twice at once, by two processes, stands once", async ({ store, another }) => {
    const other = await another();
    for (let round = 0; round < 10; round++) {
      const append: Append = { stream: "order-1", expected: round * 2, events: events(2) };
      const [one, two] = await Promise.all([store.append([append]), other.append([append])]);
      assert.deepEqual(assertCommitted(one[0]), assertCommitted(two[0]));
    }
    assert.equal((await readLog(store)).events.length, 20);
  }),

  storeCase(
    "the same event ids again stand once with any and exists too",
    async ({ store }) => {
      const [first, second] = [events(2), events(2)];
      const begun = await commit(store, "order-1", "any", first);
      const gone = await commit(store, "order-1", "exists", second);
      assert.deepEqual(await commit(store, "order-1", "any", first), begun);
      assert.deepEqual(await commit(store, "order-1", "exists", first), begun);
      assert.deepEqual(await commit(store, "order-1", "any", second), gone);
      assert.equal((await commit(store, "order-1", "any")).version, 5);
      assert.deepEqual(await commit(store, "order-1", "exists", second), gone);
      assert.equal((await readLog(store)).events.length, 5);
    },
    "idempotentAny",
  ),

  storeCase("an append of which only a part stands already is a conflict and writes nothing", async ({ store }) => {
    const [one, two, three] = events(3) as [ReturnType<typeof event>, ReturnType<typeof event>, ReturnType<typeof event>];
    await commit(store, "order-1", 0, [one, two]);
    assertConflict(await appendTo(store, "order-1", 0, [one, two, three]), 2);
    assertConflict(await appendTo(store, "order-1", 0, [one, three]), 2);
    assertConflict(await appendTo(store, "order-1", 0, [two, one]), 2);
    assertConflict(await appendTo(store, "order-1", 0, [two]), 2);
    assertConflict(await appendTo(store, "order-1", 1, [one]), 2);
    assert.deepEqual(ids((await readLog(store)).events), ids([one, two]));
  }),

  storeCase("the outcomes of a batch stand in the order of its appends, and a failing one leaves its neighbours alone", async ({ store }) => {
    await commit(store, "order-2", 0, events(2));
    const batch: Append[] = [
      { stream: "order-1", expected: 0, events: events(2) },
      { stream: "order-2", expected: 1, events: events(1) },
      { stream: "order-3", expected: "none", events: events(1) },
      { stream: "order-4", expected: 0, events: [] },
      { stream: "order-5", expected: "any", events: events(1) },
      { stream: "no name", expected: 0, events: events(1) },
      { stream: "order-2b", expected: "exists", events: events(1) },
      { stream: "order-6", expected: 0, events: events(3) },
    ];
    const outcomes = await store.append(batch);
    assert.equal(outcomes.length, batch.length);
    assert.equal(assertCommitted(outcomes[0]).version, 2);
    assertConflict(outcomes[1], 2);
    assert.equal(assertCommitted(outcomes[2]).version, 1);
    assertRefused(outcomes[3], "invalid");
    assert.equal(assertCommitted(outcomes[4]).version, 1);
    assertRefused(outcomes[5], "invalid");
    assertConflict(outcomes[6], 0);
    assert.equal(assertCommitted(outcomes[7]).version, 3);
    for (const index of [0, 2, 4, 7]) {
      const append = batch[index] as Append;
      assert.deepEqual(withoutPosition(await readWhole(store, append.stream)), asStored(append, 1));
    }
    for (const stream of ["order-4", "order-2b"]) assert.equal(await versionOf(store, stream), 0);
    assert.equal((await readLog(store)).events.length, 9);
  }),

  storeCase("an outcome that is told before the batch is answered is that of the answer, and is told once", async ({ store }) => {
    await commit(store, "order-1", 0);
    const told = new Map<number, unknown>();
    const batch: Append[] = [
      { stream: "order-1", expected: 0, events: events(1) },
      { stream: "order-2", expected: 0, events: events(2) },
      { stream: "no name", expected: 0, events: events(1) },
      ...Array.from({ length: 10 }, (_, index): Append => ({ stream: `cart-${index}`, expected: "none", events: events(1) })),
    ];
    let answered = false;
    const outcomes = await store.append(batch, (index, outcome) => {
      assert.ok(!answered && !told.has(index), "it is told once, and before the answer");
      told.set(index, outcome);
    });
    answered = true;
    assert.equal(outcomes.length, batch.length);
    for (const [index, outcome] of told) assert.deepEqual(outcome, outcomes[index]);
  }),

  storeCase("a batch holds one append for each stream: the second one is refused, the first one stands", async ({ store }) => {
    const [first, second, third] = [events(1), events(1), events(1)];
    const outcomes = await store.append([
      { stream: "order-1", expected: 0, events: first },
      { stream: "order-1", expected: 1, events: second },
      { stream: "order-2", expected: 0, events: third },
    ]);
    assertCommitted(outcomes[0]);
    assertRefused(outcomes[1], "duplicate-stream");
    assertCommitted(outcomes[2]);
    assert.deepEqual(ids(await readWhole(store, "order-1")), ids(first));
  }),

  storeCase("a batch of nothing has no outcomes", async ({ store }) => {
    assert.deepEqual(await store.append([]), []);
    assert.equal((await readLog(store)).events.length, 0);
  }),

  storeCase("appends that are sent one after the other stand in that order in their lane", async ({ store, another }) => {
    const other = await another();
    await fill(store, ["order-1", "order-2", "cart-1"], 30);
    await commit(other, "order-3", 0);
    const { events: log } = await readLog(store);
    assertContiguous(log);
    const lanes = Map.groupBy(log, (one) => Object.keys(one.position).join());
    for (const own of lanes.values()) {
      const recorded = own.map((one) => one.recordedAt);
      assert.deepEqual(recorded, [...recorded].sort((a, b) => a - b));
    }
  }),
];
