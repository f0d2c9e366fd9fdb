import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../src/cli/run.ts";
import { postgresBackend } from "../../src/store/postgres/index.ts";
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
