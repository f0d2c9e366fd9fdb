/**
 * One SQLite file with its schema, opened by one connection of this process.
 *
 * F1 The connection never holds a transaction or an unfinished statement when control returns to the event loop: reads and writes of this process
 *    never interleave on it, and it pins no snapshot of the WAL.
 * F2 The schema is made and migrated in one transaction that reads the version again once it holds the write lock: any number of processes may open a new file at once.
 * F3 A lock that another process holds blocks the event loop for at most `BUSY_TIMEOUT_MS` at a time; beyond, `whenFree` waits asynchronously, with jitter, up to `BUSY_BOUND_MS`.
 * F4 A file that is not ours (another application's, or of a newer schema) is refused before anything is written to it.
 */
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { delay, type Environment } from "../../environment.ts";
import { InvalidArgument, SchemaTooNew, StoreClosed, StoreUnavailable } from "../../errors.ts";
import { CommitFailed, isBusy, toTidemarkError } from "./sqlite-error.ts";

/** How durable a commit is. `full`: survives a power failure. `normal`: survives the death of the process; a power failure may take the last commits. */
export type Synchronous = "full" | "normal";

/** What kind of file it is, and the steps that make its schema: step k brings version k to k + 1. */
export interface FileKind {
  readonly what: string;
  /** Stands in the file's header (`PRAGMA application_id`). */
  readonly applicationId: number;
  readonly migrations: readonly ((db: DatabaseSync, environment: Environment) => void)[];
}

/** Longest wait for a lock, in milliseconds, before a call gives up. */
export const BUSY_BOUND_MS = 5000;
const BUSY_TIMEOUT_MS = 10;
const LONGEST_PAUSE_MS = 25;
const OPEN_ATTEMPTS = 100;
const OPEN_PAUSE_MS = 50;

export class SqliteFile {
  readonly path: string;
  readonly environment: Environment;
  readonly db: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #rollback: StatementSync;
  #holders = 0;
  #closed = false;

  /** Opens the file, made if it is missing (its folder too). Errors: InvalidArgument, SchemaTooNew, StoreCorrupt, StoreUnavailable. */
  constructor(file: string, kind: FileKind, synchronous: Synchronous, environment: Environment) {
    this.path = checkedPath(file);
    this.environment = environment;
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      this.db = new DatabaseSync(this.path);
    } catch (cause) {
      throw toTidemarkError(cause, this.path);
    }
    try {
      this.#prepare(kind, synchronous);
      this.#begin = this.db.prepare("BEGIN IMMEDIATE");
      this.#commit = this.db.prepare("COMMIT");
      this.#rollback = this.db.prepare("ROLLBACK");
    } catch (error) {
      this.db.close();
      throw toTidemarkError(error, this.path);
    }
  }

  /** Runs `work` in one write transaction, synchronously; what it throws rolls back and is thrown on. F1. Errors: CommitFailed, errors of SQLite. */
  transaction<T>(work: () => T): T {
    this.#begin.run();
    let result: T;
    try {
      result = work();
    } catch (error) {
      this.#undo();
      throw error;
    }
    try {
      this.#commit.run();
    } catch (cause) {
      this.#undo();
      throw new CommitFailed(cause);
    }
    return result;
  }

  /** Calls `work` until no other process holds the lock it needs. F3. Errors: what `work` throws, SQLITE_BUSY beyond the bound, the signal's reason. */
  async whenFree<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    const { clock, random } = this.environment;
    for (let waitedMs = 0, attempt = 0; ; attempt++) {
      if (this.#closed) throw new StoreClosed(`${this.path} is closed`, { details: { file: this.path } });
      try {
        return work();
      } catch (error) {
        if (!isBusy(error) || waitedMs >= BUSY_BOUND_MS) throw error;
      }
      const pauseMs = 1 + random.next() * Math.min(LONGEST_PAUSE_MS, 2 ** Math.min(attempt, 10));
      await delay(clock, pauseMs, signal);
      waitedMs += pauseMs + BUSY_TIMEOUT_MS;
    }
  }

  /** Counts one more user of this file; the last one to release it closes it. */
  retain(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders > 0 || this.#closed) return;
    this.#closed = true;
    this.db.close();
  }

  #undo(): void {
    try {
      this.#rollback.run();
    } catch {
      // SQLite has rolled back by itself (a full disk, an I/O error).
    }
  }

  #prepare(kind: FileKind, synchronous: Synchronous): void {
    const { db } = this;
    db.exec(`PRAGMA busy_timeout = ${OPEN_PAUSE_MS}`);
    const version = patiently(() => this.#refuseForeign(kind));
    const mode = patiently(() => db.prepare("PRAGMA journal_mode = WAL").get()?.["journal_mode"]);
    if (mode !== "wal") throw new StoreUnavailable(`${this.path} cannot use a write-ahead log (is it on a network file system?)`, { details: { file: this.path } });
    // Checkpoints of 16 MiB of log instead of 4 cost fewer writes of the same pages.
    db.exec(`PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16000; PRAGMA trusted_schema = OFF`);
    if (version < kind.migrations.length) patiently(() => this.#migrate(kind));
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  }

  /** F2. */
  #migrate(kind: FileKind): void {
    const { db } = this;
    db.exec("BEGIN IMMEDIATE");
    try {
      const version = pragma(db, "user_version");
      for (const migration of kind.migrations.slice(version)) migration(db, this.environment);
      if (version < kind.migrations.length) db.exec(`PRAGMA application_id = ${kind.applicationId}; PRAGMA user_version = ${kind.migrations.length}`);
      db.exec("COMMIT");
    } catch (error) {
      try {
        db.exec("ROLLBACK");
      } catch {
        // rolled back already
      }
      throw error;
    }
  }

  /** F4; the version of the file's schema, 0 for a new file. One read transaction, so that a file being made is seen before or after, never between. */
  #refuseForeign(kind: FileKind): number {
    const { db, path } = this;
    db.exec("BEGIN");
    try {
      const version = pragma(db, "user_version");
      const applicationId = pragma(db, "application_id");
      const isNew = version === 0 && applicationId === 0 && db.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"] === 0;
      if (!isNew && applicationId !== kind.applicationId) {
        throw new InvalidArgument(`${path} is an SQLite file, but not ${kind.what}: choose another file`, { details: { file: path } });
      }
      if (version > kind.migrations.length) {
        throw new SchemaTooNew(
          `${path} has schema version ${version}; this version of Tidemark knows up to ${kind.migrations.length}. Update Tidemark, or open the file with the version that wrote it.`,
          { details: { file: path, found: version, known: kind.migrations.length } },
        );
      }
      return version;
    } finally {
      db.exec("COMMIT");
    }
  }
}

function checkedPath(file: string): string {
  if (typeof file !== "string" || file === "" || file.includes("\0")) throw new InvalidArgument("file must be the path of an SQLite file");
  if (file === ":memory:" || file.startsWith("file:")) throw new InvalidArgument(`file ${JSON.stringify(file.slice(0, 80))} is not a path; for a store without a file use "memory:"`);
  return resolve(file);
}

function pragma(db: DatabaseSync, name: "user_version" | "application_id"): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name]);
}

/** While a file is being opened nothing else can run anyway: waits synchronously. Switching to WAL answers SQLITE_BUSY without asking the busy handler. */
function patiently<T>(step: () => T): T {
  for (let attempt = 1; ; attempt++) {
    try {
      return step();
    } catch (error) {
      if (!isBusy(error) || attempt === OPEN_ATTEMPTS) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1 + (attempt % OPEN_PAUSE_MS));
    }
  }
}
