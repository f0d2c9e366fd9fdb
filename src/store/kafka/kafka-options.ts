/** The options of the Kafka store, merged with their defaults and checked once. */
import { hostname } from "node:os";
import type { ConnectionOptions } from "node:tls";
import type { SASLOptions } from "kafkajs";
import { environmentOf, type Environment } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";
import type { KafkaCluster } from "./cluster.ts";
import type { LogIndex } from "./log-index.ts";
import { categoryOfLane, type TopicOptions } from "./topics.ts";

export interface KafkaStoreOptions {
  /** `host:port` of some brokers of the cluster; the others are learnt from them. */
  readonly brokers?: readonly string[];
  /** A cluster that is already reached, instead of `brokers`: for other clients, and for models of one. The store closes it. */
  readonly cluster?: KafkaCluster;
  /** What the names of the store's topics begin with: `<prefix>.order.events`. Two stores on one cluster have two. */
  readonly topicPrefix?: string;
  /** Partitions of a new topic. The number is fixed for ever. */
  readonly partitions?: number;
  /** Replicas of a new topic; -1: the cluster's default. */
  readonly replicationFactor?: number;
  /** Of a new topic: how many replicas must have an event before it is acknowledged; default the cluster's. */
  readonly minInsyncReplicas?: number;
  /** Largest batch of a new topic, bytes; of a topic that is there its own setting counts. An append must fit into one batch. */
  readonly maxMessageBytes?: number;
  /** TLS, as kafkajs and Node.js have it. */
  readonly ssl?: boolean | ConnectionOptions;
  /** SASL, as kafkajs has it: `{ mechanism: "plain" | "scram-sha-256" | "scram-sha-512", username, password }`. */
  readonly sasl?: SASLOptions;
  /** How this process calls itself to brokers. */
  readonly clientId?: string;
  /** How this process calls itself in its claims, for the `ownerHint` of others: an address, say. Default host and process id. Two processes must have two. */
  readonly owner?: string;
  /** The only lanes ("order/3") that this process may write to; default all. An append to another one is refused `not-owner`. */
  readonly claimOnly?: readonly string[];
  /** How long a partition that was taken over by another process is left alone before it is taken back, milliseconds. */
  readonly minHoldMs?: number;
  /** Longest wait for one answer of a broker, milliseconds. */
  readonly requestTimeoutMs?: number;
  /** Longest wait for the outcome of an append, milliseconds; after it the append is refused (it was not sent) or `unknown`. */
  readonly appendTimeoutMs?: number;
  /** Where what was read of the log is kept: the path of an SQLite file of this process's own, or an index, which the store closes; default in memory. */
  readonly index?: LogIndex | string;
  readonly environment?: Partial<Environment>;
}

export const kafkaDefaults = {
  topicPrefix: "tidemark",
  partitions: 12,
  replicationFactor: -1,
  maxMessageBytes: 1_048_588,
  clientId: "tidemark",
  minHoldMs: 100,
  requestTimeoutMs: 5000,
  appendTimeoutMs: 10_000,
} as const;

export interface CheckedOptions {
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  readonly topics: TopicOptions;
  readonly clientId: string;
  readonly owner: string;
  readonly claimOnly: ReadonlySet<string> | undefined;
  readonly minHoldMs: number;
  readonly requestTimeoutMs: number;
  readonly appendTimeoutMs: number;
  readonly environment: Environment;
}

/** Errors: InvalidArgument, which names the option. */
export function checkOptions(options: KafkaStoreOptions): CheckedOptions {
  const merged = { ...kafkaDefaults, ...withoutUndefined(options) };
  const { brokers = [], cluster, topicPrefix, partitions, replicationFactor, minInsyncReplicas, maxMessageBytes, owner, claimOnly } = merged;
  if ((brokers.length === 0) === (cluster === undefined)) throw invalid("brokers", "Kafka needs one of brokers and cluster");
  for (const broker of brokers) {
    if (typeof broker !== "string" || !/^[^\s:/]+:\d{1,5}$/.test(broker)) throw invalid("brokers", `a broker is written host:port, not ${JSON.stringify(broker).slice(0, 64)}`);
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(topicPrefix)) throw invalid("topicPrefix", "topicPrefix must be 1 to 128 of the characters [A-Za-z0-9._-] and begin with a letter or digit");
  assertWhole("partitions", partitions, 1, 10_000);
  if (replicationFactor !== -1) assertWhole("replicationFactor", replicationFactor, 1, 32_767);
  if (minInsyncReplicas !== undefined) assertWhole("minInsyncReplicas", minInsyncReplicas, 1, 32_767);
  assertWhole("maxMessageBytes", maxMessageBytes, 16 * 1024, 1024 * 1024 * 1024);
  assertWhole("minHoldMs", merged.minHoldMs, 0, 60_000);
  assertWhole("requestTimeoutMs", merged.requestTimeoutMs, 100, 600_000);
  assertWhole("appendTimeoutMs", merged.appendTimeoutMs, 100, 600_000);
  if (owner !== undefined && (owner === "" || owner.length > 256)) throw invalid("owner", "owner must be text of 1 to 256 characters");
  for (const lane of claimOnly ?? []) if (categoryOfLane(lane) === undefined) throw invalid("claimOnly", `claimOnly names lanes such as "order/3", not ${JSON.stringify(lane).slice(0, 64)}`);
  const environment = environmentOf(merged.environment);
  return {
    brokers,
    topicPrefix,
    topics: { partitions, replicationFactor, minInsyncReplicas, maxMessageBytes },
    clientId: merged.clientId,
    owner: owner ?? `${hostname()}:${process.pid}:${environment.random.uuid().slice(0, 8)}`,
    claimOnly: claimOnly === undefined ? undefined : new Set(claimOnly),
    minHoldMs: merged.minHoldMs,
    requestTimeoutMs: merged.requestTimeoutMs,
    appendTimeoutMs: merged.appendTimeoutMs,
    environment,
  };
}

/** Three quarters of a batch for data and metadata: the rest is for keys, names of headers and ids. */
export function maxAppendBytesOf(topics: TopicOptions): number {
  return Math.floor((topics.maxMessageBytes * 3) / 4);
}

function assertWhole(option: string, value: number, least: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > most) throw invalid(option, `${option} must be an integer from ${least} to ${most}, not ${String(value).slice(0, 64)}`);
}

function invalid(option: string, message: string): InvalidArgument {
  return new InvalidArgument(message, { details: { option } });
}

type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(options: T): Given<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Given<T>;
}
