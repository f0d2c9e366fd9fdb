/** A read model in shards: shared out among processes that come, go and die, and exact all the while. */
import { concatMap } from "rxjs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accepted, aggregate, readModel, table, tidemark, type App, type ReadModel } from "../../../src/index.ts";
import { shardOf } from "../../../src/readmodel/shard-of.ts";
import { sqlView } from "../../../src/store/postgres/index.ts";
import { killAll, type Child } from "../../support/processes.ts";
import { owners, startService, type Service } from "./service-process.ts";
import { until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: { Added: (state, { by }: { by: number }) => void (state.count += by) },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
});

interface Row {
  id: string;
  applied: number;
  version: number;
}

/** `keyOf`: which row an event changes. */
const model = (shards: number, keyOf: (id: string) => string = (id) => id, version = 1) =>
  readModel("shared", {
    from: [Counter],
    version,
    shards,
    view: table<Row>("shared", { key: "id" }),
    project: (events$, { view }) => events$.pipe(concatMap((event) => view.update(keyOf(event.id), (row) => ({ id: keyOf(event.id), applied: (row?.applied ?? 0) + 1, version: event.version })))),
  });

describe.skipIf(!available)("a read model in shards on PostgreSQL", () => {
  let database: TestDatabase;
  const children: Child[] = [];
  const apps: App[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => {
    await killAll(children);
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });
  afterAll(() => database.drop());

  const open = async (schema: string, shown: ReadModel<unknown>): Promise<App> => {
    const app = await tidemark({ store: `${database.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`, aggregates: [Counter], readModels: [shown], projections: { firstPauseMs: 1, maxPauseMs: 5 } });
    apps.push(app);
    return app;
  };
  const shares = async (services: readonly Service[]): Promise<readonly number[]> => {
    const held = await owners(database);
    return services.map(({ name }) => held.get(name)?.owned ?? 0);
  };

  it("moves from two processes to three, and to the survivors of one that is killed, under load, and applies each event once", { timeout: 120_000 }, async () => {
    const schema = newSchema();
    const service = (): Promise<Service> => startService(database, schema, children, "shards");
    const services: Service[] = await Promise.all([service(), service()]);
    await until(async () => (await shares(services)).join() === "4,4", "two processes having four shards each");
    const wrote = new Map<string, { version: string; token: string | undefined }>();
    let writing = true;
    const clients = Array.from({ length: 12 }, async (_, index) => {
      for (let n = 0; writing; n++) {
        // Never the one that is killed.
        const [version = "", token] = await (services[1] as Service).ask("add", `c${(n * 12 + index) % 60}`);
        wrote.set(`c${(n * 12 + index) % 60}`, { version, token });
      }
    });
    services.push(await service());
    await until(async () => (await shares(services)).every((share) => share === 2 || share === 3), "three processes having three, three and two");
    expect((await shares(services)).reduce((sum, share) => sum + share)).toBe(8);
    services[0]?.child.process.kill("SIGKILL");
    services.shift();
    await until(async () => (await shares(services)).join() === "4,4", "the survivors having four each");
    services.push(await service());
    await until(async () => (await shares(services)).reduce((sum, share) => sum + share) === 8 && (await shares(services)).every((share) => share >= 2), "the new one having its share");
    writing = false;
    await Promise.all(clients);
    for (const [id, { version, token }] of wrote) expect(await (services[2] as Service).ask("read", id, token)).toEqual([version, version]);
    const [{ wrong, applied } = { wrong: -1, applied: -1 }] = await database.sql<{ wrong: number; applied: number }>(
      `SELECT count(*) FILTER (WHERE ("row"->>'applied')::int <> ("row"->>'version')::int)::int AS wrong, sum(("row"->>'applied')::int)::int AS applied FROM ${schema}_views."shown.shown__v1b1"`,
    );
    expect(wrong, "rows to which an event was applied more or less than once").toBe(0);
    expect(applied).toBe((await database.sql<{ events: number }>(`SELECT count(*)::int AS events FROM ${schema}.events`))[0]?.events);
    expect(applied).toBeGreaterThan(100);
  });

  it("is rebuilt and versioned as a whole, and answers tokens of all its streams", async () => {
    const schema = newSchema();
    const [four, six] = [model(4), model(6, (id) => id, 2)];
    const app = await open(schema, four);
    let token = "";
    for (let n = 0; n < 60; n++) token = app.mergeTokens(...(token === "" ? [] : [token]), accepted(await app.at(Counter, `c${n % 20}`).add(1)).token);
    const exact = Array.from({ length: 20 }, () => 3);
    const applied = async (of: App, shown: ReturnType<typeof model>): Promise<readonly number[]> => (await of.query(shown, (view) => view.find({}), { atLeast: token })).map((row) => row.applied);
    expect(await applied(app, four)).toEqual(exact);
    expect(app.readModel(four).progress()).toMatchObject({ state: "live", events: 60 });
    await app.readModel(four).rebuild();
    expect(await applied(app, four)).toEqual(exact);
    const next = await open(schema, six);
    await until(() => next.readModel(six).progress().state === "live", "the new version having taken over");
    expect(await applied(next, six)).toEqual(exact);
    const shards = await database.sql<{ version: number; shards: number }>(`SELECT version, count(*)::int AS shards FROM ${schema}_views.checkpoints GROUP BY 1 ORDER BY 1`);
    expect(shards).toEqual([{ version: 1, shards: 4 }, { version: 2, shards: 6 }]);
    await expect(open(schema, model(5))).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("new version") });
  });

  it("refuses a row that two shards write, names the event, and counts nothing twice", async () => {
    const schema = newSchema();
    const shown = model(8, () => "all");
    const app = await open(schema, shown);
    for (let n = 0; n < 8; n++) await app.at(Counter, `c${n}`).add(1);
    const control = app.readModel(shown);
    await until(() => control.progress().state === "failed", "the read model having failed");
    expect(control.progress().error).toMatchObject({ code: "ProjectionFailed", message: expect.stringContaining("another shard"), details: { type: "Added" } });
    const rows = await app.query(shown, (view) => view.find({}));
    // One shard was first, and has applied the events of its own streams.
    const ofShards = Array.from({ length: 8 }, (_, shard) => Array.from({ length: 8 }, (_unused, n) => `counter-c${n}`).filter((stream) => shardOf(stream, 8) === shard).length);
    expect(rows).toHaveLength(1);
    expect(ofShards.filter((count) => count > 0)).toContain(rows[0]?.applied);
  });

  it("adds up across shards in SQL that commutes", async () => {
    const schema = newSchema();
    const sum = readModel("sum", {
      from: [Counter],
      shards: 4,
      view: sqlView({ create: "CREATE TABLE sum (n int NOT NULL); INSERT INTO sum VALUES (0)", open: ({ client }) => client }),
      project: (events$, { view }) => events$.pipe(concatMap(({ data }) => view.query("UPDATE sum SET n = n + $1", [data.by]))),
    });
    const [app] = [await open(schema, sum), await open(schema, sum)];
    const tokens: string[] = [];
    await Promise.all(Array.from({ length: 20 }, async (_, stream) => {
      for (let n = 0; n < 5; n++) tokens.push(accepted(await app.at(Counter, `c${stream}`).add(1)).token);
    }));
    for (const reader of apps) expect(await reader.query(sum, async (client) => (await client.query<{ n: number }>("SELECT n FROM sum")).rows, { atLeast: reader.mergeTokens(...tokens), timeoutMs: 10_000 })).toEqual([{ n: 100 }]);
  });
});
