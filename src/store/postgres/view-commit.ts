/**
 * The one statement of a commit (Q1 of postgres-views.ts): it moves the checkpoint if that stands where the writer believes, and only then writes rows.
 */
import type { BuildKey, TableChanges } from "../../readmodel/view-store.ts";
import { fieldOf, scalarOf, type Scalar } from "../../readmodel/where.ts";
import { toJson } from "../codec.ts";
import { doubleArray, textArray } from "./binary-array.ts";
import { quoted } from "./database.ts";
import { keyText, storable } from "./view-key.ts";
import { SHARD_COLUMN, type BuildTable } from "./view-schema.ts";

export const OF_BUILD = "model = $1 AND version = $2 AND build = $3";
/** A commit names the revision that it builds on, the epoch that it was begun in, where the writer has one, and the definition that it fills. */
export const FENCED = "revision = $4::bigint AND definition = $5 AND epoch = coalesce($6::bigint, epoch) AND shard = $7";
/** What the statement has before its rows. */
const MOVE_VALUES = 13;

/** The net effect of a page, ready to be written. */
export interface Writing {
  /** Each key with its row's JSON, or null where it is deleted. */
  readonly rows: ReadonlyMap<string, string | null>;
  readonly values: readonly Buffer[];
}

/** Q1: `moved` has a row if and only if the commit counts. */
export function moveStatement(checkpoints: string): string {
  return `WITH moved AS (
    UPDATE ${checkpoints} SET revision = revision + 1, store = $8, position = $9, last = $10, events = $11::bigint, recorded_at = $12::bigint
    WHERE ${OF_BUILD} AND ${FENCED} RETURNING revision
  )`;
}

/** In shards, a row belongs to the one that wrote it first: the commit of another one is refused as a whole. */
export function commitStatement(checkpoints: string, schema: string, channel: string, build: BuildTable): string {
  const columns = [build.key, build.row, ...build.fields.flatMap((field) => [build.text(field), build.number(field)])];
  const types = ["text", "json", ...build.fields.flatMap(() => ["text", "double precision"])];
  const [removed, first] = [MOVE_VALUES + 1, MOVE_VALUES + 2];
  const values = types.map((type, index) => `$${first + index}::${type === "json" ? "text" : type}[]`);
  const sharded = build.shards > 1;
  const own = sharded ? ` AND t.${SHARD_COLUMN} = $7` : "";
  const written = `${moveStatement(checkpoints)}, removed AS (
    DELETE FROM ${build.table} t WHERE ${build.key} = ANY ($${removed}::text[]) AND EXISTS (SELECT FROM moved)${own}
  ), written AS (
    INSERT INTO ${build.table} AS t (${columns.join(", ")}${sharded ? `, ${SHARD_COLUMN}` : ""})
    SELECT ${types.map((type, index) => `c${index}::${type}`).join(", ")}${sharded ? ", $7" : ""} FROM unnest(${values.join(", ")}) u(${types.map((_, index) => `c${index}`).join(", ")}) WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (${build.key}) DO UPDATE SET ${columns.slice(1).map((column) => `${column} = excluded.${column}`).join(", ")}${sharded ? ` WHERE t.${SHARD_COLUMN} = excluded.${SHARD_COLUMN}` : ""} RETURNING 1
  )`;
  if (!sharded) return `${written} ${tellStatement(channel)}`;
  const foreign = `(SELECT count(*) FROM written) < cardinality($${first}::text[]) OR EXISTS (SELECT FROM ${build.table} t WHERE ${build.key} = ANY ($${removed}::text[]) AND t.${SHARD_COLUMN} <> $7)`;
  return `${written} SELECT CASE WHEN ${foreign} THEN ${quoted(schema)}.refuse('a row of another shard') ELSE ${notify(channel)} END FROM moved`;
}

/** Q2: what follows on a move. */
export function tellStatement(channel: string): string {
  return `SELECT ${notify(channel)} FROM moved`;
}

function notify(channel: string): string {
  return `pg_notify('${channel}', revision || $${MOVE_VALUES})`;
}

/** The values of `commitStatement` after those of the move. Errors: UnserialisableData. */
export function writingOf(changes: TableChanges, build: BuildTable, key: BuildKey): Writing {
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
