/**
 * Views and checkpoints in one schema: a table for each build, a row of `checkpoints` for where it stands.
 *
 * Q1 A commit is one statement, so one transaction and one round trip. It moves the checkpoint first, if and only if that stands on the revision that the
 *    writer builds on, and only then writes rows: whoever comes second waits, finds another revision and writes nothing (V1, V2 of the port).
 *    The revision is one fence: a process that was paused while another one went on can write nothing when it wakes.
 *    The epoch is the other: whoever becomes the owner (ownership.ts) takes the next one first, and from then on nobody before it can write, whether the
 *    new owner has written yet or not.
 * Q2 The same statement tells the channel; who listens reads the checkpoint, which stands by then (V3).
 * Q3 `get` answers from the rows that this process knows as of the newest revision that it knows (row-cache.ts), otherwise from the table, as all else does.
 * Q4 Views in SQL of the caller's own have their part in sql-pages.ts.
 * Q5 Text of the caller runs in a transaction that cannot write, through a cursor, so that it is a query and its answer is bounded.
 */
import { InvalidArgument, isTidemarkError, ReadModelStopped, StoreClosed } from "../../errors.ts";
import type { BuildKey, Checkpoint, Claim, OpenOptions, OpenView, Row, SavedCheckpoint, SqlDefinition, TableReader, ViewDefinition, ViewStore } from "../../readmodel/view-store.ts";
import type { Position } from "../position.ts";
import { quoted, type Cells, type Database } from "./database.ts";
import type { Listener } from "./listener.ts";
import { HELD, lockKey, Ownership } from "./ownership.ts";
import { PG, sqlState, toTidemarkError } from "./postgres-error.ts";
import { RowCache } from "./row-cache.ts";
import { sqlAccess } from "./sql-pages.ts";
import { ensureSqlBuild, standingSqlBuild, type SqlBuild } from "./sql-view-schema.ts";
import { FENCED, moveStatement, OF_BUILD, writeStatement, writingOf, type Writing } from "./view-commit.ts";
import { keyText } from "./view-key.ts";
import { countQuery, findQuery, type Query } from "./view-query.ts";
import { dropBuild, ensureBuild, standingBuild, viewsChannel, type BuildTable } from "./view-schema.ts";

/** Most rows that one `sql` hands back. */
const MAX_SQL_ROWS = 100_000;
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

/** How the checkpoint of one build is read and moved. */
interface Moves {
  readonly name: string;
  /** Values of `OF_BUILD` and `FENCED`. */
  readonly fence: (onRevision: number) => readonly unknown[];
  /** Held, shared, by the transaction of each page in SQL, so that a new owner finds those of an old one. */
  readonly pageLock: string;
  readonly claiming: Pick<OpenView, "claim">;
  /** Q1, and Q2: the beginning and the end of a commit's statement. */
  readonly text: string;
  readonly tell: string;
  readonly cache: RowCache;
  readonly values: (next: Checkpoint, onRevision: number) => readonly unknown[];
  readonly checkpoint: () => Promise<SavedCheckpoint>;
  readonly commit: (next: Checkpoint, onRevision: number, writing?: Writing, write?: string) => Promise<"committed" | "lost">;
}

class PostgresViews implements ViewStore {
  readonly dialect = "postgres";
  readonly #db: Database;
  readonly #schema: string;
  readonly #checkpoints: string;
  readonly #channel: string;
  readonly #listener: Listener;
  readonly #ownership: Ownership | undefined;
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
    this.#ownership = listener.connects ? new Ownership(db.environment) : undefined;
  }

  async builds(model: string): Promise<readonly (BuildKey & { readonly active: boolean })[]> {
    const rows = await this.#run(() => this.#db.query(`SELECT version, build, active FROM ${this.#checkpoints} WHERE model = $1 ORDER BY version, build`, [model]));
    return rows.map(([version, build, active]) => ({ model, version: Number(version), build: Number(build), active: active === "t" }));
  }

  async open({ model, version, build }: BuildKey, definition: ViewDefinition, { asItStands = false }: OpenOptions = {}): Promise<OpenView> {
    this.#listen();
    const key = { model, version, build };
    const [db, schema] = [this.#db, this.#schema];
    if (definition.kind === "table") {
      const table = await this.#run(() => (asItStands ? standingBuild(db, schema, key) : ensureBuild(db, schema, key, definition)));
      if (table !== undefined) return this.#tableView(key, table);
    } else {
      const own = await this.#run(() => (asItStands ? standingSqlBuild(db, schema, key) : ensureSqlBuild(db, schema, key, definition)));
      if (own !== undefined) return this.#sqlView(key, definition, own);
    }
    // Its version before was a view of the other kind, or somebody has just dropped it.
    if (!(await this.builds(model)).some((standing) => standing.version === version && standing.build === build)) throw gone(key);
    return this.#foreignView(key);
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

  #tableView(key: BuildKey, build: BuildTable): OpenView {
    const moves = this.#moves(key, build.definition);
    const write = writeStatement(moves.text, build);
    return {
      reader: this.#reader(key, build, moves.cache),
      checkpoint: moves.checkpoint,
      commit: (changes, next, onRevision) => {
        const writing = changes.size === 0 ? undefined : writingOf(changes, build, key);
        return moves.commit(next, onRevision, writing, write);
      },
      ...moves.claiming,
      watch: (listener) => this.#watch(moves.name, listener),
    };
  }

  #sqlView(key: BuildKey, definition: SqlDefinition, build: SqlBuild): OpenView {
    const moves = this.#moves(key, build.definition);
    const sql = sqlAccess(definition, {
      db: this.#db,
      key,
      build,
      pageLock: moves.pageLock,
      lock: async (session, onRevision) => (await session.query(`SELECT 1 FROM ${this.#checkpoints} WHERE ${OF_BUILD} AND ${FENCED} FOR NO KEY UPDATE`, moves.fence(onRevision))).length > 0,
      move: async (session, next, onRevision) => (await session.query(`${moves.text} ${moves.tell}`, moves.values(next, onRevision))).length > 0,
      moveAlone: (next, onRevision) => moves.commit(next, onRevision),
      committed: (revision) => this.#tell(moves.name, revision),
      assertStands: moves.checkpoint,
    });
    const refused = (): Promise<never> => Promise.reject(new InvalidArgument(`the tables of read model ${key.model} are its own: they are read and written in SQL`, { details: { ...key } }));
    return {
      reader: { get: refused, find: refused, count: refused },
      sql,
      checkpoint: moves.checkpoint,
      commit: (changes, next, onRevision) => (changes.size === 0 ? moves.commit(next, onRevision) : refused()),
      ...moves.claiming,
      watch: (listener) => this.#watch(moves.name, listener),
    };
  }

  /** A build whose rows cannot be read as this version reads them: queries wait until this version has taken over. */
  #foreignView(key: BuildKey): OpenView {
    const moves = this.#moves(key, "");
    const refused = (): Promise<never> =>
      Promise.reject(new ReadModelStopped(`read model ${key.model} is answered by version ${key.version}, whose view is of another kind: it can be read when the new version has caught up`, { retryable: true, details: { ...key } }));
    return {
      reader: { get: refused, find: refused, count: refused },
      sql: { page: () => { throw gone(key); }, read: refused },
      checkpoint: moves.checkpoint,
      commit: async () => "lost",
      watch: (listener) => this.#watch(moves.name, listener),
    };
  }

  /** What all kinds of builds have: their place in the log, and how it moves (Q1, Q2). */
  #moves(key: BuildKey, definition: string): Moves {
    const db = this.#db;
    const id = [key.model, key.version, key.build] as const;
    const name = nameOf(key);
    const text = moveStatement(this.#checkpoints);
    const tell = `SELECT pg_notify('${this.#channel}', revision || $12) FROM moved`;
    const cache = this.#caches.get(name) ?? new RowCache();
    this.#caches.set(name, cache);
    const pageLock = lockKey(`page ${this.#schema} ${name}`);
    let epoch: number | null = null;
    const fence = (onRevision: number): readonly unknown[] => [...id, onRevision, definition, epoch];
    const values = (next: Checkpoint, onRevision: number): readonly unknown[] => {
      const last = next.last === undefined ? null : JSON.stringify(next.last);
      return [...fence(onRevision), next.store, JSON.stringify(next.position), last, next.events, next.recordedAt ?? null, ` ${name}`];
    };
    const claim = async (signal: AbortSignal): Promise<Claim> => {
      const hold = await (this.#ownership as Ownership).claim({ name: `${this.#schema} ${name}`, shards: 1 }, 0, signal);
      try {
        epoch = await this.#nextEpoch(key, pageLock);
      } catch (error) {
        hold.release();
        throw error;
      }
      const release = (): void => {
        // Nothing is written any more without a new claim.
        epoch = -1;
        hold.release();
      };
      return { ended: hold.ended, release };
    };
    return {
      name,
      text,
      fence,
      pageLock,
      claiming: this.#ownership === undefined ? {} : { claim },
      tell,
      cache,
      values,
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
      commit: async (next, onRevision, writing, write) => {
        if (this.#closed) throw closed(db);
        if (!cache.committing(onRevision)) return "lost";
        try {
          const moved = await this.#run(() => db.query(`${writing === undefined ? text : write} ${tell}`, [...values(next, onRevision), ...(writing?.values ?? [])]));
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
    };
  }

  /** Ends what an owner before has left open, and fences it off. Errors: ReadModelStopped, StoreUnavailable. */
  #nextEpoch(key: BuildKey, pageLock: string): Promise<number> {
    return this.#run(async () => {
      await this.#db.query(`SELECT pg_terminate_backend(pid) FROM ${HELD}`, [pageLock]).catch((error: unknown) => {
        if (sqlState(error) !== PG.privilege) throw error;
      });
      const [row] = await this.#db.query(`UPDATE ${this.#checkpoints} SET epoch = epoch + 1 WHERE ${OF_BUILD} RETURNING epoch`, [key.model, key.version, key.build]);
      if (row === undefined) throw gone(key);
      return Number(row[0]);
    });
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

  /** Q5. */
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
    if (this.#unlisten === undefined && this.#ownership !== undefined) this.#listener.house(this.#ownership);
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
