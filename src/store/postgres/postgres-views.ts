/**
 * Views and checkpoints in one schema: a table for each build, a row of `checkpoints` for where it stands.
 *
 * Q1 A commit is one statement, so one transaction and one round trip. It moves the checkpoint first, if and only if that stands on the revision that the
 *    writer builds on, and only then writes rows: whoever comes second waits, finds another revision and writes nothing (V1, V2 of the port).
 *    The revision is the fence: a process that was paused while another one went on can write nothing when it wakes.
 * Q2 The same statement tells the channel; who listens reads the checkpoint, which stands by then (V3).
 * Q3 `get` answers from the rows that this process knows as of the newest revision that it knows (row-cache.ts), otherwise from the table, as all else does.
 * Q4 Text of the caller runs in a transaction that cannot write, through a cursor, so that it is a query and its answer is bounded.
 */
import { InvalidArgument, isTidemarkError, ReadModelStopped, StoreClosed } from "../../errors.ts";
import type { BuildKey, OpenView, Row, SavedCheckpoint, TableChanges, TableReader, ViewStore } from "../../readmodel/view-store.ts";
import { fieldOf, scalarOf, type Scalar } from "../../readmodel/where.ts";
import { toJson } from "../codec.ts";
import type { Position } from "../position.ts";
import { doubleArray, textArray } from "./binary-array.ts";
import { quoted, type Cells, type Database } from "./database.ts";
import type { Listener } from "./listener.ts";
import { PG, sqlState, toTidemarkError } from "./postgres-error.ts";
import { RowCache } from "./row-cache.ts";
import { keyText, storable } from "./view-key.ts";
import { countQuery, findQuery, type Query } from "./view-query.ts";
import { dropBuild, ensureBuild, viewsChannel, type BuildTable } from "./view-schema.ts";

/** Most rows that one `sql` hands back. */
const MAX_SQL_ROWS = 100_000;
const OF_BUILD = "model = $1 AND version = $2 AND build = $3";
/** What the statement of a commit has before its rows. */
const MOVE_VALUES = 11;
const NO_ROWS: ReadonlyMap<string, string | null> = new Map();

/** Takes one hold of the database. */
export function viewsOn(db: Database, schema: string, listener: Listener): ViewStore {
  return new PostgresViews(db.retain(), schema, listener);
}

/** One open build. */
interface Watched {
  readonly listeners: Set<() => void>;
  /** The last revision that was told to the listeners. */
  told: number;
}

/** The net effect of a page, ready to be written. */
interface Writing {
  /** Each key with its row's JSON, or null where it is deleted. */
  readonly rows: ReadonlyMap<string, string | null>;
  readonly values: readonly Buffer[];
}

class PostgresViews implements ViewStore {
  readonly #db: Database;
  readonly #schema: string;
  readonly #checkpoints: string;
  readonly #channel: string;
  readonly #listener: Listener;
  readonly #watched = new Map<string, Watched>();
  readonly #caches = new Map<string, RowCache>();
  #unlisten: (() => void) | undefined;
  #closed = false;

  constructor(db: Database, schema: string, listener: Listener) {
    this.#db = db;
    this.#schema = schema;
    this.#checkpoints = `${quoted(schema)}.checkpoints`;
    this.#channel = viewsChannel(schema);
    this.#listener = listener;
  }

  async builds(model: string): Promise<readonly (BuildKey & { readonly active: boolean })[]> {
    const rows = await this.#run(() => this.#db.query(`SELECT version, build, active FROM ${this.#checkpoints} WHERE model = $1 ORDER BY version, build`, [model]));
    return rows.map(([version, build, active]) => ({ model, version: Number(version), build: Number(build), active: active === "t" }));
  }

  async open(key: BuildKey, table: Parameters<ViewStore["open"]>[1]): Promise<OpenView> {
    this.#listen();
    const build = await this.#run(() => ensureBuild(this.#db, this.#schema, key, table));
    return this.#view({ model: key.model, version: key.version, build: key.build }, build);
  }

  async activate(key: BuildKey): Promise<void> {
    const activated = await this.#run(() =>
      this.#db.query(
        `WITH chosen AS (SELECT 1 FROM ${this.#checkpoints} WHERE ${OF_BUILD}), moved AS (
           UPDATE ${this.#checkpoints} SET active = (version = $2 AND build = $3) WHERE model = $1 AND EXISTS (SELECT FROM chosen) RETURNING 1
         ) SELECT pg_notify($4, '*') FROM chosen WHERE EXISTS (SELECT FROM moved)`,
        [key.model, key.version, key.build, this.#channel],
      ),
    );
    if (activated.length === 0) throw gone(key);
    this.#buildsChanged();
  }

  async drop(key: BuildKey): Promise<void> {
    await this.#run(() =>
      this.#db.transaction(async (session) => {
        await dropBuild(session, this.#schema, key);
        await session.query("SELECT pg_notify($1, '*')", [this.#channel]);
      }),
    );
    this.#buildsChanged();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unlisten?.();
    this.#watched.clear();
    this.#caches.clear();
    await this.#db.release();
  }

  #view(key: BuildKey, build: BuildTable): OpenView {
    const db = this.#db;
    const id = [key.model, key.version, key.build] as const;
    const name = nameOf(key);
    const move = moveStatement(this.#checkpoints);
    const write = writeStatement(move, build);
    const cache = this.#caches.get(name) ?? new RowCache();
    this.#caches.set(name, cache);
    const tell = `SELECT pg_notify('${this.#channel}', revision || $11) FROM moved`;
    return {
      reader: this.#reader(key, build, cache),
      checkpoint: async () => {
        const [row] = await this.#run(() => db.query(`SELECT revision, store, position, last, events, recorded_at FROM ${this.#checkpoints} WHERE ${OF_BUILD}`, id));
        if (row === undefined) {
          cache.forget();
          throw gone(key);
        }
        const checkpoint = toCheckpoint(row);
        cache.seen(checkpoint.revision);
        return checkpoint;
      },
      commit: async (changes, next, onRevision) => {
        const last = next.last === undefined ? null : JSON.stringify(next.last);
        const moving = [...id, onRevision, build.definition, next.store, JSON.stringify(next.position), last, next.events, next.recordedAt ?? null, ` ${name}`];
        const writing = changes.size === 0 ? undefined : writingOf(changes, build, key);
        if (this.#closed) throw closed(db);
        if (!cache.committing(onRevision)) return "lost";
        try {
          // Q1, Q2.
          const moved = await this.#run(() => (writing === undefined ? db.query(`${move} ${tell}`, moving) : db.query(`${write} ${tell}`, [...moving, ...writing.values])));
          if (moved.length === 0) {
            cache.forget();
            return "lost";
          }
        } catch (error) {
          // Whether it stands, only the next checkpoint tells.
          cache.forget();
          if (sqlState((error as Error).cause) === PG.undefinedTable) return "lost";
          throw error;
        }
        cache.committed(writing?.rows ?? NO_ROWS, onRevision + 1);
        this.#tell(name, onRevision + 1);
        return "committed";
      },
      watch: (listener) => this.#watch(name, listener),
    };
  }

  #reader(key: BuildKey, build: BuildTable, cache: RowCache): TableReader {
    const read = ({ text, values }: Query): Promise<readonly Cells[]> => this.#run(() => this.#db.query(text, values), key);
    const get = `SELECT ${build.row} FROM ${build.table} WHERE ${build.key} = $1`;
    return {
      get: async (rowKey) => {
        if (this.#closed) throw closed(this.#db);
        const text = keyText(rowKey);
        // Q3.
        const known = cache.get(text);
        if (known !== undefined) return known === null ? undefined : (JSON.parse(known) as Row);
        const asOf = cache.revision;
        const [row] = await read({ text: get, values: [text] });
        cache.learn(text, row?.[0] ?? null, asOf);
        return row && toRow(row);
      },
      find: async (where, options) => (await read(findQuery(build, where, options))).map(toRow),
      count: async (where) => Number((await read(countQuery(build, where)))[0]?.[0]),
      sql: (text, ...parameters) => this.#run(() => this.#sql(text.replaceAll("{table}", () => build.table), parameters), key),
    };
  }

  /** Q4. */
  async #sql(text: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    try {
      return await this.#db.transaction(
        async (session) => {
          await session.single(`DECLARE answer NO SCROLL CURSOR FOR ${text}`, parameters);
          const rows = await session.records(`FETCH ${MAX_SQL_ROWS + 1} FROM answer`);
          if (rows.length > MAX_SQL_ROWS) throw new InvalidArgument(`the query has more than ${MAX_SQL_ROWS} rows: add a LIMIT`);
          return rows;
        },
        { begin: "BEGIN READ ONLY" },
      );
    } catch (error) {
      const state = sqlState(error);
      if (state !== undefined && /^(0A|22|25006|26|42)/.test(state) && state !== PG.undefinedTable) {
        throw new InvalidArgument(`the query failed: ${(error as Error).message}`, { cause: error });
      }
      throw error;
    }
  }

  /** From the first build on: caches hear of the commits of others. */
  #listen(): void {
    if (this.#closed) return;
    this.#unlisten ??= this.#listener.add(this.#channel, (payload) => {
      const [, revision, told] = /^(\d+) (.+)$/.exec(payload ?? "") ?? [];
      if (told !== undefined) {
        this.#caches.get(told)?.seen(Number(revision));
        this.#tell(told, Number(revision));
      } else if (payload === undefined) this.#tellAll();
      else this.#buildsChanged();
    });
  }

  #watch(name: string, listener: () => void): () => void {
    if (this.#closed) return () => undefined;
    const watched = this.#watched.get(name) ?? { listeners: new Set(), told: 0 };
    this.#watched.set(name, watched);
    // An object of its own for each call, so that one listener given twice ends twice.
    const call = (): void => listener();
    watched.listeners.add(call);
    return () => {
      watched.listeners.delete(call);
      if (watched.listeners.size === 0 && this.#watched.get(name) === watched) this.#watched.delete(name);
    };
  }

  /** A commit of this process is told at once, and again by the channel. */
  #tell(name: string, revision: number): void {
    const watched = this.#watched.get(name);
    if (watched === undefined || watched.told === revision) return;
    watched.told = revision;
    for (const listener of watched.listeners) listener();
  }

  /** A build was activated or dropped. */
  #buildsChanged(): void {
    for (const cache of this.#caches.values()) cache.forget();
    this.#tellAll();
  }

  #tellAll(): void {
    for (const { listeners } of this.#watched.values()) for (const listener of listeners) listener();
  }

  /** `key`: the work reads this build's table, which is missing only where the build was dropped. */
  async #run<T>(work: () => Promise<T>, key?: BuildKey): Promise<T> {
    if (this.#closed) throw closed(this.#db);
    try {
      return await work();
    } catch (error) {
      if (key !== undefined && sqlState(error) === PG.undefinedTable) throw gone(key, error);
      throw isTidemarkError(error) ? error : toTidemarkError(error, this.#db.name);
    }
  }
}

/** Q1: `moved` has a row if and only if the commit counts. */
function moveStatement(checkpoints: string): string {
  return `WITH moved AS (
    UPDATE ${checkpoints} SET revision = revision + 1, store = $6, position = $7, last = $8, events = $9::bigint, recorded_at = $10::bigint
    WHERE ${OF_BUILD} AND revision = $4::bigint AND definition = $5 RETURNING revision
  )`;
}

function writeStatement(move: string, build: BuildTable): string {
  const columns = [build.key, build.row, ...build.fields.flatMap((field) => [build.text(field), build.number(field)])];
  const types = ["text", "json", ...build.fields.flatMap(() => ["text", "double precision"])];
  const first = MOVE_VALUES + 2;
  const values = types.map((type, index) => `$${first + index}::${type === "json" ? "text" : type}[]`);
  return `${move}, removed AS (
    DELETE FROM ${build.table} WHERE ${build.key} = ANY ($${MOVE_VALUES + 1}::text[]) AND EXISTS (SELECT FROM moved)
  ), written AS (
    INSERT INTO ${build.table} (${columns.join(", ")})
    SELECT ${types.map((type, index) => `c${index}::${type}`).join(", ")} FROM unnest(${values.join(", ")}) u(${types.map((_, index) => `c${index}`).join(", ")}) WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (${build.key}) DO UPDATE SET ${columns.slice(1).map((column) => `${column} = excluded.${column}`).join(", ")}
  )`;
}

/** The values of `writeStatement` after those of the move. Errors: UnserialisableData. */
function writingOf(changes: TableChanges, build: BuildTable, key: BuildKey): Writing {
  const written = new Map<string, string | null>();
  const removed: string[] = [];
  const keys: string[] = [];
  const rows: string[] = [];
  const texts = build.fields.map((): (string | null)[] => []);
  const numbers = build.fields.map((): (number | null)[] => []);
  for (const [rowKey, row] of changes) {
    const text = keyText(rowKey);
    const json = row === null ? null : toJson(row, `a row of ${key.model}`);
    written.set(text, json);
    if (row === null || json === null) {
      removed.push(text);
      continue;
    }
    keys.push(text);
    rows.push(json);
    for (let index = 0; index < build.fields.length; index++) {
      const scalar = jsonScalar(fieldOf(row, build.fields[index] as string));
      texts[index]?.push(typeof scalar === "string" ? storable(scalar) : null);
      numbers[index]?.push(typeof scalar === "number" ? scalar : null);
    }
  }
  const columns = texts.flatMap((column, index) => [textArray(column), doubleArray(numbers[index] ?? [])]);
  return { rows: written, values: [textArray(removed), textArray(keys), textArray(rows), ...columns] };
}

/** The scalar of what JSON makes of a value (a Date is text, NaN is null). */
function jsonScalar(value: unknown): Scalar {
  if (typeof value === "object" && value !== null) return scalarOf(JSON.parse(toJson(value, "a field")));
  const scalar = scalarOf(value);
  return typeof scalar === "number" && !Number.isFinite(scalar) ? null : scalar;
}

function nameOf({ model, version, build }: BuildKey): string {
  return `${model} ${version} ${build}`;
}

function closed(db: Database): StoreClosed {
  return new StoreClosed("the view store is closed", { details: { database: db.name } });
}

function gone(key: BuildKey, cause?: unknown): ReadModelStopped {
  return new ReadModelStopped(`read model ${key.model} has no build ${key.build} of version ${key.version}`, { cause, details: { ...key } });
}

function toRow([row]: Cells): Row {
  return JSON.parse(String(row)) as Row;
}

function toCheckpoint([revision, store, position, last, events, recordedAt]: Cells): SavedCheckpoint {
  return {
    position: JSON.parse(String(position)) as Position,
    store: String(store),
    events: Number(events),
    revision: Number(revision),
    ...(typeof last === "string" && { last: JSON.parse(last) as NonNullable<SavedCheckpoint["last"]> }),
    ...(typeof recordedAt === "string" && { recordedAt: Number(recordedAt) }),
  };
}
