/**
 * EventStoreDB beside the bare client, on the same server: the one of EVENTSTORE_CONNECTION_STRING, or the test server in a process of its own, in memory.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { tidemark } from "../src/index.ts";
import { eventStoreDBStore } from "../src/store/eventstoredb/index.ts";
import { Account } from "./account.ts";
import { depositing } from "./depositing.ts";
import { against, compared, type Result } from "./figures.ts";
import { fill } from "./fill.ts";
import { interleaved, load, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";
import { inWords } from "./report.ts";
import { rawClient, type RawClient } from "./raw-eventstoredb.ts";

/** Rounds that count. */
const ROUNDS = { quick: 2, full: 5 } as const;

/** Streams that commands go round: more than commands in flight, so that each is an append of its own. */
const STREAMS = 2000;

export const eventstoredb: Benchmark = {
  name: "eventstoredb",
  summary: "appends and catch-up on EventStoreDB",
  packages: ["@eventstore/db-client", "@grpc/grpc-js"],
  async run(options) {
    return withServer(options, async (connection, cpuMs) => {
      const raw = rawClient(connection);
      const results: Result[] = [];
      // Each as soon as it is there.
      const found = (...those: readonly Result[]): void => {
        results.push(...those);
        for (const each of those) options.note(`  ${inWords(each)}`);
      };
      try {
        for (const inFlight of [1, 100, 1000]) found(await separateAppends(connection, raw, inFlight, options));
        found(await hotStream(connection, raw, options));
        found(...(await catchUp(connection, raw, options)));
        if (cpuMs !== undefined) found(await serverCapacity(raw, cpuMs, options));
        return results;
      } finally {
        await raw.close();
      }
    });
  },
};

let names = 0;

async function separateAppends(connection: string, raw: RawClient, inFlight: number, { quick, note }: BenchOptions): Promise<Result> {
  const title = `commands of one append each, ${inFlight.toLocaleString("en-US")} in flight`;
  note(title);
  const count = (quick ? 1000 : 3000) * (inFlight === 1 ? 1 : 4);
  const streams = Math.min(STREAMS, count / 2);
  const prefix = `account-s${++names}`;
  await using app = await tidemark({ store: connection, aggregates: [Account] });
  const ours = (index: number): string => `${prefix}-t${index % streams}`.slice("account-".length);
  const theirs = (index: number): string => `${prefix}-r${index % streams}`;
  // Both know their streams: what is measured is an append.
  await depositing(app, streams, 100, ours);
  await load(streams, 100, (index) => raw.deposit(theirs(index), index));
  const figures = await interleaved(quick ? ROUNDS.quick : ROUNDS.full, {
    tidemark: () => depositing(app, count, inFlight, ours),
    raw: async () => rate(count, await timed(() => load(count, inFlight, (index) => raw.deposit(theirs(index), index)))),
  });
  return compared({ case: title, unit: "commands/s", better: "more", tidemark: figures.tidemark, reference: figures.raw, referenceName: "the bare client", goal: 0.9 });
}

/** The bare client one after the other: appends at once on one stream conflict, or have no expectation. */
async function hotStream(connection: string, raw: RawClient, { quick, note }: BenchOptions): Promise<Result> {
  const title = "one hot stream, 100 callers";
  note(title);
  const count = quick ? 1000 : 2500;
  await using app = await tidemark({ store: connection, aggregates: [Account] });
  const figures = await interleaved(quick ? ROUNDS.quick : ROUNDS.full, {
    tidemark: () => {
      const id = `h${++names}`;
      return depositing(app, 5 * count, 100, () => id);
    },
    raw: async () => {
      const stream = `account-h${++names}`;
      return rate(count, await timed(() => load(count, 1, (index) => raw.deposit(stream, index))));
    },
  });
  return compared({ case: `${title} (the reference one by one)`, unit: "commands/s", better: "more", tidemark: figures.tidemark, reference: figures.raw, referenceName: "the bare client", goal: 5 });
}

async function catchUp(connection: string, raw: RawClient, { quick, note }: BenchOptions): Promise<readonly Result[]> {
  const perStream = quick ? 20 : 50;
  const category = `caught${++names}`;
  const streams = Array.from({ length: 1000 }, (_, index) => `${category}-${index}`);
  const events = streams.length * perStream;
  note(`catch-up over ${events} events`);
  const store = await eventStoreDBStore({ connection });
  try {
    const chunk = store.capabilities.maxAppendsInBatch;
    for (let first = 0; first < streams.length; first += chunk) await fill(store, { streams: streams.slice(first, first + chunk), perStream, perAppend: 10 });
    const figures = await interleaved(quick ? ROUNDS.quick : ROUNDS.full, {
      read: async () => rate(events, await timed(() => consumed(store.readAll({ categories: [category] }), events))),
      subscription: async () => rate(events, await timed(() => consumed(store.subscribe({ categories: [category] }), events))),
      raw: async () => rate(events, await timed(() => raw.catchUp(`${category}-`, events))),
    });
    const common = { unit: "events/s", better: "more", reference: figures.raw, referenceName: "the bare subscription", goal: 0.8 } as const;
    const amount = events.toLocaleString("en-US");
    return [
      compared({ ...common, case: `catch-up over ${amount} events, subscribed`, tidemark: figures.subscription }),
      compared({ ...common, case: `catch-up over ${amount} events, read`, tidemark: figures.read }),
    ];
  } finally {
    await store.close();
  }
}

/** How many appends the test server has CPU for: what is measured with it is not its own bound. The best round, as nothing makes a process use less than it needs. */
async function serverCapacity(raw: RawClient, cpuMs: () => number, { quick, note }: BenchOptions): Promise<Result> {
  const title = "appends that one core of the test server carries, 100 in flight";
  note(title);
  const count = quick ? 2000 : 10_000;
  let best = 0;
  for (let round = 0; round < (quick ? 2 : 5); round++) {
    const prefix = `account-c${++names}`;
    const before = cpuMs();
    await load(count, 100, (index) => raw.deposit(`${prefix}-${index % (count / 4)}`, index));
    best = Math.max(best, rate(count, cpuMs() - before));
  }
  return against(10_000, { case: title, unit: "appends/s", better: "more", tidemark: best });
}

async function consumed(pages: AsyncIterable<{ readonly events: readonly unknown[] }>, events: number): Promise<void> {
  let seen = 0;
  for await (const page of pages) {
    seen += page.events.length;
    if (seen >= events) return;
  }
  throw new Error(`${seen} events were read`);
}

/** `cpuMs`: what the test server has used of the CPU, where the system tells it. */
async function withServer<T>({ note }: BenchOptions, work: (connection: string, cpuMs?: () => number) => Promise<T>): Promise<T> {
  const given = process.env["EVENTSTORE_CONNECTION_STRING"];
  if (given !== undefined && given !== "") {
    note("the server of EVENTSTORE_CONNECTION_STRING");
    return work(given);
  }
  note("the test server, in a process of its own, in memory");
  const child = spawn(process.execPath, [fileURLToPath(new URL("../scripts/eventstoredb.ts", import.meta.url)), "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const connection = await addressOf(child);
    const stat = `/proc/${child.pid}/stat`;
    return existsSync(stat) ? await work(connection, () => cpuIn(readFileSync(stat, "utf8"))) : await work(connection);
  } finally {
    child.kill("SIGTERM");
  }
}

/** User and system time of /proc/PID/stat, in milliseconds: its clock ticks a hundred times a second. */
function cpuIn(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The connection string that the server prints when it listens. */
function addressOf(child: ReturnType<typeof spawn>): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = /esdb:\/\/\S+/.exec(text);
      if (found !== null) resolve(found[0]);
    });
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
}
