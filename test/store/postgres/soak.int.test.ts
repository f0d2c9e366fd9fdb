import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { postgresStore, type PostgresStoreOptions } from "../../../src/store/postgres/index.ts";
import { start, type Child } from "./processes.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { checkRecording, type Answered, type Asked } from "./recorded.ts";
import { randomFrom, readChecked, until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Date.now() % 100_000);
/** For each shape; longer where it is asked for: TIDEMARK_SOAK_SECONDS=600. */
const DURATION_MS = 1000 * Number(process.env["TIDEMARK_SOAK_SECONDS"] ?? 3);
/** After the last attack: what is under way may still fail, and then nothing may. */
const SETTLE_MS = 1500;
const CALM_MS = 1000;

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

  it.each(CHOSEN)("%s: nobody is told what the log does not hold, I1 to I6 on what all of them have heard", { timeout: 3 * DURATION_MS + 120_000 }, async (_, shape) => {
    const schema = newSchema();
    const store = await postgresStore({ connection: database.url, schema, ...shape });
    const random = randomFrom(SEED);
    const lines: (Asked | Answered)[] = [];
    const killed = new Set<string>();
    const names = new Map<Child, string>();
    const begin = async (): Promise<Child> => {
      const name = `p${names.size}`;
      const child = start("caller.ts", `${proxy.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`, String(SEED * 1000 + names.size), name);
      names.set(child, name);
      child.onLine = (line) => {
        if (line.startsWith("{")) lines.push(JSON.parse(line) as Asked | Answered);
      };
      await until(() => child.lines[0] === "ready", "a process being ready", 60_000);
      return child;
    };
    const running = [await begin(), await begin(), await begin()];
    const terminate = (): Promise<unknown> =>
      database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'tidemark%' AND random() < 0.5", database.name);
    const attacks: Readonly<Record<string, (index: number) => Promise<unknown>>> = {
      async kill(index) {
        const victim = running[index] as Child;
        killed.add(names.get(victim) as string);
        victim.process.kill("SIGKILL");
        await victim.exited;
        running[index] = await begin();
      },
      async stop(index) {
        running[index]?.process.kill("SIGSTOP");
        await pause(800 * random());
        running[index]?.process.kill("SIGCONT");
      },
      async reset() {
        proxy.reset();
      },
      async cut() {
        proxy.cutAfter = (bytes) => (bytes.includes("Deposited") || bytes.includes("Withdrawn")) && random() < 0.3;
        await pause(200);
        proxy.cutAfter = undefined;
      },
      terminate,
      async delay() {
        proxy.delayMs = 300 * random();
        await pause(200);
        proxy.delayMs = 0;
      },
    };
    const kinds = Object.keys(attacks);
    const end = performance.now() + DURATION_MS;
    for (let n = 0; performance.now() < end; n++) {
      await pause(300 * (0.5 + random()));
      await attacks[kinds[n % kinds.length] as string]?.(Math.floor(random() * running.length));
    }
    await pause(SETTLE_MS);
    for (const child of running) child.send("calm");
    await pause(CALM_MS);
    for (const child of running) child.send("end");
    expect(await Promise.all(running.map(({ exited }) => exited))).toEqual([0, 0, 0]);

    const log = [...(await readChecked(store, {}, { gaps: shape.commitOrder === "horizon" })).values()];
    await store.close();
    expect(await checkRecording({ lines, killed, log, boundMs: 15_000 })).toEqual([]);
    const answers = Map.groupBy(lines.flatMap((line) => ("answer" in line ? [line.answer.kind] : [])), (kind) => kind);
    for (const kind of ["accepted", "rejected", "state", "rows"] as const) expect(answers.get(kind)?.length ?? 0, kind).toBeGreaterThan(20);
    expect(lines.filter((line) => "kind" in line && line.calm).length, "calls in the calm").toBeGreaterThan(20);
  });
});
