import { concatMap } from "rxjs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accepted, aggregate, readModel, table, tidemark, type App } from "../../../src/index.ts";
import { until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: { Added: (state, { by }: { by: number }) => void (state.count += by) },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
});

interface Sum {
  id: string;
  sum: number;
  applied: number;
  version: number;
}

const sums = (version: number, factor = 1) =>
  readModel("sums", {
    from: [Counter],
    version,
    view: table<Sum>("sums", { key: "id", indexes: ["sum"] }),
    project: (events$, { view }) =>
      events$.pipe(concatMap((event) => view.update(event.id, (row) => ({ id: event.id, sum: (row?.sum ?? 0) + factor * event.data.by, applied: (row?.applied ?? 0) + 1, version: event.version })))),
  });

describe.skipIf(!available)("read models on PostgreSQL", () => {
  let database: TestDatabase;
  let store: string;
  let schema: string;
  const apps: App[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => void (await Promise.all(apps.splice(0).map((app) => app.close()))));
  afterAll(() => database.drop());

  const url = (): void => {
    schema = newSchema();
    store = `${database.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`;
  };
  const open = async (model: ReturnType<typeof sums>): Promise<App> => {
    const app = await tidemark({ store, aggregates: [Counter], readModels: [model] });
    apps.push(app);
    return app;
  };
  const tables = async (): Promise<readonly string[]> => (await database.sql<{ name: string }>("SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname LIKE 'sums.%' AND relkind = 'r' ORDER BY 1", `${schema}_views`)).map(({ name }) => name);

  it("are built beside the old version, take its place when they have caught up, and the old one is dropped on command", async () => {
    url();
    const [v1, v2] = [sums(1), sums(2, 10)];
    const old = await open(v1);
    for (let n = 0; n < 50; n++) await old.at(Counter, `c${n % 5}`).add(1);
    const { token } = accepted(await old.at(Counter, "c0").add(1));
    expect((await old.query(v1, (view) => view.get("c0"), { atLeast: token }))?.sum).toBe(11);

    const next = await open(v2);
    await until(() => next.readModel(v2).progress().state === "live", "the new version having taken over");
    expect((await next.query(v2, (view) => view.get("c0"), { atLeast: token }))?.sum).toBe(110);
    expect(await tables()).toEqual(["sums.sums__v1b1", "sums.sums__v2b1"]);
    await old.close();
    expect(await next.readModel(v2).dropInactive()).toBe(1);
    expect(await tables()).toEqual(["sums.sums__v2b1"]);
  });

  it("are rebuilt beside live traffic with the same result", async () => {
    url();
    const model = sums(1);
    const app = await open(model);
    for (let n = 0; n < 40; n++) await app.at(Counter, `c${n % 4}`).add(n);
    let writing = true;
    const traffic = (async () => {
      for (let n = 0; writing; n++) await app.at(Counter, `c${n % 4}`).add(1);
    })();
    await app.readModel(model).rebuild();
    writing = false;
    await traffic;
    const { token } = accepted(await app.at(Counter, "c0").add(0));
    for (let n = 0; n < 4; n++) {
      const { state, version } = await app.at(Counter, `c${n}`).state();
      expect(await app.query(model, (view) => view.get(`c${n}`), { atLeast: token })).toEqual({ id: `c${n}`, sum: state.count, applied: version, version });
    }
    expect(await tables()).toEqual(["sums.sums__v1b2"]);
  });

  it("take each event in once, while their connections are terminated again and again, in two processes' worth of runners", { timeout: 30_000 }, async () => {
    url();
    const model = sums(1);
    const [writer, reader] = [await open(model), await open(model)];
    let last = "";
    for (let n = 0; n < 150; n++) {
      last = accepted(await writer.at(Counter, `c${n % 3}`).add(1)).token;
      if (n % 25 === 10) await database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'tidemark%'", database.name);
    }
    for (const app of [writer, reader]) {
      const rows = await app.query(model, (view) => view.find({}), { atLeast: last, timeoutMs: 10_000 });
      expect(rows.map(({ sum, applied, version }) => [sum, applied, version])).toEqual([
        [50, 50, 50],
        [50, 50, 50],
        [50, 50, 50],
      ]);
    }
  });
});
