/**
 * The topic `<prefix>.store`: which categories there are. Its own id, which the cluster draws when it creates a topic, is the identity of the store.
 *
 * R1 Before the first event of a category is written, its topic's id and number of partitions are recorded here. The first record of a category counts.
 * R2 So a topic that was deleted and created again, or got more partitions, is recognised, and refused by name: positions and tokens speak of the one that was.
 * R3 Whoever wants to know which categories there are asks for the end of this topic first: what was recorded before the question is seen.
 */
import type { Environment } from "../../environment.ts";
import { StoreCorrupt } from "../../errors.ts";
import { BrokerRefusal, KAFKA_ERROR, type KafkaCluster, type PartitionLink, type TopicDescription } from "./cluster.ts";
import { insist, pause } from "./kafka-error.ts";
import { atKey, batchesIn, BatchWriter, eachRecord } from "./record-batch.ts";
import { newTopic, storeTopic, verifyTopic, type TopicOptions } from "./topics.ts";

export interface CategoryRecord {
  readonly category: string;
  readonly topicId: string;
  readonly partitions: number;
}

export interface StoreTopicOptions {
  readonly cluster: KafkaCluster;
  readonly prefix: string;
  readonly topics: TopicOptions;
  readonly environment: Environment;
  readonly boundMs: number;
  /** Aborts when the store closes. */
  readonly ending: AbortSignal;
}

/** Creates a topic where it is missing; its description as it is. Errors: StoreUnavailable, StoreRefused. */
export async function ensureTopic(name: string, options: StoreTopicOptions): Promise<TopicDescription> {
  const { cluster, topics, environment, boundMs, ending: signal } = options;
  return insist(
    async () => {
      const described = await describe(cluster, name);
      if (described !== undefined) return described;
      await cluster.createTopic(newTopic(name, topics)).catch((error: unknown) => {
        if (!(error instanceof BrokerRefusal) || error.errorCode !== KAFKA_ERROR.topicAlreadyExists) throw error;
      });
      const created = await describe(cluster, name);
      if (created === undefined || created.partitions.some(({ leader }) => leader < 0)) throw new BrokerRefusal(KAFKA_ERROR.leaderNotAvailable, `topic ${name} was created and is not served yet`);
      environment.logger.info({ topic: name, id: created.id, partitions: created.partitions.length }, "a topic was created");
      return created;
    },
    { environment, boundMs, signal, what: `creating topic ${name}` },
  );
}

/** Undefined: the broker that was asked does not know it. A partition of it may have no leader. */
export async function describe(cluster: KafkaCluster, name: string): Promise<TopicDescription | undefined> {
  const [topic] = await cluster.topics([name]);
  return topic === undefined || topic.partitions.length === 0 ? undefined : topic;
}

/** A topic that was there before; undefined: it is gone. A broker that has just started may not know it yet, so that it is asked for until the bound has passed. Errors: StoreUnavailable, StoreRefused. */
export async function lookFor(name: string, { cluster, environment, boundMs, ending: signal }: StoreTopicOptions): Promise<TopicDescription | undefined> {
  const { clock } = environment;
  const since = clock.elapsed();
  for (let failures = 0; ; failures++) {
    const topic = await insist(() => describe(cluster, name), { environment, boundMs, signal, what: `looking for topic ${name}` });
    if (topic !== undefined || signal.aborted || clock.elapsed() - since >= boundMs) return topic;
    await pause(environment, failures, signal);
  }
}

/** The settings of a topic; none where this client may not read them, with a warning. */
export async function settingsOf(topic: string, { cluster, environment, boundMs, ending: signal }: StoreTopicOptions): Promise<ReadonlyMap<string, string>> {
  const denied = new Map<string, string>();
  return insist(
    () =>
      cluster.topicSettings(topic).catch((error: unknown) => {
        const { topicAuthorizationFailed, clusterAuthorizationFailed } = KAFKA_ERROR;
        if (!(error instanceof BrokerRefusal) || (error.errorCode !== topicAuthorizationFailed && error.errorCode !== clusterAuthorizationFailed)) throw error;
        environment.logger.warn({ topic, error }, `the settings of topic ${topic} could not be verified: this client may not read them`);
        return denied;
      }),
    { environment, boundMs, signal, what: `reading the settings of ${topic}` },
  );
}

export class StoreTopic {
  readonly #options: StoreTopicOptions;
  readonly #known = new Map<string, CategoryRecord>();
  #opened: Promise<{ readonly id: string; readonly link: PartitionLink }> | undefined;
  #next = 0;
  #reading: Promise<void> | undefined;
  #queued: Promise<void> | undefined;

  constructor(options: StoreTopicOptions) {
    this.#options = options;
  }

  /** The store's identity. Errors: StoreUnavailable, StoreRefused. */
  async identity(): Promise<string> {
    return (await this.#open()).id;
  }

  /** All categories that were recorded before the call (R3). Errors: StoreUnavailable, StoreRefused, StoreCorrupt. */
  async categories(): Promise<ReadonlyMap<string, CategoryRecord>> {
    // Those who ask while a reading is under way share the next one.
    this.#queued ??= this.#readAfter(this.#reading);
    await this.#queued;
    return this.#known;
  }

  /** Records a category (R1); the record that counts. Errors: as categories. */
  async record(category: CategoryRecord): Promise<CategoryRecord> {
    const { environment, boundMs, ending: signal } = this.#options;
    const { link } = await this.#open();
    const writer = new BatchWriter();
    writer.beginRecord(category.category, JSON.stringify(category), 0);
    writer.endRecord();
    const { batch } = writer.finish({ producerId: -1, epoch: -1, sequence: -1, timestamp: environment.clock.now() });
    // Twice does no harm: the first one counts.
    await insist(() => link.produce(batch, boundMs), { environment, boundMs, signal, what: `recording the category ${category.category}` });
    return (await this.categories()).get(category.category) ?? category;
  }

  #open(): Promise<{ readonly id: string; readonly link: PartitionLink }> {
    this.#opened ??= this.#ensure().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #ensure(): Promise<{ readonly id: string; readonly link: PartitionLink }> {
    const { cluster, prefix, topics, environment } = this.#options;
    const name = storeTopic(prefix);
    const options = { ...this.#options, topics: { ...topics, partitions: 1 } };
    const topic = await ensureTopic(name, options);
    verifyTopic(topic, await settingsOf(name, options), options.topics, environment.logger);
    return { id: topic.id, link: cluster.partition(name, 0) };
  }

  async #readAfter(before: Promise<unknown> | undefined): Promise<void> {
    // Also where nothing is under way: `#queued` is set before it is taken.
    await (before ?? Promise.resolve()).catch(() => undefined);
    this.#reading = this.#queued;
    this.#queued = undefined;
    const { environment, boundMs, ending: signal } = this.#options;
    const { link } = await this.#open();
    await insist(() => this.#read(link), { environment, boundMs, signal, what: "reading which categories there are" });
  }

  async #read(link: PartitionLink): Promise<void> {
    const { offset: end } = await link.end();
    while (this.#next < end) {
      const { records } = await link.fetch({ offset: this.#next, maxWaitMs: 100, maxBytes: 1024 * 1024 });
      for (const batch of batchesIn(records)) {
        if (batch.plain) eachRecord(batch, (record) => this.#take(record));
        this.#next = batch.lastOffset + 1;
      }
    }
  }

  /** R1. */
  #take(record: Uint8Array): void {
    const cursor = atKey(record);
    const key = cursor.text();
    let found: Partial<CategoryRecord>;
    try {
      found = JSON.parse(cursor.text() ?? "") as Partial<CategoryRecord>;
    } catch (cause) {
      throw new StoreCorrupt(`topic ${storeTopic(this.#options.prefix)} holds what is no record of a category`, { cause });
    }
    const { category, topicId, partitions } = found;
    if (typeof category !== "string" || category !== key || typeof topicId !== "string" || !Number.isSafeInteger(partitions)) return;
    if (!this.#known.has(category)) this.#known.set(category, { category, topicId, partitions: partitions as number });
  }
}
