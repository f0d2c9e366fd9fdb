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
import { InvalidArgument, isTidemarkError, ReadModelStopped } from "../../errors.ts";
import { combined, type BuildKey, type OpenOptions, type OpenView, type Row, type SqlDefinition, type TableReader, type ViewDefinition, type ViewStore } from "../../readmodel/view-store.ts";
import { quoted, type Cells, type Database } from "./database.ts";
import type { Listener } from "./listener.ts";
import { Ownership } from "./ownership.ts";
import { PG, sqlState, toTidemarkError } from "./postgres-error.ts";
import { RowCache } from "./row-cache.ts";
import { sqlAccess } from "./sql-pages.ts";
import { ensureSqlBuild, standingSqlBuild, type SqlBuild } from "./sql-view-schema.ts";
import { commitStatement, OF_BUILD, writingOf } from "./view-commit.ts";
import { keyText } from "./view-key.ts";
import { closed, gone, Moves, type MovesPorts } from "./view-moves.ts";
import { countQuery, findQuery, type Query } from "./view-query.ts";
import { dropBuild, ensureBuild, standingBuild, viewsChannel, type BuildTable } from "./view-schema.ts";

/** Most rows that one `sql` hands back. */
const MAX_SQL_ROWS = 100_000;

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

class PostgresViews implements ViewStore {
  readonly dialect = "postgres";
  readonly #db: Database;
  readonly #schema: string;
  readonly #checkpoints: string;
  readonly #channel: string;
  readonly #listener: Listener;
  readonly #ownership: Ownership | undefined;
  readonly #ports: MovesPorts;
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
    this.#ports = {
      db,
      checkpoints: this.#checkpoints,
      channel: this.#channel,
      ownership: this.#ownership,
      cacheOf: (name) => {
        const cache = this.#caches.get(name) ?? new RowCache();
        this.#caches.set(name, cache);
        return cache;
      },
      run: (work) => this.#run(work),
      tell: (name, revision) => this.#tell(name, revision),
      isClosed: () => this.#closed,
    };
  }

  async builds(model: string): Promise<readonly (BuildKey & { readonly active: boolean })[]> {
    const rows = await this.#run(() => this.#db.query(`SELECT version, build, active FROM ${this.#checkpoints} WHERE model = $1 AND shard = 0 ORDER BY version, build`, [model]));
    return rows.map(([version, build, active]) => ({ model, version: Number(version), build: Number(build), active: active === "t" }));
  }

  async open({ model, version, build }: BuildKey, definition: ViewDefinition, { asItStands = false, shards = 1 }: OpenOptions = {}): Promise<OpenView> {
    this.#listen();
    const key = { model, version, build };
    const [db, schema] = [this.#db, this.#schema];
    if (definition.kind === "table") {
      const table = await this.#run(() => (asItStands ? standingBuild(db, schema, key) : ensureBuild(db, schema, key, definition, shards)));
      if (table !== undefined) return this.#inShards(key, table, (moves) => this.#tableView(key, table, moves));
    } else {
      const own = await this.#run(() => (asItStands ? standingSqlBuild(db, schema, key) : ensureSqlBuild(db, schema, key, definition, shards)));
      if (own !== undefined) return this.#inShards(key, own, (moves) => this.#sqlView(key, definition, own, moves));
    }
    // Its version before was a view of the other kind, or somebody has just dropped it.
    if (!(await this.builds(model)).some((standing) => standing.version === version && standing.build === build)) throw gone(key);
    return this.#foreignView(key);
  }

  async activate(key: BuildKey): Promise<void> {
    const activated = await this.#run(() =>
      this.#db.query(
        `WITH chosen AS (SELECT 1 FROM ${this.#checkpoints} WHERE ${OF_BUILD} AND shard = 0), moved AS (
           UPDATE ${this.#checkpoints} SET active = NOT active
           WHERE model = $1 AND shard = 0 AND active <> (version = $2 AND build = $3) AND EXISTS (SELECT FROM chosen)
         ) SELECT pg_notify($4, '*') FROM chosen`,
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

  /** One view, or one for each shard and one over them that is read. */
  #inShards(key: BuildKey, { definition, shards }: Pick<BuildTable, "definition" | "shards">, open: (moves: Moves) => OpenView): OpenView {
    const movesOf = (shard: number): Moves => new Moves(this.#ports, { key, definition, shard, shards });
    if (shards === 1) return open(movesOf(0));
    const parts = Array.from({ length: shards }, (_, shard) => open(movesOf(shard)));
    const { reader, sql } = open(new Moves({ ...this.#ports, cacheOf: () => new RowCache() }, { key, definition, shard: 0, shards }));
    return {
      reader,
      ...(sql && { sql }),
      shards: parts,
      checkpoint: async () => combined(await Promise.all(parts.map((part) => part.checkpoint()))),
      commit: async () => "lost",
      watch: (listener) => {
        const ends = parts.map((part) => part.watch(listener));
        return () => ends.forEach((end) => end());
      },
    };
  }

  #tableView(key: BuildKey, build: BuildTable, moves: Moves): OpenView {
    const statement = commitStatement(this.#checkpoints, this.#schema, this.#channel, build);
    return {
      reader: this.#reader(key, build, moves.cache),
      checkpoint: () => moves.checkpoint(),
      commit: async (changes, next, onRevision) => (changes.size === 0 ? moves.commit(next, onRevision) : moves.commit(next, onRevision, writingOf(changes, build, key), statement)),
      ...moves.claiming,
      watch: (listener) => this.#watch(moves.name, listener),
    };
  }

  #sqlView(key: BuildKey, definition: SqlDefinition, build: SqlBuild, moves: Moves): OpenView {
    const refused = (): Promise<never> => Promise.reject(new InvalidArgument(`the tables of read model ${key.model} are its own: they are read and written in SQL`, { details: { ...key } }));
    return {
      reader: { get: refused, find: refused, count: refused },
      sql: sqlAccess(definition, { db: this.#db, key, build, moves }),
      checkpoint: () => moves.checkpoint(),
      commit: (changes, next, onRevision) => (changes.size === 0 ? moves.commit(next, onRevision) : refused()),
      ...moves.claiming,
      watch: (listener) => this.#watch(moves.name, listener),
    };
  }

  /** A build whose rows cannot be read as this version reads them: queries wait until this version has taken over. */
  #foreignView(key: BuildKey): OpenView {
    const moves = new Moves(this.#ports, { key, definition: "", shard: 0, shards: 1 });
    const refused = (): Promise<never> =>
      Promise.reject(
        new ReadModelStopped(`read model ${key.model} is answered by version ${key.version}, whose view is of another kind: it can be read when the new version has caught up`, { retryable: true, details: { ...key } }),
      );
    return {
      reader: { get: refused, find: refused, count: refused },
      checkpoint: () => moves.checkpoint(),
      commit: async () => "lost",
      watch: (listener) => this.#watch(moves.name, listener),
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

function toRow([row]: Cells): Row {
  return JSON.parse(String(row)) as Row;
}
