/**
 * Kafka beside bare kafkajs, on the same broker: the one of KAFKA_BROKERS, or one that is started for it. Tidemark is the whole of it: commands, decisions, ids,
 * group commit, the index. The reference sends records with the same keys, values and headers, checks nothing and knows nothing of streams.
 */
import { join } from "node:path";
import { concatMap } from "rxjs";
import { startKafka } from "../scripts/kafka/start-kafka.ts";
import { environmentOf } from "../src/environment.ts";
import { readModel, table, tidemark, type App, type EventStore } from "../src/index.ts";
import { createRunner } from "../src/readmodel/runner.ts";
import { kafkaBackend, kafkaStore, type KafkaStoreOptions } from "../src/store/kafka/index.ts";
import { partitionOf } from "../src/store/kafka/partitioner.ts";
import { memoryViews } from "../src/store/memory/index.ts";
import { Account, movement } from "./account.ts";
import { depositing } from "./depositing.ts";
import { against, compared, median, type Result } from "./figures.ts";
import { fill } from "./fill.ts";
import { inTempFolder, interleaved, quiet, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";
import { untilSeen } from "./until-seen.ts";
import { rawKafka, type RawKafka } from "./raw-kafka.ts";

/** Streams that commands go round: more than commands in flight, so that each is an append of its own. */
const STREAMS = 2000;
const IN_FLIGHT = 1000;

interface Place extends BenchOptions {
  readonly brokers: readonly string[];
  readonly raw: RawKafka;
}

export const kafka: Benchmark = {
  name: "kafka",
  summary: "commands, take-over, index and catch-up on Kafka",
  packages: ["kafkajs"],
  run: (options) =>
    withBroker(options, async (brokers) => {
      const raw = await rawKafka(brokers, STREAMS);
      const place = { ...options, brokers, raw };
      const results: Result[] = [];
      try {
        const parts = [() => commands(place, 1), () => commands(place, 8), () => single(place), () => transactions(place), () => takeOver(place), () => indexes(place), () => visible(place)];
        for (const part of parts) {
          for (const result of await part()) {
            results.push(result);
            options.note(`  ${result.case}: ${Math.round(result.tidemark * 100) / 100} ${result.unit}, ${result.ratio.toFixed(2)}× ${result.referenceName}`);
          }
        }
        return results;
      } finally {
        await raw.close();
      }
    }),
};

let names = 0;

const newPrefix = (): string => `bench${++names}-${process.pid}`;

async function commands({ brokers, raw, quick, note }: Place, partitions: number): Promise<readonly Result[]> {
  const title = `commands, ${IN_FLIGHT.toLocaleString("en-US")} in flight, ${partitions === 1 ? "one partition" : `${partitions} partitions`}`;
  note(title);
  const count = quick ? 20_000 : 60_000;
  const topic = newPrefix();
  await raw.createTopic(topic, partitions);
  return inTempFolder(async (folder) => {
    await using inMemory = await opened(brokers, { partitions });
    await using onDisk = await opened(brokers, { partitions, index: join(folder, "index.db") });
    for (const { app } of [inMemory, onDisk]) await depositing(app, STREAMS, IN_FLIGHT, idOf);
    const figures = await interleaved(quick ? 2 : 4, {
      memory: () => depositing(inMemory.app, count, IN_FLIGHT, idOf),
      sqlite: () => depositing(onDisk.app, count, IN_FLIGHT, idOf),
      raw: async () => rate(count, await timed(() => raw.batches(topic, partitions, count, IN_FLIGHT))),
    });
    const common = { unit: "commands/s", better: "more", reference: figures.raw, referenceName: "idempotent sendBatch" } as const;
    return [
      compared({ ...common, case: title, tidemark: figures.memory, goal: 0.7 }),
      compared({ ...common, case: `${title}, index in SQLite`, tidemark: figures.sqlite }),
    ];
  });
}

async function single({ brokers, raw, quick, note }: Place): Promise<readonly Result[]> {
  note("one command at a time");
  const count = quick ? 1000 : 3000;
  const topic = newPrefix();
  await raw.createTopic(topic, 1);
  await using own = await opened(brokers, { partitions: 1 });
  await depositing(own.app, STREAMS, IN_FLIGHT, idOf);
  const figures = await interleaved(quick ? 2 : 4, {
    tidemark: () => middle(count, (index) => own.app.at(Account, idOf(index)).deposit(movement(index))),
    raw: () => middle(count, () => raw.batches(topic, 1, 1, 1)),
  });
  return [compared({ case: "one command at a time, p50", unit: "ms", better: "less", tidemark: figures.tidemark, reference: figures.raw, referenceName: "send of one record", goal: 1 / 1.5 })];
}

/** A kafkajs transaction is its fenced write; a group of Tidemark is what is under way at once. */
async function transactions({ brokers, raw, quick, note }: Place): Promise<readonly Result[]> {
  const topic = newPrefix();
  await raw.createTopic(topic, 1);
  await using own = await opened(brokers, { partitions: 1 });
  await depositing(own.app, STREAMS, IN_FLIGHT, idOf);
  const results: Result[] = [];
  for (const group of [1, 10, 100, 500]) {
    const title = `groups of ${group}, one partition`;
    note(`${title}, beside a transaction for each`);
    const groups = quick ? 100 : 300;
    const figures = await interleaved(quick ? 1 : 3, {
      tidemark: () => depositing(own.app, Math.max(groups * group, 2000), group, idOf),
      raw: async () => rate(groups * group, await timed(() => raw.transactions(topic, groups, group))),
    });
    results.push(compared({ case: title, unit: "events/s", better: "more", tidemark: figures.tidemark, reference: figures.raw, referenceName: "a transaction each", ...(group === 1 ? { goal: 10 } : {}) }));
  }
  return results;
}

async function takeOver({ brokers, quick, note }: Place): Promise<readonly Result[]> {
  const events = quick ? 20_000 : 100_000;
  const title = `take-over of a partition with ${events.toLocaleString("en-US")} events, warm index, p50`;
  note(title);
  const options = { brokers, topicPrefix: newPrefix(), partitions: 1, minHoldMs: 0 };
  const stores = ["one", "other"].map((owner) => kafkaStore({ ...options, owner }));
  try {
    const [one, other] = stores as [EventStore, EventStore];
    await fill(one, { streams: streamsOf(1000), perStream: events / 1000, perAppend: 10 });
    await other.readStream("account-a0");
    const times: number[] = [];
    for (let turn = 0; turn < 40; turn++) times.push(await timed(() => fill((turn % 2 === 0 ? other : one), { streams: [`account-new${turn}`], perStream: 1 })));
    return [against(50, { case: title, unit: "ms", better: "less", tidemark: median(times.slice(5)) })];
  } finally {
    await Promise.all(stores.map((store) => store.close()));
  }
}

interface Entry {
  readonly id: string;
  readonly balance: number;
  readonly events: number;
}

const entries = readModel("entries", {
  from: [Account],
  view: table<Entry>("entries", { key: "id" }),
  project: (events$, { view }) =>
    events$.pipe(concatMap(({ id, data }) => view.update(id, (row = { id, balance: 0, events: 0 }) => ({ id, balance: row.balance + data.amount, events: row.events + 1 })))),
});

/** Builds the index from the log, resumes it, and rebuilds a view. */
async function indexes({ brokers, quick, note }: Place): Promise<readonly Result[]> {
  const events = quick ? 100_000 : 1_000_000;
  const amount = events.toLocaleString("en-US");
  note(`an index of ${amount} events in eight partitions`);
  const partitions = 8;
  const options = { brokers, topicPrefix: newPrefix(), partitions };
  const streams = streamsOf(STREAMS);
  const writer = kafkaStore(options);
  await fill(writer, { streams, perStream: events / STREAMS, perAppend: 10 });
  await writer.close();
  // One stream of each partition: it is answered when all of the partition is in the index.
  const probes = Array.from({ length: partitions }, (_, partition) => streams.find((stream) => partitionOf(stream, partitions) === partition) as string);
  const readTo = async (more: Partial<KafkaStoreOptions>): Promise<number> => {
    const store = kafkaStore({ ...options, ...more });
    const ms = await timed(() => Promise.all(probes.map((stream) => store.readStream(stream, { limit: 1 }))));
    await store.close();
    return ms;
  };
  return inTempFolder(async (folder) => {
    const rounds = quick ? 1 : 3;
    const memory: number[] = [];
    const catchUps: number[] = [];
    for (let round = 0; round < rounds; round++) {
      await quiet();
      memory.push(await readTo({}));
      await quiet();
      catchUps.push(await caughtUp(options, events));
    }
    const file = join(folder, "index.db");
    const built = await readTo({ index: file });
    const resumed = median([await readTo({ index: file }), await readTo({ index: file }), await readTo({ index: file })]);
    return [
      against(200_000, { case: `building an index of ${amount} events, memory`, unit: "events/s", better: "more", tidemark: rate(events, median(memory)) }),
      against(10_000, { case: `building an index of ${amount} events, memory`, unit: "ms", better: "less", tidemark: median(memory) }),
      against(10_000, { case: `building an index of ${amount} events, SQLite`, unit: "ms", better: "less", tidemark: built }),
      against(1000, { case: `resuming an index of ${amount} events, SQLite`, unit: "ms", better: "less", tidemark: resumed }),
      against(100_000, { case: `catch-up of a view in memory, from the log, ${amount} events`, unit: "events/s", better: "more", tidemark: rate(events, median(catchUps)) }),
    ];
  });
}

async function caughtUp(options: KafkaStoreOptions, events: number): Promise<number> {
  const store = kafkaStore(options);
  const views = memoryViews();
  const runner = createRunner(entries, { store, views, environment: environmentOf() });
  try {
    return await timed(() => untilSeen(runner, events));
  } finally {
    await runner.stop();
    await views.close();
    await store.close();
  }
}

async function visible({ brokers, quick, note }: Place): Promise<readonly Result[]> {
  note("append to visible");
  const backend = kafkaBackend({ brokers, topicPrefix: newPrefix(), partitions: 8 });
  await using app = await tidemark({ store: backend, views: "memory:", aggregates: [Account], readModels: [entries] });
  const samples: number[] = [];
  const [warmUps, count] = quick ? [100, 300] : [200, 1000];
  for (let index = 0; index < warmUps + count; index++) {
    const id = `a${index % 100}`;
    const called = performance.now();
    const result = await app.at(Account, id).deposit(movement(index));
    if (!result.ok) throw new Error(`a deposit was rejected: ${result.code}`);
    const row = await app.query(entries, (view) => view.get(id), { atLeast: result.token });
    if (row?.events !== 1 + Math.floor(index / 100)) throw new Error(`the query did not see the write: ${JSON.stringify(row)}`);
    if (index >= warmUps) samples.push(performance.now() - called);
  }
  await app.close();
  await backend.close();
  return [against(10, { case: "append → visible, memory view, from the call, p50", unit: "ms", better: "less", tidemark: median(samples) })];
}

interface Opened {
  readonly app: App;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An app on topics of its own. */
async function opened(brokers: readonly string[], options: Partial<KafkaStoreOptions>): Promise<Opened> {
  const backend = kafkaBackend({ brokers, topicPrefix: newPrefix(), ...options });
  const app = await tidemark({ store: backend, aggregates: [Account] });
  return {
    app,
    async [Symbol.asyncDispose]() {
      await app.close();
      await backend.close();
    },
  };
}

const idOf = (index: number): string => `a${index % STREAMS}`;

const streamsOf = (count: number): string[] => Array.from({ length: count }, (_, index) => `account-a${index}`);

async function middle(count: number, task: (index: number) => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < count; index++) times.push(await timed(() => task(index)));
  return median(times);
}

async function withBroker<T>({ note }: BenchOptions, work: (brokers: readonly string[]) => Promise<T>): Promise<T> {
  const given = process.env["KAFKA_BROKERS"];
  if (given !== undefined && given !== "") {
    note("the cluster of KAFKA_BROKERS");
    return work(given.split(","));
  }
  note("a broker of its own");
  await using cluster = await startKafka();
  note(`Kafka ${cluster.version} at ${cluster.brokers.join(",")}`);
  return await work(cluster.brokers);
}
