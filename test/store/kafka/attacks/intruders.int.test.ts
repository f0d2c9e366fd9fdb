/** Writers that know nothing of the protocol, or too much of it, in the topic of a store, and a log whose beginning was deleted. */
import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/environment.ts";
import type { KafkaCluster } from "../../../../src/store/kafka/cluster.ts";
import { kafkaStore, type KafkaStoreOptions } from "../../../../src/store/kafka/index.ts";
import { kafkajsCluster } from "../../../../src/store/kafka/kafkajs-cluster.ts";
import { BatchWriter } from "../../../../src/store/kafka/record-batch.ts";
import { writeEvent } from "../../../../src/store/kafka/record-format.ts";
import { prepare } from "../../../../src/store/kafka/prepared-append.ts";
import { kafkaAvailable, newTopicPrefix, sharedKafka } from "../../../support/kafka.ts";
import { deleteTopics, plainClient } from "../kafka-stores.ts";
import { allAttacks } from "./all-attacks.ts";
import { expectNothingLost, violationsIn } from "./checker.ts";
import { countedIn, readRecords, RuleBroken, type PlainRecord } from "./plain-reader.ts";
import { newEvent } from "./workload.ts";
import { Writers, type Writer, type WriterProcess } from "./writer.ts";

const START_MS = 120_000;
const STREAMS = Array.from({ length: 4 }, (_, number) => `order-${number}`);

describe.skipIf(!kafkaAvailable)("the topic of a store", () => {
  let brokers: readonly string[];
  let cluster: KafkaCluster;
  let writers: Writers;
  let prefix: string;
  let topic: string;
  let owner: Writer;
  const prefixes: string[] = [];

  beforeAll(async () => {
    brokers = await sharedKafka();
    cluster = kafkajsCluster({ brokers, clientId: "rogue", requestTimeoutMs: 5000, clock: systemClock });
  }, START_MS);
  beforeEach(async () => {
    writers = new Writers();
    prefixes.push((prefix = newTopicPrefix()));
    topic = `${prefix}.order.events`;
    owner = writers.startHere(kafkaStore(options()), STREAMS);
    await owner.more(10);
  });
  afterEach(() => writers.dispose());
  afterAll(async () => {
    await cluster.close();
    await deleteTopics(brokers, ...prefixes);
  }, START_MS);

  const options = (more: Partial<KafkaStoreOptions> = {}): KafkaStoreOptions => ({ brokers, topicPrefix: prefix, partitions: 1, replicationFactor: 1, minHoldMs: 10, ...more });
  const expectSound = (atLeast: number) => expectNothingLost({ brokers, topic, lines: writers.lines(), atLeast });
  const ownerProcess = (): WriterProcess => writers.start({ brokers, streams: STREAMS, options: { topicPrefix: prefix, partitions: 1, replicationFactor: 1, minHoldMs: 10 } });
  const claimNow = async (): Promise<PlainRecord> => (await readRecords(brokers, topic)).filter(({ headers }) => headers["tm-kind"] === "claim").at(-1) as PlainRecord;

  /** An event as the owner would write it, under its claim. */
  function forged(batch: BatchWriter, claim: string, stream: string, version: number): void {
    const [event] = prepare({ stream, expected: version - 1, events: [newEvent(stream)] }).events;
    if (event !== undefined) writeEvent(batch, stream, event, { claim, version, index: 0, size: 1 });
  }

  it("takes records without our headers, with those of an earlier claim, and of a producer of its own, and none of them counts", { timeout: START_MS }, async () => {
    const first = await claimNow();
    // A second owner, so that there is an earlier claim.
    const other = writers.startHere(kafkaStore(options()), STREAMS);
    await Promise.all([other.more(30), owner.more(30)]);
    const producer = plainClient(brokers).producer({ idempotent: true });
    await producer.connect();
    const headers = { "tm-claim": first.headers["tm-claim"] ?? "", "tm-version": "1", "tm-type": "Forged" };
    await producer.send({
      topic,
      messages: [
        { partition: 0, key: "order-1", value: "1" },
        { partition: 0, key: "order-1", value: "2", headers: { ...headers, "tm-id": randomUUID() } },
        { partition: 0, key: "order-new", value: "3", headers: { ...headers, "tm-id": randomUUID(), "tm-append": "1/2" } },
        { partition: 0, key: null, value: null, headers: { "tm-kind": "stamp" } },
      ],
    });
    await producer.disconnect();
    await Promise.all([other.more(30), owner.more(30)]);
    await Promise.all([other.stop(), owner.stop()]);
    const { passedOver } = await expectSound(130);
    expect(passedOver).toBeGreaterThanOrEqual(4);
  });

  it("that a stranger writes to all the while is written to at the offsets that its owner tells", { timeout: START_MS }, async () => {
    await owner.stop();
    const producer = plainClient(brokers).producer();
    await producer.connect();
    const busy = ownerProcess();
    let written = false;
    const strange = (async () => {
      while (!written) await producer.send({ topic, messages: [{ partition: 0, key: "order-1", value: "{}" }] });
    })();
    await busy.more(300).finally(() => (written = true));
    await Promise.all([strange, busy.stop()]);
    await producer.disconnect();
    const { passedOver } = await expectSound(310);
    expect(passedOver).toBeGreaterThan(50);
  });

  it("takes events that name the claim in force from a producer of its own: our readers pass over them, and others stop", { timeout: START_MS }, async () => {
    const claim = (await claimNow()).headers["tm-claim"] ?? "";
    const batch = new BatchWriter();
    forged(batch, claim, "order-0", 999);
    forged(batch, claim, "order-new", 1);
    const link = cluster.partition(topic, 0);
    const { batch: bytes } = batch.finish({ producerId: -1, epoch: -1, sequence: -1, timestamp: Date.now() });
    await link.produce(bytes, 5000);
    link.close();
    await owner.more(20);
    await owner.stop();
    const records = await readRecords(brokers, topic);
    expect(violationsIn(writers.lines(), countedIn(records, true))).toEqual([]);
    // Rule 5 of the wire format; the guide says why write access is for the service alone.
    expect(() => countedIn(records, false)).toThrow(RuleBroken);
    const reader = kafkaStore(options());
    expect((await reader.readStream("order-new")).version).toBe(0);
    expect((await reader.readStream("order-0")).version).toBeLessThan(999);
    await reader.close();
  });

  it("pinned by a transaction that is left open goes on being written and read", { timeout: START_MS }, async () => {
    const claim = (await claimNow()).headers["tm-claim"] ?? "";
    const producer = plainClient(brokers).producer({ transactionalId: `rogue-${prefix}`, maxInFlightRequests: 1, idempotent: true, transactionTimeout: 60_000 });
    await producer.connect();
    const transaction = await producer.transaction();
    await transaction.send({ topic, messages: [{ partition: 0, key: "order-1", value: "{}", headers: { "tm-claim": claim, "tm-version": "999", "tm-id": randomUUID(), "tm-type": "Forged", "tm-append": "1/2" } }] });
    await owner.more(20);
    // One who must read all of it before it can write.
    const other = writers.startHere(kafkaStore(options()), STREAMS);
    await Promise.all([other.more(20), owner.more(20)]);
    await transaction.abort();
    await producer.disconnect();
    await Promise.all([other.more(5), owner.more(5)]);
    await Promise.all([other.stop(), owner.stop()]);
    await expectSound(80);
  });

  // It takes as long as 32,767 epochs do.
  it.skipIf(!allAttacks)("written to with the owner's producer id and the highest epoch keeps the owner out until it has another id, and nothing is lost", { timeout: 400_000 }, async () => {
    await owner.stop();
    const lockedOut = ownerProcess();
    await lockedOut.more(10);
    const claim = await claimNow();
    const batch = new BatchWriter();
    forged(batch, claim.headers["tm-claim"] ?? "", "order-0", 999);
    const link = cluster.partition(topic, 0);
    const { batch: bytes } = batch.finish({ producerId: Number(claim.producer?.id), epoch: 32_767, sequence: 0, timestamp: Date.now() });
    await link.produce(bytes, 5000);
    link.close();
    // All 32,767 epochs are drawn, one after the other.
    await lockedOut.more(30, 300_000);
    await lockedOut.stop();
    const records = await readRecords(brokers, topic);
    expect(violationsIn(writers.lines(), countedIn(records, true))).toEqual([]);
    const claims = records.filter(({ headers }) => headers["tm-kind"] === "claim");
    expect(new Set(claims.map(({ producer }) => producer?.id)).size).toBeGreaterThan(1);
  });

  it("whose beginning was deleted is read on by who has an index of it, and refused by name to everybody else", { timeout: START_MS }, async () => {
    const file = writers.file("index.db");
    await owner.stop();
    const indexed = kafkaStore(options({ index: file }));
    const { version } = await indexed.readStream("order-1");
    await indexed.close();
    const admin = plainClient(brokers).admin();
    await admin.connect();
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "5" }] });
    await admin.disconnect();
    const again = kafkaStore(options({ index: file }));
    expect(await again.append([{ stream: "order-1", expected: version, events: [newEvent("order-1")] }])).toMatchObject([{ kind: "committed", version: version + 1 }]);
    expect((await again.readStream("order-1")).events.map((event) => event.version)).toEqual(Array.from({ length: version + 1 }, (_, index) => index + 1));
    await again.close();
    const without = kafkaStore(options());
    await expect(without.readStream("order-1")).rejects.toMatchObject({ code: "StoreCorrupt", message: expect.stringContaining("the log of order/0 begins") });
    expect(await without.append([{ stream: "order-1", expected: "any", events: [newEvent("order-1")] }])).toMatchObject([{ kind: "refused", code: "corrupt", retryable: false }]);
    await without.close();
  });
});
