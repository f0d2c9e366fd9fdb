import { closeSync, existsSync, openSync, statSync, writeFileSync, writeSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { environmentOf } from "../../../src/environment.ts";
import { sqliteBackend, sqliteDefaults, sqliteSnapshots, sqliteStore, sqliteViews } from "../../../src/store/sqlite/index.ts";
import { LOG_FILE } from "../../../src/store/sqlite/log-schema.ts";
import { CommitFailed } from "../../../src/store/sqlite/sqlite-error.ts";
import { eventsOn } from "../../../src/store/sqlite/sqlite-events.ts";
import { SqliteFile } from "../../../src/store/sqlite/sqlite-file.ts";
import type { StoredSnapshot } from "../../../src/snapshot/snapshot-store.ts";
import { appendOf, folder } from "./support.ts";

const environment = environmentOf();
let files: ReturnType<typeof folder>;
beforeEach(() => void (files = folder()));
afterEach(() => files.dispose());

function code(make: () => unknown): string {
  try {
    make();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return "no error";
}

describe("the files of a SQLite backend", () => {
  it("are made with their folder, the views beside the log", async () => {
    const backend = sqliteBackend({ file: files.path("data/orders.db") });
    await backend.views?.builds("x");
    await backend.close();
    await backend.close();
    expect(existsSync(files.path("data/orders.db"))).toBe(true);
    expect(existsSync(files.path("data/orders.views.db"))).toBe(true);
  });

  it("keep the same identity when they are opened again", async () => {
    const file = files.path("log.db");
    const first = sqliteStore({ file });
    const { id } = await first.identity();
    await first.close();
    const second = sqliteStore({ file });
    expect(await second.identity()).toEqual({ id });
    await second.close();
  });

  it("flush every commit by default, and only the log's", () => {
    expect(sqliteDefaults.synchronous).toBe("full");
    for (const [synchronous, level] of [["full", 2], ["normal", 1]] as const) {
      const file = new SqliteFile(files.path(`${synchronous}.db`), LOG_FILE, synchronous, environment).retain();
      expect(file.db.prepare("PRAGMA synchronous").get()).toEqual({ synchronous: level });
      expect(file.db.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
      file.release();
    }
  });

  it("are refused when a newer Tidemark wrote them", async () => {
    const file = files.path("log.db");
    await sqliteStore({ file }).close();
    const db = new DatabaseSync(file);
    db.exec("PRAGMA user_version = 99");
    db.close();
    expect(() => sqliteStore({ file })).toThrow(/schema version 99.*knows up to 1.*Update Tidemark/s);
    expect(code(() => sqliteStore({ file }))).toBe("SchemaTooNew");
  });

  it("are refused when they are of another kind, and left as they are", async () => {
    const file = files.path("other.db");
    const db = new DatabaseSync(file);
    db.exec("CREATE TABLE mine (a)");
    db.close();
    const size = statSync(file).size;
    expect(code(() => sqliteStore({ file }))).toBe("InvalidArgument");
    expect(code(() => sqliteViews({ file }))).toBe("InvalidArgument");
    expect(statSync(file).size).toBe(size);
    await sqliteStore({ file: files.path("log.db") }).close();
    expect(code(() => sqliteViews({ file: files.path("log.db") }))).toBe("InvalidArgument");
  });

  it("are refused as damaged when they are no database", () => {
    const file = files.path("log.db");
    writeFileSync(file, "not a database, ".repeat(1000));
    expect(code(() => sqliteStore({ file }))).toBe("StoreCorrupt");
  });

  it("are named as damaged when pages of them are overwritten, by reads and by appends", async () => {
    const file = files.path("log.db");
    const store = sqliteStore({ file });
    for (let version = 0; version < 50; version++) await store.append([appendOf("order-1", version, [`e-${version}`], JSON.stringify("x".repeat(3000)))]);
    await store.close();
    const handle = openSync(file, "r+");
    const size = statSync(file).size;
    for (let at = 4096; at < size; at += 4096) writeSync(handle, Buffer.alloc(4096, 0xa5), 0, 4096, at);
    closeSync(handle);
    const damaged = sqliteStore({ file });
    await expect(damaged.identity()).rejects.toMatchObject({ code: "StoreCorrupt" });
    await expect(damaged.readStream("order-1")).rejects.toMatchObject({ code: "StoreCorrupt" });
    for (const read of [damaged.readAll(), damaged.subscribe()]) {
      await expect(read[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "StoreCorrupt" });
    }
    expect((await damaged.append([appendOf("order-1", 50, ["e-50"])]))[0]).toMatchObject({ kind: "refused", code: "corrupt", retryable: false });
    await damaged.close();
  });

  it.each(["", ":memory:", "file:log.db?mode=memory", "a\0b"])("cannot be called %j", (file) => {
    expect(code(() => sqliteStore({ file }))).toBe("InvalidArgument");
  });

  it("take no other setting of synchronous", () => {
    expect(code(() => sqliteStore({ file: files.path("log.db"), synchronous: "off" as "full" }))).toBe("InvalidArgument");
  });
});

describe("an append that SQLite fails", () => {
  let file: SqliteFile;
  beforeEach(() => void (file = new SqliteFile(files.path("log.db"), LOG_FILE, "full", environment)));

  it("is refused as disk-full when there is no room, leaves nothing behind, and succeeds when there is room again", async () => {
    const store = eventsOn(file);
    file.db.exec(`PRAGMA max_page_count = ${Number(file.db.prepare("PRAGMA page_count").get()?.["page_count"]) + 20}`);
    let version = 0;
    let refusal: unknown;
    while (refusal === undefined && version < 100) {
      const [outcome] = await store.append([appendOf("order-1", version, [`e-${version}`], JSON.stringify("x".repeat(9000)))]);
      if (outcome?.kind === "committed") version = outcome.version;
      else refusal = outcome;
    }
    expect(refusal).toMatchObject({ kind: "refused", code: "disk-full" });
    expect((await store.readStream("order-1")).version).toBe(version);
    file.db.exec("PRAGMA max_page_count = 100000");
    expect((await store.append([appendOf("order-1", version, [`e-${version}`], JSON.stringify("x".repeat(9000)))]))[0]).toMatchObject({ kind: "committed", version: version + 1 });
    await store.close();
  });

  it("is unknown when COMMIT itself fails, but for a full disk", async () => {
    const store = eventsOn(file);
    const failWith = (errcode: number): void => {
      file.transaction = () => {
        throw new CommitFailed(Object.assign(new Error("as SQLite says it"), { errcode }));
      };
    };
    const ioErrorOnFlush = 10 | (4 << 8);
    failWith(ioErrorOnFlush);
    expect((await store.append([appendOf("order-1", 0, ["e-1"])]))[0]).toMatchObject({ kind: "unknown" });
    failWith(13);
    expect((await store.append([appendOf("order-1", 0, ["e-1"])]))[0]).toMatchObject({ kind: "refused", code: "disk-full" });
    await store.close();
  });

  it("forgets the versions of a transaction that was rolled back", async () => {
    const store = eventsOn(file);
    await store.append([appendOf("order-1", 0, ["e-1"])]);
    file.db.exec("CREATE TEMP TRIGGER fail BEFORE INSERT ON events WHEN new.type = 'Happened' AND new.id = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END");
    const outcomes = await store.append([appendOf("order-1", 1, ["e-2"]), appendOf("order-2", 0, ["bad"])]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(["refused", "refused"]);
    expect((await store.append([appendOf("order-1", 1, ["e-2"]), appendOf("order-2", 0, ["good"])])).map(({ kind }) => kind)).toEqual(["committed", "committed"]);
    await store.close();
  });

  it("finds its way when what it remembers is wrong: the unique index has the last word", async () => {
    const store = eventsOn(file);
    await store.append([appendOf("order-1", 0, ["e-1"])]);
    // On its own connection a change does not move data_version: this is what a wrong memory looks like.
    file.db.exec("INSERT INTO events (position, stream, version, category, id, type, recorded_at, metadata, data) SELECT 2, stream, 2, category, 'rogue', type, recorded_at, metadata, data FROM events");
    expect((await store.append([appendOf("order-1", 1, ["e-2"])]))[0]).toMatchObject({ kind: "conflict", actual: 2 });
    expect((await store.append([appendOf("order-1", 2, ["e-3"])]))[0]).toMatchObject({ kind: "committed", version: 3, position: { log: 3 } });
    await store.close();
  });
});

describe("pages of the log", () => {
  it("are bounded in bytes", async () => {
    const store = sqliteStore({ file: files.path("log.db") });
    const data = JSON.stringify("x".repeat(3_000_000));
    for (let version = 0; version < 7; version++) await store.append([appendOf("order-1", version, [`e-${version}`], data)]);
    for (const categories of [undefined, ["order"]]) {
      const sizes: number[] = [];
      for await (const page of store.readAll(categories === undefined ? {} : { categories })) sizes.push(page.events.length);
      expect(sizes).toEqual([3, 3, 1]);
    }
    const slice = await store.readStream("order-1");
    expect([slice.events.length, slice.next]).toEqual([3, 4]);
    await store.close();
  });

  it("move on a long log of other categories in bounded steps", async () => {
    const file = new SqliteFile(files.path("log.db"), LOG_FILE, "normal", environment);
    const store = eventsOn(file);
    await store.append([appendOf("other-1", 0, ["e-1"])]);
    file.db.exec(`
      WITH RECURSIVE n (v) AS (SELECT 2 UNION ALL SELECT v + 1 FROM n WHERE v < 120000)
      INSERT INTO events (position, stream, version, category, id, type, recorded_at, metadata, data) SELECT v, 1, v, 1, 'e-' || v, 'Happened', 0, '{}', '{}' FROM n`);
    const through: unknown[] = [];
    for await (const page of store.readAll({ categories: ["order"] })) through.push([page.events.length, page.through, page.caughtUp]);
    expect(through).toEqual([[0, { log: 50_000 }, false], [0, { log: 100_000 }, false], [0, { log: 120_000 }, true]]);
    await store.close();
  });
});

describe("snapshots in SQLite", () => {
  const snapshot = (stream: string, version: number, more: Partial<StoredSnapshot> = {}): StoredSnapshot => ({
    stream,
    version,
    eventId: `e-${version}`,
    position: { log: version * 10 },
    schemaVersion: 1,
    state: JSON.stringify({ version }),
    window: "[]",
    checksum: "c",
    takenAt: 1_700_000_000_123,
    ...more,
  });

  it("keep the newest of a stream, take another of the same version, and outlive the process", async () => {
    const file = files.path("log.db");
    const snapshots = sqliteSnapshots({ file });
    await snapshots.save([snapshot("order-1", 5), snapshot("order-2", 1)]);
    await snapshots.save([snapshot("order-1", 3)]);
    expect(await snapshots.load("order-1")).toEqual(snapshot("order-1", 5));
    await snapshots.save([snapshot("order-1", 5, { schemaVersion: 2 })]);
    await snapshots.close();
    const again = sqliteSnapshots({ file });
    expect(await again.load("order-1")).toEqual(snapshot("order-1", 5, { schemaVersion: 2 }));
    expect(await again.load("order-2")).toEqual(snapshot("order-2", 1));
    await again.delete("order-1");
    expect(await again.load("order-1")).toBeUndefined();
    expect(await again.load("nobody-1")).toBeUndefined();
    await again.close();
    await expect(again.load("order-2")).rejects.toMatchObject({ code: "StoreClosed" });
    await expect(again.save([])).rejects.toMatchObject({ code: "StoreClosed" });
  });

  it("share the file of the events without disturbing them", async () => {
    const backend = sqliteBackend({ file: files.path("log.db") });
    await backend.events.append([appendOf("order-1", 0, ["e-1"])]);
    await backend.snapshots?.save([snapshot("order-1", 1)]);
    expect((await backend.events.append([appendOf("order-1", 1, ["e-2"])]))[0]).toMatchObject({ kind: "committed", version: 2 });
    expect((await backend.snapshots?.load("order-1"))?.version).toBe(1);
    await backend.events.close();
    expect((await backend.snapshots?.load("order-1"))?.version).toBe(1);
    await backend.close();
  });

  it("are ignored, with a warning, when a row is damaged", async () => {
    const warnings: string[] = [];
    const quiet = (): void => undefined;
    const logger = { debug: quiet, info: quiet, error: quiet, warn: (_: object, message: string) => void warnings.push(message) };
    const file = files.path("log.db");
    const snapshots = sqliteSnapshots({ file, environment: { logger } });
    await snapshots.save([snapshot("order-1", 1)]);
    const db = new DatabaseSync(file);
    db.exec("UPDATE snapshots SET position = '{'");
    db.close();
    expect(await snapshots.load("order-1")).toBeUndefined();
    expect(warnings).toHaveLength(1);
    await snapshots.close();
  });
});
