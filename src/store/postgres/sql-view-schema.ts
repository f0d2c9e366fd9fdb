/**
 * The builds of views in SQL: a schema for each, so that the caller's names mean the tables of the build that is read or written, and a build is dropped as a whole.
 */
import { hash } from "node:crypto";
import { InvalidArgument } from "../../errors.ts";
import type { BuildKey, SqlDefinition } from "../../readmodel/view-store.ts";
import { quoted, type Database, type Session } from "./database.ts";
import { DDL_BOUND_MS } from "./migrate.ts";
import { breaksConnection } from "./postgres-error.ts";
import { assertName, insertCheckpoints, isSqlBuild, lockModel, shortened, standingOf, whole } from "./view-schema.ts";

export interface SqlBuild {
  /** Quoted; the caller's tables are in it. */
  readonly schema: string;
  /** As it stands with the checkpoint: a build is made by one text alone. */
  readonly definition: string;
  readonly shards: number;
}

/** Makes the build's schema and what `create` says, where it is missing. Errors: InvalidArgument, those of PostgreSQL. */
export async function ensureSqlBuild(db: Database, viewsSchema: string, key: BuildKey, { create }: SqlDefinition, shards: number): Promise<SqlBuild> {
  assertName("read model", key.model);
  whole("version", key.version);
  whole("build", key.build);
  const name = shortened(`${viewsSchema}_${key.model}_v${key.version}b${key.build}`);
  const build: SqlBuild = { schema: quoted(name), definition: JSON.stringify({ kind: "sql", create: hash("sha256", create, "base64url"), ...(shards > 1 && { shards }) }), shards };
  const standing = await standingOf(db, viewsSchema, key);
  if (standing === undefined) await db.transaction((session) => makeBuild(session, viewsSchema, key, create, name, build), { boundMs: DDL_BOUND_MS });
  else assertSame(standing.definition, build, key);
  return build;
}

/** A build of another version, for reading; undefined: it does not stand, or its tables are not the caller's own. */
export async function standingSqlBuild(db: Database, viewsSchema: string, key: BuildKey): Promise<SqlBuild | undefined> {
  const standing = await standingOf(db, viewsSchema, key);
  if (standing === undefined || !isSqlBuild(standing.definition)) return undefined;
  const { shards = 1 } = JSON.parse(standing.definition) as { readonly shards?: number };
  return { schema: quoted(standing.table), definition: standing.definition, shards };
}

/** What opens a transaction in which the build's names are known. */
export function beginIn(build: SqlBuild, begin: string, idleBoundMs: number): string {
  return `${begin}; SET LOCAL search_path TO ${build.schema}, public; SET LOCAL idle_in_transaction_session_timeout = ${Math.ceil(idleBoundMs)}`;
}

async function makeBuild(session: Session, viewsSchema: string, key: BuildKey, create: string, name: string, build: SqlBuild): Promise<void> {
  await session.query("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0");
  await lockModel(session, viewsSchema, key.model);
  const standing = await standingOf(session, viewsSchema, key);
  if (standing !== undefined) return assertSame(standing.definition, build, key);
  await session.query(`CREATE SCHEMA ${build.schema}`);
  await session.query(`SET LOCAL search_path TO ${build.schema}, public`);
  const transaction = async (): Promise<unknown> => (await session.query("SELECT pg_current_xact_id()::text"))[0]?.[0];
  const before = await transaction();
  try {
    await session.query(create);
  } catch (cause) {
    if (breaksConnection(cause)) throw cause;
    throw new InvalidArgument(`the tables of read model ${key.model} could not be made: ${(cause as Error).message}`, { cause, details: { ...key } });
  }
  if ((await transaction()) !== before) throw new InvalidArgument(`create of read model ${key.model} ends the transaction that it runs in: leave BEGIN and COMMIT out`, { details: { ...key } });
  await insertCheckpoints(session, viewsSchema, key, name, build.definition, build.shards);
}

function assertSame(standing: string, build: SqlBuild, key: BuildKey): void {
  if (standing === build.definition) return;
  throw new InvalidArgument(`read model ${key.model} version ${key.version} was made with other tables or another number of shards: give the read model a new version`, { details: { ...key } });
}
