/**
 * The model of Kafka behind a simulated network, for the processes of a simulation: one partition with replicas, one coordinator, and what goes wrong with them.
 *
 * B1 A request travels to the broker, is carried out in one step, and its answer travels back. What is under way when its client dies or gives up may still arrive.
 *    Whoever waits for an answer that never comes learns of it by the bound of the request, or when the network is whole again and the dead connection is reset.
 * B2 A batch is answered once every replica has it; until then readers do not see it, and a new leader may not have it.
 * B3 A fault is one that brokers have: a batch that was acknowledged is never lost, a code of those that are checked before an append never stands for a batch that
 *    was appended, and what the broker or the coordinator forgets are producers alone.
 */
import type { Clock } from "../../../../src/environment.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost, type Fetched, type FetchRequest, type KafkaCluster, type LogEnd, type NewTopic, type PartitionLink, type Produced, type ProducerIdentity } from "../../../../src/store/kafka/cluster.ts";
import { BatchWriter } from "../../../../src/store/kafka/record-batch.ts";
import { writeClaim, writeEvent, writeStamp } from "../../../../src/store/kafka/record-format.ts";
import type { Draws } from "../../../../src/testing/simulator/draws.ts";
import type { FaultKind, FaultKinds, Faults } from "../../../../src/testing/simulator/faults.ts";
import type { Host, World } from "../../../../src/testing/simulator/world.ts";
import { ModelKafka, type ModelPartition } from "../model-kafka.ts";
import { LogTruth } from "./log-truth.ts";

export const TOPIC = "sim.account.events";
export const LANE = "account/0";
const TRANSACTIONAL_ID = `${TOPIC}.0`;

export const kafkaFaults: FaultKinds = {
  armed: [
    /** The batch never reaches the broker. */
    "lost-produce",
    /** The batch stands, its answer is lost. */
    "lost-reply",
    /** The batch arrives after its client has given it up. */
    "late-produce",
    /** The batch arrives twice. */
    "duplicate-produce",
    /** An error is answered for a batch that stands. */
    "false-error",
    /** NOT_ENOUGH_REPLICAS: for certain not appended. */
    "refused-produce",
    /** No connection. */
    "unreachable",
    /** A replica is slow: the batch waits for it. */
    "slow-replica",
    /** A fetch, or the question for the end, stays without an answer. */
    "lost-read",
    /** The coordinator gives no epoch. */
    "busy-coordinator",
    /** An epoch was drawn, and nobody was told. */
    "lost-epoch",
    "lost-view-commit",
    "failed-snapshot",
  ],
  timed: [
    "crash",
    "restart",
    "stall",
    "clock-jump",
    /** Another replica leads: what only the former leader had is gone. */
    "leader-change",
    /** All brokers are gone for a while. */
    "broker-restart",
    "slow-broker",
    /** Brokers forget who wrote to the partition. */
    "producer-expiry",
    /** The coordinator forgets the transactional id. */
    "coordinator-loss",
    /** The coordinator remembers an older epoch than it gave out. */
    "coordinator-rewound",
    /** Somebody draws epochs and writes nothing. */
    "epochs-bumped",
    /** Somebody who has write access writes what is not theirs to write. */
    "rogue",
  ],
};

/** Codes that do not say whether the batch stands. */
const AMBIGUOUS = [KAFKA_ERROR.notLeaderOrFollower, KAFKA_ERROR.requestTimedOut, KAFKA_ERROR.notEnoughReplicasAfterAppend, KAFKA_ERROR.leaderNotAvailable, KAFKA_ERROR.storageError];
const BUSY = [KAFKA_ERROR.coordinatorLoadInProgress, KAFKA_ERROR.coordinatorNotAvailable, KAFKA_ERROR.notCoordinator, KAFKA_ERROR.concurrentTransactions];

export interface SimulatedKafkaOptions {
  readonly world: World;
  readonly draws: Draws;
  readonly faults: Faults;
  /** Time of the brokers. */
  readonly clock: Clock;
  readonly count: (what: string) => void;
  /** Readers may see more of the events' log than before, or less may still arrive. */
  readonly onProgress: () => void;
}

export class SimulatedKafka {
  readonly model: ModelKafka;
  readonly truth = new LogTruth();
  /** Batches that will still arrive. */
  late = 0;
  /** Brokers have forgotten a producer, so that the fence had a hole. */
  forgot = false;
  readonly #options: SimulatedKafkaOptions;
  readonly #given: ProducerIdentity[] = [];
  /** B1: fails those who wait for nothing. */
  readonly unanswered = new Set<() => void>();
  readonly #awaited = new Set<{ readonly offset: number; settle(error?: BrokerRefusal): void }>();
  #folded = 0;
  #downUntil = 0;
  #leaderlessUntil = 0;
  #slowUntil = 0;
  #slowness = 1;
  #rogues = 0;

  constructor(options: SimulatedKafkaOptions) {
    this.#options = options;
    this.model = new ModelKafka(options.clock);
    // Few, so that they are used up.
    this.model.lastEpoch = options.draws.pick([12, 40, 1000]);
    this.model.replicate = (log) => this.#replicate(log);
  }

  /** Offset of the end of the events' log as readers see it. */
  get end(): number {
    return this.#log?.highWatermark ?? 0;
  }

  connect(host: Host, boundMs: number): KafkaCluster {
    return new SimulatedCluster(this, host, boundMs, this.#options);
  }

  heal(): void {
    this.#downUntil = this.#leaderlessUntil = this.#slowUntil = 0;
    for (const reset of this.unanswered) reset();
  }

  /** Does what is planned to brokers and coordinator; false where it is none of theirs. */
  attack(fault: FaultKind, size: number): boolean {
    const { world, draws } = this.#options;
    switch (fault) {
      case "leader-change":
        this.#changeLeader();
        this.#leaderlessUntil = world.now + size * size * 300;
        return true;
      case "broker-restart":
        this.#downUntil = world.now + 5 + size * 250;
        this.#changeLeader();
        return true;
      case "slow-broker":
        this.#slowness = 2 + size * 20;
        this.#slowUntil = world.now + 30 + size * 200;
        return true;
      case "producer-expiry":
        this.#log?.producers.clear();
        this.forgot = true;
        return true;
      case "coordinator-loss":
        this.model.forgetTransactionalId(TRANSACTIONAL_ID);
        return true;
      case "coordinator-rewound": {
        const last = this.#given.at(-1 - draws.int(0, Math.min(2, this.#given.length)));
        // Another producer id may be fenced for good: it is out of the way only when its epochs are used up.
        const sameId = last?.producerId === this.#given.at(-1)?.producerId;
        if (last !== undefined && (sameId || this.model.lastEpoch <= 100)) this.model.setTransactionalId(TRANSACTIONAL_ID, { ...last, epoch: last.epoch - 1 });
        return true;
      }
      case "epochs-bumped":
        for (let left = draws.int(1, 3); left > 0; left--) this.#draw();
        return true;
      case "rogue":
        this.#rogue();
        return true;
      default:
        return false;
    }
  }

  latency(): number {
    const { world, draws } = this.#options;
    const usual = draws.chance(0.05) ? draws.next() * 20 : 0.1 + draws.next();
    return world.now < this.#slowUntil ? usual * this.#slowness : usual;
  }

  /** What keeps a request from being carried out. `never`: there will be no answer. */
  obstacle(topic: string | undefined): BrokerRefusal | RequestLost | "never" | undefined {
    const { world, draws } = this.#options;
    if (world.now < this.#downUntil) return draws.chance(0.5) ? new RequestLost("no connection", { sent: false }) : "never";
    if (topic === TOPIC && world.now < this.#leaderlessUntil) return new BrokerRefusal(draws.pick([KAFKA_ERROR.notLeaderOrFollower, KAFKA_ERROR.leaderNotAvailable]), "there is no leader");
    return undefined;
  }

  /** B2. `undefined`: there will be no answer. */
  async produce(topic: string, partition: number, bytes: Uint8Array): Promise<Produced | undefined> {
    const { faults, draws, world } = this.#options;
    const apply = (): Produced => this.model.append(topic, partition, bytes);
    if (topic !== TOPIC) return apply();
    if (faults.take("unreachable")) throw new RequestLost("no connection", { sent: false });
    if (faults.take("refused-produce")) throw new BrokerRefusal(KAFKA_ERROR.notEnoughReplicas, "not enough replicas");
    if (faults.take("lost-produce")) return undefined;
    const later = (ms: number): void => {
      this.late++;
      world.post(ms, () => {
        this.late--;
        if (this.obstacle(topic) === undefined) this.#quietly(apply);
        this.#options.onProgress();
      });
    };
    if (faults.take("late-produce")) {
      later(draws.chance(0.5) ? draws.next() * 1200 : draws.next() * 250);
      return undefined;
    }
    const { baseOffset } = apply();
    if (faults.take("duplicate-produce")) later(draws.next() * 500);
    if (faults.take("lost-reply")) return undefined;
    if (faults.take("false-error")) throw new BrokerRefusal(draws.pick(AMBIGUOUS), "an error for a batch that stands");
    const log = this.model.partition(topic, partition);
    const end = baseOffset + new DataView(bytes.buffer, bytes.byteOffset).getInt32(57);
    if (log.highWatermark < end) {
      await new Promise<void>((resolve, reject) => {
        const awaited = {
          offset: end,
          settle: (error?: BrokerRefusal): void => {
            this.#awaited.delete(awaited);
            if (error === undefined) resolve();
            else reject(error);
          },
        };
        this.#awaited.add(awaited);
      });
    }
    return { baseOffset };
  }

  /** `undefined`: there will be no answer. */
  initProducerId(transactionalId: string): ProducerIdentity | undefined {
    const { faults, draws } = this.#options;
    if (faults.take("busy-coordinator")) throw new BrokerRefusal(draws.pick(BUSY), "not now");
    const identity = transactionalId === TRANSACTIONAL_ID ? this.#draw() : this.model.initProducerId(transactionalId);
    return faults.take("lost-epoch") ? undefined : identity;
  }

  get #log(): ModelPartition | undefined {
    return this.model.topic(TOPIC)?.partitions[0];
  }

  #draw(): ProducerIdentity {
    const identity = this.model.initProducerId(TRANSACTIONAL_ID);
    this.#given.push(identity);
    return identity;
  }

  #quietly(apply: () => Produced): void {
    try {
      apply();
    } catch (error) {
      if (!(error instanceof BrokerRefusal)) throw error;
      this.#options.count(`late batch refused ${error.errorCode}`);
    }
  }

  #replicate(log: ModelPartition): void {
    const { world, draws, faults } = this.#options;
    const { end, leaderEpoch, topic } = log;
    const reached = (): void => {
      // B2: it may have been cut off, and something else stand there.
      if (log.leaderEpoch !== leaderEpoch) return;
      this.#reached(log, end);
    };
    if (topic !== TOPIC) reached();
    else world.post(faults.take("slow-replica") ? 20 + draws.next() * 400 : draws.next() * (draws.chance(0.1) ? 20 : 1), reached);
  }

  #reached(log: ModelPartition, offset: number): void {
    this.model.reached(log, offset);
    if (log.topic !== TOPIC) return;
    for (const bytes of log.batches) {
      const base = Number(bytes.readBigInt64BE(0));
      if (base < this.#folded || base >= log.highWatermark) continue;
      this.truth.add(bytes);
      this.#folded = base + bytes.readInt32BE(57);
    }
    for (const awaited of this.#awaited) if (awaited.offset <= log.highWatermark) awaited.settle();
    this.#options.onProgress();
  }

  /** B2: of what not all replicas have, the new leader has a part. */
  #changeLeader(): void {
    const { draws } = this.#options;
    const log = this.#log;
    if (log === undefined) return;
    const open = log.batches.map((bytes) => Number(bytes.readBigInt64BE(0))).filter((base) => base >= log.highWatermark);
    this.model.cutOff(TOPIC, 0, draws.pick([...open, log.end]));
    for (const awaited of this.#awaited) if (awaited.offset > log.highWatermark) awaited.settle(new BrokerRefusal(KAFKA_ERROR.notLeaderOrFollower, "another leader"));
    this.#reached(log, log.end);
  }

  #rogue(): void {
    const { draws } = this.#options;
    const log = this.#log;
    if (log === undefined) return;
    const writer = new BatchWriter();
    const [last] = this.#given.slice(-1);
    const id = `rogue-${this.#rogues++}`;
    const event = { id, type: "Moved", data: "{}", recordedAt: 0, metadata: { commandId: id, correlationId: id, causationId: id }, user: undefined, inFull: undefined };
    let identity: ProducerIdentity & { readonly sequence: number } = { producerId: -1, epoch: -1, sequence: -1 };
    switch (draws.int(0, 3)) {
      case 0: // no record of ours
        writer.beginRecord("account-1", "{}", 0);
        writer.endRecord();
        break;
      case 1: // ours to the letter, but for its producer
        writeEvent(writer, "account-1", event, { claim: this.truth.nonce ?? "", version: (this.truth.versions.get("account-1") ?? 0) + 1, index: 0, size: 1 });
        break;
      case 2: // a claim that counts
        identity = { producerId: 900_000 + this.#rogues, epoch: 0, sequence: 0 };
        writeClaim(writer, { nonce: id, writer: "rogue", producerId: identity.producerId, epoch: 0, previous: null });
        break;
      default: // locks us out, until the coordinator gives another producer id
        if (last === undefined || this.model.lastEpoch > 100) return;
        identity = { producerId: last.producerId, epoch: 32_767, sequence: 0 };
        writeStamp(writer);
    }
    const { batch } = writer.finish({ ...identity, timestamp: 0 });
    this.#quietly(() => this.model.append(TOPIC, 0, batch));
  }
}

function endOf({ highWatermark: offset, leaderEpoch }: ModelPartition): LogEnd {
  return { offset, leaderEpoch };
}

/** What one process has of it. */
class SimulatedCluster implements KafkaCluster {
  readonly #kafka: SimulatedKafka;
  readonly #host: Host;
  readonly #boundMs: number;
  readonly #options: SimulatedKafkaOptions;
  readonly #closing = new AbortController();

  constructor(kafka: SimulatedKafka, host: Host, boundMs: number, options: SimulatedKafkaOptions) {
    this.#kafka = kafka;
    this.#host = host;
    this.#boundMs = boundMs;
    this.#options = options;
    host.onDeath(() => this.#closing.abort());
  }

  topics(names?: readonly string[]) {
    return this.#ask(undefined, async () => this.#kafka.model.describe(names));
  }

  createTopic(topic: NewTopic) {
    return this.#ask(undefined, async () => this.#kafka.model.create(topic) ?? true).then(() => undefined);
  }

  topicSettings(topic: string) {
    return this.#ask(undefined, async () => this.#kafka.model.topic(topic)?.settings ?? new Map<string, string>());
  }

  initProducerId(transactionalId: string): Promise<ProducerIdentity> {
    return this.#ask(undefined, async () => this.#kafka.initProducerId(transactionalId));
  }

  partition(topic: string, partition: number): PartitionLink {
    const closing = new AbortController();
    const closed = AbortSignal.any([closing.signal, this.#closing.signal]);
    const lost = (): boolean => topic === TOPIC && this.#options.faults.take("lost-read");
    const { model } = this.#kafka;
    return {
      produce: (bytes, boundMs) => {
        const copy = Buffer.from(bytes);
        return this.#ask(topic, () => this.#kafka.produce(topic, partition, copy), closed, boundMs);
      },
      fetch: (request: FetchRequest): Promise<Fetched> =>
        this.#ask(topic, async () => (lost() ? undefined : model.fetch(topic, partition, request, closed)), closed, this.#boundMs + request.maxWaitMs),
      end: () => this.#ask(topic, async () => (lost() ? undefined : endOf(model.partition(topic, partition))), closed),
      close: () => closing.abort(),
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
  }

  /** B1. `run` answers with undefined where there is to be no answer. */
  #ask<T>(topic: string | undefined, run: () => Promise<T | undefined>, closed: AbortSignal = this.#closing.signal, boundMs = this.#boundMs): Promise<T> {
    const kafka = this.#kafka;
    const { world } = this.#options;
    if (closed.aborted) return Promise.reject(new RequestLost("closed", { sent: false }));
    return new Promise<T>((resolve, reject) => {
      const done = (answer: () => void): void => {
        timer.cancel();
        kafka.unanswered.delete(onReset);
        closed.removeEventListener("abort", onClose);
        answer();
      };
      const onClose = (): void => done(() => reject(new RequestLost("closed", { sent: true })));
      const onReset = (): void => reply(() => reject(new RequestLost("the connection was reset", { sent: true })));
      const timer = this.#host.environment.clock.setTimer(boundMs, () => done(() => reject(new RequestLost("no answer in time", { sent: true }))));
      closed.addEventListener("abort", onClose);
      const reply = (answer: () => void): void => {
        if (!closed.aborted) this.#host.deliver(kafka.latency(), () => done(answer));
      };
      world.post(kafka.latency(), () => {
        const obstacle = kafka.obstacle(topic);
        if (obstacle === "never") return void kafka.unanswered.add(onReset);
        if (obstacle !== undefined) return reply(() => reject(obstacle));
        run().then(
          (value) => (value === undefined ? void kafka.unanswered.add(onReset) : reply(() => resolve(value))),
          (error: unknown) => reply(() => reject(error as Error)),
        );
      });
    });
  }
}
