/**
 * Everything on PostgreSQL (14 and newer) through `pg`: events, snapshots and read models in one database, each schema of them one's own choice.
 */
import type { ClientConfig, Pool } from "pg";
import { environmentOf, type Environment } from "../../environment.ts";
import { InvalidArgument, StoreUnavailable } from "../../errors.ts";
import type { ViewStore } from "../../readmodel/view-store.ts";
import type { SnapshotStore } from "../../snapshot/snapshot-store.ts";
import type { Backend } from "../backend.ts";
import type { EventStore } from "../event-store.ts";
import { archive, partitionsOf, restore, type ArchiveOptions, type ArchiveReport, type Partition } from "./archive.ts";
import { assertSchema, Database, quoted, type DatabaseOptions } from "./database.ts";
import { Listener } from "./listener.ts";
import { assertIsolation, assertLog, assertShape, standingShape, validateShape, type CommitOrder, type LogShape, type WantedShape } from "./log-shape.ts";
import { ensureSchema, plannedSql } from "./migrate.ts";
import { logSchema } from "./migrations.ts";
import { eventsOn } from "./postgres-events.ts";
import { toTidemarkError } from "./postgres-error.ts";
import { snapshotsOn } from "./postgres-snapshots.ts";
import { viewsOn } from "./postgres-views.ts";
import { dropBuilds, listBuilds, type DropOptions, type ViewBuild } from "./view-builds.ts";
import { VIEW_SCHEMA } from "./view-schema.ts";

export type { DropOptions, ViewBuild } from "./view-builds.ts";
export { sqlView, type SqlConnection, type SqlViewOptions } from "./sql-view.ts";

export interface PostgresOptions {
  /** A URL that names a database, or what `pg` takes: host, user, TLS options and the like. One of `connection` and `pool` is needed. */
  readonly connection?: string | ClientConfig;
  /** A pool of the caller's own; it is not closed here. */
  readonly pool?: Pool;
  /** How the one connection that listens for notifications is made; default: as the others. Behind a pooler give the server's own address; without one, or with false, the log is looked at every 90 ms. */
  readonly listener?: string | ClientConfig | false;
  /** Most connections beside the one that listens, where no pool is given. */
  readonly poolSize?: number;
  /** A pooler in transaction mode stands between: nothing is set for a session. */
  readonly pgbouncer?: boolean;
  /** Makes and updates the schemas; false: they are only checked, so that a role without rights of its own suffices. */
  readonly migrate?: boolean;
  readonly environment?: Partial<Environment>;
}

export type { ArchiveOptions, ArchiveReport, Partition } from "./archive.ts";
export type { CommitOrder } from "./log-shape.ts";

export interface PostgresStoreOptions extends PostgresOptions {
  /** Schema of the log and the snapshots. */
  readonly schema?: string;
  /** How appends commit: one after the other, or side by side with readers behind the oldest one. Chosen when the schema is made; another one is refused later. Default: as it stands; for a new schema `lock`. */
  readonly commitOrder?: CommitOrder;
  /** Events in a partition of the log, from 10. Chosen when the schema is made; another one is refused later. Default: as it stands; for a new schema one table. */
  readonly eventsPerPartition?: number;
}

export interface PostgresViewsOptions extends PostgresOptions {
  /** Schema of the tables of read models and their checkpoints. */
  readonly viewsSchema?: string;
}

export type PostgresBackendOptions = PostgresStoreOptions & PostgresViewsOptions;

export const postgresDefaults = { schema: "tidemark", viewsSchema: "tidemark_views", commitOrder: "lock", poolSize: 10, pgbouncer: false, migrate: true } as const;

/** Events, snapshots and views of one service. Connects at once. Errors: InvalidArgument, SchemaTooNew, StoreUnavailable. */
export async function postgresBackend(options: PostgresBackendOptions): Promise<Backend> {
  const schema = schemaOf(options);
  const viewsSchema = viewsSchemaOf(options);
  validateShape(options);
  return linked(options, async ({ db, listener, ...link }) => {
    const shape = await ensureLog(db, schema, options);
    await ensureViews(db, viewsSchema, options);
    const parts = { events: eventsOn(db, schema, shape, listener), snapshots: snapshotsOn(db, schema), views: viewsOn(db, viewsSchema, listener) };
    return {
      ...parts,
      async close() {
        await parts.views.close();
        await parts.snapshots.close();
        await parts.events.close();
        await link.close();
      },
    };
  });
}

/** Events alone. Errors: as postgresBackend. */
export async function postgresStore(options: PostgresStoreOptions): Promise<EventStore> {
  const schema = schemaOf(options);
  validateShape(options);
  return linked(options, async (link) => closing(eventsOn(link.db, schema, await ensureLog(link.db, schema, options), link.listener), link));
}

/** Snapshots alone. Errors: as postgresBackend. */
export async function postgresSnapshots(options: PostgresStoreOptions): Promise<SnapshotStore> {
  const schema = schemaOf(options);
  validateShape(options);
  return linked(options, async (link) => {
    await ensureLog(link.db, schema, options);
    return closing(snapshotsOn(link.db, schema), link);
  });
}

/** Views and checkpoints alone, in the database of the events or in another one. Errors: as postgresBackend. */
export async function postgresViews(options: PostgresViewsOptions): Promise<ViewStore> {
  const schema = viewsSchemaOf(options);
  return linked(options, async (link) => {
    await ensureViews(link.db, schema, options);
    return closing(viewsOn(link.db, schema, link.listener), link);
  });
}

/** Makes and updates both schemas, and returns the SQL that did it; with `dryRun` nothing is run. Errors: as postgresBackend. */
export async function migratePostgres({ dryRun = false, ...options }: PostgresBackendOptions & { readonly dryRun?: boolean }): Promise<readonly string[]> {
  const schema = schemaOf(options);
  const viewsSchema = viewsSchemaOf(options);
  const wanted = validateShape(options);
  return linked({ ...options, listener: false, poolSize: 1 }, async ({ db, ...link }) => {
    const shape = await standing(db, schema, options);
    const log = await plannedSql(db, schema, logSchema(shape ?? wanted));
    if (!dryRun) await ensureLog(db, schema, { ...options, migrate: true });
    const views = await plannedSql(db, viewsSchema, VIEW_SCHEMA);
    if (!dryRun) await ensureViews(db, viewsSchema, { ...options, migrate: true });
    await link.close();
    // Both may live in one schema.
    return [...new Set([...log, ...views])];
  });
}

/** The partitions of a log, from the oldest on; with `ahead` room for so many events is made first. Errors: UnsupportedByStore, InvalidArgument where there is no log, those of postgresBackend. */
export function postgresPartitions({ ahead, ...options }: PostgresStoreOptions & { readonly ahead?: number | undefined }): Promise<readonly Partition[]> {
  return administered(options, async (db, schema) => {
    const before = await partitionsOf(db, schema);
    if (ahead === undefined) return before;
    if (!Number.isSafeInteger(ahead) || ahead < 0) throw new InvalidArgument("ahead must be a number of events, an integer from 0", { details: { option: "ahead" } });
    await db.query(`SELECT ${quoted(schema)}.ensure_partitions($1)`, [ahead]);
    return partitionsOf(db, schema);
  });
}

/** Moves old partitions of a log to another schema; `dryRun` only tells what would become of which streams. Errors: UnsupportedByStore, StoreRefused, those of postgresBackend. */
export function archivePostgres({ through, into, unreadable, dryRun, ...options }: PostgresStoreOptions & ArchiveOptions): Promise<ArchiveReport> {
  return administered(options, (db, schema) => archive(db, schema, { through, into, unreadable, dryRun }));
}

/** Brings archived partitions back, down to the one that holds `from`. Errors: as archivePostgres. */
export function restorePostgres({ from, dryRun, ...options }: PostgresStoreOptions & { readonly from: number; readonly dryRun?: boolean | undefined }): Promise<{ readonly partitions: readonly Partition[]; readonly sql: readonly string[] }> {
  return administered(options, (db, schema) => restore(db, schema, { from, dryRun }));
}

/** What an operator does to a log that stands. */
async function administered<T>(options: PostgresStoreOptions, work: (db: Database, schema: string) => Promise<T>): Promise<T> {
  const schema = schemaOf(options);
  return linked({ ...options, listener: false, poolSize: 2 }, async ({ db, ...link }) => {
    let result: T;
    try {
      await assertLog(db, schema);
      result = await work(db, schema);
    } catch (error) {
      throw toTidemarkError(error, db.name);
    }
    await link.close();
    return result;
  });
}

/** What stands of the read models in the schema of views. Errors: InvalidArgument, StoreUnavailable. */
export function postgresViewBuilds(options: PostgresViewsOptions): Promise<readonly ViewBuild[]> {
  return onBuilds(options, (db, schema) => listBuilds(db, schema));
}

/** Drops what is old of a read model; with `dryRun` only tells what that is. Errors: InvalidArgument, StoreUnavailable. */
export function dropPostgresViews({ model, version, dryRun = false, ...options }: PostgresViewsOptions & DropOptions): Promise<readonly ViewBuild[]> {
  return onBuilds(options, (db, schema) => dropBuilds(db, schema, { model, dryRun, ...(version !== undefined && { version }) }));
}

async function onBuilds<T>(options: PostgresViewsOptions, work: (db: Database, schema: string) => Promise<T>): Promise<T> {
  const schema = viewsSchemaOf(options);
  return linked({ ...options, listener: false, poolSize: 1 }, async (link) => {
    await ensureViews(link.db, schema, { ...options, migrate: false });
    const result = await work(link.db, schema);
    await link.close();
    return result;
  });
}

/** What the stores of one call share. */
interface Link {
  readonly db: Database;
  readonly listener: Listener;
  close(): Promise<void>;
}

/** What `work` makes of the link, which is closed when that fails. */
async function linked<T>(options: PostgresOptions, work: (link: Link) => Promise<T>): Promise<T> {
  const { db, listener } = linkOf(options);
  const link: Link = {
    db,
    listener,
    async close() {
      listener.close();
      await db.release();
    },
  };
  try {
    return await work(link);
  } catch (error) {
    await link.close();
    throw error;
  }
}

/** The shape of the log that stands in the schema afterwards. */
async function ensureLog(db: Database, schema: string, options: PostgresStoreOptions): Promise<LogShape> {
  const found = await standing(db, schema, options);
  await ensureSchema(db, schema, logSchema(found ?? validateShape(options)), options.migrate ?? postgresDefaults.migrate);
  // Another process may have made it meanwhile, and otherwise.
  const shape = found ?? (await standing(db, schema, options));
  if (shape === undefined) throw new StoreUnavailable(`the log in schema ${schema} of ${db.name} was dropped while it was opened`, { retryable: true, details: { database: db.name, schema } });
  return shape;
}

/** Undefined: there is none. Errors: InvalidArgument where another shape is wanted. */
async function standing(db: Database, schema: string, wanted: WantedShape): Promise<LogShape | undefined> {
  try {
    await assertIsolation(db);
    const found = await standingShape(db, schema);
    if (found !== undefined) assertShape(db, schema, wanted, found);
    return found;
  } catch (error) {
    throw toTidemarkError(error, db.name);
  }
}

function ensureViews(db: Database, schema: string, { migrate = postgresDefaults.migrate }: PostgresViewsOptions): Promise<void> {
  return ensureSchema(db, schema, VIEW_SCHEMA, migrate);
}

function linkOf(options: PostgresOptions): { readonly db: Database; readonly listener: Listener } {
  const { connection, pool, listener, poolSize = postgresDefaults.poolSize, pgbouncer = postgresDefaults.pgbouncer } = options;
  if ((connection === undefined) === (pool === undefined)) throw new InvalidArgument("PostgreSQL needs one of connection and pool", { details: { option: "connection" } });
  if (!Number.isSafeInteger(poolSize) || poolSize < 1) throw new InvalidArgument("poolSize must be an integer from 1", { details: { option: "poolSize" } });
  const environment = environmentOf(options.environment);
  const config = connection === undefined ? configOfPool(pool as Pool) : configOf("connection", connection);
  const listening = listener === undefined ? (pgbouncer ? undefined : config) : listener === false ? undefined : configOf("listener", listener);
  const db = databaseOf({ connection: config, pool, poolSize, pgbouncer, environment });
  return { db: db.retain(), listener: new Listener(listening, environment) };
}

/** `pg` reads the files of certificates when it takes a URL apart. Errors: InvalidArgument. */
function databaseOf(options: DatabaseOptions): Database {
  try {
    return new Database(options);
  } catch (cause) {
    throw new InvalidArgument(`the connection is not one that can be used: ${(cause as Error).message}`, { cause, details: { option: "connection" } });
  }
}

/** The database of a URL that names none would be the one with the user's name. Errors: InvalidArgument. */
function configOf(option: "connection" | "listener", connection: string | ClientConfig): ClientConfig {
  if (typeof connection !== "string") return connection;
  if (WITHOUT_DATABASE.test(connection) && !process.env["PGDATABASE"]) {
    throw new InvalidArgument(`the URL of PostgreSQL (${option}) names no database: write postgres://host/DATABASE`, { details: { option } });
  }
  return { connectionString: connection };
}

const WITHOUT_DATABASE = /^postgres(?:ql)?:\/\/[^/?#]*\/?(?:[?#]|$)/i;

/** A pool hides its password from whoever copies its options. */
function configOfPool({ options }: Pool): ClientConfig {
  return options.password === undefined ? { ...options } : { ...options, password: options.password };
}

function schemaOf({ schema = postgresDefaults.schema }: PostgresStoreOptions): string {
  assertSchema("schema", schema);
  return schema;
}

function viewsSchemaOf({ viewsSchema = postgresDefaults.viewsSchema }: PostgresViewsOptions): string {
  assertSchema("viewsSchema", viewsSchema);
  return viewsSchema;
}

/** The part closes its link too. */
function closing<T extends { close(): Promise<void> }>(part: T, link: Link): T {
  const close = part.close.bind(part);
  let closed: Promise<void> | undefined;
  part.close = () => (closed ??= Promise.all([close(), link.close()]).then(() => undefined));
  return part;
}
