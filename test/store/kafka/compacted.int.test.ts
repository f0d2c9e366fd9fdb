/** Snapshots and published states in compacted topics, on a real broker that compacts. */
import { concatMap } from "rxjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accepted, aggregate, readModel, table, tidemark } from "../../../src/index.ts";
import type { SnapshotStore, StoredSnapshot } from "../../../src/snapshot/snapshot-store.ts";
import { kafkaBackend, kafkaState, type KafkaState } from "../../../src/store/kafka/index.ts";
import { snapshotStoreContract } from "../../../src/testing/index.ts";
import { kafkaAvailable, newTopicPrefix, sharedKafka } from "../../support/kafka.ts";
import { deleteTopics, plainClient } from "./kafka-stores.ts";

const START_MS = 120_000;
let brokers: readonly string[];
const prefix = newTopicPrefix();
const opened: { close(): Promise<void> }[] = [];

describe.skipIf(!kafkaAvailable)("compacted topics of a real broker", () => {
  beforeAll(async () => {
    brokers = await sharedKafka();
  }, START_MS);
  afterAll(async () => {
    await Promise.all(opened.map((each) => each.close()));
    if (brokers !== undefined) await deleteTopics(brokers, prefix);
  }, START_MS);

  let contracts = 0;
  snapshotStoreContract(
    {
      name: "Kafka",
      async open() {
        const topicPrefix = `${prefix}.contract-${++contracts}`;
        const open = (): SnapshotStore => {
          const backend = kafkaBackend({ brokers, topicPrefix, partitions: 3, replicationFactor: 1 });
          opened.push(backend);
          return backend.snapshots as SnapshotStore;
        };
        const snapshots = open();
        return {
          snapshots,
          async reopen() {
            await snapshots.close();
            return open();
          },
          dispose: () => Promise.resolve(),
        };
      },
    },
    { describe, it },
  );

  it("hold a snapshot as JSON that others can read, with what belongs to it in headers", async () => {
    const snapshots = snapshotsOf(`${prefix}.foreign`);
    await snapshots.save([snapshotAt(7)]);
    const [record] = await readAll(`${prefix}.foreign.order.snapshots`);
    expect(record).toMatchObject({ key: "order-1", headers: { "tm-schema": "1", "tm-window": "[]", "tm-event": "event-7", "tm-position": '{"order/0":7}' } });
    expect(JSON.parse(record?.value ?? "")).toEqual({ aggregateId: "1", version: 7, timestamp: 1_700_000_000_000, state: { total: 7, odd: '","state":' } });
  });

  it("keep the last record of each key, and look-ups find it after the others are gone", { timeout: START_MS }, async () => {
    const topic = `${prefix}.totals.state`;
    await createQuicklyCompacted(topic);
    const state = stateOf<{ readonly total: number }>("totals");
    for (let version = 1; version <= 5; version++) await state.put("kept", { total: version }, version);
    await state.put("gone", { total: 1 }, 1);
    await state.delete("gone");
    // A segment that is written to is never compacted: what comes later closes it.
    let filler = 0;
    await until(async () => {
      await state.put("filler", { total: ++filler }, filler);
      const left = await readAll(topic);
      return left.filter(({ key }) => key === "kept").length === 1 && !left.some(({ key }) => key === "gone");
    });
    const other = stateOf<{ readonly total: number }>("totals");
    for (const reader of [state, other]) {
      expect(await reader.get("kept")).toMatchObject({ version: 5, state: { total: 5 } });
      expect(await reader.get("gone")).toBeUndefined();
      expect(await reader.get("filler")).toMatchObject({ version: filler });
    }
  });

  it("take no older state after a newer one: a writer that was replaced stays out", async () => {
    const [first, second] = [stateOf<string>("fenced"), stateOf<string>("fenced")];
    await first.put("k", "first", 1);
    await second.put("k", "second", 2);
    await expect(first.put("k", "first again", 1)).rejects.toMatchObject({ code: "StoreRefused", details: { reason: "not-owner" } });
    await expect(first.delete("k")).rejects.toMatchObject({ code: "StoreRefused" });
    await second.put("other", "second", 3);
    expect(await first.get("k")).toMatchObject({ state: "second", version: 2 });
  });

  it("take what is put at the same time in its order, and refuse what is too large alone", async () => {
    const state = stateOf<string>("many");
    const puts = Array.from({ length: 3000 }, (_, index) => state.put(`k${index % 7}`, String(index), index));
    const large = state.put("large", "x".repeat(2_000_000), 1);
    await expect(large).rejects.toMatchObject({ code: "StoreRefused", details: { reason: "too-large" } });
    await Promise.all(puts);
    for (let key = 0; key < 7; key++) expect((await state.get(`k${key}`))?.version).toBe(Math.max(...Array.from({ length: 3000 }, (_, index) => (index % 7 === key ? index : 0))));
    const written = await readAll(`${prefix}.many.state`);
    expect(written).toHaveLength(3000);
    await state.close();
    await expect(state.put("k", "late", 9)).rejects.toMatchObject({ code: "StoreClosed" });
  });

  it("are refused where the topic does not compact", async () => {
    const admin = plainClient(brokers).admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: `${prefix}.deleting.state`, numPartitions: 1, replicationFactor: 1, configEntries: [{ name: "cleanup.policy", value: "delete" }] }], waitForLeaders: true });
    await admin.disconnect();
    await expect(stateOf("deleting").put("k", 1, 1)).rejects.toThrow("has cleanup.policy=delete, and must have compact");
  });

  it("never decide what a stream holds: with an old snapshot as the last one, the log is read on from there", { timeout: START_MS }, async () => {
    const topicPrefix = `${prefix}.app`;
    const Counter = aggregate("counter", {
      initial: () => ({ total: 0 }),
      events: { Added: (counter, data: { by: number }) => void (counter.total += data.by) },
      commands: { add: (_, input: { by: number }, { emit }) => emit("Added", input) },
      snapshot: { everyEvents: 10, schemaVersion: 1 },
    });
    const backend = () => kafkaBackend({ brokers, topicPrefix, partitions: 2, replicationFactor: 1 });
    const store = backend();
    opened.push(store);
    const snapshots = store.snapshots as SnapshotStore;
    const old: StoredSnapshot[] = [];
    {
      await using app = await tidemark({ store: { ...store, close: () => Promise.resolve() }, aggregates: [Counter] });
      for (let count = 1; count <= 30; count++) {
        await app.at(Counter, "c").add({ by: 1 });
        if (count === 10) await until(async () => old.push(...[await snapshots.load("counter-c")].filter((each) => each !== undefined)) > 0);
      }
      await until(async () => ((await snapshots.load("counter-c"))?.version ?? 0) >= 30);
    }
    // A process that slept since version 10 saves now. Compaction keeps what stands last.
    await snapshots.delete("counter-c");
    await snapshots.save(old);
    expect((await snapshots.load("counter-c"))?.version).toBe(10);
    const again = backend();
    opened.push(again);
    await using app = await tidemark({ store: again, aggregates: [Counter] });
    expect(await app.at(Counter, "c").state()).toMatchObject({ state: { total: 30 }, version: 30 });
  });

  it("take what a read model publishes at least once, while its view is written exactly once", { timeout: START_MS }, async () => {
    const Account = aggregate("account", {
      initial: () => ({ total: 0 }),
      events: { Paid: (account, data: { amount: number }) => void (account.total += data.amount), Closed: (account, _: Record<never, never>) => void (account.total = 0) },
      commands: { pay: (_, input: { amount: number }, { emit }) => emit("Paid", input), close: (_, __: Record<never, never>, { emit }) => emit("Closed", {}) },
    });
    const totals = stateOf<{ readonly total: number }>("balances");
    // The page of the third payment fails once, after it has published.
    let failures = 1;
    const balances = readModel("balances", {
      from: [Account],
      view: table<{ id: string; total: number }>("balances", { key: "id" }),
      project: (events$, { view }) =>
        events$.pipe(
          concatMap(async (event) => {
            if (event.type === "Closed") {
              await view.delete(event.id);
              return totals.delete(event.id);
            }
            const total = ((await view.get(event.id))?.total ?? 0) + event.data.amount;
            await view.upsert({ id: event.id, total });
            await totals.put(event.id, { total }, event.version);
            if (event.version === 3 && failures-- > 0) throw new Error("once");
          }),
        ),
    });
    const store = kafkaBackend({ brokers, topicPrefix: `${prefix}.accounts`, partitions: 1, replicationFactor: 1 });
    opened.push(store);
    await using app = await tidemark({ store, views: "memory:", aggregates: [Account], readModels: [balances] });
    for (const amount of [1, 2, 3, 4]) await app.at(Account, "a").pay({ amount });
    await app.at(Account, "b").pay({ amount: 7 });
    accepted(await app.at(Account, "b").close({}));
    // One partition: this token is behind all of them.
    const paid = accepted(await app.at(Account, "a").pay({ amount: 5 }));
    expect(await app.query(balances, (view) => view.find({}), { atLeast: paid.token, timeoutMs: 60_000 })).toEqual([{ id: "a", total: 15 }]);
    const reader = stateOf<{ readonly total: number }>("balances");
    expect(await reader.get("a")).toMatchObject({ state: { total: 15 }, version: 5 });
    expect(await reader.get("b")).toBeUndefined();
    // What was published twice is the same twice.
    const third = (await readAll(`${prefix}.balances.state`)).filter(({ key, headers }) => key === "a" && headers["tm-version"] === "3");
    expect(third.length).toBeGreaterThanOrEqual(2);
    expect(new Set(third.map(({ value }) => (JSON.parse(value ?? "") as { state: { total: number } }).state.total))).toEqual(new Set([6]));
  });
});

function snapshotsOf(topicPrefix: string): SnapshotStore {
  const backend = kafkaBackend({ brokers, topicPrefix, partitions: 1, replicationFactor: 1 });
  opened.push(backend);
  return backend.snapshots as SnapshotStore;
}

function stateOf<S>(name: string): KafkaState<S> {
  const state = kafkaState<S>({ brokers, topicPrefix: prefix, name, partitions: 1, replicationFactor: 1 });
  opened.push(state);
  return state;
}

function snapshotAt(version: number): StoredSnapshot {
  const state = JSON.stringify({ total: version, odd: '","state":' });
  return { stream: "order-1", version, eventId: `event-${version}`, position: { "order/0": version }, schemaVersion: 1, state, window: "[]", checksum: "c", takenAt: 1_700_000_000_000 };
}

interface PlainRecord {
  readonly key: string;
  readonly value: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Partition 0, as kafkajs's own consumer reads it. */
async function readAll(topic: string): Promise<readonly PlainRecord[]> {
  const client = plainClient(brokers);
  const admin = client.admin();
  await admin.connect();
  const [{ high }] = (await admin.fetchTopicOffsets(topic)) as unknown as readonly [{ readonly high: string }];
  await admin.disconnect();
  const consumer = client.consumer({ groupId: newTopicPrefix() });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const found: PlainRecord[] = [];
  await new Promise<void>((resolve, reject) => {
    consumer
      .run({
        eachBatch: async ({ batch }) => {
          for (const { key, value, headers } of batch.messages) {
            found.push({ key: String(key), value: value?.toString(), headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)])) });
          }
          if (Number(batch.lastOffset()) + 1 >= Number(high)) resolve();
        },
      })
      .catch(reject);
  });
  await consumer.disconnect();
  return found;
}

async function createQuicklyCompacted(topic: string): Promise<void> {
  const admin = plainClient(brokers).admin();
  await admin.connect();
  const settings = { "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "1", "max.compaction.lag.ms": "100" };
  await admin.createTopics({
    topics: [{ topic, numPartitions: 1, replicationFactor: 1, configEntries: Object.entries(settings).map(([name, value]) => ({ name, value })) }],
    waitForLeaders: true,
  });
  await admin.disconnect();
}

async function until(condition: () => Promise<boolean>, withinMs = 45_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`did not happen within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
