import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { postgresStore, type PostgresStoreOptions } from "../../../src/store/postgres/index.ts";
import type { EventStore } from "../../../src/store/event-store.ts";
import { killAll, start, type Child } from "../../support/processes.ts";
import { appendOf, randomFrom, readChecked, STREAMS, until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? 20_261_125);

/** The ids that a child has heard acknowledged. */
const acknowledged = ({ lines }: Child): string[] => lines.filter((line) => line !== "ready" && !line.startsWith("conflicts")).flatMap((line) => line.split(" "));

describe.skipIf(!available)("writers on one log in PostgreSQL", () => {
  let database: TestDatabase;
  const children: Child[] = [];
  const stores: EventStore[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => {
    await killAll(children);
    await Promise.all(stores.splice(0).map((store) => store.close()));
  });
  afterAll(() => database.drop());

  const child = (...args: readonly string[]): Child => {
    const started = start(join(import.meta.dirname, "child.ts"), ...args);
    children.push(started);
    return started;
  };
  const open = async (schema: string, poolSize = 4, shape: Partial<PostgresStoreOptions> = {}): Promise<EventStore> => {
    const store = await postgresStore({ connection: database.url, schema, poolSize, ...shape });
    stores.push(store);
    return store;
  };

  it("make the schema together and agree on its identity", async () => {
    const schema = newSchema();
    const opening = Array.from({ length: 4 }, () => child("open", database.url, schema));
    for (const { exited } of opening) expect(await exited).toBe(0);
    expect(new Set(opening.map(({ lines }) => lines[0])).size).toBe(1);
  });

  const sideBySide = { commitOrder: "horizon", eventsPerPartition: 1000 } as const;

  it.each([
    [2, "one after the other", {}],
    [4, "one after the other", {}],
    [4, "side by side, in partitions", sideBySide],
  ])("race in %i processes, %s: every acknowledged event stands once, versions and positions have no gaps", async (count, _, shape) => {
    const schema = newSchema();
    const reader = await open(schema, 2, shape);
    const rivals = Array.from({ length: count }, (_, index) => child("write", database.url, schema, `w${index}:100`));
    await until(() => rivals.every(({ lines }) => lines[0] === "ready"), "all being ready", 60_000);
    for (const rival of rivals) rival.send("go");
    for (const { exited } of rivals) expect(await exited).toBe(0);
    const conflicts = rivals.reduce((sum, { lines }) => sum + Number(lines.at(-1)?.split(" ")[1]), 0);
    expect(conflicts).toBeGreaterThan(0);
    const standing = await readChecked(reader, {}, { gaps: shape === sideBySide });
    expect([...standing.keys()].toSorted()).toEqual(rivals.flatMap(acknowledged).toSorted());
  });

  it.each([
    [5, "one after the other", {}],
    [3, "side by side, in partitions", sideBySide],
  ])(`die by kill -9, twice in each of %i rounds at random moments, %s, lose nothing acknowledged and hold up nobody (seed ${SEED})`, { timeout: 60_000 }, async (rounds, _, shape) => {
    const schema = newSchema();
    const random = randomFrom(SEED);
    const survivor = await open(schema, 4, shape);
    const told: string[] = [];
    for (let round = 0; round < rounds; round++) {
      const pair = ["a", "b"].map((name) => child("write", database.url, schema, `${name}${round}:0`));
      await until(() => pair.every(({ lines }) => lines[0] === "ready"), "both being ready", 60_000);
      for (const each of pair) {
        const nth = 2 + Math.floor(random() * 60);
        each.onLine = () => {
          if (each.lines.length >= nth) each.process.kill("SIGKILL");
        };
        each.send("go");
      }
      await Promise.all(pair.map(({ exited }) => exited));
      told.push(...pair.flatMap(acknowledged));
      const begun = performance.now();
      const [outcome] = await survivor.append([appendOf("survivor-1", round, [`s.${round}`])]);
      expect(outcome).toMatchObject({ kind: "committed", version: round + 1 });
      expect(performance.now() - begun, "nobody waits for the dead").toBeLessThan(2000);
    }
    const standing = await readChecked(survivor, {}, { gaps: shape === sideBySide });
    expect(told.length).toBeGreaterThan(15 * rounds);
    expect(told.filter((id) => !standing.has(id))).toEqual([]);
  });

  it("are stopped in the middle of what they do, others go on at once, and when they wake nothing stands twice", { timeout: 60_000 }, async () => {
    const schema = newSchema();
    const survivor = await open(schema);
    const stopped = child("write", database.url, schema, "a:0");
    await until(() => stopped.lines[0] === "ready", "the writer being ready", 60_000);
    stopped.send("go");
    for (let round = 0; round < 5; round++) {
      const soFar = stopped.lines.length;
      await until(() => stopped.lines.length > soFar + 5, "the writer writing");
      stopped.process.kill("SIGSTOP");
      const begun = performance.now();
      for (const stream of STREAMS) expect((await survivor.append([appendOf(stream, "any", [`s.${round}.${stream}`])]))[0]).toMatchObject({ kind: "committed" });
      expect(performance.now() - begun, "nobody waits for one that is stopped").toBeLessThan(4000);
      stopped.process.kill("SIGCONT");
    }
    stopped.process.kill("SIGKILL");
    await stopped.exited;
    const standing = await readChecked(survivor);
    expect(acknowledged(stopped).filter((id) => !standing.has(id))).toEqual([]);
    expect([...standing.keys()].filter((id) => id.startsWith("s."))).toHaveLength(5 * STREAMS.length);
  });

  it("wake a subscription in another process long before it would look by itself", async () => {
    const schema = newSchema();
    const store = await open(schema);
    const writer = child("wake", database.url, schema);
    await until(() => writer.lines.length > 0, "the writer being ready", 60_000);
    const delays: number[] = [];
    for await (const page of store.subscribe()) {
      for (const event of page.events) delays.push(Date.now() - Number(event.data));
      if (delays.length === 41) break;
      if (page.caughtUp) writer.send(`e-${delays.length}`);
    }
    // How fast is the benchmark's to say; a wake-up that was lost would wait for the next look. The median, so that a pause of the machine in one round does not count.
    expect(delays.toSorted((a, b) => a - b)[20]).toBeLessThanOrEqual(250);
  });

  it("in one group all have their own outcome, also when a conflict makes the group go the careful way", async () => {
    const store = await open(newSchema());
    const first = [appendOf("order-1", 0, ["a1", "a2"]), appendOf("order-2", "none", ["b1"]), appendOf("order-3", 0, ["c1"])];
    expect(await store.append(first)).toEqual([
      { kind: "committed", version: 2, position: { log: 2 } },
      { kind: "committed", version: 1, position: { log: 3 } },
      { kind: "committed", version: 1, position: { log: 4 } },
    ]);
    const second = await store.append([appendOf("order-1", 2, ["a3"]), appendOf("order-2", 7, ["b8"]), appendOf("order-3", "exists", ["c2", "c3"]), ...first.slice(1, 2), appendOf("order-4", 2 ** 52, ["d"])]);
    expect(second.map((outcome) => ("version" in outcome ? outcome.version : outcome))).toEqual([3, { kind: "conflict", actual: 1 }, 3, { kind: "refused", code: "duplicate-stream", message: expect.any(String), retryable: true }, { kind: "conflict", actual: 0 }]);
    expect([...(await readChecked(store)).keys()]).toEqual(["a1", "a2", "b1", "c1", "a3", "c2", "c3"]);
  });

  it.each([["one table", {}], ["partitions", { eventsPerPartition: 50 }]])("that lose hear what they missed, in order, up to a hundred events and 64 KB (%s)", async (_, shape) => {
    const store = await open(newSchema(), 4, shape);
    const all = Array.from({ length: 250 }, (_unused, index) => `e-${index + 1}`);
    await store.append([appendOf("order-1", 0, all)]);
    const large = JSON.stringify("x".repeat(20_000));
    await store.append([appendOf("order-2", 0, ["l-1", "l-2", "l-3", "l-4", "l-5"], large), appendOf("order-3", 0, ["h-1"], JSON.stringify("x".repeat(70_000)))]);
    const missed = (await store.append([appendOf("order-1", 200, ["a"]), appendOf("order-1x", 0, ["b"]), appendOf("order-2", 1, ["c"]), appendOf("order-3", 0, ["d"]), appendOf("order-4", 3, ["e"])])).map((outcome) => (outcome.kind === "conflict" ? (outcome.missing?.map(({ id }) => id) ?? "nothing") : outcome.kind));
    expect(missed).toEqual([all.slice(200), "committed", ["l-2", "l-3", "l-4"], "nothing", "nothing"]);
    const [first] = await store.append([appendOf("order-1", "none", ["f"])]);
    expect(first).toMatchObject({ kind: "conflict", actual: 250, missing: (await store.readStream("order-1", { limit: 100 })).events });
  });

  it("never leave a hole: an expectation beyond the end is a conflict on the fast way too", async () => {
    const store = await open(newSchema());
    await store.append([appendOf("order-1", 0, ["a"])]);
    expect(await store.append([appendOf("order-1", 5, ["f"]), appendOf("order-2", 0, ["b"])])).toMatchObject([{ kind: "conflict", actual: 1 }, { kind: "committed", version: 1 }]);
    expect([...(await readChecked(store)).keys()]).toEqual(["a", "b"]);
  });

  it("on 50 connections are served in turn and lose nothing", async () => {
    const store = await open(newSchema(), 50);
    const rounds = Array.from({ length: 50 }, async (_, writer) => {
      for (let version = 0; version < 8; version++) expect((await store.append([appendOf(`order-${writer}`, version, [`${writer}.${version}`])]))[0]?.kind).toBe("committed");
    });
    await Promise.all(rounds);
    expect((await readChecked(store)).size).toBe(400);
    const [{ count } = { count: 0 }] = await database.sql<{ count: number }>("SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = $1 AND application_name = 'tidemark'", database.name);
    expect(count).toBeGreaterThan(40);
  });

  it("do not collapse: with four processes there are as many events a second as with one, give or take", { timeout: 30_000 }, async () => {
    const rate = async (count: number): Promise<number> => {
      const schema = newSchema();
      const writers = Array.from({ length: count }, (_, index) => child("write", database.url, schema, `w${index}:${200 / count}`));
      await until(() => writers.every(({ lines }) => lines[0] === "ready"), "all being ready", 60_000);
      const begun = performance.now();
      for (const writer of writers) writer.send("go");
      await Promise.all(writers.map(({ exited }) => exited));
      return (await readChecked(await open(schema))).size / (performance.now() - begun);
    };
    const alone = await rate(1);
    expect(await rate(4)).toBeGreaterThan(alone / 4);
  });
});
