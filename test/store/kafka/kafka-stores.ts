/** Stores on a real Kafka for tests: topics of their own, closed and deleted afterwards. */
import kafkajs from "kafkajs";
import type { EventStore } from "../../../src/store/event-store.ts";
import { kafkaStore, type KafkaStoreOptions } from "../../../src/store/kafka/index.ts";
import { newTopicPrefix } from "../../support/kafka.ts";

export interface KafkaStores {
  readonly prefix: string;
  /** One more store on the same topics, as another process would have it. */
  open(options?: Partial<KafkaStoreOptions>): EventStore;
  /** Closes all, deletes the topics, opens anew. */
  reset(): Promise<EventStore>;
  /** Closes all, and deletes the topics. */
  dispose(): Promise<void>;
  /** Closes all; for many stores, whose topics `deleteTopics` removes together. */
  close(): Promise<void>;
}

export function kafkaStores(brokers: readonly string[], shared: Partial<KafkaStoreOptions> = {}): KafkaStores {
  const prefix = newTopicPrefix();
  const opened: EventStore[] = [];
  const open = (options: Partial<KafkaStoreOptions> = {}): EventStore => {
    const store = kafkaStore({ brokers, topicPrefix: prefix, partitions: 3, replicationFactor: 1, minHoldMs: 10, ...shared, ...options });
    opened.push(store);
    return store;
  };
  const closeAll = async (): Promise<void> => void (await Promise.all(opened.splice(0).map((store) => store.close())));
  return {
    prefix,
    open,
    async reset() {
      await closeAll();
      await deleteTopics(brokers, prefix);
      return open();
    },
    async dispose() {
      await closeAll();
      await deleteTopics(brokers, prefix);
    },
    close: closeAll,
  };
}

/** kafkajs's own client, which knows nothing of ours. */
export function plainClient(brokers: readonly string[]): kafkajs.Kafka {
  return new kafkajs.Kafka({ brokers: [...brokers], clientId: "test", logLevel: kafkajs.logLevel.NOTHING });
}

/** All topics of stores with these prefixes. */
export async function deleteTopics(brokers: readonly string[], ...prefixes: readonly string[]): Promise<void> {
  const admin = plainClient(brokers).admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).filter((topic) => prefixes.some((prefix) => topic.startsWith(`${prefix}.`)));
    if (topics.length > 0) await admin.deleteTopics({ topics });
  } finally {
    await admin.disconnect();
  }
}
