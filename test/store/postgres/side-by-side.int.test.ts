import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { covers } from "../../../src/store/position.ts";
import type { EventStore, LogPage } from "../../../src/store/event-store.ts";
import { postgresStore } from "../../../src/store/postgres/index.ts";
import { appendOf, readChecked, until } from "./shared.ts";
import { administer, available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

describe.skipIf(!available)("appends that commit side by side in PostgreSQL", () => {
  let database: TestDatabase;
  let schema: string;
  let store: EventStore;
  const opened: { close(): Promise<void> }[] = [];
  const open = async (): Promise<EventStore> => {
    const one = await postgresStore({ connection: database.url, schema, poolSize: 6, commitOrder: "horizon" });
    opened.push(one);
    return one;
  };
  beforeAll(async () => void (database = await testDatabase()));
  beforeEach(async () => {
    schema = newSchema();
    store = await open();
  });
  afterEach(async () => void (await Promise.all(opened.splice(0).map((one) => one.close()))));
  afterAll(() => database.drop());

  /** An append that has drawn its position and does not commit until it is told to, as on a disk that hangs. */
  async function openAppend(stream: string, id: string): Promise<{ end(how: "COMMIT" | "ROLLBACK"): Promise<void> }> {
    const client = new pg.Client({ connectionString: database.url });
    client.on("error", () => undefined);
    await client.connect();
    await client.query("BEGIN");
    await client.query(`SELECT ${schema}.append_exact('{}', '{${stream}}', '{1}', '{${id}}', '{Happened}', '{1}', ARRAY['{}'], ARRAY['{}'])`);
    return {
      async end(how) {
        await client.query(how);
        await client.end();
      },
    };
  }

  function follow(): { readonly pages: LogPage[]; ids(): string[]; stop(): Promise<void> } {
    const abort = new AbortController();
    const pages: LogPage[] = [];
    const ended = (async () => {
      for await (const page of store.subscribe({ signal: abort.signal })) pages.push(page);
    })().catch((error: unknown) => error);
    return {
      pages,
      ids: () => pages.flatMap((page) => page.events.map((event) => event.id)),
      async stop() {
        abort.abort();
        expect(await ended).toMatchObject({ code: "Aborted" });
      },
    };
  }

  /** What a subscriber gets when the append that drew the lower position commits last. */
  async function lowerCommitsLate(): Promise<readonly string[]> {
    const follower = follow();
    await until(() => follower.pages.length > 0, "the subscription standing");
    const slow = await openAppend("order-9", "slow");
    const [quick] = await store.append([appendOf("order-8", 0, ["quick"])]);
    expect(quick).toMatchObject({ kind: "committed", position: { log: 2 } });
    // Long enough for a reader that does not wait to read it.
    await until(async () => (await database.sql("SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%read_log%'", database.name)).length > 0, "the subscriber looking");
    await new Promise((resolve) => setTimeout(resolve, 150));
    const early = follower.ids();
    await slow.end("COMMIT");
    await store.append([appendOf("order-7", 0, ["last"])]);
    await until(() => follower.ids().includes("last"), "the last event arriving");
    const ids = follower.ids();
    await follower.stop();
    if (ids.length === 3) expect(early, "nothing is shown before it is certain").toEqual([]);
    return ids;
  }

  it("a lower position that commits late is seen, in its place; where readers do not look for open appends it is lost", async () => {
    expect(await lowerCommitsLate()).toEqual(["slow", "quick", "last"]);

    schema = newSchema();
    store = await open();
    const [{ source } = { source: "" }] = await database.sql<{ source: string }>(`SELECT pg_get_functiondef('${schema}.log_horizon'::regproc) AS source`);
    await database.sql(source.replace("RETURN drawn + least(0, behind)", "RETURN drawn"));
    expect(await lowerCommitsLate()).toEqual(["quick", "last"]);
  });

  it("an acknowledged event waits for the append below it, is covered by `through` as soon as it is shown, and needs no notification when that one fails", async () => {
    const follower = follow();
    await until(() => follower.pages.length > 0, "the subscription standing");
    const slow = await openAppend("order-9", "slow");
    const [outcome] = await store.append([appendOf("order-8", 0, ["quick"])]);
    const position = outcome?.kind === "committed" ? outcome.position : {};
    expect((await store.readStream("order-8")).version, "a stream is read at once").toBe(1);
    let all: LogPage[] | undefined;
    const reading = (async () => {
      const pages: LogPage[] = [];
      for await (const page of store.readAll()) pages.push(page);
      all = pages;
    })();
    expect(await store.head?.(), "what comes later is not before now").toEqual({ log: 0 });
    await slow.end("ROLLBACK");
    await until(() => follower.pages.some(({ through }) => covers(through, position)), "the position covered", 1000);
    await reading;
    expect(all?.flatMap(({ events }) => events.map(({ id }) => id))).toEqual(["quick"]);
    expect(all?.at(-1)).toMatchObject({ caughtUp: true, through: position });
    await follower.stop();
  });

  it("nobody else's transaction holds readers back, in this database or another one of the server", async () => {
    const writers = await Promise.all([database.url, undefined].map(async (url) => {
      const client = new pg.Client({ connectionString: url ?? new URL("/postgres", database.url).href });
      client.on("error", () => undefined);
      await client.connect();
      await client.query("BEGIN");
      await client.query("SELECT pg_current_xact_id()");
      return client;
    }));
    await store.append([appendOf("order-1", 0, ["a"])]);
    expect([...(await readChecked(store, {}, { gaps: true })).keys()]).toEqual(["a"]);
    for (const writer of writers) await writer.end();
  });

  it("groups over the same streams in any order never wait for each other in a circle", { timeout: 30_000 }, async () => {
    const other = await open();
    const names = Array.from({ length: 40 }, (_, index) => `order-${index}`);
    for (let round = 0; round < 12; round++) {
      const there = [...names].sort((a, b) => ((a.length * 7919 + round) % 13) - ((b.length * 7919 + round) % 13));
      const groups = [names.map((name) => appendOf(name, round, [`a.${round}.${name}`])), there.toReversed().map((name) => appendOf(name, round, [`b.${round}.${name}`]))];
      const outcomes = await Promise.all([store.append(groups[0] ?? []), other.append(groups[1] ?? [])]);
      const won = outcomes.flat().filter(({ kind }) => kind === "committed").length;
      expect(outcomes.flat().every(({ kind }) => kind === "committed" || kind === "conflict"), JSON.stringify(outcomes.flat().find(({ kind }) => kind === "refused"))).toBe(true);
      expect(won).toBe(names.length);
    }
    expect((await readChecked(store, {}, { gaps: true })).size).toBe(12 * names.length);
  });

  it("any number of writers of one stream with `any` get in, once each and without a gap", async () => {
    const others = [store, await open(), await open()];
    const outcomes = await Promise.all(Array.from({ length: 60 }, (_, n) => (others[n % 3] as EventStore).append([appendOf("order-1", "any", [`e-${n}`]), appendOf(`cart-${n % 5}`, "any", [`c-${n}`])])));
    expect(outcomes.flat().every(({ kind }) => kind === "committed")).toBe(true);
    expect((await store.readStream("order-1")).version).toBe(60);
    expect((await readChecked(store, {}, { gaps: true })).size).toBe(120);
  });

  it("the order of commits is chosen for ever: another one is refused by its name, and none joins what stands", async () => {
    const options = { connection: database.url, schema };
    await expect(postgresStore({ ...options, commitOrder: "lock" })).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("commitOrder horizon"), details: { option: "commitOrder", found: "horizon", wanted: "lock" } });
    await expect(postgresStore({ ...options, eventsPerPartition: 100 })).rejects.toMatchObject({ code: "InvalidArgument", details: { option: "eventsPerPartition" } });
    await expect(postgresStore({ ...options, commitOrder: "none" as "lock" })).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("lock or horizon") });
    const joined = await postgresStore(options);
    opened.push(joined);
    expect(joined.capabilities.groupsInFlight).toBe(store.capabilities.groupsInFlight);
    expect(await joined.append([appendOf("order-1", 0, ["a"])])).toMatchObject([{ kind: "committed" }]);
    const plain = newSchema();
    opened.push(await postgresStore({ connection: database.url, schema: plain }));
    await expect(postgresStore({ connection: database.url, schema: plain, commitOrder: "horizon" })).rejects.toMatchObject({ code: "InvalidArgument", details: { found: "lock" } });
    const both = newSchema();
    const made = await Promise.allSettled([...Array(3).keys()].flatMap(() => (["lock", "horizon"] as const).map((commitOrder) => postgresStore({ connection: database.url, schema: both, commitOrder, poolSize: 1 }))));
    for (const one of made) if (one.status === "fulfilled") opened.push(one.value);
    expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
    expect(await administer("SELECT 1")).toHaveLength(1);
  });
});
