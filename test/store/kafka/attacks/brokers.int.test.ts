/** A broker that is restarted and killed, and one that forgets what the fence rests on: the store's own claims have to do. */
import { cpSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/environment.ts";
import { kafkaStore, type KafkaStoreOptions } from "../../../../src/store/kafka/index.ts";
import { kafkajsCluster } from "../../../../src/store/kafka/kafkajs-cluster.ts";
import { BatchWriter } from "../../../../src/store/kafka/record-batch.ts";
import { newTopicPrefix, ownKafkaAvailable, startKafka, type KafkaCluster } from "../../../support/kafka.ts";
import { allAttacks } from "./all-attacks.ts";
import { expectNothingLost } from "./checker.ts";
import { readRecords, type PlainRecord } from "./plain-reader.ts";
import { until, Writers, type WriterPlan } from "./writer.ts";

const LONG_MS = 400_000;
const STREAMS = Array.from({ length: 8 }, (_, number) => `order-${number}`);

describe.skipIf(!allAttacks || !ownKafkaAvailable)("a broker", () => {
  let kafka: KafkaCluster | undefined;
  let writers: Writers;
  let prefix: string;

  beforeEach(() => {
    writers = new Writers();
    prefix = newTopicPrefix();
  });
  afterEach(async () => {
    await writers.dispose();
    await kafka?.close();
  }, LONG_MS);

  const start = async (overrides: Readonly<Record<string, string>> = {}, data?: string): Promise<KafkaCluster> => (kafka = await startKafka({ overrides, ...(data === undefined ? {} : { data }) }));
  const brokers = (): readonly string[] => kafka?.brokers ?? [];
  const topic = (): string => `${prefix}.order.events`;
  const options = (more: Partial<KafkaStoreOptions> = {}): KafkaStoreOptions => ({ brokers: brokers(), topicPrefix: prefix, partitions: 1, replicationFactor: 1, minHoldMs: 10, ...more });
  const plan = (more: Partial<WriterPlan> = {}, index?: string): WriterPlan => ({
    brokers: brokers(),
    streams: STREAMS,
    pauseMs: 20,
    ...more,
    options: { topicPrefix: prefix, partitions: 1, replicationFactor: 1, minHoldMs: 10, ...(index === undefined ? {} : { index }) },
  });
  const expectSound = (atLeast: number) => expectNothingLost({ brokers: brokers(), topic: topic(), lines: writers.lines(), atLeast });
  const claims = async (): Promise<readonly PlainRecord[]> => (await readRecords(brokers(), topic())).filter(({ headers }) => headers["tm-kind"] === "claim");
  /** The broker tells nobody whom it knows: one more is forgotten when a gap in its sequence is not seen any more, and all who wrote before it with it. Leaves two records that do not count. */
  async function producersForgotten(): Promise<void> {
    const cluster = kafkajsCluster({ brokers: brokers(), clientId: "forgotten", requestTimeoutMs: 5000, clock: systemClock });
    const identity = await cluster.initProducerId(`forgotten-${prefix}`);
    const link = cluster.partition(topic(), 0);
    const write = (sequence: number): Promise<unknown> => {
      const writer = new BatchWriter();
      writer.beginRecord("nobody", "{}", 0);
      writer.endRecord();
      return link.produce(writer.finish({ ...identity, sequence, timestamp: Date.now() }).batch, 5000);
    };
    await write(0);
    await until("the broker has forgotten a producer", () => write(2).then(() => true, () => false));
    await cluster.close();
  }
  const producersOf = (records: readonly PlainRecord[]): number => new Set(records.map(({ producer }) => producer?.id)).size;

  it("that is restarted, and killed with -9, under load loses nothing", { timeout: LONG_MS }, async () => {
    const cluster = await start();
    const [node] = cluster.nodes;
    const two = [writers.start(plan()), writers.start(plan())];
    const bothGoOn = (): Promise<unknown> => Promise.all(two.map((each) => each.more(30, 120_000)));
    await bothGoOn();
    for (const end of [() => node?.stop(), () => node?.kill(), () => node?.kill()]) {
      await end();
      node?.start();
      await bothGoOn();
    }
    await Promise.all(two.map((each) => each.stop()));
    await expectSound(240);
  });

  it("whose owners are killed again and again, with their indexes deleted, cut and overwritten in between, loses nothing", { timeout: LONG_MS }, async () => {
    await start();
    const { truncateSync, statSync, openSync, writeSync, closeSync } = await import("node:fs");
    const file = writers.file("attacked.db");
    const damages = [
      () => undefined,
      () => rmSync(file),
      () => truncateSync(file, Math.floor(statSync(file).size / 2)),
      () => {
        const descriptor = openSync(file, "r+");
        writeSync(descriptor, Buffer.alloc(4096, 0x5a), 0, 4096, Math.floor(statSync(file).size / 2));
        closeSync(descriptor);
      },
    ];
    for (const damage of damages) {
      const owner = writers.start(plan({}, file));
      await owner.more(200);
      await owner.kill();
      damage();
    }
    // Damage that shows up late ends a store's reading; the next start builds the index anew.
    const second = writers.start(plan({}, file));
    await second.more(50).catch(() => undefined);
    await second.kill();
    const last = writers.start(plan({}, file));
    await last.more(100);
    await last.stop();
    await expectSound(900);
  });

  it("that forgets the transactional id of a busy owner gives the next one another producer id, and the old one is fenced by a stamp", { timeout: LONG_MS }, async () => {
    await start({ "transactional.id.expiration.ms": "1000", "transaction.remove.expired.transaction.cleanup.interval.ms": "300" });
    const owner = writers.start(plan());
    await owner.more(50);
    await until("the id is forgotten while its owner writes", async () => {
      await owner.more(100);
      const other = writers.start(plan());
      await other.more(20);
      await other.stop();
      return producersOf(await claims()) > 1;
    });
    await owner.more(50);
    await owner.stop();
    await expectSound(200);
    const records = await readRecords(brokers(), topic());
    const stamps = records.filter(({ headers }) => headers["tm-kind"] === "stamp");
    expect(stamps.length).toBeGreaterThan(0);
    for (const stamp of stamps) expect(records.filter(({ offset, producer }) => offset > stamp.offset && producer?.id === stamp.producer?.id)).toEqual([]);
  });

  it("that has forgotten all producers takes the batch of a stopped owner, and it does not count", { timeout: LONG_MS }, async () => {
    await start({ "producer.id.expiration.ms": "1000", "producer.id.expiration.check.interval.ms": "200" });
    const zombie = writers.start(plan({ fate: { point: "batch to be sent", time: 20, signal: "SIGSTOP" } }));
    await zombie.met();
    const other = writers.startHere(kafkaStore(options()), STREAMS);
    await other.more(100);
    await other.stop();
    await producersForgotten();
    zombie.resume();
    await zombie.more(50);
    await zombie.stop();
    const { passedOver } = await expectSound(150);
    expect(passedOver).toBeGreaterThan(2);
  });

  it("whose owners' clocks are two days behind knows them all the same, and keeps out the one that was replaced", { timeout: LONG_MS }, async () => {
    // By the times of its clients it would forget them within this interval.
    await start({ "producer.id.expiration.check.interval.ms": "100" });
    const behind = { skewMs: -2 * 86_400_000 };
    const zombie = writers.start(plan({ ...behind, fate: { point: "batch to be sent", time: 20, signal: "SIGSTOP" } }));
    await zombie.met();
    const other = writers.start(plan(behind));
    await other.more(300);
    zombie.resume();
    await Promise.all([zombie.more(50), other.more(50)]);
    await Promise.all([zombie.stop(), other.stop()]);
    const { passedOver } = await expectSound(400);
    expect(passedOver).toBe(0);
  });

  it("of which all 32,767 epochs of an id were drawn goes on with another id", { timeout: LONG_MS }, async () => {
    await start();
    const owner = writers.start(plan({ pauseMs: 100 }));
    await owner.more(20);
    const cluster = kafkajsCluster({ brokers: brokers(), clientId: "opener", requestTimeoutMs: 5000, clock: systemClock });
    const before = await cluster.initProducerId(`${topic()}.0`);
    let opens = 0;
    for (let { producerId } = before; producerId === before.producerId; opens++) ({ producerId } = await cluster.initProducerId(`${topic()}.0`));
    await cluster.close();
    expect(opens).toBeGreaterThan(32_000);
    const other = writers.startHere(kafkaStore(options()), STREAMS);
    await Promise.all([other.more(50), owner.more(50)]);
    await Promise.all([other.stop(), owner.stop()]);
    await expectSound(120);
    expect(producersOf(await claims())).toBe(2);
  });

  it.each([
    ["has written much", "batch answered", 50],
    // The next claim is a duplicate of its own, and answered as if it stood.
    ["has only claimed", "claim answered", 1],
  ] as const)("that has lost the end of its coordinator's log gives two owners the same id and epoch, the first of which %s, and only one of them owns", { timeout: LONG_MS }, async (_, point, time) => {
    const data = writers.file("data");
    const cluster = await start({}, data);
    const [node] = cluster.nodes;
    const first = writers.start(plan());
    await first.more(50);
    await first.kill();
    await node?.stop();
    const log = join(data, "node-1", "log");
    const saved = writers.file("saved");
    const transactionLogs = readdirSync(log).filter((name) => name.startsWith("__transaction_state-"));
    for (const name of transactionLogs) cpSync(join(log, name), join(saved, name), { recursive: true });
    node?.start();
    await cluster.serving();
    // It lives on, with the epoch that will be given out again.
    const second = writers.start(plan({ fate: { point, time, signal: "SIGSTOP" } }));
    await second.met();
    await node?.stop();
    for (const name of transactionLogs) {
      rmSync(join(log, name), { recursive: true });
      cpSync(join(saved, name), join(log, name), { recursive: true });
    }
    node?.start();
    await cluster.serving();
    const third = writers.start(plan());
    await third.more(20);
    second.resume();
    await Promise.all([third.more(100), second.more(100)]);
    await Promise.all([third.stop(), second.stop()]);
    await expectSound(270);
  });
});
