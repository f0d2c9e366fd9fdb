/** Three brokers, replication factor 3: leaders that die, a quorum that is lost, a leader that answers no and has the batch, a partition that nobody leads. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/environment.ts";
import { BrokerRefusal, type KafkaCluster as Seam, type PartitionLink } from "../../../../src/store/kafka/cluster.ts";
import { kafkaStore } from "../../../../src/store/kafka/index.ts";
import { kafkajsCluster } from "../../../../src/store/kafka/kafkajs-cluster.ts";
import { partitionOf } from "../../../../src/store/kafka/partitioner.ts";
import { newTopicPrefix, ownKafkaAvailable, startKafka, type KafkaCluster, type KafkaNode } from "../../../support/kafka.ts";
import { plainClient } from "../kafka-stores.ts";
import { allAttacks } from "./all-attacks.ts";
import { expectNothingLost, violationsAfterCut } from "./checker.ts";
import { now } from "./ledger.ts";
import { countedIn, readRecords } from "./plain-reader.ts";
import { newEvent } from "./workload.ts";
import { until, Writers, type WriterPlan } from "./writer.ts";

const LONG_MS = 400_000;
const STREAMS = Array.from({ length: 8 }, (_, number) => `order-${number}`);

describe.skipIf(!allAttacks || !ownKafkaAvailable)("a cluster of three brokers", () => {
  let cluster: KafkaCluster;
  let writers: Writers;
  let prefix: string;

  beforeEach(async () => {
    writers = new Writers();
    prefix = newTopicPrefix();
    cluster = await startKafka({ brokers: 3, overrides: { "broker.session.timeout.ms": "3000", "replica.lag.time.max.ms": "3000", "unclean.leader.election.interval.ms": "1000" } });
  }, LONG_MS);
  afterEach(async () => {
    await writers.dispose();
    await cluster?.close();
  }, LONG_MS);

  const topic = (): string => `${prefix}.order.events`;
  const plan = (partitions = 2): WriterPlan => ({ brokers: cluster.brokers, streams: STREAMS, pauseMs: 20, options: { topicPrefix: prefix, partitions, minHoldMs: 10 } });
  const expectSound = (atLeast: number) => expectNothingLost({ brokers: cluster.brokers, topic: topic(), lines: writers.lines(), atLeast });

  async function asAdmin<T>(work: (admin: ReturnType<ReturnType<typeof plainClient>["admin"]>) => Promise<T>): Promise<T> {
    const admin = plainClient(cluster.brokers).admin();
    await admin.connect();
    try {
      return await work(admin);
    } finally {
      await admin.disconnect();
    }
  }
  /** kafkajs's own admin gives up where a partition has no leader, or a broker does not know of a new topic yet. */
  async function leadersNow(brokers = cluster.brokers): Promise<readonly number[]> {
    const seam = kafkajsCluster({ brokers, clientId: "looker", requestTimeoutMs: 5000, clock: systemClock });
    try {
      return (await seam.topics([topic()]))[0]?.partitions.map(({ leader }) => leader) ?? [];
    } finally {
      await seam.close();
    }
  }
  const partitionsNow = () => asAdmin(async (admin) => (await admin.fetchTopicMetadata({ topics: [topic()] })).topics[0]?.partitions ?? []);
  const nodeOf = (id: number | undefined): KafkaNode => cluster.nodes.find((node) => node.id === id) as KafkaNode;
  /** By hand, as an administrator may make it: these replicas, and nobody else's defaults. */
  const make = async (assignment: readonly (readonly number[])[], settings: Readonly<Record<string, string>>): Promise<void> => {
    await asAdmin((admin) =>
      admin.createTopics({
        waitForLeaders: false,
        topics: [
          {
            topic: topic(),
            replicaAssignment: assignment.map((replicas, partition) => ({ partition, replicas: [...replicas] })),
            configEntries: Object.entries({ "cleanup.policy": "delete", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime", ...settings }).map(([name, value]) => ({ name, value })),
          },
        ],
      }),
    );
    for (const broker of cluster.brokers) {
      await until(`${broker} knows the topic`, async () => {
        const leaders = await leadersNow([broker]);
        return leaders.length === assignment.length && leaders.every((leader) => leader >= 0);
      });
    }
  };

  it("loses nothing when the leader is killed under load, stops writing when two of three are gone, and goes on when they are back", { timeout: LONG_MS }, async () => {
    const two = [writers.start(plan()), writers.start(plan())];
    const goOn = (): Promise<unknown> => Promise.all(two.map((each) => each.more(30, 150_000)));
    await goOn();
    const leader = nodeOf((await partitionsNow())[0]?.leader);
    await leader.kill();
    await goOn();
    const second = cluster.nodes.find((node) => node !== leader) as KafkaNode;
    await second.kill();
    // What was acknowledged in the moment of the kill may still be on its way here.
    await until("nothing is acknowledged any more, whatever is tried", () => two.every((each) => isStuck(each.lines())));
    leader.start();
    second.start();
    await goOn();
    await Promise.all(two.map((each) => each.stop()));
    await cluster.serving();
    await expectSound(180);
  });

  it("forced to elect a leader that lacks the end of the log loses that end alone and says so, and writers go on", { timeout: LONG_MS }, async () => {
    await make([[1, 2]], { "min.insync.replicas": "1", "unclean.leader.election.enable": "true" });
    const two = [writers.start(plan(1)), writers.start(plan(1))];
    const goOn = (): Promise<unknown> => Promise.all(two.map((each) => each.more(30, 150_000)));
    await goOn();
    const alone = now();
    await nodeOf(2).kill();
    await goOn();
    await nodeOf(1).kill();
    nodeOf(2).start();
    await goOn();
    nodeOf(1).start();
    await goOn();
    await Promise.all(two.map((each) => each.stop()));
    await cluster.serving();
    const standing = countedIn(await readRecords(cluster.brokers, topic()), true);
    const { wrong, lost } = violationsAfterCut(two.map((each) => each.lines()), standing, alone);
    expect(wrong).toEqual([]);
    expect(lost).toBeGreaterThan(0);
  });

  it("whose leader answers that it is none, and has the batch, does not make it stand twice or get lost", { timeout: LONG_MS }, async () => {
    const answers: number[] = [];
    const store = kafkaStore({ topicPrefix: prefix, partitions: 1, minHoldMs: 10, requestTimeoutMs: 10_000, appendTimeoutMs: 200_000, cluster: told(kafkajsCluster({ brokers: cluster.brokers, clientId: "told", requestTimeoutMs: 10_000, clock: systemClock }), (code) => answers.push(code)) });
    const first = newEvent("order-1");
    expect(await store.append([{ stream: "order-1", expected: 0, events: [first] }])).toMatchObject([{ kind: "committed" }]);
    const [partition] = await partitionsNow();
    const followers = cluster.nodes.filter(({ id }) => id !== partition?.leader);
    const [frozen] = followers as [KafkaNode];
    frozen.pause();
    // It waits for the frozen one, which is in sync; meanwhile its leader resigns.
    const second = newEvent("order-1");
    const appended = store.append([{ stream: "order-1", expected: 1, events: [second] }]);
    const leader = nodeOf(partition?.leader);
    await leader.stop();
    frozen.resume();
    leader.start();
    expect(await appended).toMatchObject([{ kind: "committed", version: 2 }]);
    expect((await store.readStream("order-1")).events.map(({ id }) => id)).toEqual([first.id, second.id]);
    await store.close();
    await cluster.serving();
    const standing = countedIn(await readRecords(cluster.brokers, topic()), true);
    expect(standing.map(({ id }) => id)).toEqual([first.id, second.id]);
    expect(answers).toContain(6);
  });

  it.each([
    ["no leader", [[3], [1], [2]], "1", async () => (await leadersNow())[0] === -1],
    ["too few replicas", [[3, 1], [1, 2], [2, 1]], "2", async () => (await partitionsNow()).some(({ partitionId, isr }) => partitionId === 0 && isr.length < 2)],
  ] as const)("of which one partition has %s goes on with the others, also for who starts then", { timeout: LONG_MS }, async (_, assignment, inSync, hasLost) => {
    await make(assignment, { "min.insync.replicas": inSync });
    const all = [0, 1, 2].map((partition) => Array.from({ length: 1000 }, (_none, number) => `order-${number}`).find((stream) => partitionOf(stream, 3) === partition) ?? "");
    const healthy = all.slice(1);
    const before = writers.start({ ...plan(3), streams: all });
    await before.more(40);
    await nodeOf(3).kill();
    await until("partition 0 has lost it", hasLost);
    const done = (stream: string): number => committedOn(before.lines(), [stream]);
    const goals = healthy.map((stream) => ({ stream, count: done(stream) + 30 }));
    await until("each of the other partitions goes on", () => goals.every(({ stream, count }) => done(stream) >= count));
    const late = writers.start({ ...plan(3), streams: healthy });
    await until("who starts then writes to each of them", () => healthy.every((stream) => committedOn(late.lines(), [stream]) >= 20));
    nodeOf(3).start();
    const whole = (): number => committedOn(before.lines(), all.slice(0, 1));
    const next = whole() + 10;
    await until("partition 0 goes on", () => whole() >= next);
    await Promise.all([before.stop(), late.stop()]);
    await cluster.serving();
    await expectSound(160);
  });
});

function committedOn(lines: ReturnType<Writers["lines"]>, streams: readonly string[]): number {
  const ids = new Set(lines.flatMap((line) => (line.what === "append" && streams.includes(line.stream) ? [line.ids[0] ?? ""] : [])));
  return lines.filter((line) => line.what === "outcome" && line.kind === "committed" && ids.has(line.id)).length;
}

/** Whether of each stream, since the last acknowledgement, an append was not acknowledged or a read failed. */
function isStuck(lines: ReturnType<Writers["lines"]>): boolean {
  const last = lines.findLastIndex((line) => line.what === "outcome" && line.kind === "committed");
  const streamOf = new Map(lines.flatMap((line) => (line.what === "append" ? [[line.ids[0] ?? "", line.stream] as const] : [])));
  const stuck = new Set<string | undefined>();
  for (const line of lines.slice(last)) {
    if (line.what === "error") stuck.add(line.stream);
    if (line.what === "outcome" && (line.kind === "refused" || line.kind === "unknown")) stuck.add(streamOf.get(line.id));
  }
  return STREAMS.every((stream) => stuck.has(stream));
}

/** Hears the error codes that writes are answered with. */
function told(cluster: Seam, hear: (code: number) => void): Seam {
  const link = (inner: PartitionLink): PartitionLink => ({
    fetch: (request) => inner.fetch(request),
    end: () => inner.end(),
    close: () => inner.close(),
    produce: (batch, boundMs) =>
      inner.produce(batch, boundMs).catch((error: unknown) => {
        if (error instanceof BrokerRefusal) hear(error.errorCode);
        throw error;
      }),
  });
  return {
    topics: (names) => cluster.topics(names),
    createTopic: (topic) => cluster.createTopic(topic),
    topicSettings: (topic) => cluster.topicSettings(topic),
    initProducerId: (id) => cluster.initProducerId(id),
    partition: (topic, partition) => link(cluster.partition(topic, partition)),
    close: () => cluster.close(),
  };
}
