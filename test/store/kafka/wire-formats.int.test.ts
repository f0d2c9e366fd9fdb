/** The log as others read it: a Java consumer and kcat, with the reader's rule, against what the store itself gives. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type { Message } from "kafkajs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Append, EventStore, StoredEvent } from "../../../src/store/event-store.ts";
import { DEFAULT_VERSION, kafkaJars } from "../../../scripts/kafka/jars.ts";
import { component } from "../../support/components.ts";
import { kafkaAvailable, ownKafkaAvailable, sharedKafka } from "../../support/kafka.ts";
import { kafkaStores, plainClient, type KafkaStores } from "./kafka-stores.ts";

const run = promisify(execFile);
const docs = resolve(import.meta.dirname, "../../../docs/kafka");
const START_MS = 120_000;

describe.skipIf(!kafkaAvailable)("the log of a Kafka store, read by others", () => {
  let brokers: readonly string[];
  let stores: KafkaStores;
  let topic: string;
  /** partition, offset, stream, version, type, data: what counts, as the store reads it. */
  let expected: readonly string[];
  let records = 0;

  beforeAll(async () => {
    brokers = await sharedKafka();
    stores = kafkaStores(brokers, { partitions: 2, minHoldMs: 0 });
    topic = `${stores.prefix}.order.events`;
    const [one, other] = [stores.open({ owner: "one" }), stores.open({ owner: "other" })];
    // They take the partitions from each other, so that there are many claims.
    for (let version = 0; version < 6; version++) {
      const store = version % 2 === 0 ? one : other;
      for (const stream of ["order-1", "order-2", "order-é"]) await append(store, stream, version * 2, ["Placed", "Shipped"]);
    }
    await append(one, "order-alone", 0, ["Placed"]);
    await intrude();
    await append(other, "order-alone", 1, ["Shipped"]);
    const events = await eventsOf(stores.open());
    expected = events.map(lineOf).toSorted();
    expect(expected).toHaveLength(6 * 3 * 2 + 2);
    records = await countRecords();
    expect(records).toBeGreaterThan(expected.length + 4);
  }, START_MS);
  afterAll(() => stores?.dispose());

  it.skipIf(!component("javac").available || !ownKafkaAvailable)("gives a Java consumer with the rule the same events, and no others", { timeout: START_MS }, async () => {
    const jars = join(await kafkaJars(DEFAULT_VERSION), "*");
    const folder = mkdtempSync(join(tmpdir(), "tidemark-java-"));
    try {
      const quick = "-J-XX:TieredStopAtLevel=1";
      await run("javac", [quick, "-Xlint:all", "-Werror", "-proc:none", "-cp", jars, "-d", folder, join(docs, "ReadEvents.java")]);
      const { stdout } = await run("java", ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", `${folder}:${jars}`, "ReadEvents", brokers.join(","), topic]);
      expect(linesOf(stdout).toSorted()).toEqual(expected);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.skipIf(!component("kcat").available)("shows kcat every record, and with the rule the same events", { timeout: START_MS }, async () => {
    const all: string[] = [];
    const counted: string[] = [];
    for (const partition of ["0", "1"]) {
      all.push(...linesOf((await run("kcat", ["-C", "-q", "-e", "-b", brokers.join(","), "-t", topic, "-p", partition, "-o", "beginning", "-f", "%o\t%k\t%h\t%s\\n"])).stdout));
      counted.push(...linesOf((await run(join(docs, "read-events.sh"), [brokers.join(","), topic, partition])).stdout).map((line) => `${partition}\t${line}`));
    }
    expect(all).toHaveLength(records);
    // Half an append, which the script says it does not look for.
    expect(counted.filter((line) => !line.includes("half of two")).toSorted()).toEqual(expected);
  });

  /** Records that do not count, after which the store goes on. */
  async function intrude(): Promise<void> {
    const claims = new Map<number, string[]>();
    /** Of the last one-event append under the claim in force. */
    const lastEvents = new Map<number, Message>();
    await eachRecord((partition, headers, message) => {
      if (headers["tm-kind"] === "claim") claims.set(partition, [...(claims.get(partition) ?? []), headers["tm-claim"] ?? ""]);
      else if (headers["tm-append"] === undefined) lastEvents.set(partition, { ...message, headers });
    });
    expect(lastEvents.size).toBeGreaterThan(0);
    const producer = plainClient(brokers).producer();
    await producer.connect();
    for (const [partition, nonces] of claims) {
      const [late, current] = [nonces[0] ?? "", nonces.at(-1) ?? ""];
      expect(nonces.length).toBeGreaterThan(1);
      const headers = (claim: string, more: Record<string, string> = {}) => ({ "tm-claim": claim, "tm-version": "99", "tm-id": randomUUID(), "tm-type": "Forged", ...more });
      await producer.send({
        topic,
        messages: [
          { partition, key: "order-1", value: '"of a claim that was replaced"', headers: headers(late) },
          { partition, key: "order-1", value: '"of no claim"', headers: { some: "header" } },
          { partition, key: "order-1", value: '"half of two"', headers: headers(current, { "tm-append": "1/2" }) },
          { partition, key: null, value: "{}", headers: { "tm-kind": "stamp" } },
          // Sent again to a broker that had forgotten who sent it: a claim that was replaced, and an event of the claim in force.
          { partition, key: null, value: "{}", headers: { "tm-kind": "claim", "tm-claim": late } },
          { partition, key: "order-1", value: '"of a claim that stands again"', headers: headers(late) },
          ...[lastEvents.get(partition)].flatMap((event) => (event === undefined ? [] : [{ partition, ...event }])),
        ],
      });
    }
    await producer.disconnect();
  }

  async function countRecords(): Promise<number> {
    let count = 0;
    await eachRecord(() => count++);
    return count;
  }

  async function eachRecord(visit: (partition: number, headers: Record<string, string>, message: Pick<Message, "key" | "value">) => void): Promise<void> {
    const client = plainClient(brokers);
    const [admin, consumer] = [client.admin(), client.consumer({ groupId: randomUUID() })];
    await admin.connect();
    const ends = new Map((await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => [partition, Number(high)]));
    await admin.disconnect();
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await new Promise<void>((done, reject) => {
      const look = (): void => {
        if ([...ends.values()].every((end) => end === 0)) done();
      };
      consumer
        .run({
          eachMessage: async ({ partition, message }) => {
            visit(partition, Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, text]) => [name, String(text)])), { key: message.key, value: message.value });
            if (Number(message.offset) + 1 >= (ends.get(partition) ?? 0)) ends.set(partition, 0);
            look();
          },
        })
        .catch(reject);
      look();
    });
    await consumer.disconnect();
  }
});

function appendOf(stream: string, expected: number, types: readonly string[]): Append {
  const events = types.map((type, index) => {
    const id = randomUUID();
    return { id, type, data: JSON.stringify({ n: expected + index, text: "a, b" }), metadata: { correlationId: id, causationId: id, commandId: id, user: { "tm-claim": "not one, but =" } }, recordedAt: 1_700_000_000_000 };
  });
  return { stream, expected, events };
}

/** Repeats what is refused while the other one holds the partition. */
async function append(store: EventStore, stream: string, expected: number, types: readonly string[]): Promise<void> {
  const given = appendOf(stream, expected, types);
  for (let attempt = 1; ; attempt++) {
    const [outcome] = await store.append([given]);
    if (outcome?.kind === "committed") return;
    if (attempt === 20 || (outcome?.kind === "refused" && !outcome.retryable)) throw new Error(JSON.stringify(outcome));
  }
}

async function eventsOf(store: EventStore): Promise<readonly StoredEvent[]> {
  const events: StoredEvent[] = [];
  for await (const page of store.readAll()) events.push(...page.events);
  return events;
}

function lineOf({ position, stream, version, type, data }: StoredEvent): string {
  const [[lane, offset]] = Object.entries(position) as [[string, number]];
  return [lane.split("/")[1], offset, stream, version, type, data].join("\t");
}

const linesOf = (output: string): readonly string[] => output.split("\n").filter((line) => line !== "");
