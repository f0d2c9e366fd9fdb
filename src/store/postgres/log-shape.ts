/**
 * How a log is laid out. It is chosen when its schema is made, stands in `meta`, and never changes: positions and readers rest on it.
 */
import { InvalidArgument, StoreUnavailable } from "../../errors.ts";
import { quoted, type Database, type Queryable } from "./database.ts";

/**
 * How readers know that nothing can appear before what they have read.
 * `lock`: appends commit one after the other, so that positions have the order of commits.
 * `horizon`: appends commit side by side, and readers stay behind the oldest one that is under way.
 */
export type CommitOrder = "lock" | "horizon";

export interface LogShape {
  readonly commitOrder: CommitOrder;
  /** Undefined: the log is one table. */
  readonly eventsPerPartition: number | undefined;
}

/** What a caller wants; undefined: whatever stands, or the default. */
export interface WantedShape {
  readonly commitOrder?: CommitOrder | undefined;
  readonly eventsPerPartition?: number | undefined;
}

/** The log of the first version, and of everybody who does not say otherwise. */
export const PLAIN: LogShape = { commitOrder: "lock", eventsPerPartition: undefined };

/** A partition of many is small enough to detach and move in one go, and they are few enough to plan with. */
const LEAST_PER_PARTITION = 10;
const MOST_PER_PARTITION = 2 ** 40;

export function isPlain({ commitOrder, eventsPerPartition }: LogShape): boolean {
  return commitOrder === "lock" && eventsPerPartition === undefined;
}

/** Errors: InvalidArgument. */
export function validateShape({ commitOrder, eventsPerPartition }: WantedShape): LogShape {
  if (commitOrder !== undefined && commitOrder !== "lock" && commitOrder !== "horizon") {
    throw new InvalidArgument("commitOrder is lock or horizon", { details: { option: "commitOrder" } });
  }
  if (eventsPerPartition !== undefined && !(Number.isSafeInteger(eventsPerPartition) && eventsPerPartition >= LEAST_PER_PARTITION && eventsPerPartition <= MOST_PER_PARTITION)) {
    throw new InvalidArgument(`eventsPerPartition must be an integer from ${LEAST_PER_PARTITION} to ${MOST_PER_PARTITION}`, { details: { option: "eventsPerPartition" } });
  }
  return { commitOrder: commitOrder ?? PLAIN.commitOrder, eventsPerPartition };
}

/** The shape of the log that stands; undefined where there is none. */
export async function standingShape(db: Queryable, schema: string): Promise<LogShape | undefined> {
  const tables = await db.query("SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'meta'", [schema]);
  if (tables.length === 0) return undefined;
  const rows = await db.query(`SELECT name, value FROM ${quoted(schema)}.meta WHERE name IN ('log_version', 'commit_order', 'events_per_partition')`);
  const meta = new Map(rows.map(([name, value]) => [name, value]));
  if (!meta.has("log_version")) return undefined;
  const events = meta.get("events_per_partition");
  return { commitOrder: meta.get("commit_order") === "horizon" ? "horizon" : "lock", eventsPerPartition: typeof events === "string" ? Number(events) : undefined };
}

/** Errors: InvalidArgument where there is no log. */
export async function assertLog(db: Database, schema: string): Promise<void> {
  if ((await standingShape(db, schema)) !== undefined) return;
  throw new InvalidArgument(`there is no log in schema ${schema} of ${db.name}: name the schema that holds it (?schema=NAME), or make it with "tidemark postgres migrate"`, { details: { schema, database: db.name } });
}

/**
 * What writes and reads a log relies on each statement having a snapshot of its own, younger than the locks that it has waited for. Under another isolation
 * positions would be drawn twice and refused, and behind the horizon events would be missed. Errors: StoreUnavailable.
 */
export async function assertIsolation(db: Database): Promise<void> {
  const [row] = await db.query("SELECT current_setting('default_transaction_isolation')");
  if (row?.[0] === "read committed") return;
  throw new StoreUnavailable(`${db.name} has default_transaction_isolation = '${row?.[0]}' for this role, and Tidemark needs 'read committed': ALTER ROLE … SET default_transaction_isolation = 'read committed'`, {
    details: { database: db.name, found: row?.[0] },
  });
}

/** Errors: InvalidArgument, which names the option. */
export function assertShape(db: Database, schema: string, wanted: WantedShape, standing: LogShape): void {
  for (const option of ["commitOrder", "eventsPerPartition"] as const) {
    if (wanted[option] === undefined || wanted[option] === standing[option]) continue;
    const found = standing[option] ?? "no partitions";
    throw new InvalidArgument(
      `the log in schema ${schema} of ${db.name} was made with ${option} ${found}, which is for ever, and ${wanted[option]} was asked for: leave the option out, or copy the log into a new schema`,
      { details: { option, found, wanted: wanted[option], schema, database: db.name } },
    );
  }
}

/** Rows of `meta` that tell the shape; none for a plain log, as the first version had none. */
export function shapeSql(schema: string, { commitOrder, eventsPerPartition }: LogShape): string {
  const rows = [
    ...(commitOrder === "horizon" ? ["('commit_order', 'horizon')"] : []),
    ...(eventsPerPartition === undefined ? [] : [`('events_per_partition', '${eventsPerPartition}')`]),
  ];
  return rows.length === 0 ? "" : `INSERT INTO ${quoted(schema)}.meta (name, value) VALUES ${rows.join(", ")};`;
}

/** The table that has the unique index (stream, version). */
export function keysOf(schema: string, { eventsPerPartition }: LogShape): string {
  return `${quoted(schema)}.${eventsPerPartition === undefined ? "events" : "event_keys"}`;
}
