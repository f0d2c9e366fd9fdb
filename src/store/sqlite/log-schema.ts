/**
 * The schema of the file that holds events and snapshots.
 *
 * Streams and categories are small integers in the events: the one index beside the log itself, unique (stream, version), then takes most of its
 * insertions near each other, which is three times as fast as text. There is no index on event ids: they are random, and nothing asks for them alone.
 * Positions are 1, 2, 3 … in the order of commits, because SQLite has one writer; no event is ever deleted, so that none is used twice.
 */
import type { FileKind } from "./sqlite-file.ts";

export const LOG_FILE: FileKind = {
  what: "an event log of Tidemark",
  applicationId: 0x54_44_4d_31,
  migrations: [
    (db, { random }) => {
      db.exec(`
        CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
        CREATE TABLE streams (id INTEGER PRIMARY KEY, category INTEGER NOT NULL, name TEXT NOT NULL UNIQUE);
        CREATE TABLE events (
          position INTEGER PRIMARY KEY,
          stream INTEGER NOT NULL,
          version INTEGER NOT NULL,
          category INTEGER NOT NULL,
          id TEXT NOT NULL,
          type TEXT NOT NULL,
          recorded_at INTEGER NOT NULL,
          metadata TEXT NOT NULL,
          data TEXT NOT NULL,
          UNIQUE (stream, version)
        );
        CREATE TABLE snapshots (
          stream TEXT PRIMARY KEY,
          version INTEGER NOT NULL,
          event_id TEXT NOT NULL,
          position TEXT NOT NULL,
          schema_version INTEGER NOT NULL,
          taken_at INTEGER NOT NULL,
          checksum TEXT NOT NULL,
          window TEXT NOT NULL,
          state TEXT NOT NULL
        );`);
      db.prepare("INSERT INTO meta (name, value) VALUES ('identity', ?)").run(random.uuid());
    },
  ],
};
