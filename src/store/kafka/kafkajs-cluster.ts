/**
 * The cluster as kafkajs reaches it: the one file that touches its internals, written against 2.2.4 exactly. kafkajs gives connections (TLS, SASL, versions), the
 * coordinator and topic administration; what goes over a connection on the way of a write or a read is ours (`protocol.ts`).
 *
 * J1 A custom partition assigner is handed kafkajs's `cluster` object in the constructor of a consumer that never runs: that is the way in.
 * J2 A link is one connection. After a bound has passed or anything has broken it is destroyed and never used again; kafkajs itself would keep its socket (K4).
 * J3 Nothing rests on kafkajs's own retries or time-outs: they are switched off, or longer than ours.
 *
 * Longer than an adapter should be: links, what is known of the cluster, and partitions share one life.
 */
import net from "node:net";
import tls from "node:tls";
import kafkajs from "kafkajs";
import type { KafkaConfig, SASLOptions } from "kafkajs";
import type { Clock } from "../../environment.ts";
import {
  BrokerRefusal,
  KAFKA_ERROR,
  RequestLost,
  type Fetched,
  type FetchRequest,
  type KafkaCluster,
  type LogEnd,
  type NewTopic,
  type PartitionLink,
  type Produced,
  type ProducerIdentity,
  type TopicDescription,
} from "./cluster.ts";
import { endCall, fetchCall, metadataCall, produceCall, Reader, type Answer, type Call, type Metadata } from "./protocol.ts";

export interface KafkajsClusterOptions {
  /** `host:port` of some brokers; the others are learnt from them. */
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly ssl?: tls.ConnectionOptions | boolean;
  readonly sasl?: SASLOptions;
  /** Longest wait for an answer of the cluster, milliseconds. */
  readonly requestTimeoutMs: number;
  readonly clock: Clock;
}

/** What is used of kafkajs's insides. */
interface Connection {
  readonly socket?: net.Socket;
  readonly requestQueue: { throttledUntil: number; readonly pending: readonly unknown[]; scheduleCheckPendingRequests(): void };
  rejectRequests(error: Error): void;
  send<T>(request: object): Promise<T>;
}

interface Broker {
  readonly brokerAddress: string;
  readonly connectionPool: { readonly pool: readonly Connection[] };
  connect(): Promise<void>;
  findGroupCoordinator(request: object): Promise<{ readonly coordinator: { readonly nodeId: number; readonly host: string; readonly port: number } }>;
  initProducerId(request: object): Promise<{ readonly producerId: string; readonly producerEpoch: number }>;
  createTopics(request: object): Promise<unknown>;
  describeConfigs(request: object): Promise<{ readonly resources: readonly { readonly configEntries: readonly { readonly configName: string; readonly configValue: string | null }[] }[] }>;
}

interface Insides {
  readonly rootLogger: unknown;
  readonly connectionPoolBuilder: { build(destination?: { readonly host: string; readonly port: number }): Promise<unknown> };
  readonly brokerPool: { createBroker(options: object): Broker };
}

/** Far beyond every bound of ours: J3. */
const NEVER_MS = 2 ** 30;
const TRANSACTION_COORDINATOR = 1;
const TOPIC_RESOURCE = 2;
/** No transaction is ever begun; brokers refuse what is above their `transaction.max.timeout.ms`. */
const TRANSACTION_TIMEOUT_MS = 60_000;

/** Connects when it is first used. Errors: those of kafkajs for options that it refuses. */
export function kafkajsCluster(options: KafkajsClusterOptions): KafkaCluster {
  return new KafkajsCluster(options);
}

type Node = Metadata["nodes"][number];

class KafkajsCluster implements KafkaCluster {
  readonly #insides: Insides;
  readonly #clock: Clock;
  readonly #boundMs: number;
  readonly #nodes = new Map<number, Node>();
  readonly #leaders = new Map<string, readonly number[]>();
  /** Of transactional ids; forgotten when one does not give what is asked. */
  readonly #coordinators = new Map<string, number>();
  /** For what belongs to no partition, and for ends: one to a node; -1: to some broker of those that were named. */
  readonly #links = new Map<number, Link>();
  readonly #partitions = new Set<KafkajsPartition>();
  #controller = -1;
  #closed = false;

  constructor(options: KafkajsClusterOptions) {
    this.#clock = options.clock;
    this.#boundMs = options.requestTimeoutMs;
    this.#insides = insidesOf({
      brokers: [...options.brokers],
      clientId: options.clientId,
      connectionTimeout: options.requestTimeoutMs,
      requestTimeout: NEVER_MS,
      enforceRequestTimeout: false,
      retry: { retries: 0 },
      logLevel: kafkajs.logLevel.NOTHING,
      socketFactory,
      ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
      ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
    });
  }

  async topics(names?: readonly string[]): Promise<readonly TopicDescription[]> {
    return (await this.#learn(names)).topics;
  }

  async createTopic({ name, partitions, replicationFactor, settings }: NewTopic): Promise<void> {
    if (!this.#nodes.has(this.#controller)) await this.#learn([]);
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    const topics = [{ topic: name, numPartitions: partitions, replicationFactor, configEntries }];
    await this.#ask(this.#controller, (broker) => broker.createTopics({ topics, timeout: this.#boundMs }));
  }

  async topicSettings(topic: string): Promise<ReadonlyMap<string, string>> {
    const resources = [{ type: TOPIC_RESOURCE, name: topic, configNames: [] }];
    const described = await this.#ask(-1, (broker) => broker.describeConfigs({ resources }));
    return new Map((described.resources[0]?.configEntries ?? []).map(({ configName, configValue }) => [configName, configValue ?? ""]));
  }

  async initProducerId(transactionalId: string): Promise<ProducerIdentity> {
    const node = this.#coordinators.get(transactionalId) ?? (await this.#findCoordinator(transactionalId));
    this.#coordinators.delete(transactionalId);
    const made = await this.#ask(node, (broker) => broker.initProducerId({ transactionalId, transactionTimeout: TRANSACTION_TIMEOUT_MS }));
    this.#coordinators.set(transactionalId, node);
    const producerId = Number(made.producerId);
    if (!Number.isSafeInteger(producerId)) throw new BrokerRefusal(KAFKA_ERROR.unsupportedVersion, `the producer id ${made.producerId} is beyond what can be counted here`);
    return { producerId, epoch: made.producerEpoch };
  }

  async #findCoordinator(transactionalId: string): Promise<number> {
    const { coordinator } = await this.#ask(-1, (broker) => broker.findGroupCoordinator({ groupId: transactionalId, coordinatorType: TRANSACTION_COORDINATOR }));
    this.#nodes.set(coordinator.nodeId, { id: coordinator.nodeId, host: coordinator.host, port: coordinator.port });
    return coordinator.nodeId;
  }

  partition(topic: string, partition: number): PartitionLink {
    const link: KafkajsPartition = new KafkajsPartition(topic, partition, {
      boundMs: this.#boundMs,
      leader: (changed) => this.#leader(topic, partition, changed),
      open: (node) => this.#open(node),
      end: (leader) => this.#call(leader, endCall(topic, partition)),
      closed: () => this.#partitions.delete(link),
    });
    this.#partitions.add(link);
    return link;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const partition of this.#partitions) partition.close();
    for (const link of this.#links.values()) link.destroy(closedError());
    this.#links.clear();
  }

  async #learn(topics: readonly string[] | undefined): Promise<Metadata> {
    const metadata = await this.#call(-1, metadataCall(topics));
    for (const node of metadata.nodes) this.#nodes.set(node.id, node);
    this.#controller = metadata.controller;
    for (const { name, partitions } of metadata.topics) this.#leaders.set(name, partitions.map(({ leader }) => leader));
    return metadata;
  }

  /** K6: who leads the partition; asked anew when the one that is known was not. */
  async #leader(topic: string, partition: number, changed: boolean): Promise<number> {
    let leader = this.#leaders.get(topic)?.[partition] ?? -1;
    if (changed || leader < 0) {
      await this.#learn([topic]);
      leader = this.#leaders.get(topic)?.[partition] ?? -1;
    }
    if (leader < 0) throw new BrokerRefusal(KAFKA_ERROR.leaderNotAvailable, `partition ${partition} of ${topic} has no leader`);
    return leader;
  }

  #call<T>(node: number, call: Call<T>): Promise<T> {
    return this.#linkTo(node).then((link) => link.call(call, this.#boundMs));
  }

  /** A request that kafkajs makes and reads. */
  async #ask<T>(node: number, ask: (broker: Broker) => Promise<T>): Promise<T> {
    const link = await this.#linkTo(node);
    return link.within(this.#boundMs, "a request", () => ask(link.broker));
  }

  async #linkTo(node: number): Promise<Link> {
    const known = this.#links.get(node);
    if (known !== undefined && !known.broken) return known;
    const link = await this.#open(node);
    const raced = this.#links.get(node);
    if (raced !== undefined && !raced.broken) {
      link.destroy(closedError());
      return raced;
    }
    this.#links.set(node, link);
    return link;
  }

  async #open(node: number): Promise<Link> {
    if (this.#closed) throw closedError();
    const { connectionPoolBuilder, brokerPool, rootLogger } = this.#insides;
    const known = this.#nodes.get(node);
    // A node that is not known any more is looked for among those that were named.
    const pool = await connectionPoolBuilder.build(known === undefined ? undefined : { host: known.host, port: known.port });
    const link = new Link(brokerPool.createBroker({ connectionPool: pool, logger: rootLogger }), this.#clock);
    try {
      await link.connect(this.#boundMs);
    } catch (error) {
      // A broker that refuses whoever logs in does not hang up.
      link.destroy(closedError());
      throw error;
    }
    if (this.#closed) link.destroy(closedError());
    return link;
  }
}

interface PartitionPorts {
  readonly boundMs: number;
  leader(changed: boolean): Promise<number>;
  open(node: number): Promise<Link>;
  end(leader: number): Promise<LogEnd>;
  closed(): void;
}

/** K5. */
class KafkajsPartition implements PartitionLink {
  readonly #topic: string;
  readonly #partition: number;
  readonly #ports: PartitionPorts;
  readonly #writing: Slot = { link: undefined, node: -1 };
  readonly #reading: Slot = { link: undefined, node: -1 };
  /** The leader that is known answered that it is not, or not at all. */
  #changed = false;
  #closed = false;

  constructor(topic: string, partition: number, ports: PartitionPorts) {
    this.#topic = topic;
    this.#partition = partition;
    this.#ports = ports;
  }

  produce(batch: Uint8Array, boundMs: number): Promise<Produced> {
    // The broker gives up before we do, so that a late answer is the exception.
    const brokerMs = Math.max(1, Math.floor(boundMs * 0.8));
    return this.#onLeader(async () => (await this.#link(this.#writing)).call(produceCall(this.#topic, this.#partition, batch, brokerMs), boundMs));
  }

  fetch(request: FetchRequest): Promise<Fetched> {
    return this.#onLeader(async () => (await this.#link(this.#reading)).call(fetchCall(this.#topic, this.#partition, request), request.maxWaitMs + this.#ports.boundMs));
  }

  end(): Promise<LogEnd> {
    return this.#onLeader(async () => this.#ports.end(await this.#leader()));
  }

  close(): void {
    this.#closed = true;
    for (const slot of [this.#writing, this.#reading]) slot.link?.destroy(closedError());
    this.#ports.closed();
  }

  async #leader(): Promise<number> {
    if (this.#closed) throw closedError();
    const leader = await this.#ports.leader(this.#changed);
    this.#changed = false;
    return leader;
  }

  async #link(slot: Slot): Promise<Link> {
    const leader = await this.#leader();
    const known = linkOf(slot, leader);
    if (known !== undefined) return known;
    slot.link?.destroy(closedError());
    const link = await this.#ports.open(leader);
    if (this.#closed) {
      link.destroy(closedError());
      throw closedError();
    }
    const raced = linkOf(slot, leader);
    if (raced !== undefined) {
      link.destroy(closedError());
      return raced;
    }
    slot.link?.destroy(closedError());
    slot.link = link;
    slot.node = leader;
    return link;
  }

  async #onLeader<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof BrokerRefusal) || LEADER_CHANGED.has(error.errorCode)) this.#changed = true;
      throw error;
    }
  }
}

interface Slot {
  link: Link | undefined;
  node: number;
}

function linkOf({ link, node }: Slot, leader: number): Link | undefined {
  return node === leader && link?.broken === false ? link : undefined;
}

const LEADER_CHANGED = new Set<number>([KAFKA_ERROR.notLeaderOrFollower, KAFKA_ERROR.unknownTopicOrPartition, KAFKA_ERROR.leaderNotAvailable, KAFKA_ERROR.storageError, KAFKA_ERROR.offsetNotAvailable]);

/** J2. */
class Link {
  readonly broker: Broker;
  broken = false;
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #waiting = new Set<(error: RequestLost) => void>();

  constructor(broker: Broker, clock: Clock) {
    this.broker = broker;
    this.#clock = clock;
    const [connection, ...others] = broker.connectionPool.pool;
    if (connection === undefined) throw new Error("kafkajs made no connection");
    for (const each of [connection, ...others]) onlyWhenThrottled(each, clock);
    this.#connection = connection;
  }

  /** Once. Errors: BrokerRefusal, RequestLost. */
  async connect(boundMs: number): Promise<void> {
    const greet = async (): Promise<void> => {
      try {
        await this.broker.connect();
      } catch (error) {
        throw explained(error);
      }
    };
    await this.within(boundMs, `connecting to ${this.broker.brokerAddress}`, greet, false);
    const { socket } = this.#connection;
    const lost = (): RequestLost => this.#broke(new RequestLost("the connection was closed", { sent: true }));
    if (socket === undefined || socket.destroyed) throw lost();
    // J2, also where nobody waits: kafkajs would connect again, two who ask at once would make it two sockets, and it would forget one of them.
    socket.once("close", lost);
  }

  async call<T>(call: Call<T>, boundMs: number): Promise<T> {
    let sent = false;
    const encode = async (): Promise<object> => {
      sent = true;
      return { buf: call.payload, buffer: call.payload };
    };
    const request = { apiKey: call.key, apiVersion: call.version, apiName: call.name, encode };
    const response = { decode: async (payload: Buffer) => payload, parse: async (payload: Buffer) => payload };
    const payload = await this.within(boundMs, call.name, () => this.#connection.send<Buffer>({ request, response }), () => sent);
    let answer: Answer<T>;
    try {
      answer = call.read(new Reader(payload));
    } catch (cause) {
      throw this.#broke(new RequestLost(`the answer to ${call.name} cannot be read`, { sent: true, cause }));
    }
    if (answer.errorCode !== 0) throw refusalOf(answer.errorCode, call.name);
    return answer.value as T;
  }

  /** K2, K4: an answer, or within the bound an error of the seam. */
  within<T>(boundMs: number, what: string, work: () => Promise<T>, sent: boolean | (() => boolean) = true): Promise<T> {
    const wasSent = (): boolean => (typeof sent === "function" ? sent() : sent);
    return new Promise<T>((resolve, reject) => {
      if (this.broken) return reject(new RequestLost("the connection was closed", { sent: false }));
      const lose = (error: RequestLost): void => {
        this.#waiting.delete(lose);
        timer.cancel();
        reject(wasSent() ? error : new RequestLost(error.message, { sent: false, cause: error.cause }));
      };
      const timer = this.#clock.setTimer(boundMs, () => void this.#broke(new RequestLost(`${what} was not answered within ${boundMs} ms`, { sent: true })), { keepAlive: true });
      this.#waiting.add(lose);
      work().then(
        (value) => {
          if (!this.#waiting.delete(lose)) return;
          timer.cancel();
          resolve(value);
        },
        (cause: unknown) => {
          if (!this.#waiting.has(lose)) return;
          const code = errorCodeOf(cause);
          if (code === undefined) return void this.#broke(new RequestLost(`${what} failed: ${messageOf(cause)}`, { sent: true, cause }));
          this.#waiting.delete(lose);
          timer.cancel();
          reject(new BrokerRefusal(code, `${what}: ${messageOf(cause)}`));
        },
      );
    });
  }

  destroy(error: RequestLost): void {
    this.#broke(error);
  }

  #broke(error: RequestLost): RequestLost {
    if (this.broken) return error;
    this.broken = true;
    for (const lose of this.#waiting) lose(error);
    for (const connection of this.broker.connectionPool.pool) {
      connection.socket?.destroy();
      connection.rejectRequests(error);
    }
    return error;
  }
}

/** kafkajs sets a timer after each request to look after requests held back by a quota; without one there is nothing to look after. */
function onlyWhenThrottled({ requestQueue }: Connection, clock: Clock): void {
  const schedule = requestQueue.scheduleCheckPendingRequests.bind(requestQueue);
  requestQueue.scheduleCheckPendingRequests = () => {
    if (requestQueue.pending.length > 0 || requestQueue.throttledUntil > clock.now()) schedule();
  };
}

/** J1. */
function insidesOf(config: KafkaConfig): Insides {
  let found: unknown;
  const assigner = ({ cluster }: { readonly cluster: unknown }) => {
    found = cluster;
    return { name: "tidemark", version: 0, assign: async () => [], protocol: () => ({ name: "tidemark", metadata: Buffer.alloc(0) }) };
  };
  new kafkajs.Kafka(config).consumer({ groupId: "tidemark-unused", allowAutoTopicCreation: false, partitionAssigners: [assigner] });
  return found as Insides;
}

function socketFactory({ host, port, ssl, onConnect }: { readonly host: string; readonly port: number; readonly ssl: tls.ConnectionOptions; readonly onConnect: () => void }): net.Socket {
  const name = net.isIP(host) === 0 ? { servername: host } : {};
  const socket = ssl ? tls.connect({ host, port, ...name, ...ssl }, onConnect) : net.connect({ host, port }, onConnect);
  return socket.setNoDelay(true).setKeepAlive(true, 60_000);
}

/** The code of a broker's answer in an error of kafkajs; undefined: it is none. */
function errorCodeOf(error: unknown): number | undefined {
  const { errors, code, type } = error as { readonly errors?: readonly unknown[]; readonly code?: unknown; readonly type?: unknown };
  if (Array.isArray(errors) && errors.length > 0) return errorCodeOf(errors[0]);
  return typeof code === "number" && typeof type === "string" ? code : undefined;
}

function refusalOf(errorCode: number, what: string): BrokerRefusal {
  const name = Object.entries(KAFKA_ERROR).find(([, code]) => code === errorCode)?.[0];
  return new BrokerRefusal(errorCode, `${what} was answered with error ${errorCode}${name === undefined ? "" : ` (${name})`}`);
}

/** What kafkajs says of a server that hangs up while it is greeted tells nobody what to do. */
function explained(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const { message } = error;
  if (message === "Closed connection") return new Error("it closed the connection without an answer: no Kafka broker listens there, or one that wants TLS or SASL (docs/kafka.md)", { cause: error });
  if (/before secure TLS connection was established|wrong version number/.test(message)) {
    return new Error(`it does not speak TLS: leave \`tls\` (\`ssl\`) out for this listener (${message})`, { cause: error });
  }
  if (errorCodeOf(error) === KAFKA_ERROR.illegalSaslState) return Object.assign(new Error("it takes no SASL: leave `sasl` out for this listener", { cause: error }), { code: KAFKA_ERROR.illegalSaslState, type: "ILLEGAL_SASL_STATE" });
  return error;
}

function messageOf(error: unknown): string {
  const { errors } = (error ?? {}) as { readonly errors?: readonly unknown[] };
  if (Array.isArray(errors) && errors.length > 0) return messageOf(errors[0]);
  return error instanceof Error ? error.message : String(error);
}

function closedError(): RequestLost {
  return new RequestLost("the connection was closed", { sent: false });
}
