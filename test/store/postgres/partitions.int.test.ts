import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EventStore, LogPage } from "../../../src/store/event-store.ts";
import { archivePostgres, postgresPartitions, postgresSnapshots, postgresStore, restorePostgres, type PostgresStoreOptions } from "../../../src/store/postgres/index.ts";
import { run } from "../../../src/cli/run.ts";
import { aggregate, tidemark as app, type App } from "../../../src/index.ts";
import { appendOf, readChecked, until } from "./shared.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const gaps = { gaps: true } as const;

const Tally = aggregate("tally", {
  initial: () => ({ sum: 0 }),
  events: {
    Added: (tally, { by }: { by: number }) => {
      tally.sum += by;
    },
  },
  commands: { add: (_tally, { by }: { by: number }, { emit }) => emit("Added", { by }) },
  snapshot: { everyEvents: 5 },
});

describe.skipIf(!available)("a log in partitions in PostgreSQL", () => {
  let database: TestDatabase;
  let schema: string;
  let store: EventStore;
  const opened: { close(): Promise<void> }[] = [];
  const options = (): PostgresStoreOptions => ({ connection: database.url, schema });
  const open = async (more: Partial<PostgresStoreOptions> = {}): Promise<EventStore> => {
    const one = await postgresStore({ ...options(), poolSize: 4, eventsPerPartition: 10, ...more });
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

  const events = async (stream: string, from: number, count: number): Promise<void> => {
    const [outcome] = await store.append([appendOf(stream, from, Array.from({ length: count }, (_, index) => `${stream}.${from + index + 1}`))]);
    expect(outcome?.kind, JSON.stringify(outcome)).toBe("committed");
  };
  const pagesOf = async (after = {}, pageSize = 4): Promise<LogPage[]> => {
    const pages: LogPage[] = [];
    for await (const page of store.readAll({ after, pageSize })) pages.push(page);
    return pages;
  };
  const tidemark = async (...args: readonly string[]): Promise<string> => {
    let printed = "";
    await run([...args, "--store", `${database.url}?schema=${schema}`], (text) => (printed += text), {});
    return printed;
  };

  it("has the next partitions before they are needed, made off the path of the appends, by a role that can make no table", async () => {
    const role = `${database.name}_writer`;
    await database.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'least'; GRANT USAGE ON SCHEMA ${schema} TO ${role};
      GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ${role}; GRANT INSERT ON ${schema}.events, ${schema}.event_keys TO ${role}; GRANT SELECT, USAGE ON ${schema}.positions TO ${role}`);
    try {
      const writer = await open({ connection: Object.assign(new URL(database.url), { username: role, password: "least" }).href });
      for (let version = 0; version < 60; version += 3) {
        expect((await writer.append([appendOf("order-1", version, [1, 2, 3].map((n) => `e-${version + n}`))]))[0]).toMatchObject({ kind: "committed" });
        await until(async () => Number((await postgresPartitions(options())).at(-1)?.last) >= version + 3 + 10, "a partition ahead");
      }
      expect((await readChecked(writer, {}, gaps)).size).toBe(60);
    } finally {
      await Promise.all(opened.splice(0).map((one) => one.close()));
      await database.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it("never fails an append because a partition is missing, however large it is, and how ever many come at once", async () => {
    await events("order-1", 0, 75);
    const outcomes = await Promise.all(Array.from({ length: 12 }, (_, n) => store.append([appendOf(`cart-${n}`, 0, Array.from({ length: 20 }, (_unused, index) => `c.${n}.${index}`))])));
    expect(outcomes.flat().map(({ kind }) => kind)).toEqual(Array(12).fill("committed"));
    expect((await store.readStream("order-1")).events.map(({ version }) => version)).toEqual(Array.from({ length: 75 }, (_, index) => index + 1));
    expect((await readChecked(store, {}, gaps)).size).toBe(75 + 240);
  });

  describe("of which the front was archived", () => {
    beforeEach(async () => {
      await postgresPartitions({ ...options(), ahead: 50 });
      // closed-1 ends in the front; order-1 and cart-1 go on after it, order-1 with a snapshot of later.
      await events("closed-1", 0, 4);
      await events("order-1", 0, 8);
      await events("cart-1", 0, 8);
      await events("order-1", 8, 5);
      await events("cart-1", 8, 3);
      await events("order-2", 0, 10);
      const snapshots = await postgresSnapshots(options());
      opened.push(snapshots);
      await snapshots.save([{ stream: "order-1", version: 10, eventId: "order-1.10", position: { log: 22 }, schemaVersion: 1, state: "{}", window: "[]", checksum: "c", takenAt: 1 }]);
    });

    it("says so to whoever begins before it, shows everything after it, and declares where its streams begin", async () => {
      await archivePostgres({ ...options(), through: 20, unreadable: true });
      await expect(pagesOf()).rejects.toMatchObject({ code: "LogArchived", details: { archivedThrough: 20 } });
      await expect(pagesOf({ log: 19 })).rejects.toMatchObject({ code: "LogArchived" });
      for await (const _ of store.subscribe({ after: { log: 20 } })) break;
      await expect((async () => { for await (const _ of store.subscribe()) break; })()).rejects.toMatchObject({ code: "LogArchived" });
      expect((await pagesOf({ log: 20 })).flatMap((page) => page.events.map((event) => event.id))).toEqual([
        ...[9, 10, 11, 12, 13].map((n) => `order-1.${n}`), ...[9, 10, 11].map((n) => `cart-1.${n}`), ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((n) => `order-2.${n}`),
      ]);
      for (const direction of ["forward", "backward"] as const) {
        const slice = await store.readStream("order-1", { direction });
        expect(slice).toMatchObject({ version: 13, firstVersion: 9, next: undefined });
        expect(slice.events.map(({ version }) => version).toSorted((a, b) => a - b)).toEqual([9, 10, 11, 12, 13]);
        expect(await store.readStream("closed-1", { direction })).toMatchObject({ version: 4, firstVersion: 5, events: [], next: undefined });
        expect((await store.readStream("order-2", { direction })).firstVersion).toBe(1);
      }
      expect(await store.readStream("order-1", { direction: "backward", limit: 2 })).toMatchObject({ next: 11 });
      expect(await store.readStream("order-1", { limit: 2 })).toMatchObject({ next: 11 });
    });

    it("keeps what is needed to check versions: no stream begins anew, all go on where they ended", async () => {
      await archivePostgres({ ...options(), through: 20, unreadable: true });
      expect(await database.sql(`SELECT count(*)::int AS keys FROM ${schema}.event_keys WHERE position <= 20`)).toEqual([{ keys: 4 }]);
      for (const expected of ["none", 0, 1, 2, 3] as const) {
        expect(await store.append([appendOf("closed-1", expected, [`again.${expected}`])]), `expecting ${expected}`).toMatchObject([{ kind: "conflict", actual: 4 }]);
        expect(await store.append([appendOf("order-1", expected, ["a", "b"])])).toMatchObject([{ kind: "conflict", actual: 13 }]);
      }
      const [conflict] = await store.append([appendOf("order-1", 8, ["x"])]);
      expect(conflict).toMatchObject({ kind: "conflict", actual: 13, missing: [9, 10, 11, 12, 13].map((version) => ({ version, id: `order-1.${version}` })) });
      expect(await store.append([appendOf("closed-1", 4, ["later"]), appendOf("order-1", 13, ["o"])])).toMatchObject([{ kind: "committed", version: 5 }, { kind: "committed", version: 14 }]);
      expect(await store.readStream("closed-1")).toMatchObject({ version: 5, firstVersion: 5, events: [{ version: 5, id: "later" }] });
    });

    it("is refused while streams could not be read any more, names some, and changes nothing; --dry-run tells the same", async () => {
      await expect(archivePostgres({ ...options(), through: 20 })).rejects.toMatchObject({ code: "StoreRefused", details: { touched: 3, whole: 1, cut: 1, examples: ["cart-1", "closed-1"] } });
      const printed = await tidemark("postgres", "archive", "--through", "25", "--dry-run");
      expect(printed).toMatch(/2 partitions, 3 streams: of 1 nothing is left in the log, 1 have no snapshot[^]*not readable any more: cart-1, closed-1\n[^]*DETACH PARTITION/);
      expect((await readChecked(store, {}, gaps)).size).toBe(38);
      expect(await tidemark("postgres", "archive", "--through", "20", "--unreadable", "--into", `${schema}_old`)).toContain("events_from_1, events_from_11 moved");
      expect(await database.sql(`SELECT count(*)::int AS events FROM ${schema}_old.events_from_1`)).toEqual([{ events: 10 }]);
      expect(await tidemark("postgres", "partitions")).toMatch(/events_from_1 {2}1 to 10 .* archived in [^]*events_from_21 {2}21 to 30 {2}[0-9.]+ MiB\n/);
      await expect(tidemark("postgres", "archive")).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("--through") });
    });

    it("never takes the partition with the last event, and comes back whole, from the youngest on", async () => {
      const all = [...(await readChecked(store, {}, gaps)).values()];
      const report = await archivePostgres({ ...options(), through: 1_000_000, unreadable: true });
      expect(report.partitions.map(({ name }) => name)).toEqual(["events_from_1", "events_from_11", "events_from_21"]);
      expect((await pagesOf({ log: 30 })).flatMap((page) => page.events)).toHaveLength(8);
      await restorePostgres({ ...options(), from: 15 });
      await expect(pagesOf()).rejects.toMatchObject({ code: "LogArchived", details: { archivedThrough: 10 } });
      await database.sql(`ALTER TABLE ${schema}_archive.events_from_1 RENAME TO elsewhere`);
      await expect(restorePostgres({ ...options(), from: 1 })).rejects.toMatchObject({ code: "StoreRefused", message: expect.stringContaining("backup") });
      await database.sql(`ALTER TABLE ${schema}_archive.elsewhere RENAME TO events_from_1`);
      expect(await tidemark("postgres", "restore", "--from", "1")).toContain("events_from_1 restored");
      expect([...(await readChecked(store, {}, gaps)).values()]).toEqual(all);
      expect(await store.append([appendOf("closed-1", 0, ["closed-1.1", "closed-1.2"])]), "the same ids again are answered as the first time").toMatchObject([{ kind: "committed", version: 2 }]);
    });

    it("an actor that takes a stream for new of which the front, or all, was archived finds out, and no stream begins anew", async () => {
      const opens = (): Promise<App> => app({ store: `${database.url}?schema=${schema}`, aggregates: [Tally], actors: { assumeNewAfter: 0 } });
      {
        await using before = await opens();
        await before.at(Tally, "gone").add({ by: 1 });
        for (let n = 1; n <= 5; n++) await before.at(Tally, "kept").add({ by: n });
        await events("filler-1", 0, 30);
        for (let n = 6; n <= 10; n++) await before.at(Tally, "kept").add({ by: n });
      }
      await archivePostgres({ ...options(), through: 60, unreadable: true });
      expect(await store.readStream("tally-kept")).toMatchObject({ version: 10, firstVersion: 6 });
      expect(await store.readStream("tally-gone")).toMatchObject({ version: 1, firstVersion: 2, events: [] });
      await using after = await opens();
      expect(await after.at(Tally, "kept").add({ by: 45 })).toMatchObject({ ok: true, version: 11 });
      expect(await after.at(Tally, "kept").state()).toMatchObject({ version: 11, state: { sum: 100 } });
      await expect(after.at(Tally, "gone").add({ by: 10 })).rejects.toMatchObject({ code: "StoreCorrupt", message: expect.stringContaining("truncated up to version 1") });
      expect(await store.readStream("tally-gone")).toMatchObject({ version: 1 });
    });

    it("a partition that was detached by hand is told, not skipped, by whoever reads a stream in it", async () => {
      await database.sql(`ALTER TABLE ${schema}.events DETACH PARTITION ${schema}.events_from_11`);
      for (const direction of ["forward", "backward"] as const) await expect(store.readStream("order-1", { direction })).rejects.toMatchObject({ code: "StoreCorrupt", message: expect.stringContaining("attach") });
      expect((await store.readStream("order-2")).events).toHaveLength(10);
    });
  });

  it.each(["lock", "horizon"] as const)("(%s) is archived and restored under readers and writers without anybody missing anything unsaid", { timeout: 90_000 }, async (commitOrder) => {
    schema = newSchema();
    store = await open({ commitOrder });
    await postgresPartitions({ ...options(), ahead: 300 });
    for (let n = 0; n < 12; n++) await events(`order-${n % 3}`, 10 * Math.floor(n / 3), 10);
    let busy = true;
    let [told, whole, slices] = [0, 0, 0];
    const readers = Array.from({ length: 2 }, async () => {
      while (busy) {
        try {
          const positions = (await pagesOf({}, 30)).flatMap((page) => page.events.map((event) => event.position["log"] ?? 0));
          // From the first event on, and without a gap: nothing aborts here.
          expect(positions).toEqual(positions.map((_, index) => index + 1));
          whole++;
        } catch (error) {
          expect(error).toMatchObject({ code: "LogArchived" });
          told++;
        }
        for (const direction of ["forward", "backward"] as const) {
          const { events: found, firstVersion, version } = await store.readStream("order-1", { direction });
          expect(found.map((event) => event.version).toSorted((a, b) => a - b)).toEqual(Array.from({ length: version - firstVersion + 1 }, (_, index) => firstVersion + index));
          slices++;
        }
      }
    });
    const writer = (async () => {
      for (let version = 0; busy && version < 150; version++) await events("cart-1", version, 1);
    })();
    for (let through = 40; through <= 80; through += 40) {
      const begun = slices;
      await until(() => slices > begun + 6, "readers reading", 25_000);
      await archivePostgres({ ...options(), through, unreadable: true });
      await until(() => told > 0, "readers being told", 25_000);
      await restorePostgres({ ...options(), from: 1 });
      const before = whole;
      await until(() => whole > before, "the log being whole again", 25_000);
    }
    busy = false;
    await Promise.all([...readers, writer]);
  });
});
