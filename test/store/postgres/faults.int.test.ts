import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { systemClock, type Clock } from "../../../src/environment.ts";
import type { EventStore, LogPage } from "../../../src/store/event-store.ts";
import { postgresStore, type PostgresStoreOptions } from "../../../src/store/postgres/index.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { appendOf, readChecked, until } from "./shared.ts";
import { administer, available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

describe.skipIf(!available)("PostgreSQL that fails", () => {
  let database: TestDatabase;
  let proxy: Proxy;
  let schema: string;
  let direct: EventStore;
  const stores: EventStore[] = [];
  const open = async (options: Partial<PostgresStoreOptions> = {}): Promise<EventStore> => {
    const store = await postgresStore({ connection: proxy.url, schema, poolSize: 4, ...options });
    stores.push(store);
    return store;
  };
  beforeAll(async () => void (database = await testDatabase()));
  beforeEach(async () => {
    schema = newSchema();
    proxy = await proxyTo(database.url);
    direct = await open({ connection: database.url });
  });
  afterEach(async () => {
    await proxy.close();
    await Promise.all(stores.splice(0).map((store) => store.close()));
  });
  afterAll(() => database.drop());

  const terminate = (application = "tidemark"): Promise<unknown> =>
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = $2", database.name, application);

  /** Holds the position lock until it is told to let go. */
  async function holdLock(): Promise<() => Promise<void>> {
    const holder = new pg.Client({ connectionString: database.url });
    holder.on("error", () => undefined); // the server may end it while it says goodbye
    await holder.connect();
    await holder.query("BEGIN");
    await holder.query(`SELECT pg_advisory_xact_lock(${0x54_44_4d}, '${schema}.events'::regclass::oid::int)`);
    return async () => {
      await holder.query("ROLLBACK");
      await holder.end();
    };
  }

  /** For tests that make many wait for the lock, and then do more: its bound of seconds is not what they try. */
  const waitWithoutBound = (): Promise<unknown> => database.sql(`ALTER FUNCTION ${schema}.append_exact SET lock_timeout = 0`);

  const waiting = async (): Promise<boolean> =>
    (await database.sql("SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock' AND wait_event = 'advisory'", database.name)).length > 0;

  it("an append whose reply is lost is unknown, and stands; the same ids again are answered as the first time", async () => {
    const store = await open();
    await store.append([appendOf("order-1", 0, ["a"])]);
    proxy.cutAfter = (bytes) => bytes.includes("Happened");
    const [outcome] = await store.append([appendOf("order-1", 1, ["b", "c"])]);
    proxy.cutAfter = undefined;
    expect(outcome?.kind).toBe("unknown");
    await until(async () => (await direct.readStream("order-1")).version === 3, "the append standing");
    expect(await store.append([appendOf("order-1", 1, ["b", "c"])])).toEqual([{ kind: "committed", version: 3, position: { log: 3 } }]);
    expect([...(await readChecked(direct)).keys()]).toEqual(["a", "b", "c"]);
  });

  it("an append that hangs on the way is unknown within the bound, and may stand later; its connection is given up", { timeout: 30_000 }, async () => {
    const environment = { clock: impatientClock() };
    const store = await open({ environment });
    await store.append([appendOf("order-1", 0, ["a"])]);
    proxy.delayMs = 1500;
    const begun = performance.now();
    const [outcome] = await store.append([appendOf("order-1", 1, ["late"])]);
    expect(outcome?.kind).toBe("unknown");
    expect(performance.now() - begun).toBeLessThan(1400);
    proxy.delayMs = 0;
    await until(async () => (await direct.readStream("order-1")).version === 2, "the late append standing", 5000);
    expect(await store.append([appendOf("order-1", 1, ["late"])])).toMatchObject([{ kind: "committed", version: 2 }]);
  });

  it("an append on a half-open connection is unknown within the bound, and the next one goes on a new connection", { timeout: 30_000 }, async () => {
    const store = await open({ environment: { clock: impatientClock() }, poolSize: 1 });
    await store.append([appendOf("order-1", 0, ["a"])]);
    proxy.swallow = true;
    expect((await store.append([appendOf("order-1", 1, ["b"])]))[0]?.kind).toBe("unknown");
    proxy.swallow = false;
    expect((await store.append([appendOf("order-1", 1, ["b"])]))[0]).toMatchObject({ kind: "committed", version: 2 });
    expect((await readChecked(direct)).size).toBe(2);
  });

  it("no connection is a definite refusal: nothing was sent", async () => {
    const store = await open();
    await proxy.close();
    const [outcome] = await store.append([appendOf("order-1", 0, ["a"])]);
    expect(["refused", "unknown"]).toContain(outcome?.kind);
    const [next] = await store.append([appendOf("order-1", 0, ["a"])]);
    expect(next).toMatchObject({ kind: "refused", code: "unavailable", retryable: true });
    await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StoreUnavailable", retryable: true });
    expect((await readChecked(direct)).size).toBe(0);
    proxy = await proxyTo(database.url);
  });

  it("a backend that is terminated in the middle of an append leaves it unknown, and what it stands for is settled by its ids", async () => {
    for (let round = 0; round < 5; round++) {
      const release = await holdLock();
      const appending = direct.append([appendOf("order-1", round, [`e-${round}`])]);
      await until(waiting, "the append waiting for the lock");
      await terminate();
      expect((await appending)[0]?.kind).toBe("unknown");
      await release();
      expect((await direct.append([appendOf("order-1", round, [`e-${round}`])]))[0]).toMatchObject({ kind: "committed", version: round + 1 });
    }
    expect((await readChecked(direct)).size).toBe(5);
  });

  it("a lock that is held for too long is a definite refusal, and nothing of it appears later", async () => {
    const bounds = await database.sql("SELECT p.proname AS name, p.proconfig AS settings FROM pg_proc p WHERE p.pronamespace = $1::regnamespace AND p.proname LIKE 'append%' ORDER BY 1", schema);
    expect(bounds).toEqual(["append_checked", "append_each", "append_exact"].map((name) => ({ name, settings: ["lock_timeout=5s"] })));
    await database.sql(`ALTER FUNCTION ${schema}.append_exact SET lock_timeout = '200ms'`);
    const release = await holdLock();
    const [outcome] = await direct.append([appendOf("order-1", 0, ["a"])]);
    expect(outcome).toMatchObject({ kind: "refused", code: "busy", retryable: true });
    await release();
    expect((await direct.append([appendOf("order-2", 0, ["b"])]))[0]).toMatchObject({ kind: "committed", position: { log: 1 } });
    expect((await direct.readStream("order-1")).version).toBe(0);
  });

  it("a database that takes no writes refuses for certain", async () => {
    await database.sql(`ALTER DATABASE ${database.name} SET default_transaction_read_only = on`);
    try {
      const store = await open({ connection: database.url });
      expect((await store.append([appendOf("order-1", 0, ["a"])]))[0]).toMatchObject({ kind: "refused", code: "unavailable", message: expect.stringContaining("standby"), retryable: true });
    } finally {
      await administer(`ALTER DATABASE ${database.name} RESET default_transaction_read_only`);
    }
  });

  it("a server that takes no more connections refuses for certain", async () => {
    await database.sql(`ALTER DATABASE ${database.name} CONNECTION LIMIT 0`);
    await database.sql("DROP ROLE IF EXISTS tidemark_limited; CREATE ROLE tidemark_limited LOGIN PASSWORD 'limited'");
    try {
      await database.sql(`GRANT USAGE ON SCHEMA ${schema} TO tidemark_limited; GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO tidemark_limited`);
      const limited = new URL(database.url);
      limited.username = "tidemark_limited";
      limited.password = "limited";
      await expect(open({ connection: limited.href })).rejects.toMatchObject({ code: "StoreUnavailable", details: { sqlState: "53300" } });
    } finally {
      await database.sql(`ALTER DATABASE ${database.name} CONNECTION LIMIT -1; DROP OWNED BY tidemark_limited; DROP ROLE tidemark_limited`);
    }
  });

  it("a limit of connections that is reached refuses for certain, and what is refused is never there; with room again it goes on", { timeout: 30_000 }, async () => {
    const role = `${database.name}_few`;
    await database.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'few' CONNECTION LIMIT 2`);
    try {
      await database.sql(`GRANT USAGE ON SCHEMA ${schema} TO ${role}; GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ${role}; GRANT INSERT ON ${schema}.events TO ${role}`);
      const few = await open({ connection: Object.assign(new URL(database.url), { username: role, password: "few" }).href, poolSize: 10, listener: false });
      await waitWithoutBound();
      const release = await holdLock();
      const appending = Array.from({ length: 10 }, (_, n) => few.append([appendOf(`order-${n}`, 0, [`e-${n}`])]));
      const outcomes: string[] = [];
      for (const [n, one] of appending.entries()) void one.then(([outcome]) => (outcomes[n] = outcome?.kind === "refused" ? outcome.code : (outcome?.kind ?? "")));
      await until(() => outcomes.filter((kind) => kind === "busy").length === 8, "eight being refused");
      await release();
      await Promise.all(appending);
      expect(outcomes.toSorted()).toEqual([...Array<string>(8).fill("busy"), "committed", "committed"]);
      const standing = await readChecked(direct);
      expect([...standing.keys()].toSorted()).toEqual(outcomes.flatMap((kind, n) => (kind === "committed" ? [`e-${n}`] : [])).toSorted());
      expect(await few.append([appendOf("order-99", 0, ["later"])])).toMatchObject([{ kind: "committed" }]);
    } finally {
      await Promise.all(stores.splice(0).map((store) => store.close()));
      await database.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it("of 50 that wait for the position lock half are terminated: whoever hears `committed` stands, once, and the others hold up nobody", { timeout: 30_000 }, async () => {
    const many = await open({ connection: database.url, poolSize: 50, listener: false });
    // A busy machine needs seconds for so many connections, which the bounds on connecting and on the lock would count.
    await Promise.all(Array.from({ length: 50 }, (_, n) => many.readStream(`order-${n}`)));
    await waitWithoutBound();
    const release = await holdLock();
    const appending = Array.from({ length: 50 }, (_, n) => many.append([appendOf(`order-${n}`, 0, [`e-${n}`])]));
    const waiters = (): Promise<{ pid: number }[]> => database.sql("SELECT pid FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'advisory' ORDER BY pid", database.name);
    await until(async () => (await waiters()).length === 50, "all fifty waiting");
    await database.sql("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", (await waiters()).filter((_, index) => index % 2 === 0).map(({ pid }) => pid));
    await release();
    const kinds = (await Promise.all(appending)).map(([outcome]) => outcome?.kind);
    expect(kinds.filter((kind) => kind === "committed")).toHaveLength(25);
    expect(kinds.filter((kind) => kind === "unknown")).toHaveLength(25);
    const standing = await readChecked(direct);
    expect([...standing.keys()].toSorted()).toEqual(kinds.flatMap((kind, n) => (kind === "committed" ? [`e-${n}`] : [])).toSorted());
    const again = await Promise.all(kinds.flatMap((kind, n) => (kind === "unknown" ? [many.append([appendOf(`order-${n}`, 0, [`e-${n}`])])] : [])));
    expect(again.every(([outcome]) => outcome?.kind === "committed")).toBe(true);
    expect((await readChecked(direct)).size).toBe(50);
  });

  it("a read on a half-open connection fails by name within its bound, and the next one goes on a new connection", { timeout: 30_000 }, async () => {
    const store = await open({ environment: { clock: impatientClock() }, poolSize: 1, listener: false });
    await store.append([appendOf("order-1", 0, ["a"])]);
    proxy.swallow = true;
    await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StoreUnavailable", retryable: true });
    proxy.swallow = false;
    expect((await store.readStream("order-1")).version).toBe(1);
  });

  describe("under a subscription", () => {
    /** Collects what a subscription gives, and checks that it gives it once and in order. */
    function follow(store: EventStore): { readonly pages: LogPage[]; readonly positions: number[]; stop(): Promise<void> } {
      const abort = new AbortController();
      const pages: LogPage[] = [];
      const positions: number[] = [];
      const ended = (async () => {
        for await (const page of store.subscribe({ pageSize: 7, signal: abort.signal })) {
          pages.push(page);
          for (const event of page.events) positions.push(event.position["log"] ?? 0);
        }
      })().catch((error: unknown) => error);
      return {
        pages,
        positions,
        async stop() {
          abort.abort();
          expect(await ended).toMatchObject({ code: "Aborted" });
          expect(positions).toEqual(positions.map((_, index) => index + 1));
        },
      };
    }

    it("connections that are reset again and again cost time, and no event", { timeout: 30_000 }, async () => {
      const store = await open();
      const follower = follow(store);
      for (let version = 0; version < 300; version++) {
        await direct.append([appendOf("order-1", version, [`e-${version}`])]);
        if (version % 30 === 15) proxy.reset();
      }
      await until(() => follower.positions.length === 300, "all events arriving");
      await follower.stop();
    });

    it("backends that are terminated, the listening one too, cost time, and no event", { timeout: 30_000 }, async () => {
      const store = await open();
      const follower = follow(store);
      for (let version = 0; version < 60; version++) {
        while ((await direct.append([appendOf("order-1", version, [`e-${version}`])]))[0]?.kind !== "committed");
        if (version % 20 === 10) await Promise.all([terminate(), terminate("tidemark listener")]);
      }
      await until(() => follower.positions.length === 60, "all events arriving");
      await follower.stop();
    });

    it("connections that read and are half-open cost time, and no event", { timeout: 30_000 }, async () => {
      const store = await open({ environment: { clock: impatientClock() }, listener: false });
      const follower = follow(store);
      await until(() => follower.pages.length > 0, "the subscription standing");
      for (let round = 0; round < 3; round++) {
        proxy.swallow = true;
        await direct.append([appendOf("order-1", round, [`e-${round}`])]);
        // Long enough for a look of the subscription to be swallowed.
        await new Promise((resolve) => setTimeout(resolve, 200));
        proxy.swallow = false;
        await until(() => follower.positions.length === round + 1, "the event arriving");
      }
      await follower.stop();
    });

    it("a listening connection that is half-open is noticed, and meanwhile the slow poll finds what arrives", { timeout: 30_000 }, async () => {
      const store = await open({ connection: database.url, listener: proxy.url, environment: { clock: impatientClock() } });
      const follower = follow(store);
      await until(() => proxy.accepted === 1 && follower.pages.length > 0, "the listener standing");
      await direct.append([appendOf("order-1", 0, ["a"])]);
      await until(() => follower.positions.length === 1, "the first event");
      proxy.swallow = true;
      await direct.append([appendOf("order-1", 1, ["b"])]);
      await until(() => follower.positions.length === 2, "the second event, by the poll", 12_000);
      await until(() => proxy.accepted > 1, "a new listener being tried");
      proxy.swallow = false;
      await direct.append([appendOf("order-1", 2, ["c"])]);
      await until(() => follower.positions.length === 3, "the third event");
      await follower.stop();
    });

    it("a lower position never commits late; with the lock taken out of the functions it does, and an event is lost", { timeout: 30_000 }, async () => {
      const late = async (): Promise<readonly number[]> => {
        const store = await open({ connection: database.url });
        const follower = follow(store);
        await until(() => follower.pages.length > 0, "the subscription standing");
        const slow = new pg.Client({ connectionString: database.url });
        slow.on("error", () => undefined); // the server may end it while it says goodbye
        await slow.connect();
        await slow.query("BEGIN");
        await slow.query(`SELECT ${schema}.append_exact('{}', '{order-9}', '{1}', '{slow}', '{Happened}', '{1}', '{{}}', '{{}}')`.replaceAll("'{{}}'", `ARRAY['{}']`));
        const quick = direct.append([appendOf("order-8", 0, ["quick"])]);
        const committedFirst = await Promise.race([quick.then(() => true), until(waiting, "the quick one waiting").then(() => false)]);
        if (committedFirst) await until(() => follower.positions.length > 0, "the quick event arriving");
        await slow.query("COMMIT");
        await slow.end();
        await quick;
        await direct.append([appendOf("order-7", 0, ["last"])]);
        await until(() => follower.pages.some((page) => page.events.some((event) => event.id === "last")), "the last event arriving");
        const ids = follower.pages.flatMap((page) => page.events.map((event) => event.id));
        await follower.stop().catch(() => undefined);
        return ids.length === 3 ? follower.positions : [];
      };
      expect(await late()).toEqual([1, 2, 3]);

      schema = newSchema();
      direct = await open({ connection: database.url });
      // The mutant: no lock, and positions from a sequence, as a log without it would have them.
      const [{ source } = { source: "" }] = await database.sql<{ source: string }>(`SELECT pg_get_functiondef('${schema}.append_exact'::regproc) AS source`);
      await database.sql(`CREATE SEQUENCE ${schema}.drawn`);
      const mutant = source.replace(/PERFORM pg_advisory_xact_lock[^;]+;/, "").replace(/SELECT coalesce\(max\(e\.position\), 0\) INTO base[^;]+;/, `base := nextval('${schema}.drawn') - 1;`);
      expect(mutant.length).toBeLessThan(source.length);
      await database.sql(mutant);
      expect(await late()).toEqual([]);
    });
  });
});

/** A clock on which every wait of more than a second takes half of one. */
function impatientClock(): Clock {
  return { ...systemClock, setTimer: (delayMs, task, options) => systemClock.setTimer(delayMs > 1000 ? 500 : delayMs, task, options) };
}
