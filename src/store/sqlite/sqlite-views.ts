/**
 * Views and checkpoints in one SQLite file of their own: a table for each build, a row of `checkpoints` for where it stands.
 *
 * Q1 A commit is one transaction that moves the checkpoint first, if and only if it stands on the revision that the writer builds on, and then writes
 *    the rows: whoever comes second finds another revision and writes nothing (V1, V2 of the port).
 * Q2 The file is synchronous=NORMAL: after a power failure it stands as of an earlier commit, rows and checkpoint together, and what is missing is read again.
 * Q3 Text of the caller runs on a connection that cannot write.
 */
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { InvalidArgument, ReadModelStopped, StoreClosed } from "../../errors.ts";
import type { BuildKey, OpenOptions, OpenView, Row, SavedCheckpoint, TableDefinition, TableReader, ViewStore } from "../../readmodel/view-store.ts";
import { toJson } from "../codec.ts";
import type { Position } from "../position.ts";
import { ChangeWatch } from "./change-watch.ts";
import { SQLITE, sqliteCode, toTidemarkError } from "./sqlite-error.ts";
import type { SqliteFile } from "./sqlite-file.ts";
import { countQuery, findQuery, type Query } from "./view-query.ts";
import { dropBuild, ensureBuild, type BuildTable } from "./view-schema.ts";

/** Most rows that one `sql` hands back. */
const MAX_SQL_ROWS = 100_000;
const MAX_STATEMENTS = 64;
const OF_BUILD = "model = ? AND version = ? AND build = ?";

/** Takes over one hold of the file. */
export function viewsOn(file: SqliteFile): ViewStore {
  return new SqliteViews(file.retain());
}

class SqliteViews implements ViewStore {
  readonly #file: SqliteFile;
  readonly #changes: ChangeWatch;
  readonly #listeners = new Map<string, Set<() => void>>();
  #readOnly: DatabaseSync | undefined;
  #closed = false;

  constructor(file: SqliteFile) {
    this.#file = file;
    this.#changes = new ChangeWatch(file);
  }

  async builds(model: string): Promise<readonly (BuildKey & { readonly active: boolean })[]> {
    const rows = await this.#run(() => this.#file.db.prepare("SELECT version, build, active FROM checkpoints WHERE model = ? ORDER BY version, build").all(model));
    return rows.map((row) => ({ model, version: Number(row["version"]), build: Number(row["build"]), active: row["active"] === 1 }));
  }

  async open(key: BuildKey, table: TableDefinition, { asItStands = false }: OpenOptions = {}): Promise<OpenView> {
    const build = await this.#run(() => this.#file.transaction(() => ensureBuild(this.#file.db, key, table, asItStands)));
    return this.#view({ model: key.model, version: key.version, build: key.build }, build);
  }

  async activate(key: BuildKey): Promise<void> {
    const { db } = this.#file;
    await this.#run(() =>
      this.#file.transaction(() => {
        if (db.prepare(`SELECT 1 FROM checkpoints WHERE ${OF_BUILD}`).get(key.model, key.version, key.build) === undefined) throw gone(key);
        db.prepare("UPDATE checkpoints SET active = (version = ? AND build = ?) WHERE model = ?").run(key.version, key.build, key.model);
      }),
    );
    this.#notifyAll();
  }

  async drop(key: BuildKey): Promise<void> {
    await this.#run(() => this.#file.transaction(() => dropBuild(this.#file.db, key)));
    this.#notifyAll();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#changes.close();
    this.#listeners.clear();
    this.#readOnly?.close();
    this.#file.release();
  }

  #view(key: BuildKey, build: BuildTable): OpenView {
    const file = this.#file;
    const { db } = file;
    const id = [key.model, key.version, key.build] as const;
    const select = db.prepare(`SELECT revision, store, position, last, events, recorded_at FROM checkpoints WHERE ${OF_BUILD}`);
    const move = db.prepare(
      `UPDATE checkpoints SET revision = revision + 1, store = ?, position = ?, last = ?, events = ?, recorded_at = ? WHERE ${OF_BUILD} AND revision = ?`,
    );
    const put = db.prepare(`INSERT INTO ${build.table} (${build.key}, "row") VALUES (?, ?) ON CONFLICT (${build.key}) DO UPDATE SET "row" = excluded."row"`);
    const remove = db.prepare(`DELETE FROM ${build.table} WHERE ${build.key} = ?`);
    const name = JSON.stringify(id);
    return {
      reader: this.#reader(key, build),
      checkpoint: async () => {
        const row = await this.#run(() => select.get(...id));
        if (row === undefined) throw gone(key);
        return toCheckpoint(row);
      },
      commit: async (changes, next, onRevision) => {
        // Before the lock is taken: a row that cannot be written fails the commit as a whole.
        const writes = Array.from(changes, ([rowKey, row]) => [rowKey, row === null ? null : toJson(row, `a row of ${key.model}`)] as const);
        const position = JSON.stringify(next.position);
        const last = next.last === undefined ? null : JSON.stringify(next.last);
        const committed = await this.#run(() =>
          file.transaction(() => {
            // Q1.
            const moved = move.run(next.store, position, last, next.events, next.recordedAt ?? null, ...id, onRevision);
            if (Number(moved.changes) === 0) return false;
            for (const [rowKey, row] of writes) {
              if (row === null) remove.run(rowKey);
              else put.run(rowKey, row);
            }
            return true;
          }),
        );
        if (committed) for (const listener of this.#listeners.get(name) ?? []) listener();
        return committed ? "committed" : "lost";
      },
      watch: (listener) => {
        if (this.#closed) return () => undefined;
        const own = this.#listeners.get(name) ?? new Set();
        this.#listeners.set(name, own);
        // An object of its own for each call, so that one listener given twice ends twice.
        const call = (): void => listener();
        own.add(call);
        const unwatch = this.#changes.add(call);
        return () => {
          unwatch();
          own.delete(call);
          if (own.size === 0 && this.#listeners.get(name) === own) this.#listeners.delete(name);
        };
      },
    };
  }

  #reader(key: BuildKey, build: BuildTable): TableReader {
    const { db } = this.#file;
    const get = db.prepare(`SELECT "row" FROM ${build.table} WHERE ${build.key} = ?`);
    const statements = new Map<string, StatementSync>();
    const read = async <T>(query: Query, take: (statement: StatementSync, parameters: readonly SQLInputValue[]) => T): Promise<T> =>
      this.#run(() => {
        let statement = statements.get(query.text);
        if (statement === undefined) {
          if (statements.size >= MAX_STATEMENTS) statements.clear();
          statements.set(query.text, (statement = db.prepare(query.text)));
        }
        return take(statement, query.parameters);
      }, key);
    return {
      get: async (rowKey) => {
        const row = await this.#run(() => get.get(rowKey), key);
        return row === undefined ? undefined : toRow(row);
      },
      find: async (where, options) => (await read(findQuery(build, where, options), (statement, parameters) => statement.all(...parameters))).map(toRow),
      count: async (where) => read(countQuery(build, where), (statement, parameters) => Number(statement.get(...parameters)?.["n"])),
      sql: async (text, ...parameters) => this.#run(() => this.#sql(text.replaceAll("{table}", () => build.table), parameters)),
    };
  }

  /** Q3. */
  #sql(text: string, parameters: readonly unknown[]): readonly Row[] {
    const values = parameters.map(toInput);
    if (this.#readOnly === undefined) {
      this.#readOnly = new DatabaseSync(this.#file.path, { readOnly: true });
      this.#readOnly.exec("PRAGMA query_only = ON; PRAGMA busy_timeout = 10; PRAGMA trusted_schema = OFF");
    }
    try {
      const rows: Row[] = [];
      for (const row of this.#readOnly.prepare(text).iterate(...values)) {
        if (rows.push({ ...row }) > MAX_SQL_ROWS) throw new InvalidArgument(`the query has more than ${MAX_SQL_ROWS} rows: add a LIMIT`);
      }
      return rows;
    } catch (error) {
      const code = sqliteCode(error);
      if (code === SQLITE.ERROR || code === SQLITE.READONLY || code === SQLITE.RANGE || error instanceof RangeError || error instanceof TypeError) {
        throw new InvalidArgument(`the query failed: ${(error as Error).message}`, { cause: error });
      }
      throw error;
    }
  }

  /** `key`: the work reads this build's table, which is missing only where the build was dropped. */
  async #run<T>(work: () => T, key?: BuildKey): Promise<T> {
    try {
      return await this.#file.whenFree(() => {
        if (this.#closed) throw new StoreClosed("the view store is closed", { details: { file: this.#file.path } });
        return work();
      });
    } catch (error) {
      if (key !== undefined && sqliteCode(error) === SQLITE.ERROR && (error as Error).message.includes("no such table")) throw gone(key, error);
      throw toTidemarkError(error, this.#file.path);
    }
  }

  #notifyAll(): void {
    for (const own of this.#listeners.values()) for (const listener of own) listener();
  }
}

function gone(key: BuildKey, cause?: unknown): ReadModelStopped {
  return new ReadModelStopped(`read model ${key.model} has no build ${key.build} of version ${key.version}`, { cause, details: { ...key } });
}

function toRow(row: Record<string, SQLOutputValue>): Row {
  return JSON.parse(String(row["row"])) as Row;
}

function toCheckpoint(row: Record<string, SQLOutputValue>): SavedCheckpoint {
  const { revision, store, position, last, events, recorded_at: recordedAt } = row;
  return {
    position: JSON.parse(String(position)) as Position,
    store: String(store),
    events: Number(events),
    revision: Number(revision),
    ...(last !== null && { last: JSON.parse(String(last)) as NonNullable<SavedCheckpoint["last"]> }),
    ...(recordedAt !== null && { recordedAt: Number(recordedAt) }),
  };
}

function toInput(value: unknown): SQLInputValue {
  if (typeof value === "boolean") return value ? 1 : 0;
  if (value === null || typeof value === "string" || typeof value === "number" || typeof value === "bigint" || value instanceof Uint8Array) return value;
  throw new InvalidArgument(`a parameter of sql must be text, a number, a boolean, bytes or null, not ${value === undefined ? "undefined" : typeof value}`);
}
