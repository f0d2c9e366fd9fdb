/** What a real broker shows too rarely: a tail that was compacted away, a record that is replaced while it is looked up, answers that are lost. */
import { describe, expect, it } from "vitest";
import { environmentOf } from "../../../src/environment.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost, type KafkaCluster, type LogEnd, type PartitionLink } from "../../../src/store/kafka/cluster.ts";
import { CompactedTopic } from "../../../src/store/kafka/compacted-topic.ts";
import { batchesIn, type Batch } from "../../../src/store/kafka/record-batch.ts";

/** One partition: batches at their offsets, some of which compaction has taken away. */
class Partition implements PartitionLink {
  readonly batches: Buffer[] = [];
  readonly sent: Buffer[] = [];
  /** Called before each fetch. */
  onFetch: () => void = () => undefined;
  /** Of the next produces: what they throw after the batch was appended or not. */
  readonly faults: { readonly appended: boolean; readonly error: Error }[] = [];
  end_ = 0;

  async produce(bytes: Uint8Array): Promise<{ baseOffset: number }> {
    const batch = Buffer.from(bytes);
    this.sent.push(batch);
    const fault = this.faults.shift();
    if (fault?.appended !== false) this.append(batch);
    if (fault !== undefined) throw fault.error;
    return { baseOffset: this.end_ };
  }

  append(batch: Buffer): void {
    const { sequence, count, producerId } = onlyBatch(batch);
    // As a broker does it: what stands already is not appended again.
    if (producerId >= 0 && this.batches.some((each) => onlyBatch(each).sequence === sequence)) return;
    const stored = Buffer.from(batch);
    stored.writeBigInt64BE(BigInt(this.end_), 0);
    this.batches.push(stored);
    this.end_ += count;
  }

  async fetch({ offset }: { readonly offset: number }): Promise<{ records: Buffer; highWatermark: number; logStart: number }> {
    this.onFetch();
    const from = this.batches.findIndex((batch) => onlyBatch(batch).lastOffset >= offset);
    return { records: from < 0 ? Buffer.alloc(0) : Buffer.concat(this.batches.slice(from)), highWatermark: this.end_, logStart: 0 };
  }

  async end(): Promise<LogEnd> {
    return { offset: this.end_, leaderEpoch: 0 };
  }

  close(): void {
    this.onFetch = () => undefined;
  }
}

function onlyBatch(bytes: Buffer): Batch {
  const [batch] = [...batchesIn(bytes)];
  if (batch === undefined) throw new Error("no batch");
  return batch;
}

let epochs = 0;

function topicOn(partition: Partition, fenced = false): CompactedTopic {
  const cluster: KafkaCluster = {
    topics: async () => [{ name: "t", id: "id", partitions: [{ leader: 1, replicas: 1 }] }],
    createTopic: async () => undefined,
    topicSettings: async () => new Map([["cleanup.policy", "compact"]]),
    initProducerId: async () => ({ producerId: 7, epoch: epochs++ }),
    partition: () => partition,
    close: async () => undefined,
  };
  const topics = { partitions: 1, replicationFactor: 1, minInsyncReplicas: undefined, maxMessageBytes: 1_000_000 };
  return new CompactedTopic({ cluster, name: "t", topics, environment: environmentOf(), boundMs: 400, fenced, ending: new AbortController().signal });
}

const record = (key: string, value: string | null) => ({ key, value, headers: new Map<string, string>() });

describe("a look-up in a compacted topic", () => {
  it("ends where the tail was compacted away", async () => {
    const partition = new Partition();
    const writer = topicOn(partition);
    for (const value of ["1", "2", null]) await writer.put(record("gone", value));
    await writer.put(record("here", "x"));
    // All that stood after the first two offsets is gone, and the end stays where it was.
    partition.batches.length = 1;
    partition.end_ = 50;
    const reader = topicOn(partition);
    expect(await reader.get("here")).toBeUndefined();
    expect((await reader.get("gone"))?.value).toBe("1");
    await writer.put(record("late", "y"));
    expect((await reader.get("late"))?.value).toBe("y");
  });

  it("answers with the newer record where the one it found is replaced before it can be read", async () => {
    const partition = new Partition();
    const topic = topicOn(partition);
    await topic.put(record("k", "old"));
    expect((await topic.get("k"))?.value).toBe("old");
    // The end was asked for, and then, before the record is fetched, a newer one comes and compaction takes the older.
    const replacement = new Partition();
    await topicOn(replacement).put(record("k", "new"));
    partition.onFetch = () => {
      partition.onFetch = () => undefined;
      partition.append(replacement.batches[0] as Buffer);
      partition.batches.shift();
    };
    expect((await topic.get("k"))?.value).toBe("new");
  });

  it("begins anew where the topic was made anew", async () => {
    const partition = new Partition();
    const topic = topicOn(partition);
    for (const value of ["1", "2", "3"]) await topic.put(record("k", value));
    expect((await topic.get("k"))?.value).toBe("3");
    partition.batches.length = 0;
    partition.end_ = 0;
    await topicOn(partition).put(record("other", "4"));
    expect((await topic.get("other"))?.value).toBe("4");
    expect(await topic.get("k")).toBeUndefined();
    for (const value of ["5", "6", "7", "8"]) await topicOn(partition).put(record("k", value));
    expect((await topic.get("k"))?.value).toBe("8");
  });
});

describe("a fenced writer of a compacted topic", () => {
  it("sends the same bytes again when the answer is lost, and goes on after them", async () => {
    const partition = new Partition();
    const topic = topicOn(partition, true);
    partition.faults.push({ appended: true, error: new RequestLost("lost", { sent: true }) }, { appended: false, error: new RequestLost("lost", { sent: true }) });
    await Promise.all([topic.put(record("k", "1")), topic.put(record("k", "2"))]);
    expect(partition.sent[0]?.equals(partition.sent[1] as Buffer)).toBe(true);
    expect(partition.sent[0]?.equals(partition.sent[2] as Buffer)).toBe(true);
    expect(partition.end_).toBe(2);
    expect((await topic.get("k"))?.value).toBe("2");
  });

  it("settles a batch whose bound has passed before it writes another", async () => {
    const partition = new Partition();
    const topic = topicOn(partition, true);
    for (let count = 0; count < 40; count++) partition.faults.push({ appended: false, error: new RequestLost("lost", { sent: true }) });
    await expect(topic.put(record("k", "first"))).rejects.toMatchObject({ code: "StoreUnavailable", retryable: true });
    partition.faults.length = 0;
    await topic.put(record("k", "second"));
    const written = partition.batches.map((batch) => onlyBatch(batch).sequence);
    expect(written).toEqual([0, 1]);
  });

  it("that is told of another one stays out, without another try", async () => {
    const partition = new Partition();
    const topic = topicOn(partition, true);
    await topic.put(record("k", "1"));
    partition.faults.push({ appended: false, error: new BrokerRefusal(KAFKA_ERROR.invalidProducerEpoch, "fenced") });
    await expect(topic.put(record("k", "2"))).rejects.toMatchObject({ code: "StoreRefused", details: { reason: "not-owner" } });
    await expect(topic.put(record("k", "3"))).rejects.toMatchObject({ code: "StoreRefused", details: { reason: "not-owner" } });
    expect(partition.sent).toHaveLength(2);
  });
});
