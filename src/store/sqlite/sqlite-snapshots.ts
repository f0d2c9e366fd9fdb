/**
 * Snapshots in the file of the events: a table of its own, the newest of each stream.
 */
import type { SQLOutputValue } from "node:sqlite";
import { StoreClosed } from "../../errors.ts";
import type { SnapshotStore, StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import type { Position } from "../position.ts";
import { throwIfAborted } from "../validate-read.ts";
import { toTidemarkError } from "./sqlite-error.ts";
import type { SqliteFile } from "./sqlite-file.ts";

/** Takes over one hold of the file. A batch is saved in one transaction. Errors: StoreClosed, StoreUnavailable, StoreCorrupt, Aborted. */
export function snapshotsOn(file: SqliteFile): SnapshotStore {
  file.retain();
  const { db } = file;
  const select = db.prepare("SELECT * FROM snapshots WHERE stream = ?");
  const remove = db.prepare("DELETE FROM snapshots WHERE stream = ?");
  const put = db.prepare(`
    INSERT INTO snapshots (stream, version, event_id, position, schema_version, taken_at, checksum, window, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (stream) DO UPDATE SET version = excluded.version, event_id = excluded.event_id, position = excluded.position, schema_version = excluded.schema_version,
      taken_at = excluded.taken_at, checksum = excluded.checksum, window = excluded.window, state = excluded.state
    WHERE excluded.version >= snapshots.version`);
  let closed = false;

  async function run<T>(work: () => T, what: string, signal?: AbortSignal): Promise<T> {
    try {
      return await file.whenFree(() => {
        throwIfAborted(signal, what);
        if (closed) throw new StoreClosed("the snapshot store is closed", { details: { file: file.path } });
        return work();
      }, signal);
    } catch (error) {
      throwIfAborted(signal, what);
      throw toTidemarkError(error, file.path);
    }
  }

  return {
    async load(stream, signal) {
      const row = await run(() => select.get(stream), `loading the snapshot of ${stream}`, signal);
      if (row === undefined) return undefined;
      try {
        return toSnapshot(row);
      } catch {
        file.environment.logger.warn({ stream, file: file.path }, "a damaged snapshot is ignored");
        return undefined;
      }
    },
    async save(snapshots) {
      if (snapshots.length === 0 && !closed) return;
      const rows = snapshots.map((s) => [s.stream, s.version, s.eventId, JSON.stringify(s.position), s.schemaVersion, s.takenAt, s.checksum, s.window, s.state] as const);
      await run(
        () =>
          file.transaction(() => {
            for (const row of rows) put.run(...row);
          }),
        "saving snapshots",
      );
    },
    async delete(stream) {
      await run(() => file.transaction(() => remove.run(stream)), `deleting the snapshot of ${stream}`);
    },
    async close() {
      if (closed) return;
      closed = true;
      file.release();
    },
  };
}

function toSnapshot(row: Record<string, SQLOutputValue>): StoredSnapshot {
  return {
    stream: String(row["stream"]),
    version: Number(row["version"]),
    eventId: String(row["event_id"]),
    position: JSON.parse(String(row["position"])) as Position,
    schemaVersion: Number(row["schema_version"]),
    state: String(row["state"]),
    window: String(row["window"]),
    checksum: String(row["checksum"]),
    takenAt: Number(row["taken_at"]),
  };
}
