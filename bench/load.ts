/**
 * Many commands at once: in memory beside Emmett with its retries, one hot stream, cold streams, SQLite beside the same rows written by hand,
 * more load than there is capacity, and more idle actors than there is room.
 */
import { writeFileSync } from "node:fs";
import { isTidemarkError, tidemark, type ActorOptions, type App, type EventStore } from "../src/index.ts";
import { memoryBackend } from "../src/store/memory/index.ts";
import { Account, movement } from "./account.ts";
import { onSqlite } from "./actors.ts";
import { emmettAccounts } from "./emmett-account.ts";
import { against, compared, percentile, type Result } from "./figures.ts";
import { interleaved, load, quiet, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";
import { latencyPlot, type LatencyPoint } from "./latency-plot.ts";

const PLOT = "bench/overload.svg";

export const loadBenchmark: Benchmark = {
  name: "load",
  summary: "many commands at once",
  packages: ["@event-driven-io/emmett"],
  async run(options) {
    return [
      ...(await besideEmmett({ streams: 100, commands: options.quick ? 5000 : 20_000, inFlight: 1000, goal: 5 }, options)),
      // Each conflict of Emmett costs one more try of everybody else: a hot stream of more commands takes it minutes.
      ...(await besideEmmett({ streams: 1, commands: options.quick ? 400 : 1000, inFlight: 1000, goal: 20 }, options)),
      ...(await onSqlite({ streams: 1000, perStream: options.quick ? 20 : 40 }, options)),
      await hotStream(options),
      await coldStreams(options),
      ...(await overload(options)),
      ...(await beyondRoom(options)),
    ];
  },
};

interface Shape {
  readonly streams: number;
  readonly commands: number;
  readonly inFlight: number;
  readonly goal: number;
}

async function besideEmmett({ streams, commands, inFlight, goal }: Shape, { quick, note }: BenchOptions): Promise<readonly Result[]> {
  const title = `memory, ${streams === 1 ? "one hot stream" : `${streams} streams`}, ${inFlight} in flight`;
  note(title);
  const latencies: Record<"tidemark" | "emmett", number[]> = { tidemark: [], emmett: [] };
  const run = async (into: number[], deposit: (id: string, index: number) => Promise<void>): Promise<number> => {
    const ms = await timed(() =>
      load(commands, inFlight, async (index) => {
        const begun = performance.now();
        await deposit(`a${index % streams}`, index);
        into.push(performance.now() - begun);
      }),
    );
    return rate(commands, ms);
  };
  const figures = await interleaved(quick ? 2 : 3, {
    tidemark: async () => {
      await using app = await tidemark({ store: "memory:", aggregates: [Account] });
      return await run((latencies.tidemark = []), (id, index) => depositOnce(app, id, index));
    },
    emmett: async () => {
      const accounts = emmettAccounts();
      return run((latencies.emmett = []), (id, index) => accounts.deposit(id, movement(index)));
    },
  });
  const reference = { referenceName: "emmett, in memory" } as const;
  return [
    compared({ case: title, unit: "commands/s", better: "more", tidemark: figures.tidemark, reference: figures.emmett, ...reference, goal }),
    compared({ case: `${title}: p99`, unit: "ms", better: "less", tidemark: percentile(latencies.tidemark, 0.99), reference: percentile(latencies.emmett, 0.99), ...reference }),
  ];
}

async function hotStream({ quick, note }: BenchOptions): Promise<Result> {
  note("one hot stream");
  const commands = quick ? 50_000 : 200_000;
  const { hot } = await interleaved(quick ? 3 : 5, {
    hot: async () => {
      await using app = await tidemark({ store: "memory:", aggregates: [Account] });
      return rate(commands, await timed(() => load(commands, 1000, (index) => depositOnce(app, "a", index))));
    },
  });
  return against(200_000, { case: "memory, one hot stream, 1000 in flight", unit: "commands/s", better: "more", tidemark: hot });
}

async function coldStreams({ quick, note }: BenchOptions): Promise<Result> {
  note("cold streams");
  const streams = 100_000;
  const { cold } = await interleaved(quick ? 2 : 5, {
    cold: async () => {
      await using app = await tidemark({ store: "memory:", aggregates: [Account] });
      return rate(streams, await timed(() => load(streams, 1000, (index) => depositOnce(app, `a${index}`, index))));
    },
  });
  return against(100_000, { case: "memory, 100,000 streams, one command each, cold", unit: "commands/s", better: "more", tidemark: cold });
}

/**
 * An open load at twice the capacity of a store that takes 5 ms for a hundred appends, each command on a stream of its own (those of one stream would share appends): what is too much is refused at once, so that what is taken is answered
 * soon. The reference is the same app without its bounds.
 */
async function overload({ quick, note }: BenchOptions): Promise<readonly Result[]> {
  note("twice the capacity");
  const seconds = quick ? 4 : 10;
  const capacity = await withSlowStore({}, async (app) => {
    const commands = 20_000;
    return rate(commands, await timed(() => load(commands, 1000, (index) => depositOnce(app, `a${index}`, index))));
  });
  const bounded = await withSlowStore({ maxPendingCommands: 2000 }, (app) => openLoad(app, 2 * capacity, seconds));
  const unbounded = await withSlowStore({ maxPendingCommands: 10 ** 9, mailboxCapacity: 10 ** 9, maxActors: 10 ** 9 }, (app) => openLoad(app, 2 * capacity, seconds));
  const title = `Latency at twice the capacity (${Math.round(capacity).toLocaleString("en-US")} commands/s)`;
  writeFileSync(PLOT, latencyPlot(title, [{ name: "bounded, 99th percentile", points: bounded.points }, { name: "without bounds, 99th percentile", points: unbounded.points }]));
  note(`the plot is in ${PLOT}`);
  const p99 = ({ points }: OpenLoad, from: number, to: number): number => percentile(points.filter(({ atMs }) => atMs >= from * 1000 && atMs < to * 1000).map(({ latencyMs }) => latencyMs), 0.99);
  const half = seconds / 2;
  return [
    compared({ case: "twice the capacity: p99, second half beside the first", unit: "ms", better: "less", tidemark: p99(bounded, half, seconds), reference: p99(bounded, 0, half), referenceName: "the first half", goal: 0.7 }),
    compared({ case: "twice the capacity: p99 in the second half", unit: "ms", better: "less", tidemark: p99(bounded, half, seconds), reference: p99(unbounded, half, seconds), referenceName: "without bounds" }),
    compared({ case: "twice the capacity: accepted", unit: "commands/s", better: "more", tidemark: rate(bounded.points.length, bounded.ms), reference: capacity, referenceName: "the capacity", goal: 0.8 }),
    compared({ case: "twice the capacity: refused at once", unit: "commands", better: "more", tidemark: bounded.shed, reference: bounded.offered, referenceName: "offered" }),
  ];
}

interface OpenLoad {
  readonly points: readonly LatencyPoint[];
  readonly offered: number;
  readonly shed: number;
  /** Until everything was answered. */
  readonly ms: number;
}

/** Offers `perSecond` commands, whatever is answered. */
async function openLoad(app: App, perSecond: number, seconds: number): Promise<OpenLoad> {
  const points: LatencyPoint[] = [];
  const begun = performance.now();
  let offered = 0;
  let shed = 0;
  const offer = (index: number): void => {
    const at = performance.now();
    depositOnce(app, `a${index}`, index).then(
      () => points.push({ atMs: at - begun, latencyMs: performance.now() - at }),
      (error: unknown) => {
        if (!isTidemarkError(error, "Overloaded")) throw error;
        shed++;
      },
    );
  };
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  while (performance.now() - begun < seconds * 1000) {
    for (const due = ((performance.now() - begun) / 1000) * perSecond; offered < due; offered++) offer(offered);
    await turn();
  }
  while (points.length + shed < offered) await turn();
  return { points, offered, shed, ms: performance.now() - begun };
}

async function withSlowStore<T>(actors: Partial<ActorOptions>, use: (app: App) => Promise<T>): Promise<T> {
  const { events } = memoryBackend();
  const slow: EventStore = {
    capabilities: { ...events.capabilities, groupsInFlight: 1, maxAppendsInBatch: 100 },
    identity: (signal) => events.identity(signal),
    async append(appends) {
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
      return events.append(appends);
    },
    readStream: (stream, options) => events.readStream(stream, options),
    readAll: (options) => events.readAll(options),
    subscribe: (options) => events.subscribe(options),
    close: () => events.close(),
  };
  await using app = await tidemark({ store: { events: slow, close: () => slow.close() }, aggregates: [Account], actors });
  return await use(app);
}

/** More streams than may be resident: the oldest make room, and nothing is refused. */
async function beyondRoom({ quick, note }: BenchOptions): Promise<readonly Result[]> {
  note("more actors than there is room");
  const streams = quick ? 100_000 : 1_000_000;
  const room = streams / 2;
  await using app = await tidemark({ store: "memory:", aggregates: [Account], actors: { maxActors: room } });
  await quiet();
  const before = process.memoryUsage().heapUsed;
  const ms = await timed(() => load(streams, 1000, (index) => depositOnce(app, `a${index}`, index)));
  await quiet();
  const { residentActors, passivations } = app.metrics();
  const inFull = streams.toLocaleString("en-US");
  return [
    against(room, { case: `${inFull} streams, room for half: resident`, unit: "actors", better: "less", tidemark: residentActors }),
    against(streams - room, { case: `${inFull} streams, room for half: unloaded`, unit: "actors", better: "more", tidemark: passivations }),
    compared({ case: `${inFull} streams, room for half`, unit: "commands/s", better: "more", tidemark: rate(streams, ms), reference: 100_000, referenceName: "the goal of cold streams" }),
    compared({ case: `${inFull} streams: heap, the log included`, unit: "MiB", better: "less", tidemark: (process.memoryUsage().heapUsed - before) / 2 ** 20, reference: 6144, referenceName: "the heap's bound" }),
  ];
}

async function depositOnce(app: App, id: string, index: number): Promise<void> {
  const result = await app.at(Account, id).deposit(movement(index));
  if (!result.ok) throw new Error(`a deposit was rejected: ${result.code}`);
}
