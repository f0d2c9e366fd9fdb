/** Bare kafkajs, as its documentation shows it: an idempotent producer, and a transaction for each group. The same keys, values and headers as Tidemark's records. */
import { randomUUID } from "node:crypto";
import { Kafka, logLevel, type Message, type Producer } from "kafkajs";
import { partitionOf } from "../src/store/kafka/partitioner.ts";
import { movement } from "./account.ts";

export interface RawKafka {
  readonly streams: readonly string[];
  /** Sends records one batch for each partition and call, each call after the answer of the one before. */
  batches(topic: string, partitions: number, count: number, perCall: number): Promise<void>;
  /** One transaction for each group, one after the other. */
  transactions(topic: string, groups: number, perGroup: number): Promise<void>;
  createTopic(topic: string, partitions: number): Promise<void>;
  close(): Promise<void>;
}

export async function rawKafka(brokers: readonly string[], streams: number): Promise<RawKafka> {
  const kafka = new Kafka({ brokers: [...brokers], clientId: "bare", logLevel: logLevel.NOTHING, retry: { initialRetryTime: 15, maxRetryTime: 200, retries: 20 } });
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  const transactional = kafka.producer({ idempotent: true, maxInFlightRequests: 1, transactionalId: `bare-${randomUUID()}` });
  const admin = kafka.admin();
  await Promise.all([producer.connect(), transactional.connect(), admin.connect()]);
  const names = Array.from({ length: streams }, (_, index) => `account-a${index}`);
  const claim = "q83vEjRWeJCrze8SNFZ4kA";
  const messagesOf = (partitions: number, from: number, count: number): Message[] =>
    Array.from({ length: count }, (_, offset) => {
      const index = from + offset;
      const key = names[index % streams] as string;
      const commandId = randomUUID();
      const headers = { "tm-claim": claim, "tm-version": String(1 + Math.floor(index / streams)), "tm-id": randomUUID(), "tm-type": "Deposited", "tm-time": String(Date.now()), "tm-command": commandId };
      return { key, value: JSON.stringify(movement(index)), headers, partition: partitions === 1 ? 0 : partitionOf(key, partitions) };
    });
  const send = (by: Pick<Producer, "sendBatch">, topic: string, messages: Message[]) => by.sendBatch({ acks: -1, topicMessages: [{ topic, messages }] });
  return {
    streams: names,
    async batches(topic, partitions, count, perCall) {
      for (let from = 0; from < count; from += perCall) await send(producer, topic, messagesOf(partitions, from, Math.min(perCall, count - from)));
    },
    async transactions(topic, groups, perGroup) {
      for (let group = 0; group < groups; group++) {
        const transaction = await transactional.transaction();
        await send(transaction, topic, messagesOf(1, group * perGroup, perGroup));
        await transaction.commit();
      }
    },
    async createTopic(topic, partitions) {
      await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries: [{ name: "message.timestamp.type", value: "LogAppendTime" }] }], waitForLeaders: true });
    },
    close: async () => {
      await Promise.all([producer.disconnect(), transactional.disconnect(), admin.disconnect()]);
    },
  };
}
