/**
 * The current state of a read model for the rest of the world: a compacted topic, `<prefix>.<name>.state`, with one record for each key and a tombstone for each that is gone.
 *
 * A pipeline publishes with `put` and `delete` and waits for them; the completion of the page waits for the pipeline. So the topic is at least once: what a page
 * published stands before its checkpoint does, and a page that runs again publishes the same again. The view itself stays exactly once.
 * One process publishes to a partition: the one that opened last (P4 of compacted-topic.ts). The topic is derived, and no truth: it may lag, and who needs to know reads the store.
 */
import { InvalidArgument } from "../../errors.ts";
import { CompactedTopic } from "./compacted-topic.ts";
import { checkOptions, type KafkaStoreOptions } from "./kafka-options.ts";
import { kafkajsCluster } from "./kafkajs-cluster.ts";
import { storeClosed } from "./kafka-error.ts";
import { stateTopic } from "./topics.ts";

/** How to reach the cluster, and the topic that is made where there is none. */
export type KafkaStateOptions = Pick<
  KafkaStoreOptions,
  "brokers" | "cluster" | "topicPrefix" | "partitions" | "replicationFactor" | "minInsyncReplicas" | "maxMessageBytes" | "ssl" | "sasl" | "clientId" | "requestTimeoutMs" | "environment"
> & {
  /** What the topic is called after: the read model. */
  readonly name: string;
};

/** The state of one key. */
export interface PublishedState<S> {
  /** Version that the publisher gave it: of the stream, say. */
  readonly version: number;
  readonly state: S;
  /** Milliseconds since the epoch, from the publisher's clock. */
  readonly timestamp: number;
}

/** Errors of all: StoreUnavailable, StoreRefused (`details.reason` "not-owner": another process publishes since; "too-large"), StoreClosed. */
export interface KafkaState<S> {
  /** Publishes the state of a key. Resolves when Kafka has it, durably. Calls for one key take effect in their order. */
  put(key: string, state: S, version: number): Promise<void>;
  /** Publishes that a key is gone: a tombstone. */
  delete(key: string): Promise<void>;
  /** The last published state of a key, as the topic has it when asked. Errors: also Aborted. */
  get(key: string, signal?: AbortSignal): Promise<PublishedState<S> | undefined>;
  /** Publications that are waiting are rejected. Idempotent. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

/** Connects when it is first used. `S` is JSON. Errors: InvalidArgument. */
export function kafkaState<S>(options: KafkaStateOptions): KafkaState<S> {
  const { name, ...rest } = options;
  if (!NAME.test(name)) throw new InvalidArgument(`the name of a state topic must match ${NAME.source}`, { details: { option: "name" } });
  const { brokers, clientId, topicPrefix, topics, requestTimeoutMs: boundMs, environment } = checkOptions(rest);
  const { ssl, sasl } = options;
  const { clock } = environment;
  const cluster =
    options.cluster ?? kafkajsCluster({ brokers, clientId, requestTimeoutMs: boundMs, clock, ...(ssl === undefined ? {} : { ssl }), ...(sasl === undefined ? {} : { sasl }) });
  const ending = new AbortController();
  const topic = new CompactedTopic({ cluster, name: stateTopic(topicPrefix, name), topics, environment, boundMs, fenced: true, ending: ending.signal });

  async function close(): Promise<void> {
    if (ending.signal.aborted) return;
    ending.abort(storeClosed());
    topic.close();
    await cluster.close();
  }

  return {
    async put(key, state, version) {
      await topic.put({ key, value: JSON.stringify({ aggregateId: key, version, state, timestamp: clock.now() }), headers: new Map([["tm-version", String(version)]]) });
    },
    async delete(key) {
      await topic.put({ key, value: null, headers: new Map() });
    },
    async get(key, signal) {
      const record = await topic.get(key, signal);
      if (record?.value === undefined || record.value === null) return undefined;
      const { version, state, timestamp } = JSON.parse(record.value) as PublishedState<S>;
      return { version, state, timestamp };
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
