/** Views in SQL of one's own: by hand, through Kysely and through Drizzle, on the page's own transaction. */
import { eq, sql as drizzleSql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { bigint, integer, pgTable, text } from "drizzle-orm/pg-core";
import { Kysely, PostgresDialect, sql } from "kysely";
import pg, { type PoolClient } from "pg";
import { concatMap, mergeMap } from "rxjs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accepted, aggregate, isTidemarkError, readModel, tidemark, type App, type Logger, type OpenPage, type ReadModel, type SqlAccess } from "../../../src/index.ts";
import { postgresViews, sqlView } from "../../../src/store/postgres/index.ts";
import { until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: { Added: (state, { by }: { by: number }) => void (state.count += by) },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
});

const CREATE = `
  CREATE TABLE totals (id text PRIMARY KEY, sum bigint NOT NULL, applied int NOT NULL, CONSTRAINT small CHECK (sum < 1000));
  CREATE INDEX totals_by_sum ON totals (sum);
`;
const UPSERT = "INSERT INTO totals (id, sum, applied) VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET sum = totals.sum + excluded.sum, applied = totals.applied + 1";

interface Tables {
  totals: { id: string; sum: number; applied: number };
}
interface Total {
  readonly id: string;
  readonly sum: number;
  readonly applied: number;
}

const byHand = sqlView({ create: CREATE, open: ({ client }) => client });
const withKysely = sqlView({ create: CREATE, open: ({ pool }) => new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) }) });
const totals = pgTable("totals", { id: text().primaryKey(), sum: bigint({ mode: "number" }).notNull(), applied: integer().notNull() });
const withDrizzle = sqlView({ create: CREATE, open: ({ client }) => drizzle({ client }) });

/** A read model by hand with a pipeline of the case's own. */
const raw = (handle: (client: PoolClient, event: { readonly id: string; readonly by: number; readonly version: number }) => Promise<unknown>, version = 1, create = CREATE) =>
  readModel("totals", {
    from: [Counter],
    version,
    view: sqlView({ create, open: ({ client }) => client }),
    pageTimeoutMs: 5000,
    project: (events$, { view }) => events$.pipe(concatMap(({ id, data, version: at }) => handle(view, { id, by: data.by, version: at }))),
  });
const add = (client: PoolClient, { id, by }: { readonly id: string; readonly by: number }): Promise<unknown> => client.query(UPSERT, [id, by]);

const all = async (client: PoolClient): Promise<readonly Total[]> => (await client.query<Total>("SELECT id, sum::int AS sum, applied FROM totals ORDER BY id")).rows;

describe.skipIf(!available)("read models in SQL of one's own", () => {
  let database: TestDatabase;
  let schema: string;
  let lines: { readonly message: string; readonly fields: Record<string, unknown> }[];
  const apps: App[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => void (await Promise.all(apps.splice(0).map((app) => app.close()))));
  afterAll(() => database.drop());

  const newStore = (): void => {
    schema = newSchema();
    lines = [];
  };
  const open = async (model: ReadModel<unknown>, more: object = {}): Promise<App> => {
    const note = (fields: object, message: string): void => void lines.push({ message, fields: fields as Record<string, unknown> });
    const logger: Logger = { debug: note, info: note, warn: note, error: note };
    const store = `${database.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`;
    const app = await tidemark({ store, aggregates: [Counter], readModels: [model], projections: { firstPauseMs: 1, maxPauseMs: 5 }, environment: { logger }, ...more });
    apps.push(app);
    return app;
  };
  const written = async (app: App, count: number): Promise<string> => {
    let last = "";
    for (let n = 0; n < count; n++) last = accepted(await app.at(Counter, `c${n % 3}`).add(n)).token;
    return last;
  };
  const schemas = async (): Promise<readonly string[]> => (await database.sql<{ name: string }>("SELECT nspname AS name FROM pg_namespace WHERE nspname LIKE $1 ORDER BY 1", `${schema}_views_%`)).map(({ name }) => name);
  /** What `written(app, 12)` makes. */
  const EXPECTED = [18, 22, 26].map((sum, n) => ({ id: `c${n}`, sum, applied: 4 }));

  it("are written and read by hand on the client of the page and of the query", async () => {
    newStore();
    const model = raw(add);
    const app = await open(model);
    const token = await written(app, 12);
    expect(await app.query(model, all, { atLeast: token })).toEqual(EXPECTED);
  });

  it("are written and read through Kysely", async () => {
    newStore();
    const model = readModel("totals", {
      from: [Counter],
      view: withKysely,
      project: (events$, { view: db }) =>
        events$.pipe(
          concatMap(({ id, data }) =>
            db
              .insertInto("totals")
              .values({ id, sum: data.by, applied: 1 })
              .onConflict((conflict) => conflict.column("id").doUpdateSet({ sum: sql`totals.sum + excluded.sum`, applied: sql`totals.applied + 1` }))
              .execute(),
          ),
        ),
    });
    const app = await open(model);
    const token = await written(app, 12);
    const rows = await app.query(model, (db) => db.selectFrom("totals").select(["id", sql<number>`sum::int`.as("sum"), "applied"]).orderBy("id").execute(), { atLeast: token });
    expect(rows).toEqual(EXPECTED);
    await expect(app.query(model, (db) => db.deleteFrom("totals").execute())).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("read-only") });
    await expect(app.query(model, (db) => db.transaction().execute((inner) => inner.selectFrom("totals").selectAll().execute()))).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  it("are written and read through Drizzle, whose errors are told as PostgreSQL told them", async () => {
    newStore();
    const model = readModel("totals", {
      from: [Counter],
      view: withDrizzle,
      project: (events$, { view: db }) =>
        events$.pipe(
          concatMap(({ id, data }) =>
            db
              .insert(totals)
              .values({ id, sum: data.by, applied: 1 })
              .onConflictDoUpdate({ target: totals.id, set: { sum: drizzleSql`${totals.sum} + excluded.sum`, applied: drizzleSql`${totals.applied} + 1` } }),
          ),
        ),
    });
    const app = await open(model);
    const token = await written(app, 12);
    expect(await app.query(model, (db) => db.select().from(totals).orderBy(totals.id), { atLeast: token })).toEqual(EXPECTED);
    expect(await app.query(model, (db) => db.select().from(totals).where(eq(totals.id, "c1")))).toEqual([EXPECTED[1]]);
    const poison = accepted(await app.at(Counter, "c1").add(5000));
    await expect(app.query(model, (db) => db.select().from(totals), { atLeast: poison.token })).rejects.toMatchObject({ code: "ReadModelStopped" });
    expect(app.readModel(model).progress().error).toMatchObject({
      code: "ProjectionFailed",
      message: expect.stringMatching(/Added, version 5 of counter-c1: .*check constraint "small"/),
      cause: { code: "23514", constraint: "small" },
    });
  });

  it("hold rows and checkpoint that stand or fall together, in every view of another connection", async () => {
    newStore();
    const model = raw(add);
    const app = await open(model);
    let writing = true;
    const traffic = (async () => {
      while (writing) {
        const added = await Promise.all([0, 1, 2].map((c) => app.at(Counter, `c${c}`).add(0)));
        // Not faster than it is shown, or pages grow and there is little to see.
        await app.query(model, all, { atLeast: app.mergeTokens(...added.map((result) => accepted(result).token)) });
      }
    })();
    const moments = new Set<number>();
    const onlooker = new pg.Client({ connectionString: database.url });
    await onlooker.connect();
    try {
      await until(async () => {
        const { rows } = await onlooker.query<{ events: number; applied: number }>(
          `SELECT events::int AS events, (SELECT coalesce(sum(applied), 0)::int FROM "${schema}_views_totals_v1b1".totals) AS applied FROM ${schema}_views.checkpoints`,
        );
        expect(rows[0]?.applied).toBe(rows[0]?.events);
        moments.add(rows[0]?.events ?? 0);
        return moments.size > 15;
      }, "looks that saw something new");
    } finally {
      writing = false;
      await traffic;
      await onlooker.end();
    }
  });

  it("roll a poisoned page back, name the event by pages of one, and keep what came before it", async () => {
    newStore();
    // Everything is in the log before anybody reads it: the poison stands in the middle of a page.
    const writer = await open(raw(add, 9));
    for (const by of [1, 2, 3]) await writer.at(Counter, "a").add(by);
    await writer.at(Counter, "b").add(2000);
    await writer.at(Counter, "a").add(4);
    await writer.close();
    const model = readModel("later", { from: [Counter], view: byHand, project: (events$, { view }) => events$.pipe(mergeMap(({ id, data }) => add(view, { id, by: data.by }))) });
    const app = await open(model);
    const control = app.readModel(model);
    await until(() => control.progress().state === "failed", "the read model having failed");
    expect(control.progress().error).toMatchObject({ code: "ProjectionFailed", details: { stream: "counter-b", version: 1 }, message: expect.stringContaining("check constraint") });
    expect(await app.query(model, all)).toEqual([{ id: "a", sum: 6, applied: 3 }]);
  });

  it("fail a page whose SQL failed, though the pipeline swallowed the error, but not what a savepoint has undone", async () => {
    newStore();
    const swallowing = raw(async (client, event) => client.query("INSERT INTO nowhere VALUES (1)").catch(() => add(client, event).catch(() => undefined)));
    const app = await open(swallowing);
    await app.at(Counter, "a").add(1);
    await until(() => app.readModel(swallowing).progress().state === "failed", "the read model having failed");
    expect(app.readModel(swallowing).progress().error).toMatchObject({ message: expect.stringContaining('relation "nowhere" does not exist') });
    await app.close();

    newStore();
    const careful = raw(async (client, event) => {
      await client.query("SAVEPOINT before");
      await client.query("INSERT INTO nowhere VALUES (1)").catch(() => client.query("ROLLBACK TO before"));
      await add(client, event);
    });
    const second = await open(careful);
    const { token } = accepted(await second.at(Counter, "a").add(1));
    expect(await second.query(careful, all, { atLeast: token })).toEqual([{ id: "a", sum: 1, applied: 1 }]);
  });

  it.each([
    "COMMIT",
    "  /* a /* nested */ comment */ -- and a line\n ; commit and chain",
    "ROLLBACK",
    "BEGIN",
    "SET search_path TO public",
    "SELECT 1; COMMIT",
  ])("refuse a statement that would reach beyond the page: %j", async (statement) => {
    newStore();
    const model = raw(async (client, event) => {
      await add(client, event);
      await client.query(statement).catch(() => undefined);
    });
    const app = await open(model);
    await app.at(Counter, "a").add(1);
    await until(() => app.readModel(model).progress().state === "failed", "the read model having failed");
    expect(await app.query(model, all)).toEqual([]);
  });

  it("refuse statements after the page, which are told", async () => {
    newStore();
    let kept: PoolClient | undefined;
    const model = raw(async (client, event) => {
      kept = client;
      await add(client, event);
    });
    const app = await open(model);
    const { token } = accepted(await app.at(Counter, "a").add(1));
    await app.query(model, all, { atLeast: token });
    await expect(kept?.query("DELETE FROM totals")).rejects.toMatchObject({ code: "LateWrite" });
    expect(lines.some(({ message }) => message === "a late write was refused")).toBe(true);
    let reading: PoolClient | undefined;
    await app.query(model, async (client) => void (reading = client));
    await expect(reading?.query("SELECT 1")).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(await app.query(model, all)).toHaveLength(1);
  });

  it("outlive their connections: each event takes effect once, and an outage is no fault of the events", async () => {
    newStore();
    // More often than an event may fail.
    let own = 8;
    const model = raw(async (client, event) => {
      const wrapped = (cause: unknown): Promise<never> => Promise.reject(new Error("as a builder wraps it", { cause }));
      if (own-- > 0) await client.query("SELECT pg_terminate_backend(pg_backend_pid())").catch(wrapped);
      await add(client, event).catch(wrapped);
    });
    const [app, other] = [await open(model), await open(model)];
    let last = "";
    for (let n = 0; n < 60; n++) {
      last = accepted(await app.at(Counter, `c${n % 3}`).add(1)).token;
      if (n % 15 === 7) await database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'tidemark%'", database.name);
    }
    for (const reader of [app, other]) {
      expect((await reader.query(model, all, { atLeast: last, timeoutMs: 10_000 })).map(({ sum, applied }) => [sum, applied])).toEqual([[20, 20], [20, 20], [20, 20]]);
    }
  });

  it("are lost as a whole, before they have written anything, on a revision that another process has moved", async () => {
    newStore();
    const open_ = () => postgresViews({ connection: database.url, viewsSchema: `${schema}_views` });
    const [mine, theirs] = [await open_(), await open_()];
    try {
      const key = { model: "m", version: 1, build: 1 };
      const options = { timeoutMs: 1000, onLateWrite: () => undefined };
      const next = { position: { log: 1 }, store: "s", events: 1 };
      const [first, second] = [await mine.open(key, byHand.definition), await theirs.open(key, byHand.definition)];
      const [winning, losing] = [first, second].map(({ sql: access }) => (access as SqlAccess).page(0, options)) as [OpenPage, OpenPage];
      await add(winning.held as PoolClient, { id: "a", by: 1 });
      const waits = add(losing.held as PoolClient, { id: "a", by: 10 }).catch((error: unknown) => error);
      winning.seal();
      expect(await winning.commit(next)).toBe("committed");
      expect(losing.verdict(await waits)).toBe("lost");
      losing.discard();
      expect(await second.sql?.read((held) => all(held as PoolClient))).toEqual([{ id: "a", sum: 1, applied: 1 }]);
      expect((await second.checkpoint()).revision).toBe(1);
    } finally {
      await Promise.all([mine.close(), theirs.close()]);
    }
  });

  it("build a new version in a schema of its own beside the old one, and are dropped with it", async () => {
    newStore();
    const [v1, v2] = [raw(add), raw((client, { id, by }) => add(client, { id, by: by * 10 }), 2, CREATE.replaceAll("bigint", "numeric"))];
    const old = await open(v1);
    const token = await written(old, 12);
    const next = await open(v2);
    const control = next.readModel(v2);
    await until(() => control.progress().state === "live", "the new version having taken over");
    expect(await old.query(v1, all, { atLeast: token })).toEqual(EXPECTED);
    expect(await next.query(v2, all, { atLeast: token })).toEqual(EXPECTED.map((row) => ({ ...row, sum: row.sum * 10 })));
    expect(await schemas()).toEqual([`${schema}_views_totals_v1b1`, `${schema}_views_totals_v2b1`]);
    await old.close();
    expect(await control.dropInactive()).toBe(1);
    await control.rebuild();
    expect(await next.query(v2, all, { atLeast: token })).toEqual(EXPECTED.map((row) => ({ ...row, sum: row.sum * 10 })));
    expect(await schemas()).toEqual([`${schema}_views_totals_v2b2`]);
  });

  it("are refused by name where views are kept elsewhere, with other tables under the same version, and with tables that cannot be made", async () => {
    newStore();
    const model = raw(add);
    for (const views of ["memory:", "sqlite:/nowhere/views.db"]) {
      await expect(tidemark({ store: "memory:", ...(views === "memory:" && { views }), aggregates: [Counter], readModels: [model] })).rejects.toMatchObject({ code: "UnsupportedByStore", message: expect.stringContaining("totals") });
    }
    await open(model);
    await expect(open(raw(add, 1, CREATE.replace("bigint", "int")))).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("new version") });
    await expect(open(raw(add, 2, "CREATE TABEL x ()"))).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("syntax error") });
    await expect(open(raw(add, 3, "CREATE TABLE x (); COMMIT; BEGIN"))).rejects.toSatisfy((error) => isTidemarkError(error, "InvalidArgument"));
    await expect(apps[0]?.query(model, (client) => client.query("SELECT * FROM misspelt"))).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("misspelt") });
  });
});
