/**
 * One category: its topic, checked when it is opened, and its partitions, each with a log to read and a writer, which begin to work when they are first used.
 */
import { StoreRefused, StoreRewound } from "../../errors.ts";
import type { PartitionLink } from "./cluster.ts";
import type { LogIndex } from "./log-index.ts";
import { PartitionLog } from "./partition-log.ts";
import { partitionOf } from "./partitioner.ts";
import { PartitionWriter } from "./partition-writer.ts";
import { BATCH_OVERHEAD } from "./record-batch.ts";
import { ensureTopic, lookFor, settingsOf, type CategoryRecord, type StoreTopic, type StoreTopicOptions } from "./store-topic.ts";
import { eventsTopic, laneOf, maxMessageBytesOf, verifyTopic } from "./topics.ts";

export interface CategoryOptions extends StoreTopicOptions {
  readonly storeTopic: StoreTopic;
  readonly index: LogIndex;
  /** How this process calls itself in its claims. */
  readonly writer: string;
  readonly minHoldMs: number;
  readonly appendTimeoutMs: number;
  /** Lanes that this process may write to; undefined: all. */
  readonly claimOnly: ReadonlySet<string> | undefined;
}

interface Partition {
  readonly log: PartitionLog;
  writer: PartitionWriter | undefined;
}

/** Opens a category; undefined: nobody has written to it yet, and it is not to be created. Errors: StoreUnavailable, StoreRefused, StoreRewound, StoreCorrupt. */
export async function openCategory(name: string, create: boolean, options: CategoryOptions): Promise<Category | undefined> {
  const { prefix, topics, environment, storeTopic } = options;
  const topicName = eventsTopic(prefix, name);
  let record = (await storeTopic.categories()).get(name);
  if (record === undefined) {
    if (!create) return undefined;
    const made = await ensureTopic(topicName, options);
    record = await storeTopic.record({ category: name, topicId: made.id, partitions: made.partitions.length });
  }
  const topic = await lookFor(topicName, options);
  const remedy = `restore it, or delete the topic ${prefix}.store with all topics of the store to begin anew`;
  if (topic === undefined || topic.id !== record.topicId) {
    throw new StoreRewound(`topic ${topicName} is not the one that this store's events were written to: it was deleted${topic === undefined ? "" : " and created again"}: ${remedy}`, {
      details: { topic: topicName, expected: record.topicId, found: topic?.id },
    });
  }
  if (topic.partitions.length !== record.partitions) {
    throw new StoreRefused(`topic ${topicName} has ${topic.partitions.length} partitions, and had ${record.partitions} when it was created: streams would be looked for in the wrong ones. The number is fixed for ever`, {
      details: { reason: "topic-settings", topic: topicName, setting: "partitions", found: topic.partitions.length, wanted: record.partitions },
    });
  }
  const settings = await settingsOf(topicName, options);
  verifyTopic(topic, settings, topics, environment.logger);
  return new Category(name, record, maxMessageBytesOf(settings, topics), options);
}

export class Category {
  readonly name: string;
  readonly lanes: readonly PartitionLog[];
  readonly #record: CategoryRecord;
  readonly #maxBatchBytes: number;
  readonly #options: CategoryOptions;
  readonly #partitions: readonly Partition[];
  readonly #links: readonly PartitionLink[];

  constructor(name: string, record: CategoryRecord, maxMessageBytes: number, options: CategoryOptions) {
    this.name = name;
    this.#record = record;
    this.#options = options;
    // What the broker adds up is the whole batch.
    this.#maxBatchBytes = Math.max(BATCH_OVERHEAD, maxMessageBytes);
    const topic = eventsTopic(options.prefix, name);
    this.#links = Array.from({ length: record.partitions }, (_, partition) => options.cluster.partition(topic, partition));
    this.#partitions = this.#links.map((link, partition) => ({ log: this.#log(topic, partition, link), writer: undefined }));
    this.lanes = this.#partitions.map(({ log }) => log);
  }

  /** The log that holds a stream. */
  logOf(stream: string): PartitionLog {
    return (this.#partitions[partitionOf(stream, this.#partitions.length)] as Partition).log;
  }

  writerOf(stream: string): PartitionWriter {
    const number = partitionOf(stream, this.#partitions.length);
    const partition = this.#partitions[number] as Partition;
    partition.writer ??= this.#writer(number, partition.log);
    return partition.writer;
  }

  /** Writers first: what is under way is answered as long as it can be. */
  async close(): Promise<void> {
    await Promise.all(this.#partitions.map(({ writer }) => writer?.close() ?? Promise.resolve()));
    await Promise.all(this.lanes.map((log) => log.close()));
  }

  #log(topic: string, partition: number, link: PartitionLink): PartitionLog {
    const { cluster, index, environment, boundMs } = this.#options;
    const topicIdNow = async (): Promise<string | undefined> => (await cluster.topics([topic]))[0]?.id;
    return new PartitionLog({ lane: laneOf(this.name, partition), topicId: this.#record.topicId, link, index, environment, boundMs, topicIdNow });
  }

  #writer(partition: number, log: PartitionLog): PartitionWriter {
    const { cluster, prefix, environment, boundMs, writer, minHoldMs, appendTimeoutMs, claimOnly } = this.#options;
    return new PartitionWriter({
      cluster,
      link: this.#links[partition] as PartitionLink,
      log,
      transactionalId: `${eventsTopic(prefix, this.name)}.${partition}`,
      writer,
      maxBatchBytes: this.#maxBatchBytes,
      minHoldMs,
      appendTimeoutMs,
      requestTimeoutMs: boundMs,
      environment,
      mayClaim: claimOnly === undefined || claimOnly.has(log.lane),
    });
  }
}
