import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openStore, openViews } from "../../../src/index.ts";
import { postgresBackend, postgresStore, postgresViews } from "../../../src/store/postgres/index.ts";
import { appendOf, readChecked } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

describe.skipIf(!available)("the schema in PostgreSQL", () => {
  let database: TestDatabase;
  const opened: { close(): Promise<void> }[] = [];
  const kept = <T extends { close(): Promise<void> }>(one: T): T => {
    opened.push(one);
    return one;
  };
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => void (await Promise.all(opened.splice(0).map((one) => one.close()))));
  afterAll(() => database.drop());

  it("is made once by any number of stores that open at the same time", async () => {
    const schema = newSchema();
    const stores = await Promise.all(Array.from({ length: 8 }, () => postgresBackend({ connection: database.url, schema, viewsSchema: schema, poolSize: 1 })));
    stores.forEach(kept);
    const ids = await Promise.all(stores.map(({ events }) => events.identity()));
    expect(new Set(ids.map(({ id }) => id)).size).toBe(1);
  });

  it("of a newer version is refused, and nothing is written to it", async () => {
    const schema = newSchema();
    await (await postgresBackend({ connection: database.url, schema, viewsSchema: schema })).close();
    await database.sql(`UPDATE ${schema}.meta SET value = '99' WHERE name IN ('log_version', 'views_version')`);
    await expect(postgresStore({ connection: database.url, schema })).rejects.toMatchObject({ code: "SchemaTooNew", details: { found: 99, schema } });
    await expect(postgresViews({ connection: database.url, viewsSchema: schema })).rejects.toMatchObject({ code: "SchemaTooNew" });
  });

  it("is not opened where statements would not see what was committed while they waited", async () => {
    const url = new URL(database.url);
    url.searchParams.set("options", "-c default_transaction_isolation=repeatable\\ read");
    await expect(postgresStore({ connection: url.href, schema: newSchema() })).rejects.toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringContaining("ALTER ROLE") });
  });

  it("of the first version is updated under processes that go on with it", async () => {
    const schema = newSchema();
    const running = kept(await postgresStore({ connection: database.url, schema }));
    await running.append([appendOf("order-1", 0, ["a", "b"])]);
    await database.sql(`DROP FUNCTION ${schema}.append_each; DROP FUNCTION ${schema}.read_log; UPDATE ${schema}.meta SET value = '1' WHERE name = 'log_version'`);
    await expect(postgresStore({ connection: database.url, schema, migrate: false })).rejects.toMatchObject({ code: "StoreUnavailable", message: expect.stringContaining("is at version 1") });
    await expect(postgresStore({ connection: database.url, schema, commitOrder: "horizon" })).rejects.toMatchObject({ code: "InvalidArgument" });
    const updated = kept(await postgresStore({ connection: database.url, schema }));
    // What a process of the first version calls.
    expect(await database.sql(`SELECT * FROM ${schema}.append_checked('{order-1}', '{2}', '{1}', '{c}', '{Happened}', '{1}', ARRAY['{}'], ARRAY['{}'])`)).toEqual([{ versions: [3], positions: ["3"] }]);
    expect(await updated.append([appendOf("order-1", 1, ["d"])])).toMatchObject([{ kind: "conflict", actual: 3, missing: [{ id: "b", version: 2 }, { id: "c", version: 3 }] }]);
    expect((await readChecked(running)).size).toBe(3);
  });

  it("that is missing is named where it may not be made", async () => {
    await expect(postgresStore({ connection: database.url, schema: "nowhere", migrate: false })).rejects.toMatchObject({ code: "StoreUnavailable", message: expect.stringContaining("tidemark postgres migrate") });
    expect(await database.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'nowhere'")).toEqual([]);
  });

  it("is served by roles that may do no more than they must", async () => {
    const schema = newSchema();
    const [writer, reader] = [`${database.name}_writer`, `${database.name}_reader`];
    await (await postgresStore({ connection: database.url, schema })).close();
    await database.sql(`
      CREATE ROLE ${writer} LOGIN PASSWORD 'least'; CREATE ROLE ${reader} LOGIN PASSWORD 'least';
      GRANT USAGE ON SCHEMA ${schema} TO ${writer}, ${reader};
      GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ${writer}, ${reader};
      GRANT INSERT ON ${schema}.events TO ${writer};
      GRANT INSERT, UPDATE, DELETE ON ${schema}.snapshots TO ${writer}`);
    try {
      const as = (role: string): string => Object.assign(new URL(database.url), { username: role, password: "least" }).href;
      const writing = kept(await postgresStore({ connection: as(writer), schema }));
      const reading = kept(await postgresStore({ connection: as(reader), schema, migrate: false }));
      expect(await writing.append([appendOf("order-1", 0, ["a"]), appendOf("order-2", "any", ["b"])])).toMatchObject([{ kind: "committed" }, { kind: "committed" }]);
      for await (const page of reading.subscribe()) {
        if (page.events.length === 2) break;
      }
      expect(await reading.append([appendOf("order-1", 1, ["c"])])).toMatchObject([{ kind: "refused", code: "unavailable", retryable: false }]);
      for (const statement of [`UPDATE ${schema}.events SET data = '{}'`, `DELETE FROM ${schema}.events`, `TRUNCATE ${schema}.events`]) {
        const client = new pg.Client({ connectionString: as(writer) });
        client.on("error", () => undefined); // the server may end it while it says goodbye
        await client.connect();
        await expect(client.query(statement)).rejects.toMatchObject({ code: "42501" });
        await client.end();
      }
      expect((await readChecked(writing)).size).toBe(2);
    } finally {
      await Promise.all(opened.splice(0).map((one) => one.close()));
      await database.sql(`DROP OWNED BY ${writer}, ${reader}; DROP ROLE ${writer}, ${reader}`);
    }
  });

  it("lives in a pool of the caller's own, which stays open", async () => {
    const pool = new pg.Pool({ connectionString: database.url, max: 2 });
    const backend = await postgresBackend({ pool, schema: newSchema() });
    expect(await backend.events.append([appendOf("order-1", 0, ["a"])])).toMatchObject([{ kind: "committed" }]);
    await backend.close();
    expect((await pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    expect(pool.listenerCount("error")).toBe(0);
    pool.on("error", () => undefined);
    await pool.end();
  });

  it("is named by a URL, and so are its options", async () => {
    const schema = newSchema();
    const backend = kept(await openStore(`${database.url}?schema=${schema}&viewsSchema=${schema}_v&poolSize=2&application_name=shop&commitOrder=horizon&eventsPerPartition=1000`));
    await backend.events.identity();
    expect(await database.sql(`SELECT value FROM ${schema}.meta WHERE name IN ('commit_order', 'events_per_partition') ORDER BY name`)).toEqual([{ value: "horizon" }, { value: "1000" }]);
    expect(await database.sql("SELECT DISTINCT application_name AS name FROM pg_stat_activity WHERE datname = $1 AND application_name = 'shop'", database.name)).toHaveLength(1);
    kept(await openViews(`${database.url.replace("postgres:", "postgresql:")}?viewsSchema=${schema}_w&listener=false`));
    expect(await database.sql("SELECT 1 FROM pg_namespace WHERE nspname IN ($1, $2, $3)", schema, `${schema}_v`, `${schema}_w`)).toHaveLength(3);
  });

  it.each([
    ["?schema=Bad-Name", "schema"],
    ["?viewsSchema=pg_mine", "viewsSchema"],
    ["?poolSize=none", "poolSize"],
    ["?commitOrder=any", "commitOrder"],
    ["?eventsPerPartition=1", "eventsPerPartition"],
    ["?pgbouncer=yes", "pgbouncer"],
    ["?sslmod=require", "sslmod"],
  ])("is refused for a URL with %s, and the password is not told", async (parameters, word) => {
    const url = Object.assign(new URL(database.url), { password: "secret" }).href;
    await expect(openStore(url + parameters)).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringMatching(new RegExp(`^(?!.*secret).*${word}`)) });
  });

  it("has tables that SQL reads as tables: typed columns, and numbers as numbers", async () => {
    const viewsSchema = newSchema();
    const views = kept(await postgresViews({ connection: database.url, viewsSchema }));
    const view = await views.open({ model: "orders", version: 1, build: 1 }, { kind: "table", name: "orders", key: "id", indexes: ["status"], columns: ["total"] });
    const rows = Array.from({ length: 10 }, (_, index) => ({ id: `o${index}`, status: index % 2 === 0 ? "open" : "done", total: index, note: "a\0b" }));
    await view.commit(new Map(rows.map((row) => [row.id, row])), { position: { log: 1 }, store: "s", events: 1 }, 0);
    expect(await view.reader.sql?.('SELECT status, sum("total#") AS total, count(*) AS orders FROM {table} WHERE id <> $1 GROUP BY status ORDER BY status', "o0")).toEqual([
      { status: "done", total: 25, orders: 5 },
      { status: "open", total: 20, orders: 4 },
    ]);
    expect(await view.reader.get("o3")).toEqual(rows[3]);
    expect(await view.reader.find({ note: "a\ufffdb", total: { lt: 2 } }, {})).toEqual(rows.slice(0, 2));
    for (const text of ["DELETE FROM {table}", "SELECT pg_notify('a', 'b'), nope FROM {table}", "SELECT 1; SELECT 2", "CREATE TABLE x ()", "COMMIT"]) {
      await expect(view.reader.sql?.(text), text).rejects.toMatchObject({ code: "InvalidArgument" });
    }
    expect(await view.reader.count({})).toBe(10);
  });

  it("of a build is not written by a process that knows it with other columns", async () => {
    const viewsSchema = newSchema();
    const [older, newer] = [kept(await postgresViews({ connection: database.url, viewsSchema })), kept(await postgresViews({ connection: database.url, viewsSchema }))];
    const key = { model: "orders", version: 1, build: 1 };
    const table = { kind: "table", name: "orders", key: "id", indexes: ["status"], columns: [] } as const;
    const before = await older.open(key, table);
    const next = { position: { log: 1 }, store: "s", events: 1 };
    await before.commit(new Map([["a", { id: "a", status: "open", city: "Bern" }]]), next, 0);
    const after = await newer.open(key, { ...table, indexes: ["status", "city"] });
    expect(await before.commit(new Map([["b", { id: "b", city: "Rom" }]]), next, 1)).toBe("lost");
    expect(await after.commit(new Map([["b", { id: "b", city: "Rom" }]]), next, 1)).toBe("committed");
    expect(await after.reader.find({ city: { in: ["Rom", "Bern"] } }, {})).toHaveLength(2);
  });

  it("that was restored from a backup under a running process is written from what it holds, not from what the process remembers", async () => {
    const viewsSchema = newSchema();
    const views = kept(await postgresViews({ connection: database.url, viewsSchema }));
    const view = await views.open({ model: "m", version: 1, build: 1 }, { kind: "table", name: "t", key: "id", indexes: [], columns: [] });
    const next = { position: { log: 1 }, store: "s", events: 1 };
    for (let revision = (await view.checkpoint()).revision; revision < 3; revision++) await view.commit(new Map([["a", { id: "a", count: revision + 1 }]]), next, revision);
    await database.sql(`UPDATE ${viewsSchema}.checkpoints SET revision = 1; UPDATE ${viewsSchema}."m.t__v1b1" SET "row" = '{"id":"a","count":1}'`);
    const add = async (): Promise<string> => {
      const { revision } = await view.checkpoint();
      const row = await view.reader.get("a");
      return view.commit(new Map([["a", { id: "a", count: Number(row?.["count"]) + 10 }]]), next, revision);
    };
    expect(await add()).toBe("lost");
    expect(await add()).toBe("committed");
    expect((await view.reader.find({}, {}))[0]).toEqual({ id: "a", count: 11 });
  });

  it("finds rows through the index of a field, also in its order and for numbers", async () => {
    const viewsSchema = newSchema();
    const views = kept(await postgresViews({ connection: database.url, viewsSchema }));
    const view = await views.open({ model: "m", version: 1, build: 1 }, { kind: "table", name: "t", key: "id", indexes: ["at"], columns: [] });
    const rows = Array.from({ length: 3000 }, (_, index) => ({ id: index, at: index % 3 === 0 ? `t${index}` : index }));
    await view.commit(new Map(rows.map((row) => [row.id, row])), { position: { log: 1 }, store: "s", events: 1 }, 0);
    const table = `${viewsSchema}."m.t__v1b1"`;
    await database.sql(`ANALYZE ${table}`);
    const plan = async (query: string): Promise<string> => JSON.stringify(await database.sql(`EXPLAIN ${query}`));
    expect(await plan(`SELECT "row" FROM ${table} WHERE "at" = 't300' ORDER BY "#" LIMIT 10`)).toContain("Index");
    expect(await plan(`SELECT "row" FROM ${table} WHERE ("at" IS NULL AND "at#" > 2990) ORDER BY "#" LIMIT 10`)).toContain("Index");
    expect(await plan(`SELECT "row" FROM ${table} ORDER BY "at" DESC NULLS LAST, "at#" DESC NULLS LAST, "#" LIMIT 10`)).toContain("Index Scan Backward");
    expect((await view.reader.find({}, { orderBy: [{ field: "at", direction: "desc" }], limit: 1 }))[0]).toEqual({ id: 999, at: "t999" });
  });
});
