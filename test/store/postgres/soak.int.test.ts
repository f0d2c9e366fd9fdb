import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { postgresStore } from "../../../src/store/postgres/index.ts";
import { check } from "../../soak/processes/check.ts";
import type { CallRecord } from "../../soak/processes/record.ts";
import { start, type Child } from "./processes.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { randomFrom, readChecked, until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Date.now() % 100_000);
/** Longer where it is asked for: TIDEMARK_SOAK_SECONDS=600. */
const DURATION_MS = 1000 * Number(process.env["TIDEMARK_SOAK_SECONDS"] ?? 8);

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

  it("nobody is told what the log does not hold: I1 to I5 on what all of them have heard", { timeout: DURATION_MS + 60_000 }, async () => {
    const schema = newSchema();
    const random = randomFrom(SEED);
    const records: CallRecord[] = [];
    let started = 0;
    const begin = async (): Promise<Child> => {
      const child = start("caller.ts", `${proxy.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=4`, String(SEED * 1000 + started), `p${started++}`);
      child.onLine = (line) => {
        if (line.startsWith("{")) records.push(JSON.parse(line) as CallRecord);
      };
      await until(() => child.lines[0] === "ready", "a process being ready", 20_000);
      return child;
    };
    const running = [await begin(), await begin(), await begin()];
    const terminate = (): Promise<unknown> =>
      database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'tidemark%' AND random() < 0.5", database.name);
    const attacks: Readonly<Record<string, (index: number) => Promise<unknown>>> = {
      async kill(index) {
        running[index]?.process.kill("SIGKILL");
        await running[index]?.exited;
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
    };
    const names = Object.keys(attacks);
    const end = performance.now() + DURATION_MS;
    for (let n = 0; performance.now() < end; n++) {
      await pause(300 * (0.5 + random()));
      await attacks[names[n % names.length] as string]?.(Math.floor(random() * running.length));
    }
    for (const child of running) child.send("end");
    expect(await Promise.all(running.map(({ exited }) => exited))).toEqual([0, 0, 0]);

    const store = await postgresStore({ connection: database.url, schema });
    const events = [...(await readChecked(store)).values()].map(
      ({ stream, version, type, data, metadata }) => ({ stream, version, type, amount: (JSON.parse(data) as { amount: number }).amount, commandId: metadata.commandId, chosen: metadata.fingerprint !== undefined }),
    );
    await store.close();
    expect(check(events, records)).toEqual([]);
    const kinds = Map.groupBy(records, ({ answer }) => answer.kind);
    for (const kind of ["accepted", "rejected", "state", "row"] as const) expect(kinds.get(kind)?.length ?? 0, kind).toBeGreaterThan(20);
  });
});
