import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatMap } from "rxjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accepted, aggregate, readModel, table, tidemark, type App } from "../../../src/index.ts";
import { postgresBackend, sqlView, type PostgresBackendOptions } from "../../../src/store/postgres/index.ts";
import type { Backend } from "../../../src/store/backend.ts";
import { component } from "../../support/components.ts";
import { appendOf, readChecked, until } from "./shared.ts";
import { administer, available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const pgbouncer = component("pgbouncer");

const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: { Added: (state, { by }: { by: number }) => void (state.count += by) },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
});

interface Sum {
  id: string;
  sum: number;
  applied: number;
}

describe.skipIf(!available || !pgbouncer.available)("PostgreSQL behind PgBouncer in transaction mode", () => {
  let database: TestDatabase;
  let folder: string;
  let pooler: ChildProcess;
  let pooled: string;
  const opened: Backend[] = [];

  beforeAll(async () => {
    database = await testDatabase();
    const port = await freePort();
    const { hostname, port: serverPort, username, password } = new URL(database.url);
    folder = mkdtempSync(join(tmpdir(), "tidemark-pgbouncer-"));
    chmodSync(folder, 0o755);
    const user = username === "" ? "postgres" : username;
    writeFileSync(join(folder, "users.txt"), `"${user}" "${password}"\n`);
    // Two connections for everybody: every statement may meet another session than the one before.
    writeFileSync(
      join(folder, "pgbouncer.ini"),
      `[databases]
${database.name} = host=${hostname} port=${serverPort === "" ? 5432 : serverPort} dbname=${database.name} user=${user}${password === "" ? "" : ` password=${password}`}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${join(folder, "users.txt")}
pool_mode = transaction
default_pool_size = 2
server_reset_query =
`,
    );
    pooler = spawn(pgbouncer.reason, [...(process.getuid?.() === 0 ? ["-u", "nobody"] : []), join(folder, "pgbouncer.ini")], { stdio: "ignore" });
    pooled = `postgres://${user}@127.0.0.1:${port}/${database.name}`;
    await until(
      () =>
        administer("SELECT 1", [], pooled).then(
          () => true,
          () => false,
        ),
      "PgBouncer answering",
    );
  }, 30_000);

  afterAll(async () => {
    await Promise.all(opened.map((backend) => backend.close()));
    pooler.kill("SIGKILL");
    await database.drop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(schema: string, listener: string | false, shape: Partial<PostgresBackendOptions> = {}): Promise<Backend> {
    const backend = await postgresBackend({ connection: pooled, pgbouncer: true, listener, schema, viewsSchema: `${schema}_views`, ...shape });
    opened.push(backend);
    return backend;
  }

  it.each([
    ["a listener of its own past the pooler", true, {}],
    ["no listener at all", false, {}],
    ["appends side by side, in partitions", true, { commitOrder: "horizon", eventsPerPartition: 100 }],
  ] as const)("appends, reads, subscribes and commits views, with %s", async (_, listens, shape) => {
    const schema = newSchema();
    const backends = [await open(schema, listens && database.url, shape), await open(schema, listens && database.url, shape)] as const;
    const seen: string[] = [];
    const abort = new AbortController();
    const following = (async () => {
      for await (const page of backends[1].events.subscribe({ signal: abort.signal })) seen.push(...page.events.map((event) => event.id));
    })().catch((error: unknown) => error);
    const writers = Array.from({ length: 8 }, async (_unused, writer) => {
      for (let version = 0; version < 25; version++) {
        const outcomes = await backends[writer % 2 === 0 ? 0 : 1].events.append([appendOf(`order-${writer}`, version, [`${writer}.${version}`]), appendOf(`cart-${writer}`, "any", [`c${writer}.${version}`])]);
        expect(outcomes.map(({ kind }) => kind)).toEqual(["committed", "committed"]);
      }
    });
    await Promise.all(writers);
    expect((await readChecked(backends[0].events, {}, { gaps: "commitOrder" in shape })).size).toBe(400);
    await until(() => seen.length === 400, "the subscription having everything");
    abort.abort();
    await following;

    const key = { model: "counts", version: 1, build: 1 };
    const table = { kind: "table", name: "counts", key: "id", indexes: ["count"], columns: [] } as const;
    const [mine, theirs] = await Promise.all(backends.map(async ({ views }) => views?.open(key, table)));
    let told = 0;
    theirs?.watch(() => told++);
    expect(await mine?.commit(new Map([["a", { id: "a", count: 1 }]]), { position: { log: 1 }, store: "s", events: 1 }, 0)).toBe("committed");
    await until(() => told > 0, "the watcher hearing of it", 1000);
    expect(await theirs?.reader.find({ count: 1 }, {})).toEqual([{ id: "a", count: 1 }]);
    expect(await theirs?.reader.sql?.('SELECT "count#" AS n FROM {table} WHERE "id" = $1', "a")).toEqual([{ n: 1 }]);
    await backends[0].snapshots?.save([{ stream: "order-1", version: 1, eventId: "e", position: { log: 1 }, schemaVersion: 1, state: "{}", window: "[]", checksum: "c", takenAt: 1 }]);
    expect((await backends[1].snapshots?.load("order-1"))?.version).toBe(1);
  });

  it.each([
    ["a table, owned through a listener past the pooler", "table", true],
    ["a table, by races alone", "table", false],
    ["SQL of its own, owned through a listener past the pooler", "sql", true],
    ["SQL of its own, by races alone", "sql", false],
  ] as const)("moves a read model in %s, exactly once, and goes on when the other process leaves", { timeout: 60_000 }, async (_, kind, listens) => {
    const schema = newSchema();
    const inTable = readModel("sums", {
      from: [Counter],
      view: table<Sum>("sums", { key: "id" }),
      project: (events$, { view }) => events$.pipe(concatMap(({ id, data }) => view.update(id, (row) => ({ id, sum: (row?.sum ?? 0) + data.by, applied: (row?.applied ?? 0) + 1 })))),
    });
    const inSql = readModel("sums", {
      from: [Counter],
      view: sqlView({ create: "CREATE TABLE sums (id text PRIMARY KEY, sum int NOT NULL, applied int NOT NULL)", open: ({ client }) => client }),
      project: (events$, { view }) =>
        events$.pipe(concatMap(({ id, data }) => view.query("INSERT INTO sums VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET sum = sums.sum + excluded.sum, applied = sums.applied + 1", [id, data.by]))),
    });
    const rows = (app: App, atLeast: string): Promise<readonly Sum[]> =>
      kind === "table"
        ? app.query(inTable, (view) => view.find({}), { atLeast, timeoutMs: 20_000 })
        : app.query(inSql, async (client) => (await client.query<Sum>("SELECT * FROM sums ORDER BY id")).rows, { atLeast, timeoutMs: 20_000 });
    const apps: App[] = [];
    for (let n = 0; n < 2; n++) apps.push(await tidemark({ store: await open(schema, listens && database.url), aggregates: [Counter], readModels: [kind === "table" ? inTable : inSql] }));
    const [first, second] = apps as [App, App];
    try {
      let token = "";
      for (let n = 0; n < 40; n++) token = accepted(await (n % 2 === 0 ? first : second).at(Counter, `c${n % 4}`).add(1)).token;
      for (const app of apps) expect(await rows(app, token)).toEqual([0, 1, 2, 3].map((n) => ({ id: `c${n}`, sum: 10, applied: 10 })));
      await first.close();
      token = accepted(await second.at(Counter, "c0").add(5)).token;
      expect((await rows(second, token))[0]).toEqual({ id: "c0", sum: 15, applied: 11 });
    } finally {
      for (const app of apps) await app.close();
    }
  });

  it("is told from a server by what it refuses: settings for a session", async () => {
    await expect(postgresBackend({ connection: pooled, schema: newSchema() })).rejects.toMatchObject({ code: "StoreUnavailable", message: expect.stringContaining("pgbouncer") });
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
