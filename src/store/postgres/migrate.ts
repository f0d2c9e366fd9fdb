/**
 * Brings a schema to the version that this code knows.
 *
 * M1 All steps that are missing run in one transaction, under a lock: any number of processes may start at once on an empty database.
 * M2 A schema that is up to date is only read: a role that may not create anything can open it.
 * M3 A schema of a newer version is refused, before anything is written.
 */
import { InvalidArgument, SchemaTooNew, StoreUnavailable } from "../../errors.ts";
import { quoted, type Database, type Queryable, type Session } from "./database.ts";
import { toTidemarkError } from "./postgres-error.ts";

/** First half of the keys of all advisory locks of Tidemark; the second says which. */
export const LOCK_SPACE = 0x54_44_4d;

/** Longest wait for one statement that makes or changes tables: it may rewrite what is large. */
export const DDL_BOUND_MS = 600_000;

/** SQL of a step, for a schema; `identity` is a new UUID. */
export type Migration = (schema: string, identity: string) => string;

/** What makes a schema, step by step, and the row of `meta` that counts the steps. */
export interface SchemaKind {
  readonly what: string;
  readonly versionName: "log_version" | "views_version";
  readonly migrations: readonly Migration[];
}

/** Errors: SchemaTooNew, InvalidArgument, StoreUnavailable; without `migrate` also for a schema that is missing or older. */
export async function ensureSchema(db: Database, schema: string, kind: SchemaKind, migrate: boolean): Promise<void> {
  try {
    const version = await versionOf(db, schema, kind);
    assertKnown(db, schema, version, kind);
    if (version === kind.migrations.length) return;
    if (!migrate) {
      throw new StoreUnavailable(`schema ${schema} of ${db.name} is at version ${version}, and this version of Tidemark needs ${kind.migrations.length}: run "tidemark postgres migrate"`, {
        details: { database: db.name, schema, found: version, needed: kind.migrations.length },
      });
    }
    await db.transaction((session) => run(db, schema, session, kind), { boundMs: DDL_BOUND_MS });
  } catch (error) {
    throw toTidemarkError(error, db.name);
  }
}

/** SQL that `ensureSchema` would run now; empty when the schema is up to date. Errors: SchemaTooNew, StoreUnavailable. */
export async function plannedSql(db: Database, schema: string, kind: SchemaKind): Promise<readonly string[]> {
  try {
    const version = await versionOf(db, schema, kind);
    assertKnown(db, schema, version, kind);
    return version === kind.migrations.length ? [] : [...(await preparation(db, schema)), ...steps(db, schema, kind, version)];
  } catch (error) {
    throw toTidemarkError(error, db.name);
  }
}

/** M1. */
async function run(db: Database, schema: string, session: Session, kind: SchemaKind): Promise<void> {
  await session.query("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0");
  await session.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [LOCK_SPACE, schema]);
  const [encoding] = (await session.query("SHOW server_encoding"))[0] ?? [];
  if (encoding !== "UTF8") throw new InvalidArgument(`the database ${db.name} has the encoding ${encoding}: Tidemark needs UTF8`, { details: { database: db.name } });
  const version = await versionOf(session, schema, kind);
  assertKnown(db, schema, version, kind);
  if (version === kind.migrations.length) return;
  for (const sql of [...(await preparation(session, schema)), ...steps(db, schema, kind, version)]) await session.query(sql);
}

/** A schema that stands already may belong to a role that can make no other. */
async function preparation(session: Queryable, schema: string): Promise<readonly string[]> {
  const s = quoted(schema);
  const standing = await session.query("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", [schema]);
  return [...(standing.length === 0 ? [`CREATE SCHEMA ${s};`] : []), `CREATE TABLE IF NOT EXISTS ${s}.meta (name text PRIMARY KEY, value text NOT NULL);`];
}

function steps(db: Database, schema: string, { migrations, versionName }: SchemaKind, version: number): readonly string[] {
  return [
    ...migrations.slice(version).map((migration) => migration(schema, db.environment.random.uuid())),
    `INSERT INTO ${quoted(schema)}.meta (name, value) VALUES ('${versionName}', '${migrations.length}') ON CONFLICT (name) DO UPDATE SET value = excluded.value;`,
  ];
}

/**
 * 0: there is nothing yet. M2. The catalogue is asked by a query of its own: names are otherwise looked up in a cache of the session, which may not have
 * heard yet of what another one has just made.
 */
async function versionOf(session: Queryable, schema: string, { versionName }: SchemaKind): Promise<number> {
  const tables = await session.query("SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'meta'", [schema]);
  if (tables.length === 0) return 0;
  const rows = await session.query(`SELECT value FROM ${quoted(schema)}.meta WHERE name = $1`, [versionName]);
  return Number(rows[0]?.[0] ?? 0);
}

/** M3. */
function assertKnown(db: Database, schema: string, version: number, { what, migrations }: SchemaKind): void {
  if (version <= migrations.length) return;
  throw new SchemaTooNew(`schema ${schema} of ${db.name} holds ${what} of version ${version}; this version of Tidemark knows up to ${migrations.length}. Update Tidemark.`, {
    details: { database: db.name, schema, found: version, known: migrations.length },
  });
}

