/**
 * Everything on PostgreSQL (14 and newer) through `pg`: events, snapshots and read models in one database, each schema of them one's own choice.
 */
import type { ClientConfig, Pool } from "pg";
import { environmentOf, type Environment } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";
import type { ViewStore } from "../../readmodel/view-store.ts";
import type { SnapshotStore } from "../../snapshot/snapshot-store.ts";
import type { Backend } from "../backend.ts";
import type { EventStore } from "../event-store.ts";
import { assertSchema, Database, type DatabaseOptions } from "./database.ts";
import { Listener } from "./listener.ts";
import { ensureSchema, plannedSql, type SchemaKind } from "./migrate.ts";
import { LOG_SCHEMA } from "./migrations.ts";
import { eventsOn } from "./postgres-events.ts";
import { snapshotsOn } from "./postgres-snapshots.ts";
import { viewsOn } from "./postgres-views.ts";
import { VIEW_SCHEMA } from "./view-schema.ts";

export { sqlView, type SqlConnection, type SqlViewOptions } from "./sql-view.ts";

export interface PostgresOptions {
  /** A URL, or what `pg` takes: host, user, TLS options and the like. One of `connection` and `pool` is needed. */
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

export interface PostgresStoreOptions extends PostgresOptions {
  /** Schema of the log and the snapshots. */
  readonly schema?: string;
}

export interface PostgresViewsOptions extends PostgresOptions {
  /** Schema of the tables of read models and their checkpoints. */
  readonly viewsSchema?: string;
}

export type PostgresBackendOptions = PostgresStoreOptions & PostgresViewsOptions;

export const postgresDefaults = { schema: "tidemark", viewsSchema: "tidemark_views", poolSize: 10, pgbouncer: false, migrate: true } as const;

/** Events, snapshots and views of one service. Connects at once. Errors: InvalidArgument, SchemaTooNew, StoreUnavailable. */
export async function postgresBackend(options: PostgresBackendOptions): Promise<Backend> {
  const schema = schemaOf(options);
  const viewsSchema = viewsSchemaOf(options);
  const link = await open(options, [
    [schema, LOG_SCHEMA],
    [viewsSchema, VIEW_SCHEMA],
  ]);
  const parts = { events: eventsOn(link.db, schema, link.listener), snapshots: snapshotsOn(link.db, schema), views: viewsOn(link.db, viewsSchema, link.listener) };
  return {
    ...parts,
    async close() {
      await parts.views.close();
      await parts.snapshots.close();
      await parts.events.close();
      await link.close();
    },
  };
}

/** Events alone. Errors: as postgresBackend. */
export async function postgresStore(options: PostgresStoreOptions): Promise<EventStore> {
  const schema = schemaOf(options);
  const link = await open(options, [[schema, LOG_SCHEMA]]);
  return closing(eventsOn(link.db, schema, link.listener), link);
}

/** Snapshots alone. Errors: as postgresBackend. */
export async function postgresSnapshots(options: PostgresStoreOptions): Promise<SnapshotStore> {
  const schema = schemaOf(options);
  const link = await open(options, [[schema, LOG_SCHEMA]]);
  return closing(snapshotsOn(link.db, schema), link);
}

/** Views and checkpoints alone, in the database of the events or in another one. Errors: as postgresBackend. */
export async function postgresViews(options: PostgresViewsOptions): Promise<ViewStore> {
  const schema = viewsSchemaOf(options);
  const link = await open(options, [[schema, VIEW_SCHEMA]]);
  return closing(viewsOn(link.db, schema, link.listener), link);
}

/** Makes and updates both schemas, and returns the SQL that did it; with `dryRun` nothing is run. Errors: as postgresBackend. */
export async function migratePostgres({ dryRun = false, ...options }: PostgresBackendOptions & { readonly dryRun?: boolean }): Promise<readonly string[]> {
  const schemas = [
    [schemaOf(options), LOG_SCHEMA],
    [viewsSchemaOf(options), VIEW_SCHEMA],
  ] as const;
  const { db } = linkOf({ ...options, listener: false, poolSize: 1 });
  try {
    const sql: string[] = [];
    for (const [schema, kind] of schemas) {
      sql.push(...(await plannedSql(db, schema, kind)));
      if (!dryRun) await ensureSchema(db, schema, kind, true);
    }
    // Both may live in one schema.
    return [...new Set(sql)];
  } finally {
    await db.release();
  }
}

/** What the stores of one call share. */
interface Link {
  readonly db: Database;
  readonly listener: Listener;
  close(): Promise<void>;
}

async function open(options: PostgresOptions, schemas: readonly (readonly [name: string, kind: SchemaKind])[]): Promise<Link> {
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
    for (const [schema, kind] of schemas) await ensureSchema(db, schema, kind, options.migrate ?? postgresDefaults.migrate);
    return link;
  } catch (error) {
    await link.close();
    throw error;
  }
}

function linkOf(options: PostgresOptions): { readonly db: Database; readonly listener: Listener } {
  const { connection, pool, listener, poolSize = postgresDefaults.poolSize, pgbouncer = postgresDefaults.pgbouncer } = options;
  if ((connection === undefined) === (pool === undefined)) throw new InvalidArgument("PostgreSQL needs one of connection and pool", { details: { option: "connection" } });
  if (!Number.isSafeInteger(poolSize) || poolSize < 1) throw new InvalidArgument("poolSize must be an integer from 1", { details: { option: "poolSize" } });
  const environment = environmentOf(options.environment);
  const config = connection === undefined ? configOfPool(pool as Pool) : configOf(connection);
  const listening = listener === undefined ? (pgbouncer ? undefined : config) : listener === false ? undefined : configOf(listener);
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

function configOf(connection: string | ClientConfig): ClientConfig {
  return typeof connection === "string" ? { connectionString: connection } : connection;
}

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
