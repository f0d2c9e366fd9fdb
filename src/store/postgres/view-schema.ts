/**
 * The schema of read models: a row of `checkpoints` for each build, and a table for each.
 *
 * T1 A build's table holds its key as text that sorts as keys do (column `#`), its row as JSON, and two columns for each field that is indexed or named:
 *    `status` has the field where it is text, `status#` where it is a number (true is 1, false is 0); both are null where it is absent.
 *    An index of such a field has both, in the order of W4 (readmodel/where.ts).
 * T2 The checkpoint's row names the definition that the table was made for. A commit of a process with another definition is lost: columns are always filled.
 * T3 Whoever makes, changes or drops a table locks the read model first; a table is locked before its checkpoint, as a commit does it. Where the tables are
 *    the caller's own (sql-view-schema.ts) it is the other way round, as their pages do it.
 */
import { hash } from "node:crypto";
import { InvalidArgument } from "../../errors.ts";
import type { BuildKey, TableDefinition } from "../../readmodel/view-store.ts";
import { assertField } from "../../readmodel/where.ts";
import { quoted, type Database, type Queryable, type Session } from "./database.ts";
import { DDL_BOUND_MS, LOCK_SPACE, type SchemaKind } from "./migrate.ts";

export const VIEW_SCHEMA: SchemaKind = { what: "read models", versionName: "views_version", migrations: [tables, epochsAndShards] };

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
const LONGEST_NAME = 63;
const KEY_COLUMN = quoted("#");
const ROW_COLUMN = quoted("row");
/** Only in tables of read models in shards: the shard that wrote the row first. */
export const SHARD_COLUMN = quoted("#shard");
const TAKEN = new Set(["row", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"]);

/** The channel on which commits are told. */
export function viewsChannel(schema: string): string {
  return `${schema}_views`;
}

/** JSON escapes what `text` cannot hold (NUL, lone surrogates); only then is the row looked at more closely. */
function tables(schema: string): string {
  const s = quoted(schema);
  return `
CREATE TABLE ${s}.checkpoints (
  model text COLLATE "C" NOT NULL,
  version int NOT NULL,
  build int NOT NULL,
  active boolean NOT NULL DEFAULT false,
  table_name text COLLATE "C" NOT NULL UNIQUE,
  definition text NOT NULL,
  revision bigint NOT NULL DEFAULT 0,
  store text NOT NULL DEFAULT '',
  position text NOT NULL DEFAULT '{}',
  last text,
  events bigint NOT NULL DEFAULT 0,
  recorded_at bigint,
  PRIMARY KEY (model, version, build)
) WITH (fillfactor = 50);
CREATE FUNCTION ${s}.readable("row" json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN strpos("row"::text, '\\u') = 0 THEN "row"
    ELSE regexp_replace("row"::text, '(?<!\\\\)((?:\\\\\\\\)*)\\\\u(?:0000|d[89a-f][0-9a-f]{2})', '\\1\\\\ufffd', 'g')::json END
$$;
CREATE FUNCTION ${s}.field_text("row" json, field text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE json_typeof(${s}.readable("row") -> field)
    WHEN 'string' THEN ${s}.readable("row") ->> field
    WHEN 'object' THEN (${s}.readable("row") -> field)::text
    WHEN 'array' THEN (${s}.readable("row") -> field)::text END
$$;
CREATE FUNCTION ${s}.field_number("row" json, field text) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE json_typeof(${s}.readable("row") -> field)
    WHEN 'number' THEN (${s}.readable("row") ->> field)::double precision
    WHEN 'boolean' THEN (${s}.readable("row") ->> field)::boolean::int END
$$;`;
}

/** A shard has a row of its own, beside that of shard 0, which stands for the build. */
function epochsAndShards(schema: string): string {
  const s = quoted(schema);
  return `
ALTER TABLE ${s}.checkpoints
  ADD COLUMN epoch bigint NOT NULL DEFAULT 0,
  ADD COLUMN shard int NOT NULL DEFAULT 0,
  DROP CONSTRAINT checkpoints_pkey,
  DROP CONSTRAINT checkpoints_table_name_key,
  ADD PRIMARY KEY (model, version, build, shard),
  ADD UNIQUE (table_name, shard);
CREATE FUNCTION ${s}.refuse(reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', reason USING ERRCODE = 'TM002';
END $$;`;
}

/** A definition as it stands with the checkpoint. */
type Standing = TableDefinition & { readonly shards?: number };

/** The rows of a new build, one for each shard. */
export async function insertCheckpoints(session: Session, schema: string, key: BuildKey, table: string, definition: string, shards: number): Promise<void> {
  await session.query(`INSERT INTO ${quoted(schema)}.checkpoints (model, version, build, table_name, definition, shard) SELECT $1, $2, $3, $4, $5, generate_series(0, $6::int - 1)`, [
    key.model,
    key.version,
    key.build,
    table,
    definition,
    shards,
  ]);
}

/** What the statements of one build are made of; every name is checked and quoted. */
export interface BuildTable {
  /** Qualified and quoted. */
  readonly table: string;
  readonly keyField: string;
  /** Quoted column of the key. */
  readonly key: string;
  /** Quoted column of the row. */
  readonly row: string;
  /** Fields with columns of their own, the key among them. */
  readonly fields: readonly string[];
  /** T2. */
  readonly definition: string;
  readonly shards: number;
  /** SQL of a field where it is text, and where it is a number. */
  text(field: string): string;
  number(field: string): string;
}

/** Makes the build's table where it is missing, and its columns and indexes as the definition has them. Errors: InvalidArgument, those of PostgreSQL. */
export async function ensureBuild(db: Database, schema: string, key: BuildKey, definition: TableDefinition, shards: number): Promise<BuildTable> {
  const build = buildTable(schema, key, definition, shards);
  const standing = await standingOf(db, schema, key);
  if (standing?.definition !== build.definition) await db.transaction((session) => makeBuild(session, schema, key, definition, build), { boundMs: DDL_BOUND_MS });
  return build;
}

/** A build of another version, for reading; undefined: it does not stand, or not as a table. */
export async function standingBuild(db: Database, schema: string, key: BuildKey): Promise<BuildTable | undefined> {
  const standing = await standingOf(db, schema, key);
  if (standing === undefined || isSqlBuild(standing.definition)) return undefined;
  const { name, key: keyField, indexes, columns, shards = 1 } = JSON.parse(standing.definition) as Standing;
  return buildTable(schema, key, { kind: "table", name, key: keyField, indexes, columns }, shards);
}

/** Removes the build's table and checkpoint, where they are. T3. */
export async function dropBuild(session: Session, schema: string, key: BuildKey): Promise<void> {
  await lockModel(session, schema, key.model);
  const standing = await standingOf(session, schema, key);
  if (standing === undefined) return;
  const forget = (): Promise<unknown> => session.query(`DELETE FROM ${quoted(schema)}.checkpoints WHERE model = $1 AND version = $2 AND build = $3`, [key.model, key.version, key.build]);
  if (isSqlBuild(standing.definition)) {
    await forget();
    await session.query(`DROP SCHEMA ${quoted(standing.table)} CASCADE`);
    return;
  }
  const table = `${quoted(schema)}.${quoted(standing.table)}`;
  await session.query(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
  await forget();
  await session.query(`DROP TABLE ${table}`);
}

/** Whether a build's tables are the caller's own, in a schema of theirs. */
export function isSqlBuild(definition: string): boolean {
  return (JSON.parse(definition) as { readonly kind?: unknown }).kind === "sql";
}

async function makeBuild(session: Session, schema: string, key: BuildKey, definition: TableDefinition, build: BuildTable): Promise<void> {
  await session.query("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0");
  await lockModel(session, schema, key.model);
  const checkpoints = `${quoted(schema)}.checkpoints`;
  const id = [key.model, key.version, key.build];
  const standing = await standingOf(session, schema, key);
  if (standing === undefined) {
    await session.query(`CREATE TABLE ${build.table} (${build.key} text COLLATE "C" PRIMARY KEY, ${build.row} json NOT NULL${build.shards > 1 ? `, ${SHARD_COLUMN} int NOT NULL` : ""})`);
    await insertCheckpoints(session, schema, key, tableName(key, definition), build.definition, build.shards);
  } else {
    const { name, key: keyField, shards = 1 } = JSON.parse(standing.definition) as Standing;
    if (name !== definition.name || keyField !== definition.key || shards !== build.shards) {
      throw new InvalidArgument(`read model ${key.model} version ${key.version} has another table, key or number of shards already: give the read model a new version`, { details: { ...key } });
    }
    await session.query(`LOCK TABLE ${build.table} IN ACCESS EXCLUSIVE MODE`);
    await session.query(`UPDATE ${checkpoints} SET definition = $4 WHERE model = $1 AND version = $2 AND build = $3`, [...id, build.definition]);
  }
  const columns = new Set((await session.query("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1)", [build.table])).map(([name]) => name));
  const added = build.fields.filter((field) => !columns.has(field));
  if (added.length > 0) {
    await session.query(`ALTER TABLE ${build.table} ${added.map((field) => `ADD COLUMN ${build.text(field)} text COLLATE "C", ADD COLUMN ${build.number(field)} double precision`).join(", ")}`);
  }
  if (standing !== undefined && build.fields.length > 0) {
    const filled = build.fields.map((field) => `${build.text(field)} = ${extracted(schema, "text", field)}, ${build.number(field)} = ${extracted(schema, "number", field)}`);
    await session.query(`UPDATE ${build.table} SET ${filled.join(", ")}`);
  }
  const indexes = new Map(definition.indexes.filter((field) => field !== definition.key).map((field) => [shortened(`${field}__${tableName(key, definition)}`), field]));
  const found = await session.query("SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = to_regclass($1) AND NOT x.indisprimary", [build.table]);
  for (const [index] of found) {
    if (!indexes.delete(String(index))) await session.query(`DROP INDEX ${quoted(schema)}.${quoted(String(index))}`);
  }
  for (const [index, field] of indexes) {
    await session.query(`CREATE INDEX ${quoted(index)} ON ${build.table} (${build.text(field)} NULLS FIRST, ${build.number(field)} NULLS FIRST)`);
  }
}

export async function standingOf(session: Queryable, schema: string, key: BuildKey): Promise<{ readonly table: string; readonly definition: string } | undefined> {
  const rows = await session.query(`SELECT table_name, definition FROM ${quoted(schema)}.checkpoints WHERE model = $1 AND version = $2 AND build = $3 AND shard = 0`, [key.model, key.version, key.build]);
  const row = rows[0];
  return row === undefined ? undefined : { table: String(row[0]), definition: String(row[1]) };
}

/** T3. */
export async function lockModel(session: Session, schema: string, model: string): Promise<void> {
  await session.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [LOCK_SPACE, `${schema}.${model}`]);
}

function buildTable(schema: string, key: BuildKey, definition: TableDefinition, shards: number): BuildTable {
  assertName("read model", key.model);
  assertName("table", definition.name);
  whole("version", key.version);
  whole("build", key.build);
  const fields = [...new Set([definition.key, ...definition.indexes, ...definition.columns])];
  for (const field of fields) assertColumn(definition.name, field);
  const own = new Set(fields);
  return {
    table: `${quoted(schema)}.${quoted(tableName(key, definition))}`,
    keyField: definition.key,
    key: KEY_COLUMN,
    row: ROW_COLUMN,
    fields,
    definition: JSON.stringify({ name: definition.name, key: definition.key, indexes: definition.indexes.toSorted(), columns: fields.toSorted(), ...(shards > 1 && { shards }) }),
    shards,
    text: (field) => (own.has(field) ? quoted(field) : extracted(schema, "text", field)),
    number: (field) => (own.has(field) ? quoted(`${field}#`) : extracted(schema, "number", field)),
  };
}

function tableName(key: BuildKey, definition: TableDefinition): string {
  return shortened(`${key.model}.${definition.name}__v${key.version}b${key.build}`);
}

/** PostgreSQL cuts long names, so that two could become one. */
export function shortened(name: string): string {
  return name.length <= LONGEST_NAME ? name : `${name.slice(0, 40)}~${hash("sha256", name, "base64url").slice(0, 20)}`;
}

/** `field` has passed `assertField`: it can stand in a literal. */
function extracted(schema: string, kind: "text" | "number", field: string): string {
  return `${quoted(schema)}.field_${kind}(${ROW_COLUMN}, '${field}')${kind === "text" ? ' COLLATE "C"' : ""}`;
}

function assertColumn(table: string, field: string): void {
  assertField(field);
  if (TAKEN.has(field)) throw new InvalidArgument(`table ${table}: PostgreSQL or Tidemark has a column ${field} of its own: choose another name`, { details: { field } });
  if (field.length >= LONGEST_NAME) throw new InvalidArgument(`table ${table}: the name of column ${field} is longer than ${LONGEST_NAME - 1} characters`, { details: { field } });
}

export function assertName(what: string, name: string): void {
  if (!NAME.test(name)) throw new InvalidArgument(`the name of a ${what} must match ${NAME.source}`, { details: { name: String(name).slice(0, 80) } });
}

export function whole(what: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgument(`the ${what} of a build must be a whole number`);
}
