import { concatMap } from "rxjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.ts";
import { accepted, aggregate, readModel, table, tidemark as openApp } from "../../src/index.ts";
import { postgresBackend } from "../../src/store/postgres/index.ts";
import { until } from "../store/postgres/shared.ts";
import { available, testDatabase, type TestDatabase } from "../store/postgres/support.ts";

async function tidemark(args: readonly string[], variables: Record<string, string> = {}): Promise<{ readonly code: number; readonly printed: string }> {
  let printed = "";
  const code = await run(args, (text) => (printed += text), variables);
  return { code, printed };
}

describe("the command line", () => {
  it("tells how it is used", async () => {
    expect(await tidemark(["--help"])).toEqual({ code: 0, printed: expect.stringMatching(/tidemark postgres[^]*migrate[^]*partitions[^]*archive/) });
    expect(await tidemark([])).toMatchObject({ code: 2, printed: expect.stringContaining("Usage") });
  });

  it.each([
    [["postgres", "drop"], "no command"],
    [["postgres", "migrate"], "--store"],
    [["postgres", "migrate", "--store", "sqlite:x.db"], "--store"],
    [["postgres", "migrate", "--force"], "--force"],
    [["postgres", "migrate", "--store", "postgres://127.0.0.1:1"], "postgres://host/DATABASE"],
  ])("refuses %j", async (args, word) => {
    await expect(tidemark(args)).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining(word) });
  });
});

describe.skipIf(!available)("tidemark postgres migrate", () => {
  let database: TestDatabase;
  beforeAll(async () => void (database = await testDatabase()));
  afterAll(() => database.drop());

  it("prints with --dry-run what a database administrator can run, and runs nothing", async () => {
    const store = `${database.url}?schema=log&viewsSchema=views`;
    const { printed } = await tidemark(["postgres", "migrate", "--store", store, "--dry-run"]);
    expect(await database.sql("SELECT 1 FROM pg_namespace WHERE nspname IN ('log', 'views')")).toEqual([]);
    await database.sql(printed);
    const backend = await postgresBackend({ connection: database.url, schema: "log", viewsSchema: "views", migrate: false });
    expect((await backend.events.identity()).id).toMatch(/^[0-9a-f-]{36}$/);
    await backend.close();
    expect(await tidemark(["postgres", "migrate", "--dry-run"], { TIDEMARK_STORE: store })).toEqual({ code: 0, printed: "-- the schemas are up to date\n" });
  });

  it("makes the schemas once", async () => {
    const args = ["postgres", "migrate", "--store", `${database.url}?schema=other&viewsSchema=other_views`];
    expect((await tidemark(args)).printed).toBe("the schemas were brought up to date\n");
    expect((await tidemark(args)).printed).toBe("-- the schemas are up to date\n");
  });
});

describe.skipIf(!available)("tidemark postgres partitions", () => {
  let database: TestDatabase;
  beforeAll(async () => void (database = await testDatabase()));
  afterAll(() => database.drop());

  it("tells a log without partitions from one that is not there", async () => {
    await (await postgresBackend({ connection: database.url, schema: "log", viewsSchema: "views" })).close();
    const noLog = { code: "InvalidArgument", message: expect.stringContaining("there is no log in schema") };
    for (const schema of ["nope", "views"]) {
      const store = `${database.url}?schema=${schema}`;
      await expect(tidemark(["postgres", "partitions", "--store", store])).rejects.toMatchObject(noLog);
      await expect(tidemark(["postgres", "partitions", "--store", store, "--ahead", "10"])).rejects.toMatchObject(noLog);
      await expect(tidemark(["postgres", "archive", "--store", store, "--through", "1"])).rejects.toMatchObject(noLog);
      await expect(tidemark(["postgres", "restore", "--store", store, "--from", "1"])).rejects.toMatchObject(noLog);
    }
    await expect(tidemark(["postgres", "partitions", "--store", `${database.url}?schema=log`])).rejects.toMatchObject({ code: "UnsupportedByStore", message: expect.stringContaining("no partitions") });
  });
});

describe.skipIf(!available)("tidemark postgres views", () => {
  let database: TestDatabase;
  beforeAll(async () => void (database = await testDatabase()));
  afterAll(() => database.drop());

  it("lists versions and who moves them, and drops the old ones when nobody does", { timeout: 30_000 }, async () => {
    const store = `${database.url}?schema=log&viewsSchema=views&application_name=shop`;
    const Thing = aggregate("thing", { initial: () => ({}), events: { Made: (_, _data: { n: number }) => undefined }, commands: { make: (_, n: number, { emit }) => emit("Made", { n }) } });
    const things = (version: number) =>
      readModel("things", { from: [Thing], version, view: table<{ id: string }>("things", { key: "id" }), project: (events$, { view }) => events$.pipe(concatMap(({ id }) => view.upsert({ id }))) });
    const views = (...args: readonly string[]) => tidemark(["postgres", "views", "--store", store, ...args]);
    await expect(views()).rejects.toMatchObject({ code: "StoreUnavailable" });

    const [v1, v2] = [things(1), things(2)];
    const old = await openApp({ store, aggregates: [Thing], readModels: [v1] });
    await old.query(v1, (view) => view.count(), { atLeast: accepted(await old.at(Thing, "a").make(1)).token });
    const next = await openApp({ store, aggregates: [Thing], readModels: [v2] });
    await until(() => next.readModel(v2).progress().state === "live", "the new version having taken over");
    expect((await views()).printed).toMatch(/^things  version 1 build 1  old  1 events  0\.0 MiB  views\.things\.things__v1b1  moved by shop \(pid \d+\)\nthings  version 2 build 1  active  1 events .*moved by shop/);
    await expect(views("--drop", "things")).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("moved by shop") });
    await old.close();
    expect((await views("--drop", "things", "--dry-run")).printed).toMatch(/^-- would drop:\nthings  version 1 build 1 /);
    expect((await views()).printed.split("\n")).toHaveLength(3);
    expect((await views("--drop", "things")).printed).toMatch(/^dropped:\nthings  version 1 build 1 /);
    expect((await views("--drop", "things")).printed).toBe("-- nothing of things is old\n");
    expect(await database.sql("SELECT relname FROM pg_class WHERE relname LIKE 'things.%' AND relkind = 'r'")).toEqual([{ relname: "things.things__v2b1" }]);
    await expect(views("--drop", "things", "--version", "2")).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("answers queries") });
    await expect(views("--drop", "nothing")).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(await next.query(v2, (view) => view.count())).toBe(1);
    await next.close();
  });
});
