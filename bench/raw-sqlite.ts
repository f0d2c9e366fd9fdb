/**
 * The reference of durable writes: `node:sqlite` alone, with prepared statements, writing the rows of an event log into Tidemark's own schema,
 * one transaction for each 100 rows. It checks no versions, makes no ids and answers nobody.
 */
import { DatabaseSync } from "node:sqlite";
import { environmentOf } from "../src/environment.ts";
import { LOG_FILE } from "../src/store/sqlite/log-schema.ts";

export interface RawRow {
  readonly stream: number;
  readonly version: number;
  readonly category: number;
  readonly id: string;
  readonly type: string;
  readonly recordedAt: number;
  readonly metadata: string;
  readonly data: string;
}

/** What a log holds: its rows in the order of their positions, and the names that they refer to. */
export interface RawLog {
  readonly categories: readonly string[];
  readonly streams: readonly { readonly category: number; readonly name: string }[];
  readonly rows: readonly RawRow[];
}

export const ROWS_PER_TRANSACTION = 100;

/** Reads the file of an event log as it stands. */
export function readRaw(file: string): RawLog {
  const db = new DatabaseSync(file, { readOnly: true });
  try {
    const rows = db.prepare("SELECT stream, version, category, id, type, recorded_at AS recordedAt, metadata, data FROM events ORDER BY position").all() as unknown as RawRow[];
    const streams = db.prepare("SELECT category, name FROM streams ORDER BY id").all() as unknown as { category: number; name: string }[];
    const categories = db.prepare("SELECT name FROM categories ORDER BY id").all() as unknown as { name: string }[];
    return { categories: categories.map(({ name }) => name), streams, rows };
  } finally {
    db.close();
  }
}

/** Writes the log into a new file and returns the milliseconds from the first to the last transaction. WAL, synchronous=FULL, the same caches as Tidemark. */
export function writeRaw(file: string, { categories, streams, rows }: RawLog): number {
  const db = new DatabaseSync(file);
  try {
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16000");
    for (const migration of LOG_FILE.migrations) migration(db, environmentOf());
    const begin = db.prepare("BEGIN IMMEDIATE");
    const commit = db.prepare("COMMIT");
    const insertCategory = db.prepare("INSERT INTO categories (id, name) VALUES (?, ?)");
    const insertStream = db.prepare("INSERT INTO streams (id, category, name) VALUES (?, ?, ?)");
    const insertEvent = db.prepare("INSERT INTO events (position, stream, version, category, id, type, recorded_at, metadata, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    const start = performance.now();
    let position = 0;
    let knownStreams = 0;
    for (let from = 0; from < rows.length; from += ROWS_PER_TRANSACTION) {
      begin.run();
      if (from === 0) categories.forEach((name, index) => insertCategory.run(index + 1, name));
      for (let i = from; i < Math.min(rows.length, from + ROWS_PER_TRANSACTION); i++) {
        const row = rows[i] as RawRow;
        for (; knownStreams < row.stream; knownStreams++) {
          const stream = streams[knownStreams] as RawLog["streams"][number];
          insertStream.run(knownStreams + 1, stream.category, stream.name);
        }
        insertEvent.run(++position, row.stream, row.version, row.category, row.id, row.type, row.recordedAt, row.metadata, row.data);
      }
      commit.run();
    }
    return performance.now() - start;
  } finally {
    db.close();
  }
}
