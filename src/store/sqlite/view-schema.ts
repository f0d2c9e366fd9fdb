/**
 * The file of views and checkpoints, and the table of one build: its key, its row as JSON, and a generated column for each field that is indexed or named.
 */
import type { DatabaseSync } from "node:sqlite";
import { InvalidArgument } from "../../errors.ts";
import type { BuildKey, TableDefinition } from "../../readmodel/view-store.ts";
import { assertField } from "../../readmodel/where.ts";
import type { FileKind } from "./sqlite-file.ts";

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
/** The column that holds the row. */
const ROW = "row";

export const VIEW_FILE: FileKind = {
  what: "a file of Tidemark's read models",
  applicationId: 0x54_44_4d_32,
  migrations: [
    (db) =>
      db.exec(`
        CREATE TABLE checkpoints (
          model TEXT NOT NULL,
          version INTEGER NOT NULL,
          build INTEGER NOT NULL,
          active INTEGER NOT NULL DEFAULT 0,
          table_name TEXT NOT NULL UNIQUE COLLATE NOCASE,
          key_field TEXT NOT NULL,
          revision INTEGER NOT NULL DEFAULT 0,
          store TEXT NOT NULL DEFAULT '',
          position TEXT NOT NULL DEFAULT '{}',
          last TEXT,
          events INTEGER NOT NULL DEFAULT 0,
          recorded_at INTEGER,
          PRIMARY KEY (model, version, build)
        ) WITHOUT ROWID;`),
  ],
};

/** What the statements of one build are made of; every name is checked and quoted. */
export interface BuildTable {
  /** Quoted name of the table. */
  readonly table: string;
  readonly keyField: string;
  /** Quoted column of the key. */
  readonly key: string;
  /** SQL of a field: its column where it has one, otherwise what the row holds. */
  column(field: string): string;
}

/** Makes the build's table where it is missing, and its columns and indexes as the definition has them, unless it is to be left as it stands. Inside a transaction. Errors: InvalidArgument. */
export function ensureBuild(db: DatabaseSync, key: BuildKey, definition: TableDefinition, asItStands = false): BuildTable {
  assertName("read model", key.model);
  assertName("table", definition.name);
  const version = whole("version", key.version);
  const build = whole("build", key.build);
  assertField(definition.key);
  const name = `${key.model}.${definition.name}__v${version}b${build}`;
  const fields = columnsOf(definition);
  const found = db.prepare("SELECT table_name, key_field FROM checkpoints WHERE model = ? AND version = ? AND build = ?").get(key.model, version, build);
  if (asItStands && found !== undefined) return standingBuild(db, String(found["table_name"]), String(found["key_field"]));
  if (found === undefined) {
    if (db.prepare("SELECT 1 FROM checkpoints WHERE table_name = ?").get(name) !== undefined) {
      throw new InvalidArgument(`table ${name} differs from another one in upper and lower case only: rename the read model or its table`, { details: { ...key } });
    }
    db.exec(`CREATE TABLE ${quoted(name)} (${quoted(definition.key)} PRIMARY KEY NOT NULL, ${quoted(ROW)} TEXT NOT NULL)`);
    db.prepare("INSERT INTO checkpoints (model, version, build, table_name, key_field) VALUES (?, ?, ?, ?, ?)").run(key.model, version, build, name, definition.key);
  } else if (found["table_name"] !== name || found["key_field"] !== definition.key) {
    throw new InvalidArgument(`read model ${key.model} version ${version} has a table or key of another name already: give the read model a new version`, { details: { ...key } });
  }
  const standing = new Set(columnNames(db, name));
  for (const field of fields) {
    if (!standing.has(field)) db.exec(`ALTER TABLE ${quoted(name)} ADD COLUMN ${quoted(field)} AS (${extracted(field)}) VIRTUAL`);
  }
  const indexes = new Map(definition.indexes.filter((field) => field !== definition.key).map((field) => [`${name}__${field}`, field]));
  for (const { name: index } of db.prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL").all(name)) {
    if (!indexes.delete(String(index))) db.exec(`DROP INDEX ${quoted(String(index))}`);
  }
  for (const [index, field] of indexes) db.exec(`CREATE INDEX ${quoted(index)} ON ${quoted(name)} (${quoted(field)})`);
  return standingBuild(db, name, definition.key);
}

function standingBuild(db: DatabaseSync, name: string, keyField: string): BuildTable {
  const columns = new Set(columnNames(db, name).filter((column) => column !== ROW));
  return {
    table: quoted(name),
    keyField,
    key: quoted(keyField),
    column: (field) => (columns.has(field) ? quoted(field) : extracted(field)),
  };
}

function columnNames(db: DatabaseSync, name: string): readonly string[] {
  return db.prepare(`PRAGMA table_xinfo(${quoted(name)})`).all().map((column) => String(column["name"]));
}

/** Removes the build's table and checkpoint, where they are. Inside a transaction. */
export function dropBuild(db: DatabaseSync, key: BuildKey): void {
  const found = db.prepare("SELECT table_name FROM checkpoints WHERE model = ? AND version = ? AND build = ?").get(key.model, key.version, key.build);
  if (found === undefined) return;
  db.exec(`DROP TABLE IF EXISTS ${quoted(String(found["table_name"]))}`);
  db.prepare("DELETE FROM checkpoints WHERE model = ? AND version = ? AND build = ?").run(key.model, key.version, key.build);
}

function columnsOf(definition: TableDefinition): readonly string[] {
  const taken = new Set([ROW, definition.key.toLowerCase()]);
  if (definition.key.toLowerCase() === ROW) throw new InvalidArgument(`table ${definition.name}: its key cannot be called "${ROW}": that column holds the whole row`);
  const fields = [...new Set([...definition.indexes, ...definition.columns])].filter((field) => field !== definition.key);
  for (const field of fields) {
    assertField(field);
    if (taken.has(field.toLowerCase())) {
      throw new InvalidArgument(`table ${definition.name}: column ${field} is taken ("${ROW}" holds the whole row, and case makes no difference in SQL)`, { details: { field } });
    }
    taken.add(field.toLowerCase());
  }
  return fields;
}

function assertName(what: string, name: string): void {
  if (!NAME.test(name)) throw new InvalidArgument(`the name of a ${what} must match ${NAME.source}`, { details: { name: String(name).slice(0, 80) } });
}

function whole(what: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgument(`the ${what} of a build must be a whole number`);
  return value;
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}

/** `field` has passed `assertField`: it can stand in a path and in a literal. */
function extracted(field: string): string {
  return `json_extract("${ROW}", '$."${field}"')`;
}
