/** Kafka for tests: one that all files of a run share, or one of a test's own, which may be stopped, killed and paused. */
import { randomUUID } from "node:crypto";
import { inject } from "vitest";
import { QUICK_JVM, startKafka as start, type KafkaCluster, type StartKafkaOptions } from "../../scripts/kafka/start-kafka.ts";
import { component } from "./components.ts";
import { knock } from "./kafka-door.ts";

export type { KafkaCluster, StartKafkaOptions } from "../../scripts/kafka/start-kafka.ts";
export type { KafkaNode } from "../../scripts/kafka/kafka-node.ts";

declare module "vitest" {
  interface ProvidedContext {
    kafkaDoor: number;
  }
}

/** Whether there is a Kafka to test with: `describe.skipIf(!kafkaAvailable)`. */
export const kafkaAvailable = component("kafka").available;

/** Whether tests can start a Kafka of their own, which one that is given by KAFKA_BROKERS alone does not allow. */
export const ownKafkaAvailable = component("kafka-server").available;

/** The addresses of the Kafka that all files share: KAFKA_BROKERS, or a broker that the first one to ask has started. Give `beforeAll` a minute. */
export async function sharedKafka(): Promise<readonly string[]> {
  const given = process.env["KAFKA_BROKERS"];
  return given === undefined || given === "" ? knock(inject("kafkaDoor")) : given.split(",");
}

/** A Kafka of the test's own on free ports, quick to start; close it. Give the hook a minute. */
export function startKafka(options: StartKafkaOptions = {}): Promise<KafkaCluster> {
  return start({ jvmOptions: QUICK_JVM, ...options });
}

/** A prefix of topics that nobody else has. */
export const newTopicPrefix = (): string => `test-${randomUUID().slice(0, 8)}`;
