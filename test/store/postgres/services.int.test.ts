import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { killAll, type Child } from "../../support/processes.ts";
import { startService, type Service } from "./service-process.ts";
import { until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

describe.skipIf(!available)("services on one PostgreSQL", () => {
  let database: TestDatabase;
  const children: Child[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(() => killAll(children));
  afterAll(() => database.drop());

  const service = (schema: string): Promise<Service> => startService(database, schema, children);

  it("answer 10,000 reads of own writes round robin, never stale with the token, and stale without it, while two of them are killed and started anew", { timeout: 300_000 }, async () => {
    const schema = newSchema();
    const services = await Promise.all([service(schema), service(schema), service(schema)]);
    let turn = 0;
    let staleWithout = 0;
    let unanswered = 0;
    let reads = 0;
    /** The next service, round robin; the one after it where that has just been killed. */
    const ask = async (...question: Parameters<Service["ask"]>): Promise<readonly string[]> => {
      for (;;) {
        const asked = services[turn++ % services.length] as Service;
        try {
          return await asked.ask(...question);
        } catch (error) {
          if (!String(error).includes("has ended")) throw error;
          unanswered++;
        }
      }
    };
    const client = async (id: string): Promise<void> => {
      for (let n = 1, wrote = 0; n <= 100; n++) {
        const [version = "", token] = await ask("add", id);
        // A write that was not answered may stand: then the next one is the version after it.
        expect(Number(version)).toBeGreaterThan(wrote);
        wrote = Number(version);
        const without = await ask("read", id);
        if (Number(without[0]) < wrote) staleWithout++;
        const [seen] = await ask("read", id, token);
        expect(Number(seen), `the read with the token of version ${wrote} of ${id}`).toBe(wrote);
        reads++;
      }
    };
    const restarts = (async () => {
      for (const [index, when] of [
        [0, 3000],
        [1, 6000],
      ] as const) {
        await until(() => reads >= when, `${when} reads`, 240_000);
        services[index]?.child.process.kill("SIGKILL");
        services[index] = await service(schema);
      }
    })();
    await Promise.all([restarts, ...Array.from({ length: 100 }, (_, index) => client(`c${index}`))]);
    expect(reads).toBe(10_000);
    expect(staleWithout).toBeGreaterThan(0);
    expect(unanswered).toBeGreaterThan(0);
    const [{ wrong, events } = { wrong: -1, events: -1 }] = await database.sql<{ wrong: number; events: number }>(
      `SELECT count(*) FILTER (WHERE ("row"->>'applied')::int <> ("row"->>'version')::int)::int AS wrong, sum(("row"->>'applied')::int)::int AS events FROM ${schema}_views."shown.shown__v1b1"`,
    );
    expect(wrong, "rows to which an event was applied more or less than once").toBe(0);
    expect(events).toBe((await database.sql<{ events: number }>(`SELECT count(*)::int AS events FROM ${schema}.events`))[0]?.events);
  });

  it("wait for a token right after a restart of either side", { timeout: 60_000 }, async () => {
    const schema = newSchema();
    let writer = await service(schema);
    let reader = await service(schema);
    for (let round = 1; round <= 3; round++) {
      const [version = "", token] = await writer.ask("add", "a");
      (round % 2 === 0 ? writer : reader).child.process.kill("SIGKILL");
      if (round % 2 === 0) writer = await service(schema);
      else reader = await service(schema);
      expect(await reader.ask("read", "a", token)).toEqual([version, version]);
    }
    expect(await writer.ask("end", "")).toEqual(["closed"]);
  });
});
