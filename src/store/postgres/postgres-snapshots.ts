/**
 * Snapshots in a table beside the events: the newest of each stream.
 */
import { StoreClosed } from "../../errors.ts";
import type { SnapshotStore, StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import type { Position } from "../position.ts";
import { throwIfAborted } from "../validate-read.ts";
import { bigintArray, intArray, textArray } from "./binary-array.ts";
import { quoted, type Cells, type Database, type QueryOptions } from "./database.ts";
import { toTidemarkError } from "./postgres-error.ts";

/** Takes one hold of the database. A batch is saved in one statement. Errors: StoreClosed, StoreUnavailable, StoreCorrupt, Aborted. */
export function snapshotsOn(db: Database, schema: string): SnapshotStore {
  db.retain();
  const table = `${quoted(schema)}.snapshots`;
  const select = `SELECT stream, version, event_id, position, schema_version, taken_at, checksum, "window", state FROM ${table} WHERE stream = $1`;
  const put = `
    INSERT INTO ${table} AS old (stream, version, event_id, position, schema_version, taken_at, checksum, "window", state)
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::text[], $8::text[], $9::text[])
    ON CONFLICT (stream) DO UPDATE SET version = excluded.version, event_id = excluded.event_id, position = excluded.position, schema_version = excluded.schema_version,
      taken_at = excluded.taken_at, checksum = excluded.checksum, "window" = excluded."window", state = excluded.state
    WHERE excluded.version >= old.version`;
  let closed = false;

  async function run(what: string, text: string, values: readonly unknown[], options: QueryOptions = {}): Promise<readonly Cells[]> {
    throwIfAborted(options.signal, what);
    if (closed) throw new StoreClosed("the snapshot store is closed", { details: { database: db.name } });
    try {
      return await db.query(text, values, options);
    } catch (error) {
      throwIfAborted(options.signal, what);
      throw toTidemarkError(error, db.name);
    }
  }

  return {
    async load(stream, signal) {
      const [row] = await run(`loading the snapshot of ${stream}`, select, [stream], { signal });
      if (row === undefined) return undefined;
      try {
        return toSnapshot(row);
      } catch {
        db.environment.logger.warn({ stream, database: db.name }, "a damaged snapshot is ignored");
        return undefined;
      }
    },
    async save(snapshots) {
      if (snapshots.length === 0 && !closed) return;
      const all = newest(snapshots);
      await run("saving snapshots", put, [
        textArray(all.map((one) => one.stream)),
        intArray(all.map((one) => one.version)),
        textArray(all.map((one) => one.eventId)),
        textArray(all.map((one) => JSON.stringify(one.position))),
        intArray(all.map((one) => one.schemaVersion)),
        bigintArray(all.map((one) => one.takenAt)),
        textArray(all.map((one) => one.checksum)),
        textArray(all.map((one) => one.window)),
        textArray(all.map((one) => one.state)),
      ]);
    },
    async delete(stream) {
      await run(`deleting the snapshot of ${stream}`, `DELETE FROM ${table} WHERE stream = $1`, [stream]);
    },
    async close() {
      if (closed) return;
      closed = true;
      await db.release();
    },
  };
}

/** One of each stream, as one statement can write a row only once; in the order of their names, so that two batches never wait for each other. */
function newest(snapshots: readonly StoredSnapshot[]): StoredSnapshot[] {
  const kept = new Map<string, StoredSnapshot>();
  for (const one of snapshots) {
    const other = kept.get(one.stream);
    if (other === undefined || one.version >= other.version) kept.set(one.stream, one);
  }
  return [...kept.values()].sort((a, b) => (a.stream < b.stream ? -1 : 1));
}

function toSnapshot([stream, version, eventId, position, schemaVersion, takenAt, checksum, window, state]: Cells): StoredSnapshot {
  return {
    stream: String(stream),
    version: Number(version),
    eventId: String(eventId),
    position: JSON.parse(String(position)) as Position,
    schemaVersion: Number(schemaVersion),
    state: String(state),
    window: String(window),
    checksum: String(checksum),
    takenAt: Number(takenAt),
  };
}
