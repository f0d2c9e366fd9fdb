/** Stores on the model of Kafka, in simulated time. */
import { expect } from "vitest";
import type { Append, AppendOutcome, EventStore, ExpectedVersion, NewEvent, StoredEvent } from "../../../src/store/event-store.ts";
import { kafkaStore, type KafkaStoreOptions } from "../../../src/store/kafka/index.ts";
import { fold } from "../../../src/store/kafka/fold.ts";
import type { Claim } from "../../../src/store/kafka/log-index.ts";
import { batchesIn, BatchWriter, eachRecord } from "../../../src/store/kafka/record-batch.ts";
import { decodeEvent, marksOf, writeClaim } from "../../../src/store/kafka/record-format.ts";
import { manualEnvironment } from "../../../src/testing/index.ts";
import { ModelKafka } from "./model-kafka.ts";

export const TOPIC = "shop.order.events";
export const TRANSACTIONAL_ID = `${TOPIC}.0`;

let serial = 0;

export function newEvent(overrides: Partial<NewEvent> = {}): NewEvent {
  serial++;
  return { id: `e${serial}`, type: "Happened", data: JSON.stringify({ serial }), metadata: { commandId: "c", correlationId: "c", causationId: "c" }, recordedAt: serial, ...overrides };
}

export class ModelWorld {
  readonly environment: ReturnType<typeof manualEnvironment>;
  readonly kafka: ModelKafka;
  readonly #stores: EventStore[] = [];

  constructor(seed = 1) {
    this.environment = manualEnvironment({ seed });
    this.kafka = new ModelKafka(this.environment.clock);
  }

  /** A store as a process of that name has it, on one partition unless told otherwise. */
  store(name: string, options: Partial<KafkaStoreOptions> = {}): EventStore {
    const store = kafkaStore({ cluster: this.kafka.client(name), topicPrefix: "shop", partitions: 1, owner: name, minHoldMs: 0, environment: this.environment, ...options });
    this.#stores.push(store);
    return store;
  }

  /** Lets time pass until the promise is settled; fails after `boundMs` of simulated time. */
  async when<T>(promise: Promise<T>, boundMs = 60_000): Promise<T> {
    let settled = false;
    const done = (): void => void (settled = true);
    void promise.catch(() => undefined).finally(done);
    const { clock } = this.environment;
    for (let passed = 0; !settled; passed += 5) {
      if (passed > boundMs) throw new Error(`not within ${boundMs} ms of simulated time`);
      await clock.advance(5);
    }
    return promise;
  }

  async append(store: EventStore, expected: ExpectedVersion, events: readonly NewEvent[] = [newEvent()], stream = "order-1"): Promise<AppendOutcome> {
    const [outcome] = await this.when(store.append([{ stream, expected, events }]));
    return outcome as AppendOutcome;
  }

  async commit(store: EventStore, expected: ExpectedVersion, events: readonly NewEvent[] = [newEvent()], stream = "order-1"): Promise<number> {
    const outcome = await this.append(store, expected, events, stream);
    expect(outcome).toMatchObject({ kind: "committed" });
    return outcome.kind === "committed" ? outcome.version : -1;
  }

  /** Events of a stream as a store reads them. */
  async read(store: EventStore, stream = "order-1"): Promise<readonly StoredEvent[]> {
    return (await this.when(store.readStream(stream))).events;
  }

  /** What counts in the log, read by the fold from its bytes alone. */
  standing(partition = 0): { readonly ids: readonly string[]; readonly events: readonly StoredEvent[]; readonly claims: readonly Claim[] } {
    const lane = `order/${partition}`;
    const log = Buffer.concat(this.kafka.partition(TOPIC, partition).batches);
    const { events, claims } = fold({ topicId: "", next: 0, claim: undefined, last: undefined }, batchesIn(log), { versionOf: () => 0, idAt: () => undefined, hasClaim: () => false });
    const decoded = events.map((event) => decodeEvent(lane, event));
    return { events: decoded, ids: decoded.map(({ id }) => id), claims };
  }

  /** What kinds of records the log holds: `claim`, `stamp`, and ids of events, counted or not. */
  records(partition = 0): readonly string[] {
    const records: string[] = [];
    for (const batch of batchesIn(Buffer.concat(this.kafka.partition(TOPIC, partition).batches))) {
      eachRecord(batch, (record) => {
        const { kind, id } = marksOf(record);
        records.push(kind ?? id ?? "foreign");
      });
    }
    return records;
  }

  async close(): Promise<void> {
    await this.when(Promise.all(this.#stores.map((store) => store.close())));
    expect(this.environment.clock.pendingTimers).toBe(0);
  }
}

export function appendOf(stream: string, expected: ExpectedVersion, events: readonly NewEvent[] = [newEvent()]): Append {
  return { stream, expected, events };
}

/** A claim that no producer stands for: what a stranger may write. */
export function foreignBatch(): Buffer {
  const writer = new BatchWriter();
  writeClaim(writer, { nonce: "not-ours", writer: "rogue", producerId: -1, epoch: -1, previous: null });
  return writer.finish({ producerId: -1, epoch: -1, sequence: -1, timestamp: 0 }).batch;
}
