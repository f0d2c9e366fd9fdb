/**
 * Everything on SQLite (built into Node): events and snapshots in one file, read models in another beside it.
 */
import { join, parse } from "node:path";
import { environmentOf, type Environment } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";
import type { ViewStore } from "../../readmodel/view-store.ts";
import type { SnapshotStore } from "../../snapshot/snapshot-store.ts";
import type { Backend } from "../backend.ts";
import type { EventStore } from "../event-store.ts";
import { LOG_FILE } from "./log-schema.ts";
import { eventsOn } from "./sqlite-events.ts";
import { SqliteFile, type Synchronous } from "./sqlite-file.ts";
import { snapshotsOn } from "./sqlite-snapshots.ts";
import { viewsOn } from "./sqlite-views.ts";
import { VIEW_FILE } from "./view-schema.ts";

export type { Synchronous } from "./sqlite-file.ts";

export interface SqliteFileOptions {
  /** Path of the file; it and its folder are made where they are missing. */
  readonly file: string;
  readonly environment?: Partial<Environment>;
}

export interface SqliteStoreOptions extends SqliteFileOptions {
  /**
   * SQLite's `synchronous`. `full`: what was acknowledged survives a power failure. `normal`: it survives the death of the process, and the last
   * commits may be lost with the power; several times faster for small groups.
   */
  readonly synchronous?: Synchronous;
}

export interface SqliteBackendOptions extends SqliteStoreOptions {
  /** Path of the file of read models; default `orders.views.db` beside `orders.db`. */
  readonly viewsFile?: string;
}

export const sqliteDefaults = { synchronous: "full" } as const satisfies { readonly synchronous: Synchronous };

/** Events, snapshots and views of one service. Opens the files at once. Errors: InvalidArgument, SchemaTooNew, StoreCorrupt, StoreUnavailable. */
export function sqliteBackend(options: SqliteBackendOptions): Backend {
  const log = logFile(options).retain();
  try {
    const views = sqliteViews({ ...options, file: options.viewsFile ?? viewsFileOf(log.path) });
    const events = eventsOn(log);
    const snapshots = snapshotsOn(log);
    return {
      events,
      snapshots,
      views,
      async close() {
        await views.close();
        await snapshots.close();
        await events.close();
      },
    };
  } finally {
    log.release();
  }
}

/** Events alone. Errors: as sqliteBackend. */
export function sqliteStore(options: SqliteStoreOptions): EventStore {
  return eventsOn(logFile(options));
}

/** Snapshots alone; the file may be that of a store's events. Errors: as sqliteBackend. */
export function sqliteSnapshots(options: SqliteStoreOptions): SnapshotStore {
  return snapshotsOn(logFile(options));
}

/** Views and checkpoints alone. Their file is synchronous=normal: what a power failure takes is projected again, still exactly once. Errors: as sqliteBackend. */
export function sqliteViews(options: SqliteFileOptions): ViewStore {
  return viewsOn(new SqliteFile(options.file, VIEW_FILE, "normal", environmentOf(options.environment)));
}

function logFile(options: SqliteStoreOptions): SqliteFile {
  const { synchronous = sqliteDefaults.synchronous } = options;
  if (synchronous !== "full" && synchronous !== "normal") throw new InvalidArgument(`synchronous must be "full" or "normal", not ${JSON.stringify(synchronous)}`);
  return new SqliteFile(options.file, LOG_FILE, synchronous, environmentOf(options.environment));
}

function viewsFileOf(path: string): string {
  const { dir, name } = parse(path);
  return join(dir, `${name}.views.db`);
}
