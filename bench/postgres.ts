/**
 * PostgreSQL beside Emmett and beside the bare call of the function that appends, on the same server. The server is the one of DATABASE_URL, default
 * postgres://postgres@127.0.0.1:5432/postgres; its own settings count (`fsync`, `synchronous_commit`).
 */
import { randomUUID } from "node:crypto";
import pg from "pg";
import { concatMap } from "rxjs";
import { environmentOf } from "../src/environment.ts";
import { readModel, table, tidemark, type App, type EventStore } from "../src/index.ts";
import { createRunner } from "../src/readmodel/runner.ts";
import { bigintArray, intArray, textArray } from "../src/store/postgres/binary-array.ts";
import { postgresStore, postgresViews } from "../src/store/postgres/index.ts";
import { Account, movement } from "./account.ts";
import { depositing } from "./depositing.ts";
import { emmettOnPostgres, type EmmettOnPostgres } from "./emmett-postgres.ts";
import { against, compared, median, percentile, type Result } from "./figures.ts";
import { fill } from "./fill.ts";
import { interleaved, load, rate, timed, type Benchmark, type BenchOptions } from "./harness.ts";

const SERVER = process.env["DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";
const GROWN_EVENTS = 10_000_000;

interface Balance {
  readonly id: string;
  readonly balance: number;
  readonly movements: number;
}

const balances = readModel("balances", {
  from: [Account],
  view: table<Balance>("balances", { key: "id" }),
  project: (events$, { view }) =>
    events$.pipe(concatMap(({ id, data }) => view.update(id, (row) => ({ id, balance: (row?.balance ?? 0) + data.amount, movements: (row?.movements ?? 0) + 1 })))),
});

/** A database for one run of the benchmark, and schemas in it that are used once. */
interface Bench {
  readonly url: string;
  readonly sql: (text: string) => Promise<Record<string, unknown>[]>;
  /** URL of a store whose schemas are new. */
  fresh(): string;
}

export const postgres: Benchmark = {
  name: "postgres",
  summary: "appends, reads and read models on PostgreSQL",
  packages: ["pg", "@event-driven-io/emmett-postgresql"],
  async run(options) {
    return inDatabase(async (bench) => {
      const [settings] = await bench.sql("SELECT version(), current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit");
      options.note(`${String(settings?.["version"]).split(",")[0]}, fsync ${String(settings?.["fsync"])}, synchronous_commit ${String(settings?.["commit"])}`);
      const emmett = await emmettOnPostgres(bench.url);
      try {
        return [
          await newStreams(bench, emmett, 20, 8, options),
          await newStreams(bench, emmett, 200, 15, options),
          await oneStream(bench, emmett, options),
          ...(await toProjection(bench, emmett, options)),
          ...(await besideTheCall(bench, options)),
          ...(await catchUp(bench, options)),
          ...(options.quick ? [] : await grown(bench, options)),
        ];
      } finally {
        await emmett.close();
      }
    });
  },
};

async function newStreams(bench: Bench, emmett: EmmettOnPostgres, inFlight: number, goal: number, { quick, note }: BenchOptions): Promise<Result> {
  const title = `new streams, ${inFlight} in flight`;
  note(title);
  const count = quick ? 1000 : 4000;
  let round = 0;
  const figures = await interleaved(quick ? 2 : 5, {
    // Both on connections that are warm: the reference keeps its own over the rounds.
    tidemark: () =>
      withApp(bench.fresh(), async (app) => {
        await depositing(app, 20 * inFlight, inFlight, (index) => `warm${index}`);
        return depositing(app, count, inFlight, (index) => `n${index}`);
      }),
    emmett: async () => {
      const name = `e${inFlight}-${round++}`;
      return rate(count / 4, await timed(() => load(count / 4, inFlight, (index) => emmett.deposit(`${name}-${index}`, movement(index)))));
    },
  });
  return compared({ case: title, unit: "commands/s", better: "more", tidemark: figures.tidemark, reference: figures.emmett, referenceName: "emmett-postgresql", goal });
}

/** Emmett one after the other, which is where it is quickest: calls at once conflict, and each one reads the whole stream. */
async function oneStream(bench: Bench, emmett: EmmettOnPostgres, { quick, note }: BenchOptions): Promise<Result> {
  const count = quick ? 500 : 3000;
  const title = `one stream of ${count} events`;
  note(title);
  const figures = {
    emmett: rate(count, await timed(() => load(count, 1, (index) => emmett.deposit("long", movement(index))))),
    ...(await interleaved(quick ? 2 : 5, { tidemark: () => withApp(bench.fresh(), (app) => depositing(app, count, 100, () => "long")) })),
  };
  return compared({ case: `${title} (100 callers; the reference one by one)`, unit: "commands/s", better: "more", tidemark: figures.tidemark, reference: figures.emmett, referenceName: "emmett-postgresql", goal: quick ? 20 : 100 });
}

async function toProjection(bench: Bench, emmett: EmmettOnPostgres, { quick, note }: BenchOptions): Promise<readonly Result[]> {
  note("append → projection");
  const samples = quick ? 30 : 60;
  const theirs = await emmett.delays(samples);
  const store = bench.fresh();
  const ours: number[] = [];
  // One process writes, another one projects: two apps, as it is in production.
  await using writer = await tidemark({ store, aggregates: [Account] });
  await using reader = await tidemark({ store, aggregates: [Account], readModels: [balances] });
  for (let index = -20; index < samples; index++) {
    const { token } = (await writer.at(Account, `v${index}`).deposit(movement(1))) as { readonly token: string };
    const acknowledged = performance.now();
    const row = await reader.query(balances, (view) => view.get(`v${index}`), { atLeast: token });
    if (row?.movements !== 1) throw new Error("the query did not see the write");
    if (index >= 0) ours.push(performance.now() - acknowledged);
  }
  const p50 = median(ours);
  return [
    compared({ case: "append → projection in another app, p50", unit: "ms", better: "less", tidemark: p50, reference: median(theirs), referenceName: "emmett-postgresql, its own polling", goal: 50 }),
    against(10, { case: "append → projection in another app, p50", unit: "ms", better: "less", tidemark: p50 }),
    against(50, { case: "append → projection in another app, p99", unit: "ms", better: "less", tidemark: percentile(ours, 0.99) }),
  ];
}

/** Commands beside the call of `append_exact` alone, with its parameters made beforehand, in groups as the committer forms them. */
async function besideTheCall(bench: Bench, { quick, note }: BenchOptions): Promise<readonly Result[]> {
  note("beside the bare call");
  const alone = quick ? 300 : 1500;
  const many = quick ? 10_000 : 40_000;
  const streams = 1000;
  const figures = await interleaved(quick ? 3 : 7, {
    command: () =>
      withApp(bench.fresh(), async (app) => {
        await app.at(Account, "s").deposit(movement(0));
        return timed(() => load(alone, 1, (index) => app.at(Account, "s").deposit(movement(index)))).then((ms) => ms / alone);
      }),
    call: async () => 1000 / (await bareCalls(bench, alone, 1, 1)),
    commands: () =>
      withApp(bench.fresh(), async (app) => {
        await load(streams, 1000, (index) => app.at(Account, `a${index}`).deposit(movement(index)));
        return depositing(app, many, 1000, (index) => `a${index % streams}`);
      }),
    calls: () => bareCalls(bench, many, 500, streams),
  });
  return [
    compared({ case: "one command after the other, one stream", unit: "ms", better: "less", tidemark: figures.command, reference: figures.call, referenceName: "the bare call", goal: 1 / 1.5 }),
    compared({ case: "1,000 commands in flight, 1,000 streams", unit: "commands/s", better: "more", tidemark: figures.commands, reference: figures.calls, referenceName: "the bare call in groups of 500", goal: 0.6 }),
  ];
}

/** Events a second that calls of the function append, one connection, to streams that exist. */
async function bareCalls(bench: Bench, count: number, group: number, streams: number): Promise<number> {
  const url = new URL(bench.fresh());
  const schema = url.searchParams.get("schema") ?? "";
  const store = await postgresStore({ connection: bench.url, schema });
  const names = Array.from({ length: streams }, (_, index) => `account-a${index}`);
  await fill(store, { streams: names, perStream: 1 });
  await store.close();
  const metadata = JSON.stringify({ correlationId: randomUUID(), causationId: randomUUID(), commandId: randomUUID() });
  const ones = Array.from({ length: group }, (_, index) => index);
  const calls = Array.from({ length: count / group }, (_, call) => [
    intArray(ones.map((index) => index + 1)),
    textArray(ones.map((index) => names[(call * group + index) % streams] as string)),
    intArray(ones.map((index) => 2 + Math.floor((call * group + index) / streams))),
    textArray(ones.map(() => randomUUID())),
    textArray(ones.map(() => "Deposited")),
    bigintArray(ones.map(() => Date.now())),
    textArray(ones.map(() => metadata)),
    textArray(ones.map((index) => JSON.stringify(movement(call * group + index)))),
  ]);
  const client = new pg.Client({ connectionString: bench.url });
  await client.connect();
  try {
    const text = `SELECT ${schema}.append_exact($1, $2, $3, $4, $5, $6, $7, $8)`;
    const ms = await timed(async () => {
      for (const values of calls) await client.query({ text, values });
    });
    return rate(count, ms);
  } finally {
    await client.end();
  }
}

async function catchUp(bench: Bench, { quick, note }: BenchOptions): Promise<readonly Result[]> {
  const perStream = quick ? 50 : 200;
  const streams = Array.from({ length: 1000 }, (_, index) => `account-a${index}`);
  const events = streams.length * perStream;
  note(`catch-up over ${events} events`);
  const url = new URL(bench.fresh());
  const schema = url.searchParams.get("schema") ?? "";
  const store = await postgresStore({ connection: bench.url, schema });
  try {
    await fill(store, { streams, perStream });
    await bench.sql(`VACUUM ANALYZE ${schema}.events`);
    let views = 0;
    const figures = await interleaved(quick ? 3 : 5, {
      read: async () => rate(events, await timed(() => readAll(store, events))),
      view: () => projected(store, bench.url, `${schema}_views_${views++}`, events),
    });
    const { total, indexes } = await bytesAnEvent(bench, schema, events);
    return [
      against(200_000, { case: `catch-up over ${events.toLocaleString("en-US")} events, read`, unit: "events/s", better: "more", tidemark: figures.read }),
      against(40_000, { case: `catch-up over ${events.toLocaleString("en-US")} events, into a view exactly once`, unit: "events/s", better: "more", tidemark: figures.view }),
      against(600, { case: `disk, table and indexes (indexes alone: ${Math.round(indexes)})`, unit: "bytes/event", better: "less", tidemark: total }),
    ];
  } finally {
    await store.close();
  }
}

async function bytesAnEvent(bench: Bench, schema: string, events: number): Promise<{ readonly total: number; readonly indexes: number }> {
  const [size] = await bench.sql(`SELECT pg_total_relation_size('${schema}.events') AS total, pg_indexes_size('${schema}.events') AS indexes`);
  return { total: Number(size?.["total"]) / events, indexes: Number(size?.["indexes"]) / events };
}

async function readAll(store: EventStore, events: number, after = 0): Promise<void> {
  let count = 0;
  for await (const page of store.readAll({ pageSize: 1000, ...(after > 0 && { after: { log: after } }) })) {
    count += page.events.length;
    if (count >= events) break;
  }
  if (count < events) throw new Error(`${count} events were read`);
}

async function projected(store: EventStore, connection: string, viewsSchema: string, events: number): Promise<number> {
  const views = await postgresViews({ connection, viewsSchema });
  const runner = createRunner(balances, { store, views, environment: environmentOf() });
  try {
    const ms = await timed(async () => {
      await runner.start();
      await new Promise<void>((resolve, reject) => {
        const end = runner.onAdvance(look);
        function look(): void {
          if (runner.error !== undefined) reject(runner.error);
          else if (runner.checkpoint().events < events) return;
          else resolve();
          end();
        }
        look();
      });
    });
    const rows = await runner.reader().find({}, { limit: 10_000 });
    if (rows.length !== 1000 || rows.some(({ movements }) => movements !== events / 1000)) throw new Error("the view is wrong");
    return rate(events, ms);
  } finally {
    await runner.stop();
    await views.close();
  }
}

/** The same figures on a log of 10 million events and on an empty one, in turn. */
async function grown(bench: Bench, { note }: BenchOptions): Promise<readonly Result[]> {
  note(`a log of ${GROWN_EVENTS} events`);
  const large = bench.fresh();
  const schema = new URL(large).searchParams.get("schema") ?? "";
  await (await postgresStore({ connection: bench.url, schema })).close();
  await generate(bench, schema, GROWN_EVENTS);
  await bench.sql("CHECKPOINT");
  const size = await bytesAnEvent(bench, schema, GROWN_EVENTS);
  const read = 100_000;
  const smallSchema = new URL(bench.fresh()).searchParams.get("schema") ?? "";
  await (await postgresStore({ connection: bench.url, schema: smallSchema })).close();
  await generate(bench, smallSchema, read + 10);
  const stores = [await postgresStore({ connection: bench.url, schema }), await postgresStore({ connection: bench.url, schema: smallSchema })] as const;
  try {
    let round = 0;
    const figures = await interleaved(5, {
      largeWrites: () => withApp(large, (app) => depositing(app, 4000, 200, (index) => `w${round++}-${index}`)),
      smallWrites: () => withApp(bench.fresh(), (app) => depositing(app, 4000, 200, (index) => `w${round++}-${index}`)),
      largeReads: async () => rate(read, await timed(() => readAll(stores[0], read, GROWN_EVENTS / 2))),
      smallReads: async () => rate(read, await timed(() => readAll(stores[1], read))),
    });
    const common = { better: "more", referenceName: "the empty log", goal: 0.8 } as const;
    return [
      compared({ ...common, case: "10 million events in the log: new streams, 200 in flight", unit: "commands/s", tidemark: figures.largeWrites, reference: figures.smallWrites }),
      compared({ ...common, case: "10 million events in the log: reading from its middle", unit: "events/s", tidemark: figures.largeReads, reference: figures.smallReads }),
      against(600, { case: `10 million events in the log: disk, table and indexes (indexes alone: ${Math.round(size.indexes)})`, unit: "bytes/event", better: "less", tidemark: size.total }),
    ];
  } finally {
    await Promise.all(stores.map((store) => store.close()));
  }
}

/** The same rows in both logs, as an app writes them: ten events a stream, the ids of command, cause and correlation with each. */
async function generate(bench: Bench, schema: string, events: number): Promise<void> {
  await bench.sql(`
    ALTER TABLE ${schema}.events DROP CONSTRAINT events_stream_version;
    INSERT INTO ${schema}.events SELECT n, 'account-g' || (n / 10), 1 + n % 10, gen_random_uuid(), 'Deposited', 1700000000000 + n,
      '{"correlationId":"3f0c2f6e-9b43-4bc4-9d53-1f1a4c9f3a10","causationId":"3f0c2f6e-9b43-4bc4-9d53-1f1a4c9f3a10","commandId":"3f0c2f6e-9b43-4bc4-9d53-1f1a4c9f3a10"}',
      '{"amount":' || n % 97 || ',"reference":"transfer ' || n || ' of the month"}' FROM generate_series(1, ${events}) n WHERE n >= 10;
    ALTER TABLE ${schema}.events ADD CONSTRAINT events_stream_version UNIQUE (stream, version)`);
  await bench.sql(`VACUUM ANALYZE ${schema}.events`);
}

async function withApp<T>(store: string, work: (app: App) => Promise<T>): Promise<T> {
  await using app = await tidemark({ store, aggregates: [Account] });
  return await work(app);
}

async function inDatabase<T>(work: (bench: Bench) => Promise<T>): Promise<T> {
  const name = `tidemark_bench_${randomUUID().slice(0, 8)}`;
  const admin = new pg.Client({ connectionString: SERVER });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  const url = new URL(SERVER);
  url.pathname = `/${name}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  let schemas = 0;
  try {
    return await work({
      url: url.href,
      sql: async (text) => (await client.query(text)).rows as Record<string, unknown>[],
      fresh: () => {
        const schema = `s${++schemas}`;
        return `${url.href}?schema=${schema}&viewsSchema=${schema}_views`;
      },
    });
  } finally {
    await client.end();
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await admin.end();
  }
}
