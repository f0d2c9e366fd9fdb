import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { postgresStore, type PostgresStoreOptions } from "../../../src/store/postgres/index.ts";
import { soakCallers } from "../../support/callers/soak.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { readChecked } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Date.now() % 100_000);
/** For each shape; longer where it is asked for: TIDEMARK_SOAK_SECONDS=600. */
const DURATION_MS = 1000 * Number(process.env["TIDEMARK_SOAK_SECONDS"] ?? 3);

const SHAPES: Readonly<Record<string, Partial<PostgresStoreOptions>>> = {
  "one after the other": {},
  "side by side, in partitions": { commitOrder: "horizon", eventsPerPartition: 10_000 },
};
const CHOSEN = Object.entries(SHAPES).filter(([name]) => name.includes(process.env["TIDEMARK_SOAK_SHAPE"] ?? ""));

describe.skipIf(!available)(`processes on one PostgreSQL, killed, stopped and cut off (seed ${SEED})`, () => {
  let database: TestDatabase;
  let proxy: Proxy;
  beforeAll(async () => {
    database = await testDatabase();
    proxy = await proxyTo(database.url);
  });
  afterAll(async () => {
    await proxy.close();
    await database.drop();
  });

  it.each(CHOSEN)("%s: nobody is told what the log does not hold, I1 to I6 on what all of them have heard", { timeout: 3 * DURATION_MS + 180_000 }, async (_, shape) => {
    const schema = newSchema();
    const store = await postgresStore({ connection: database.url, schema, ...shape });
    const { violations, exits, answers, calmCalls } = await soakCallers({
      seed: SEED,
      processes: 3,
      durationMs: DURATION_MS,
      url: `${proxy.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`,
      proxy,
      settleMs: 1500,
      attacks: {
        terminate: () => database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'tidemark%' AND random() < 0.5", database.name),
      },
      log: async () => [...(await readChecked(store, {}, { gaps: shape.commitOrder === "horizon" })).values()],
    });
    await store.close();
    expect(violations).toEqual([]);
    expect(exits).toEqual([0, 0, 0]);
    for (const kind of ["accepted", "rejected", "state", "rows"]) expect(answers[kind] ?? 0, kind).toBeGreaterThan(20);
    expect(calmCalls, "calls in the calm").toBeGreaterThan(20);
  });
});
