/**
 * A compacted topic: the last record of each key, kept by Kafka; written and looked up here. Snapshots and published states live in such topics.
 *
 * P1 What a partition holds is known from reading it: for each key where its last record stands. A look-up asks for the end first, reads up to it, and fetches that one record.
 * P2 It ends: compaction takes whole batches away, at the tail too, so that offsets below the end may never come. A fetch that brings nothing has found nothing
 *    between where it began and the end that was asked for.
 * P3 A record that is gone from where it stood was replaced: the partition is read on; should that not explain it, it is read anew from its start. What is answered
 *    stood in the log when the question was asked, or later.
 * P4 Where a writer is fenced, each batch carries its producer id, epoch and sequence: a batch that was sent again stands once, and a writer that was replaced is refused
 *    by the broker and stays out for good. An older state never comes after a newer one that way.
 * P5 One batch of a partition is in flight at a time; what comes meanwhile goes into the next one, in its order.
 */
import type { Environment } from "../../environment.ts";
import { StoreRefused, StoreUnavailable } from "../../errors.ts";
import { BrokerRefusal, KAFKA_ERROR, type KafkaCluster, type PartitionLink, type ProducerIdentity, type TopicDescription } from "./cluster.ts";
import { insist, storeClosed } from "./kafka-error.ts";
import { partitionOf } from "./partitioner.ts";
import { atKey, batchesIn, BatchWriter, eachRecord } from "./record-batch.ts";
import { describe, settingsOf } from "./store-topic.ts";
import { maxMessageBytesOf, type TopicOptions } from "./topics.ts";

export interface KeyedRecord {
  readonly key: string;
  /** Null: a tombstone, which deletes the key. */
  readonly value: string | null;
  /** By name, as text. */
  readonly headers: ReadonlyMap<string, string>;
}

export interface CompactedTopicOptions {
  readonly cluster: KafkaCluster;
  readonly name: string;
  /** For a new topic. */
  readonly topics: TopicOptions;
  readonly environment: Environment;
  readonly boundMs: number;
  /** P4. */
  readonly fenced: boolean;
  /** Aborts when the topic's user closes. */
  readonly ending: AbortSignal;
}

const FETCH_BYTES = 1024 * 1024;
const MOST_RECORDS = 1000;
/** P3: how often a record that was replaced is looked for again. */
const LOOKS = 3;

/** Refusals that no repeating changes. */
const DEFINITE = new Set<number>([KAFKA_ERROR.messageTooLarge, KAFKA_ERROR.recordListTooLarge, KAFKA_ERROR.invalidRecord]);
/** P4: the broker knows a newer writer, or does not know this one any more. */
const FENCED = new Set<number>([KAFKA_ERROR.invalidProducerEpoch, KAFKA_ERROR.outOfOrderSequence, KAFKA_ERROR.unknownProducerId]);

export class CompactedTopic {
  readonly #options: CompactedTopicOptions;
  #opened: Promise<readonly CompactedPartition[] | undefined> | undefined;

  constructor(options: CompactedTopicOptions) {
    this.#options = options;
  }

  /** The last record of a key; undefined: there is none, or it was deleted. Errors: StoreUnavailable, StoreRefused, StoreClosed, Aborted. */
  async get(key: string, signal?: AbortSignal): Promise<KeyedRecord | undefined> {
    const partitions = await this.#partitions(false);
    return partitions === undefined ? undefined : at(partitions, key).get(key, signal);
  }

  /** Writes a record after all that were put before it. Resolves when Kafka has it, durably. Errors: as get. */
  async put(record: KeyedRecord): Promise<void> {
    const partitions = await this.#partitions(true);
    await at(partitions ?? [], record.key).put(record);
  }

  close(): void {
    void this.#opened?.then(
      (partitions) => partitions?.forEach((partition) => partition.close()),
      () => undefined,
    );
  }

  #partitions(create: boolean): Promise<readonly CompactedPartition[] | undefined> {
    if (this.#options.ending.aborted) return Promise.reject(storeClosed());
    this.#opened ??= this.#open(create).then(
      (opened) => {
        // A topic that is not there is looked for again.
        if (opened === undefined) this.#opened = undefined;
        return opened;
      },
      (error: unknown) => {
        this.#opened = undefined;
        throw error;
      },
    );
    // One that was looked for in vain is made by the next who writes.
    return create ? this.#opened.then((opened) => opened ?? this.#partitions(true)) : this.#opened;
  }

  async #open(create: boolean): Promise<readonly CompactedPartition[] | undefined> {
    const { cluster, name, topics, environment, boundMs, ending: signal } = this.#options;
    const topic = await insist(() => this.#describe(create), { environment, boundMs, signal, what: `looking for topic ${name}` });
    if (topic === undefined) return undefined;
    const settings = await settingsOf(name, { cluster, prefix: "", topics, environment, boundMs, ending: signal });
    const policy = settings.get("cleanup.policy") ?? "compact";
    if (policy !== "compact") {
      throw new StoreRefused(`topic ${name} has cleanup.policy=${policy}, and must have compact: it keeps the last record of each key. Change it with kafka-configs --alter`, {
        details: { reason: "topic-settings", topic: name, setting: "cleanup.policy", found: policy, wanted: "compact" },
      });
    }
    const maxBytes = maxMessageBytesOf(settings, topics);
    return topic.partitions.map((_, partition) => new CompactedPartition(cluster.partition(name, partition), partition, maxBytes, this.#options));
  }

  async #describe(create: boolean): Promise<TopicDescription | undefined> {
    const { cluster, name, topics, environment } = this.#options;
    const found = await describe(cluster, name);
    if (found !== undefined || !create) return found;
    const { partitions, replicationFactor, maxMessageBytes, minInsyncReplicas } = topics;
    const settings = {
      "cleanup.policy": "compact",
      "max.message.bytes": String(maxMessageBytes),
      ...(minInsyncReplicas === undefined ? {} : { "min.insync.replicas": String(minInsyncReplicas) }),
    };
    await cluster.createTopic({ name, partitions, replicationFactor, settings }).catch((error: unknown) => {
      if (!(error instanceof BrokerRefusal) || error.errorCode !== KAFKA_ERROR.topicAlreadyExists) throw error;
    });
    environment.logger.info({ topic: name }, "a compacted topic was created");
    const made = await describe(cluster, name);
    if (made === undefined) throw new BrokerRefusal(KAFKA_ERROR.leaderNotAvailable, `topic ${name} was created and is not served yet`);
    return made;
  }
}

function at(partitions: readonly CompactedPartition[], key: string): CompactedPartition {
  const partition = partitions[partitionOf(key, Math.max(1, partitions.length))];
  if (partition === undefined) throw new StoreUnavailable("the topic has no partitions", { retryable: true });
  return partition;
}

interface Waiting {
  readonly record: KeyedRecord;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

class CompactedPartition {
  readonly #link: PartitionLink;
  readonly #partition: number;
  readonly #maxBytes: number;
  readonly #options: CompactedTopicOptions;
  /** P1: offsets of the last records. */
  readonly #offsets = new Map<string, number>();
  #next = 0;
  #reading: Promise<void> | undefined;
  #queued: Promise<void> | undefined;
  #waiting: Waiting[] = [];
  #writing = false;
  #identity: ProducerIdentity | undefined;
  #sequence = 0;
  /** P4: a batch whose fate nobody knows goes first, as the same bytes. */
  #unsettled: Buffer | undefined;
  #replaced: StoreRefused | undefined;

  constructor(link: PartitionLink, partition: number, maxBytes: number, options: CompactedTopicOptions) {
    this.#link = link;
    this.#partition = partition;
    this.#maxBytes = maxBytes;
    this.#options = options;
  }

  async get(key: string, signal?: AbortSignal): Promise<KeyedRecord | undefined> {
    for (let look = 1; ; look++) {
      await this.#readToEnd(signal);
      const offset = this.#offsets.get(key);
      if (offset === undefined) return undefined;
      const found = await this.#insist(() => this.#recordAt(offset), `looking up a record of ${this.#name}`, signal);
      if (found?.key === key) return found;
      // P3.
      if (look >= LOOKS) throw new StoreUnavailable(`a record of ${this.#name} is replaced faster than it can be read`, { retryable: true });
      if (look > 1) this.#forget();
    }
  }

  put(record: KeyedRecord): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject });
      if (!this.#writing) void this.#write();
    });
  }

  close(): void {
    this.#link.close();
    for (const { reject } of this.#waiting.splice(0)) reject(storeClosed());
  }

  get #name(): string {
    return `${this.#options.name}/${this.#partition}`;
  }

  /** P1. Those who ask while a reading is under way share the next one. */
  async #readToEnd(signal: AbortSignal | undefined): Promise<void> {
    this.#queued ??= this.#readAfter(this.#reading);
    await this.#queued;
    signal?.throwIfAborted();
  }

  async #readAfter(before: Promise<void> | undefined): Promise<void> {
    await (before ?? Promise.resolve()).catch(() => undefined);
    this.#reading = this.#queued;
    this.#queued = undefined;
    await this.#insist(() => this.#read(), `reading ${this.#name}`);
  }

  async #read(): Promise<void> {
    const { offset: end } = await this.#link.end();
    // The topic was deleted and made again.
    if (end < this.#next) this.#forget();
    while (this.#next < end) {
      const { records, logStart } = await this.#link.fetch({ offset: this.#next, maxWaitMs: 0, maxBytes: FETCH_BYTES });
      const before = this.#next;
      for (const batch of batchesIn(records)) {
        if (batch.plain && !batch.control) eachRecord(batch, (record, offset) => this.#take(record, offset));
        this.#next = Math.max(this.#next, batch.lastOffset + 1);
      }
      // P2.
      if (this.#next === before) this.#next = Math.max(end, logStart);
    }
  }

  #take(record: Buffer, offset: number): void {
    const cursor = atKey(record);
    const key = cursor.text();
    if (key === undefined || offset < this.#next) return;
    if (cursor.text() === undefined) this.#offsets.delete(key);
    else this.#offsets.set(key, offset);
  }

  async #recordAt(offset: number): Promise<KeyedRecord | undefined> {
    const { records } = await this.#link.fetch({ offset, maxWaitMs: 0, maxBytes: 1 });
    let found: KeyedRecord | undefined;
    for (const batch of batchesIn(records)) {
      if (batch.plain) {
        eachRecord(batch, (record, at) => {
          if (at === offset) found = recordOf(record);
        });
      }
      break;
    }
    return found;
  }

  #forget(): void {
    this.#offsets.clear();
    this.#next = 0;
  }

  /** P5. */
  async #write(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0) {
      let group: readonly Waiting[] = [];
      try {
        if (this.#unsettled !== undefined) await this.#settle();
        if (this.#replaced !== undefined) throw this.#replaced;
        await this.#identify();
        const taken = this.#nextGroup();
        group = taken.group;
        if (taken.batch === undefined) throw tooLarge(this.#options.name, this.#maxBytes);
        this.#sequence += group.length;
        this.#unsettled = taken.batch;
        await this.#settle();
        for (const { resolve } of group) resolve();
      } catch (error) {
        const failed = group.length > 0 ? group : this.#waiting.splice(0);
        for (const { reject } of failed) reject(error);
      }
    }
    this.#writing = false;
  }

  /** The records that fit into one batch; no batch where the first of them does not. */
  #nextGroup(): { readonly group: readonly Waiting[]; readonly batch: Buffer | undefined } {
    const writer = new BatchWriter();
    let taken = 0;
    for (const { record } of this.#waiting) {
      writeRecord(writer, record);
      if (writer.size > this.#maxBytes || taken >= MOST_RECORDS) {
        writer.truncate(taken);
        break;
      }
      taken++;
    }
    const group = this.#waiting.splice(0, Math.max(1, taken));
    const { producerId, epoch } = this.#identity ?? { producerId: -1, epoch: -1 };
    const stamp = { producerId, epoch, sequence: producerId < 0 ? -1 : this.#sequence, timestamp: this.#options.environment.clock.now() };
    return { group, batch: taken === 0 ? undefined : writer.finish(stamp).batch };
  }

  async #settle(): Promise<void> {
    const batch = this.#unsettled;
    if (batch === undefined) return;
    try {
      await this.#insist(() => this.#produce(batch), `writing to ${this.#name}`);
      this.#unsettled = undefined;
    } catch (error) {
      // Without a fence a record that stands twice does no harm, and one that was refused for good would be in the way of the others.
      if (this.#identity === undefined || error instanceof StoreRefused) this.#unsettled = undefined;
      throw error;
    }
  }

  async #produce(batch: Buffer): Promise<void> {
    try {
      await this.#link.produce(batch, this.#options.boundMs);
    } catch (error) {
      if (!(error instanceof BrokerRefusal)) throw error;
      const { errorCode } = error;
      if (errorCode === KAFKA_ERROR.duplicateSequence) return;
      if (DEFINITE.has(errorCode)) throw new StoreRefused(`${this.#name} refused a record: ${error.message}`, { cause: error, details: { reason: "too-large", topic: this.#options.name, errorCode } });
      if (this.#identity === undefined || !FENCED.has(errorCode)) throw error;
      // P4.
      this.#replaced = new StoreRefused(`another process writes to ${this.#name} since: this one was replaced, and stays out`, {
        cause: error,
        details: { reason: "not-owner", topic: this.#options.name, errorCode },
      });
      throw this.#replaced;
    }
  }

  async #identify(): Promise<void> {
    if (!this.#options.fenced || this.#identity !== undefined) return;
    const { cluster, name } = this.#options;
    this.#identity = await this.#insist(() => cluster.initProducerId(`${name}.${this.#partition}`), `becoming the writer of ${this.#name}`);
  }

  async #insist<T>(work: () => Promise<T>, what: string, signal?: AbortSignal): Promise<T> {
    const { environment, boundMs, ending } = this.#options;
    try {
      return await insist(work, { environment, boundMs, what, signal: signal === undefined ? ending : AbortSignal.any([signal, ending]) });
    } catch (error) {
      throw ending.aborted ? storeClosed() : error;
    }
  }
}

function writeRecord(writer: BatchWriter, { key, value, headers }: KeyedRecord): void {
  writer.beginRecord(key, value, headers.size);
  for (const [name, text] of headers) writer.header({ bytes: Buffer.from(name) }, text);
  writer.endRecord();
}

function recordOf(record: Uint8Array): KeyedRecord {
  const cursor = atKey(record);
  const key = cursor.text() ?? "";
  const value = cursor.text() ?? null;
  const headers = new Map<string, string>();
  for (let left = cursor.varint(); left > 0; left--) headers.set(cursor.text() ?? "", cursor.text() ?? "");
  return { key, value, headers };
}

function tooLarge(topic: string, maxBytes: number): StoreRefused {
  return new StoreRefused(`a record is larger than topic ${topic} takes (max.message.bytes ${maxBytes})`, { details: { reason: "too-large", topic, maxBytes } });
}
