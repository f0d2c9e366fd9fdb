import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { killAll, start, type Child } from "./processes.ts";
import { until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

/** A service in a process of its own, asked over its input. */
interface Service {
  readonly child: Child;
  ask(verb: string, id: string, token?: string): Promise<readonly string[]>;
}

describe.skipIf(!available)("services on one PostgreSQL", () => {
  let database: TestDatabase;
  const children: Child[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(() => killAll(children));
  afterAll(() => database.drop());

  async function service(schema: string): Promise<Service> {
    const child = start("service.ts", `${database.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=6`);
    children.push(child);
    const waiting = new Map<string, (words: readonly string[]) => void>();
    let asked = 0;
    child.onLine = (line) => {
      const [number = "", ...words] = line.split(" ");
      waiting.get(number)?.(words);
      waiting.delete(number);
    };
    await until(() => child.lines[0] === "ready", "the service being ready", 20_000);
    return {
      child,
      ask: (verb, id, token) =>
        new Promise((resolve, reject) => {
          const number = String(++asked);
          waiting.set(number, (words) => (words[0] === "failed" ? reject(new Error(words.join(" "))) : resolve(words)));
          child.send([number, verb, id, ...(token === undefined ? [] : [token])].join(" "));
        }),
    };
  }

  it("answer 10,000 reads of own writes round robin, never stale with the token, and stale without it", { timeout: 90_000 }, async () => {
    const schema = newSchema();
    const services = await Promise.all([service(schema), service(schema), service(schema)]);
    let turn = 0;
    const next = (): Service => services[turn++ % services.length] as Service;
    let staleWithout = 0;
    let reads = 0;
    const client = async (id: string): Promise<void> => {
      for (let n = 1; n <= 100; n++) {
        const [version = "", token] = await next().ask("add", id);
        expect(Number(version)).toBe(n);
        const without = await next().ask("read", id);
        if (Number(without[0]) < n) staleWithout++;
        const [seen] = await next().ask("read", id, token);
        expect(Number(seen), `the read with the token of version ${n} of ${id}`).toBe(n);
        reads++;
      }
    };
    await Promise.all(Array.from({ length: 100 }, (_, index) => client(`c${index}`)));
    expect(reads).toBe(10_000);
    expect(staleWithout).toBeGreaterThan(0);
    const [{ wrong } = { wrong: -1 }] = await database.sql<{ wrong: number }>(`SELECT count(*)::int AS wrong FROM ${schema}_views."shown.shown__v1b1" WHERE ("row"->>'applied')::int <> ("row"->>'version')::int`);
    expect(wrong, "rows to which an event was applied more or less than once").toBe(0);
  });

  it("hand the read model over within 2 s when its owner is stopped, and the owner writes nothing when it wakes", { timeout: 60_000 }, async () => {
    const schema = newSchema();
    const [first, second, writer] = [await service(schema), await service(schema), await service(schema)] as const;
    for (let round = 0; round < 4; round++) {
      const stopped = round % 2 === 0 ? first : second;
      const other = round % 2 === 0 ? second : first;
      // The writer reads too, so it is stopped from projecting by nothing but losing: any of the three may own the read model.
      const [, before] = await writer.ask("add", "a");
      await other.ask("read", "a", before);
      stopped.child.process.kill("SIGSTOP");
      const begun = performance.now();
      const [version = "", token] = await writer.ask("add", "a");
      const [seen] = await other.ask("read", "a", token);
      expect(seen).toBe(version);
      expect(performance.now() - begun).toBeLessThan(2000);
      stopped.child.process.kill("SIGCONT");
      const [later = "", laterToken] = await writer.ask("add", "a");
      expect(await stopped.ask("read", "a", laterToken)).toEqual([later, later]);
    }
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
