/**
 * What the Kafka store needs of a Kafka cluster, and nothing more: the seam between the protocol and a client. `kafkajs-cluster.ts` is the one that talks to
 * brokers; a model of a broker can stand in for it.
 *
 * K1 A call that rejects with `BrokerRefusal` was answered: the broker named an error code. What that means for a batch is the writer's business.
 * K2 A call that rejects with `RequestLost` has no answer. `sent` is false only where not one byte of it left this process: then it has for certain not happened.
 * K3 Bytes of a record batch go to the broker exactly as they are handed over, and come back as the broker keeps them: whole batches of format 2, the offset of
 *    the first record in the first eight bytes, at the end possibly a piece of one more batch.
 * K4 A request that passes its bound is over: its connection is destroyed, nothing that arrives on it later is looked at. (What was sent may still take effect.)
 * K5 Each `PartitionLink` has connections of its own, one for writing and one for reading: a partition that waits holds up no other one.
 * K6 Nothing is tried again here. Where a leader is gone, the next call asks who leads now.
 */

/** The answer of a broker that named an error code. */
export class BrokerRefusal extends Error {
  /** The protocol's number, see `KAFKA_ERROR`. */
  readonly errorCode: number;

  constructor(errorCode: number, message: string) {
    super(message);
    this.name = "BrokerRefusal";
    this.errorCode = errorCode;
  }
}

/** No answer: a connection that could not be made or broke, or a bound that passed. K2. */
export class RequestLost extends Error {
  readonly sent: boolean;

  constructor(message: string, options: { readonly sent: boolean; readonly cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "RequestLost";
    this.sent = options.sent;
  }
}

export interface TopicDescription {
  readonly name: string;
  /** Drawn by the cluster when the topic was created, as a UUID; a topic that was deleted and created again has another one. */
  readonly id: string;
  /** By number, from 0. */
  readonly partitions: readonly PartitionDescription[];
}

export interface PartitionDescription {
  /** Node id, or -1 while there is none. */
  readonly leader: number;
  readonly replicas: number;
}

export interface NewTopic {
  readonly name: string;
  readonly partitions: number;
  /** -1: the broker's default. */
  readonly replicationFactor: number;
  readonly settings: Readonly<Record<string, string>>;
}

/** A producer's identity: an epoch fences all lower ones of the same id. */
export interface ProducerIdentity {
  readonly producerId: number;
  readonly epoch: number;
}

export interface Produced {
  /** Offset of the batch's first record. */
  readonly baseOffset: number;
}

export interface FetchRequest {
  readonly offset: number;
  /** How long the broker may wait for something to come, milliseconds; 0 = not at all. */
  readonly maxWaitMs: number;
  readonly maxBytes: number;
}

export interface Fetched {
  /** K3. Everything below the high watermark, transactional and control batches included (isolation level 0). */
  readonly records: Buffer;
  /** What every in-sync replica has: nothing above it was acknowledged. */
  readonly highWatermark: number;
  /** The first offset that is still there. */
  readonly logStart: number;
}

export interface LogEnd {
  /** The high watermark. */
  readonly offset: number;
  /** Of the leader that answered. */
  readonly leaderEpoch: number;
}

/** One partition of a topic. */
export interface PartitionLink {
  /** Writes one encoded batch with acks=all. Errors: BrokerRefusal, RequestLost. */
  produce(batch: Uint8Array, boundMs: number): Promise<Produced>;
  /** Reads from an offset. Errors: BrokerRefusal (OFFSET_OUT_OF_RANGE among them), RequestLost. */
  fetch(request: FetchRequest): Promise<Fetched>;
  /** Asked now. Errors: BrokerRefusal, RequestLost. */
  end(): Promise<LogEnd>;
  /** Destroys its connections; calls under way reject with RequestLost. Idempotent. */
  close(): void;
}

export interface KafkaCluster {
  /** These topics as they are now (those that are missing are left out), or all. Errors: BrokerRefusal, RequestLost. */
  topics(names?: readonly string[]): Promise<readonly TopicDescription[]>;
  /** Errors: BrokerRefusal (TOPIC_ALREADY_EXISTS among them), RequestLost. */
  createTopic(topic: NewTopic): Promise<void>;
  /** All settings of a topic by name. Errors: BrokerRefusal, RequestLost. */
  topicSettings(topic: string): Promise<ReadonlyMap<string, string>>;
  /** A new epoch of the transactional id. Errors: BrokerRefusal, RequestLost. */
  initProducerId(transactionalId: string): Promise<ProducerIdentity>;
  /** Connects when it is first used. */
  partition(topic: string, partition: number): PartitionLink;
  /** Closes all links. Idempotent. */
  close(): Promise<void>;
}

/** The error codes of Kafka's protocol that the store tells apart. */
export const KAFKA_ERROR = {
  offsetOutOfRange: 1,
  corruptMessage: 2,
  unknownTopicOrPartition: 3,
  leaderNotAvailable: 5,
  notLeaderOrFollower: 6,
  requestTimedOut: 7,
  messageTooLarge: 10,
  coordinatorLoadInProgress: 14,
  coordinatorNotAvailable: 15,
  notCoordinator: 16,
  invalidTopic: 17,
  recordListTooLarge: 18,
  notEnoughReplicas: 19,
  notEnoughReplicasAfterAppend: 20,
  invalidRequiredAcks: 21,
  topicAuthorizationFailed: 29,
  clusterAuthorizationFailed: 31,
  invalidTimestamp: 32,
  unsupportedSaslMechanism: 33,
  illegalSaslState: 34,
  unsupportedVersion: 35,
  topicAlreadyExists: 36,
  unsupportedForMessageFormat: 43,
  outOfOrderSequence: 45,
  duplicateSequence: 46,
  invalidProducerEpoch: 47,
  concurrentTransactions: 51,
  transactionalIdAuthorizationFailed: 53,
  storageError: 56,
  unknownProducerId: 59,
  offsetNotAvailable: 78,
  invalidRecord: 87,
  throttlingQuotaExceeded: 89,
} as const;
