/**
 * Takes old partitions out of a log, and brings them back. For operators.
 *
 * V1 What is gone is declared in the transaction that takes it away (`partitions.archived`), and no longer in the one that brings it back. Both hold the log
 *    against readers: a statement knows its partitions from when it has its locks, and takes its snapshot afterwards, so both are of one state. A front that is
 *    missing is told by name, never silently.
 * V2 Partitions go from the oldest on and come back from the youngest on, so that the log has one front. The one with the last event stays.
 * V3 A stream that would not be readable any more (no snapshot reaches beyond the cut, or nothing of it is left) is a reason to refuse, unless it is asked for.
 * V4 A waiting DETACH holds up readers and writers, so it waits a second at most, steps back, and tries again.
 * V5 Of the keys of what was archived, the first and the last of each stream stay: a stream that once was is never begun anew, and goes on where it ended.
 *    The others go afterwards: nothing reads them, and many are slow to delete.
 */
import { InvalidArgument, StoreRefused, UnsupportedByStore } from "../../errors.ts";
import { assertSchema, pause, quoted, type Cell, type Database, type Queryable, type Session } from "./database.ts";
import { lock } from "./log-names.ts";
import { DDL_BOUND_MS } from "./migrate.ts";
import { PG, sqlState } from "./postgres-error.ts";

const ATTEMPTS = 30;
const PAUSE_MS = 300;
const EXAMPLES = 5;

/** A range of positions, both ends inclusive. */
export interface Partition {
  readonly first: number;
  readonly last: number;
  readonly name: string;
  /** The schema that it was moved to; undefined: it is part of the log. */
  readonly archived: string | undefined;
  /** Table and indexes; undefined where it was dropped. */
  readonly bytes: number | undefined;
}

export interface ArchiveOptions {
  /** Partitions that end here or before. */
  readonly through: number;
  /** Schema to move them to; default the log's own name with `_archive`. */
  readonly into?: string | undefined;
  /** V3. */
  readonly unreadable?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface ArchiveReport {
  readonly partitions: readonly Partition[];
  /** What does it. */
  readonly sql: readonly string[];
  readonly streams: {
    /** All with an event in these partitions. */
    readonly touched: number;
    /** Of which nothing is left in the log. */
    readonly whole: number;
    /** Of which something is left, and no snapshot goes on from there. */
    readonly cut: number;
    /** Names of some that will not be readable. */
    readonly examples: readonly string[];
  };
}

/** From the oldest on. Errors: UnsupportedByStore where the log has no partitions. */
export async function partitionsOf(db: Queryable, schema: string): Promise<readonly Partition[]> {
  const s = quoted(schema);
  const [found] = await db.query("SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'partitions'", [schema]);
  if (found === undefined) {
    throw new UnsupportedByStore(`the log in schema ${schema} has no partitions: they are chosen when it is made (eventsPerPartition)`, { details: { capability: "partitions", schema } });
  }
  const rows = await db.query(`
    SELECT p.first, p.last, p.name, p.archived, pg_total_relation_size(c.oid) FROM ${s}.partitions p
    LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.relname = p.name AND n.nspname = coalesce(p.archived, '${schema}')
    ORDER BY p.first`);
  return rows.map(([first, last, name, archived, bytes]: readonly Cell[]) => ({
    first: Number(first),
    last: Number(last),
    name: String(name),
    archived: archived ?? undefined,
    bytes: typeof bytes === "string" ? Number(bytes) : undefined,
  }));
}

/** V1 to V5. Errors: InvalidArgument, UnsupportedByStore, StoreRefused, those of the database. */
export async function archive(db: Database, schema: string, { through, into = `${schema}_archive`, unreadable = false, dryRun = false }: ArchiveOptions): Promise<ArchiveReport> {
  assertWhole("through", through);
  assertSchema("into", into);
  const s = quoted(schema);
  const partitions = await old(db, schema, through);
  const last = partitions.at(-1);
  if (last === undefined) return { partitions, sql: [], streams: { touched: 0, whole: 0, cut: 0, examples: [] } };
  const streams = await streamsIn(db, schema, (partitions[0] as Partition).first, last.last);
  const sql = [
    `CREATE SCHEMA IF NOT EXISTS ${quoted(into)};`,
    ...partitions.flatMap(({ name }) => [`ALTER TABLE ${s}.events DETACH PARTITION ${s}.${quoted(name)};`, `ALTER TABLE ${s}.${quoted(name)} SET SCHEMA ${quoted(into)};`]),
    `UPDATE ${s}.partitions SET archived = '${into}' WHERE archived IS NULL AND last <= ${last.last};`,
  ];
  const trim = `DELETE FROM ${s}.event_keys k WHERE k.position <= ${last.last} AND k.version > 1 AND EXISTS (SELECT FROM ${s}.event_keys n WHERE n.stream = k.stream AND n.version > k.version);`;
  if (!dryRun) {
    if (!unreadable && streams.whole + streams.cut > 0) {
      throw new StoreRefused(
        `${streams.whole + streams.cut} streams could not be read any more (${streams.examples.join(", ")} …): ${streams.whole} would be gone as a whole, and no snapshot of ${streams.cut} goes on after position ${last.last}. Nothing was archived; allow it where they are not needed`,
        { details: { reason: "unreadable", ...streams } },
      );
    }
    await inTurn(db, schema, async (session) => {
      // Somebody else may have archived meanwhile.
      if ((await old(session, schema, through)).map(({ name }) => name).join() !== partitions.map(({ name }) => name).join()) return;
      for (const statement of sql) await session.query(statement);
    });
    await db.transaction((session) => session.query(`SET LOCAL statement_timeout = 0; ${trim}`), { boundMs: DDL_BOUND_MS });
  }
  return { partitions, sql: ["BEGIN;", ...sql, "COMMIT;", trim], streams };
}

/** V2: back from the youngest archived partition on, down to the one that holds `from`. Errors: as archive. */
export async function restore(db: Database, schema: string, { from, dryRun = false }: { readonly from: number; readonly dryRun?: boolean | undefined }): Promise<{ readonly partitions: readonly Partition[]; readonly sql: readonly string[] }> {
  assertWhole("from", from);
  const s = quoted(schema);
  const wanted = (found: readonly Partition[]): readonly Partition[] => found.filter(({ archived, last }) => archived !== undefined && last >= from).toReversed();
  const partitions = wanted(await partitionsOf(db, schema));
  const dropped = partitions.find(({ bytes }) => bytes === undefined);
  if (dropped !== undefined) {
    throw new StoreRefused(`${dropped.archived}.${dropped.name} is not there any more: bring it back from its backup first. Nothing was restored`, { details: { reason: "dropped", partition: dropped.name } });
  }
  // Before the log is held: what takes long. The constraint spares the look at every row while it is.
  const prepare = partitions.flatMap(({ name, first, last, archived }) => {
    const table = `${quoted(archived ?? schema)}.${quoted(name)}`;
    return [
      `ALTER TABLE ${table} DROP CONSTRAINT IF EXISTS restored;`,
      `ALTER TABLE ${table} ADD CONSTRAINT restored CHECK (position >= ${first} AND position < ${last + 1});`,
      `INSERT INTO ${s}.event_keys (stream, version, position) SELECT e.stream, e.version, e.position FROM ${table} e ON CONFLICT DO NOTHING;`,
    ];
  });
  const sql = [
    `LOCK TABLE ${s}.events IN ACCESS EXCLUSIVE MODE;`,
    ...partitions.flatMap(({ name, first, last, archived }) => [
      `ALTER TABLE ${quoted(archived ?? schema)}.${quoted(name)} SET SCHEMA ${s};`,
      `ALTER TABLE ${s}.events ATTACH PARTITION ${s}.${quoted(name)} FOR VALUES FROM (${first}) TO (${last + 1});`,
      `ALTER TABLE ${s}.${quoted(name)} DROP CONSTRAINT restored;`,
      `UPDATE ${s}.partitions SET archived = NULL WHERE first = ${first};`,
    ]),
  ];
  if (partitions.length === 0) return { partitions, sql: [] };
  if (!dryRun) {
    await db.transaction((session) => session.query(`SET LOCAL statement_timeout = 0; ${prepare.join("\n")}`), { boundMs: DDL_BOUND_MS });
    await inTurn(db, schema, async (session) => {
      if (wanted(await partitionsOf(session, schema)).map(({ name }) => name).join() !== partitions.map(({ name }) => name).join()) return;
      for (const statement of sql) await session.query(statement);
    });
  }
  return { partitions, sql: [...prepare, "BEGIN;", ...sql, "COMMIT;"] };
}

/** V2. */
async function old(db: Queryable, schema: string, through: number): Promise<readonly Partition[]> {
  const head = Number((await db.query(`SELECT coalesce(max(position), 0) FROM ${quoted(schema)}.events`))[0]?.[0]);
  return (await partitionsOf(db, schema)).filter(({ archived, last }) => archived === undefined && last <= through && last < head);
}

/** V3: what becomes of the streams with an event in this range. */
async function streamsIn(db: Database, schema: string, first: number, last: number): Promise<ArchiveReport["streams"]> {
  const s = quoted(schema);
  const rows = await db.query(
    `WITH touched AS (SELECT DISTINCT e.stream FROM ${s}.events e WHERE e.position BETWEEN $1 AND $2),
     ends AS (
       SELECT t.stream, (SELECT max(k.version) FROM ${s}.event_keys k WHERE k.stream = t.stream AND k.position <= $2) AS cut, (SELECT max(k.version) FROM ${s}.event_keys k WHERE k.stream = t.stream) AS last FROM touched t
     ),
     judged AS (
       SELECT n.stream, n.cut = n.last AS whole, n.cut < n.last AND NOT EXISTS (SELECT FROM ${s}.snapshots x WHERE x.stream = n.stream AND x.version > n.cut) AS cut FROM ends n
     )
     SELECT count(*), count(*) FILTER (WHERE whole), count(*) FILTER (WHERE cut),
       array_to_string(ARRAY(SELECT stream FROM judged WHERE whole OR cut ORDER BY stream LIMIT ${EXAMPLES}), E'\\n') FROM judged`,
    [first, last],
    { boundMs: DDL_BOUND_MS },
  );
  const [touched, whole, cut, examples] = rows[0] ?? [];
  return { touched: Number(touched), whole: Number(whole), cut: Number(cut), examples: String(examples ?? "").split("\n").filter((name) => name !== "") };
}

/** V4: one transaction, tried until the locks are had. */
async function inTurn(db: Database, schema: string, work: (session: Session) => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await db.transaction(
        async (session) => {
          await session.query(`SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '1s'; DO $$ BEGIN ${lock(schema, "partitions")} END $$`);
          await work(session);
        },
        { boundMs: DDL_BOUND_MS },
      );
    } catch (error) {
      if (sqlState(error) !== PG.lockNotAvailable || attempt === ATTEMPTS) throw error;
      await pause(db.environment, PAUSE_MS);
    }
  }
}

function assertWhole(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgument(`${name} must be a position, an integer from 1, not ${String(value).slice(0, 64)}`, { details: { option: name } });
}
