/**
 * A model of Kafka behind the seam, for tests in simulated time: topics, offsets, producer epochs and sequences as brokers check them, LogAppendTime.
 * What a test wants to go wrong it does around a call: `aroundProduce` and `aroundInit` are handed the call itself and answer in its place.
 */
import type { Clock } from "../../../src/environment.ts";
import {
  BrokerRefusal,
  KAFKA_ERROR,
  RequestLost,
  type Fetched,
  type FetchRequest,
  type KafkaCluster,
  type NewTopic,
  type PartitionLink,
  type Produced,
  type ProducerIdentity,
  type TopicDescription,
} from "../../../src/store/kafka/cluster.ts";
import { crc32c } from "../../../src/store/kafka/crc32c.ts";
import { batchesIn, type Batch } from "../../../src/store/kafka/record-batch.ts";

interface ProducerState {
  epoch: number;
  /** Sequence number of the last record. */
  last: number;
  /** The last five batches. */
  recent: { readonly first: number; readonly count: number; readonly baseOffset: number }[];
}

export interface ModelPartition {
  readonly topic: string;
  readonly partition: number;
  /** Whole batches, as bytes. */
  batches: Buffer[];
  end: number;
  /** What every in-sync replica has: readers see no more, and no more was acknowledged. */
  highWatermark: number;
  start: number;
  readonly producers: Map<number, ProducerState>;
  leaderEpoch: number;
  readonly waiting: Set<() => void>;
}

export interface ProduceCall {
  readonly topic: string;
  readonly partition: number;
  readonly batch: Batch;
  /** Of the client that sends it. */
  readonly client: string;
}

export class ModelKafka {
  readonly clock: Clock;
  readonly #topics = new Map<string, { id: string; settings: Map<string, string>; partitions: ModelPartition[] }>();
  readonly #transactional = new Map<string, { producerId: number; epoch: number }>();
  #nextProducerId = 1000;
  #nextTopicId = 1;
  /** Whether epochs are checked: without, only the claims in the log hold writers apart. */
  fenced = true;
  /** The highest epoch the coordinator hands out for one producer id. */
  lastEpoch = 32_766;
  /** Calls that were made, newest last. */
  readonly produced: ProduceCall[] = [];
  aroundProduce: (call: ProduceCall, apply: () => Produced) => Promise<Produced> | Produced = (_, apply) => apply();
  aroundInit: (transactionalId: string, apply: () => ProducerIdentity) => Promise<ProducerIdentity> | ProducerIdentity = (_, apply) => apply();
  /** Brings what was appended to the other replicas: at once. */
  replicate: (log: ModelPartition) => void = (log) => this.reached(log, log.end);
  /** Fails fetches and questions for the end where it throws. */
  beforeRead: (topic: string, partition: number, what: "fetch" | "end") => void = () => undefined;
  /** Holds back answers that were made. */
  beforeAnswer: (client: string, what: "topics" | "fetch" | "look") => Promise<void> | void = () => undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** How one process sees it. */
  client(name = "client"): KafkaCluster {
    return new ModelClient(this, name);
  }

  topic(name: string): { id: string; settings: Map<string, string>; partitions: ModelPartition[] } | undefined {
    return this.#topics.get(name);
  }

  partition(topic: string, partition = 0): ModelPartition {
    const found = this.#topics.get(topic)?.partitions[partition];
    if (found === undefined) throw new BrokerRefusal(KAFKA_ERROR.unknownTopicOrPartition, `there is no partition ${partition} of ${topic}`);
    return found;
  }

  create({ name, partitions, settings }: NewTopic): void {
    if (this.#topics.has(name)) throw new BrokerRefusal(KAFKA_ERROR.topicAlreadyExists, `topic ${name} exists`);
    const id = `00000000-0000-4000-8000-${String(this.#nextTopicId++).padStart(12, "0")}`;
    const made = Array.from({ length: partitions }, (_, partition): ModelPartition => ({ topic: name, partition, batches: [], end: 0, highWatermark: 0, start: 0, producers: new Map(), leaderEpoch: 0, waiting: new Set() }));
    this.#topics.set(name, { id, settings: new Map(Object.entries({ "max.message.bytes": "1048588", ...settings })), partitions: made });
  }

  delete(name: string): void {
    this.#topics.delete(name);
  }

  describe(names: readonly string[] | undefined): TopicDescription[] {
    return [...this.#topics]
      .filter(([name]) => names === undefined || names.includes(name))
      .map(([name, { id, partitions }]) => ({ name, id, partitions: partitions.map(() => ({ leader: 1, replicas: 1 })) }));
  }

  /** The coordinator forgets an id: the next opener gets another producer id. */
  forgetTransactionalId(transactionalId: string): void {
    this.#transactional.delete(transactionalId);
  }

  initProducerId(transactionalId: string): ProducerIdentity {
    const known = this.#transactional.get(transactionalId);
    const next = known === undefined || known.epoch >= this.lastEpoch ? { producerId: this.#nextProducerId++, epoch: 0 } : { producerId: known.producerId, epoch: known.epoch + 1 };
    this.#transactional.set(transactionalId, next);
    return { ...next };
  }

  /** Sets what the coordinator knows, as one that has lost its log does. */
  setTransactionalId(transactionalId: string, identity: ProducerIdentity): void {
    this.#transactional.set(transactionalId, { ...identity });
  }

  append(topic: string, partition: number, bytes: Uint8Array): Produced {
    const log = this.partition(topic, partition);
    const copy = Buffer.from(bytes);
    const [batch] = [...batchesIn(copy)] as [Batch];
    const { producerId, epoch, sequence, count } = batch;
    const baseOffset = log.end;
    if (producerId >= 0) {
      const again = this.#check(log, batch);
      if (again !== undefined) return { baseOffset: again };
      const known = log.producers.get(producerId);
      const recent = [...(known?.epoch === epoch ? known.recent : []), { first: sequence, count, baseOffset }].slice(-5);
      log.producers.set(producerId, { epoch, last: sequence + count - 1, recent });
    }
    copy.writeBigInt64BE(BigInt(baseOffset), 0);
    copy.writeInt32BE(log.leaderEpoch, 12);
    copy.writeInt16BE(copy.readInt16BE(21) | 0b1000, 21);
    copy.writeBigInt64BE(BigInt(this.clock.now()), 35);
    copy.writeUInt32BE(crc32c(copy, 21), 17);
    log.batches.push(copy);
    log.end += count;
    this.replicate(log);
    return { baseOffset };
  }

  /** All in-sync replicas have what stands below `offset`. */
  reached(log: ModelPartition, offset: number): void {
    log.highWatermark = Math.max(log.highWatermark, offset);
    for (const wake of log.waiting) wake();
  }

  /** As ProducerStateManager does; the base offset of the first time where the batch stands already. */
  #check(log: ModelPartition, { producerId, epoch, sequence, count }: Batch): number | undefined {
    const known = log.producers.get(producerId);
    if (known === undefined || !this.fenced) return undefined;
    if (epoch < known.epoch) throw new BrokerRefusal(KAFKA_ERROR.invalidProducerEpoch, `epoch ${epoch} is older than ${known.epoch}`);
    if (epoch > known.epoch) {
      if (sequence !== 0) throw new BrokerRefusal(KAFKA_ERROR.outOfOrderSequence, `a new epoch begins with sequence ${sequence}`);
      return undefined;
    }
    const again = known.recent.find((each) => each.first === sequence && each.count === count);
    if (again !== undefined) return again.baseOffset;
    if (sequence !== known.last + 1) throw new BrokerRefusal(KAFKA_ERROR.outOfOrderSequence, `sequence ${sequence} after ${known.last}`);
    return undefined;
  }

  /** An unclean election: what stands from `offset` on is gone. */
  cutOff(topic: string, partition: number, offset: number): void {
    const log = this.partition(topic, partition);
    log.batches = log.batches.filter((bytes) => Number(bytes.readBigInt64BE(0)) < offset);
    log.end = Math.min(log.end, offset);
    log.highWatermark = Math.min(log.highWatermark, offset);
    log.leaderEpoch++;
    this.#recover(log);
    for (const wake of log.waiting) wake();
  }

  /** What a broker knows of producers is what stands in its log. */
  #recover(log: ModelPartition): void {
    log.producers.clear();
    for (const { producerId, epoch, sequence, count, baseOffset } of batchesIn(Buffer.concat(log.batches))) {
      if (producerId < 0) continue;
      const known = log.producers.get(producerId);
      const recent = [...(known?.epoch === epoch ? known.recent : []), { first: sequence, count, baseOffset }].slice(-5);
      log.producers.set(producerId, { epoch, last: sequence + count - 1, recent });
    }
  }

  async fetch(topic: string, partition: number, { offset, maxWaitMs, maxBytes }: FetchRequest, closed: AbortSignal): Promise<Fetched> {
    this.beforeRead(topic, partition, "fetch");
    const log = this.partition(topic, partition);
    if (offset < log.start || offset > log.end) throw new BrokerRefusal(KAFKA_ERROR.offsetOutOfRange, `offset ${offset} is not within ${log.start} to ${log.end}`);
    if (offset >= log.highWatermark && maxWaitMs > 0) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          timer.cancel();
          log.waiting.delete(done);
          closed.removeEventListener("abort", done);
          resolve();
        };
        const timer = this.clock.setTimer(maxWaitMs, done);
        log.waiting.add(done);
        closed.addEventListener("abort", done);
      });
      if (closed.aborted) throw new RequestLost("closed", { sent: true });
      this.beforeRead(topic, partition, "fetch");
    }
    const wanted: Buffer[] = [];
    let bytes = 0;
    for (const batch of log.batches) {
      if (Number(batch.readBigInt64BE(0)) + batch.readInt32BE(23) < offset) continue;
      if (Number(batch.readBigInt64BE(0)) >= log.highWatermark || (wanted.length > 0 && bytes + batch.length > maxBytes)) break;
      wanted.push(batch);
      bytes += batch.length;
    }
    return { records: Buffer.concat(wanted), highWatermark: log.highWatermark, logStart: log.start };
  }
}

class ModelClient implements KafkaCluster {
  readonly #kafka: ModelKafka;
  readonly #name: string;
  readonly #closing = new AbortController();

  constructor(kafka: ModelKafka, name: string) {
    this.#kafka = kafka;
    this.#name = name;
  }

  async topics(names?: readonly string[]): Promise<readonly TopicDescription[]> {
    const described = this.#kafka.describe(names);
    await this.#kafka.beforeAnswer(this.#name, "topics");
    return described;
  }

  async createTopic(topic: NewTopic): Promise<void> {
    this.#kafka.create(topic);
  }

  async topicSettings(topic: string): Promise<ReadonlyMap<string, string>> {
    return this.#kafka.topic(topic)?.settings ?? new Map<string, string>();
  }

  async initProducerId(transactionalId: string): Promise<ProducerIdentity> {
    return this.#kafka.aroundInit(transactionalId, () => this.#kafka.initProducerId(transactionalId));
  }

  partition(topic: string, partition: number): PartitionLink {
    const kafka = this.#kafka;
    const closing = new AbortController();
    const closed = AbortSignal.any([closing.signal, this.#closing.signal]);
    const assertOpen = (): void => {
      if (closed.aborted) throw new RequestLost("closed", { sent: false });
    };
    return {
      produce: async (bytes) => {
        assertOpen();
        const [batch] = [...batchesIn(Buffer.from(bytes))] as [Batch];
        const call = { topic, partition, batch, client: this.#name };
        kafka.produced.push(call);
        return kafka.aroundProduce(call, () => kafka.append(topic, partition, bytes));
      },
      fetch: async (request) => {
        assertOpen();
        const fetched = await kafka.fetch(topic, partition, request, closed);
        await kafka.beforeAnswer(this.#name, request.maxWaitMs > 0 ? "fetch" : "look");
        return fetched;
      },
      end: async () => {
        assertOpen();
        kafka.beforeRead(topic, partition, "end");
        const { highWatermark: offset, leaderEpoch } = kafka.partition(topic, partition);
        return { offset, leaderEpoch };
      },
      close: () => closing.abort(),
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
  }
}
