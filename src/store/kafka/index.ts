/**
 * Kafka as the event store itself: a topic for each category, with optimistic concurrency. The entry `tidemark/kafka`; its client is `kafkajs` 2.2.4.
 */
import type { Backend } from "../backend.ts";
import type { EventStore } from "../event-store.ts";
import type { KafkaCluster } from "./cluster.ts";
import { kafkajsCluster } from "./kafkajs-cluster.ts";
import { KafkaEvents } from "./kafka-events.ts";
import { checkOptions, maxAppendBytesOf, type KafkaStoreOptions } from "./kafka-options.ts";
import { kafkaSnapshots } from "./kafka-snapshots.ts";
import { memoryIndex } from "./memory-index.ts";
import { sqliteIndex } from "./sqlite-index.ts";
import { StoreTopic } from "./store-topic.ts";

export { kafkaAclCommands, kafkaAcls } from "./acls.ts";
export type { KafkaAcl, KafkaAclOptions } from "./acls.ts";
export { BrokerRefusal, KAFKA_ERROR, RequestLost } from "./cluster.ts";
export type { Fetched, FetchRequest, KafkaCluster, NewTopic, PartitionDescription, PartitionLink, Produced, ProducerIdentity, TopicDescription } from "./cluster.ts";
export { kafkaDefaults } from "./kafka-options.ts";
export type { KafkaStoreOptions } from "./kafka-options.ts";
export { kafkaUrlOptions } from "./kafka-url.ts";
export type { Claim, IndexedEvent, IndexStep, LaneState, LogIndex } from "./log-index.ts";
export { memoryIndex } from "./memory-index.ts";
export { sqliteIndex } from "./sqlite-index.ts";
export type { SqliteIndexOptions } from "./sqlite-index.ts";
export { kafkaState } from "./state-topic.ts";
export type { KafkaState, KafkaStateOptions, PublishedState } from "./state-topic.ts";

export type KafkaBackendOptions = KafkaStoreOptions;

/** Events and snapshots of one service on Kafka. Connects when it is first used. Errors: InvalidArgument. */
export function kafkaBackend(options: KafkaBackendOptions): Backend {
  const cluster = clusterOf(options);
  const { topicPrefix: prefix, topics, environment, requestTimeoutMs: boundMs } = checkOptions(options);
  const { brokers: _, ...rest } = options;
  const events = kafkaStore({ ...rest, cluster });
  const snapshots = kafkaSnapshots({ cluster, prefix, topics, environment, boundMs });
  return {
    events,
    snapshots,
    async close() {
      // Snapshots first: the events close the cluster.
      await snapshots.close();
      await events.close();
    },
  };
}

/** Events alone. Errors: as kafkaBackend. */
export function kafkaStore(options: KafkaStoreOptions): EventStore {
  const checked = checkOptions(options);
  const { requestTimeoutMs, topicPrefix, topics, environment } = checked;
  const cluster = clusterOf(options);
  const closing = new AbortController();
  const shared = { cluster, prefix: topicPrefix, topics, environment, boundMs: requestTimeoutMs, ending: closing.signal };
  return new KafkaEvents({
    ...shared,
    closing,
    storeTopic: new StoreTopic(shared),
    index: typeof options.index === "string" ? sqliteIndex({ file: options.index, environment }) : (options.index ?? memoryIndex()),
    writer: checked.owner,
    minHoldMs: checked.minHoldMs,
    appendTimeoutMs: checked.appendTimeoutMs,
    claimOnly: checked.claimOnly,
    maxAppendBytes: maxAppendBytesOf(topics),
  });
}

function clusterOf(options: KafkaStoreOptions): KafkaCluster {
  const { brokers, clientId, requestTimeoutMs, environment } = checkOptions(options);
  const { ssl, sasl } = options;
  return (
    options.cluster ??
    kafkajsCluster({ brokers, clientId, requestTimeoutMs, clock: environment.clock, ...(ssl === undefined ? {} : { ssl }), ...(sasl === undefined ? {} : { sasl }) })
  );
}
