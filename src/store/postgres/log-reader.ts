/**
 * Reads the log in its order, a page at a time, by position.
 *
 * R1 What a page has seen is all that stands up to its last event, for ever: positions have the order of commits, or nothing beyond the horizon is shown.
 * R2 The end of the log comes in the same answer, from the same state: a position beyond it is of another log. So does the end of what was archived: whoever
 *    wants to read before it is told so, and never just given less.
 * R3 A filtered page looks at a bounded stretch of the log, and says in `through` how far it looked.
 * R4 A page is bounded in bytes: it ends with the event that passes the bound, and holds at least one where there is one.
 */
import { LogArchived, StoreCorrupt, StoreRewound } from "../../errors.ts";
import type { LogPage, StoredEvent } from "../event-store.ts";
import { at, offsetOf, type Position } from "../position.ts";
import type { LogRead } from "../validate-read.ts";
import { textArray } from "./binary-array.ts";
import { quoted, type Cells, type Database } from "./database.ts";
import type { LogShape } from "./log-shape.ts";
import { EVENT_COLUMNS, MAX_ANSWER_BYTES, MAX_ANSWER_EVENTS, storedEvent } from "./stored-event.ts";

/** R3: some milliseconds of looking. */
const MAX_CONSIDERED = 50_000;

export class LogReader {
  readonly #db: Database;
  readonly #meta: string;
  readonly #head: string;
  readonly #page: (from: number, most: number, categories: readonly string[] | undefined, signal: AbortSignal | undefined) => Promise<readonly Cells[]>;

  constructor(db: Database, schema: string, shape: LogShape) {
    this.#db = db;
    const s = quoted(schema);
    this.#meta = `SELECT value FROM ${s}.meta WHERE name = 'identity'`;
    // What stands beyond the horizon comes after "now".
    this.#head = `SELECT coalesce(max(position), 0) FROM ${s}.events${shape.commitOrder === "horizon" ? ` WHERE position <= (SELECT ${s}.log_horizon())` : ""}`;
    if (shape.commitOrder === "horizon") {
      const text = `SELECT * FROM ${s}.read_log($1, $2, $3, $4)`;
      this.#page = (from, most, categories, signal) => db.query(text, [from, most, MAX_CONSIDERED, categories === undefined ? null : textArray(categories)], { signal, prepared: true });
      return;
    }
    const { unfiltered, filtered } = pageQueries(schema, shape);
    this.#page = (from, most, categories, signal) =>
      categories === undefined ? db.query(unfiltered, [from, most], { signal }) : db.query(filtered, [from, most, MAX_CONSIDERED, textArray(categories)], { signal });
  }

  async identity(signal?: AbortSignal): Promise<string> {
    const id = (await this.#db.query(this.#meta, [], { signal }))[0]?.[0];
    if (typeof id !== "string") throw new StoreCorrupt(`the log in ${this.#db.name} has no identity`, { details: { database: this.#db.name } });
    return id;
  }

  /** Position of the last event that is shown, 0 when there is none. */
  async head(signal?: AbortSignal): Promise<number> {
    return Number((await this.#db.query(this.#head, [], { signal }))[0]?.[0]);
  }

  /** Errors: StoreRewound, LogArchived, those of the database. */
  async page(after: Position, { categories, pageSize }: LogRead, signal?: AbortSignal): Promise<LogPage> {
    const from = offsetOf(after);
    const most = Math.min(pageSize, MAX_ANSWER_EVENTS);
    const rows = await this.#page(from, most, categories === undefined ? undefined : [...categories], signal);
    let end: Cells = [];
    let characters = 0;
    let last = from;
    const events: StoredEvent[] = [];
    for (const cells of rows) {
      const stream = cells[0];
      if (typeof stream !== "string") {
        end = cells;
        continue;
      }
      const event = storedEvent(stream, cells, 1);
      last = offsetOf(event.position);
      characters += event.data.length + (cells[6]?.length ?? 0);
      events.push(event);
    }
    // R2.
    const head = Number(end[2] ?? 0);
    const archived = Number(end[4] ?? 0);
    if (from > head) {
      throw new StoreRewound(`position ${from} lies beyond the last event (${head}) of ${this.#db.name}: this is not the log it was made on`, { details: { position: after, head } });
    }
    if (from < archived) {
      throw new LogArchived(`the log in ${this.#db.name} was archived up to position ${archived}, and reading after ${from} was asked for: read after ${archived}, or attach the archive again`, {
        details: { position: after, archivedThrough: archived, database: this.#db.name },
      });
    }
    // R1: up to here is shown.
    const shown = Math.min(head, Number(end[3] ?? head));
    // A character has at most three bytes: a page that was not cut for certain goes as far as it looked. R3, R4.
    const whole = categories !== undefined && events.length < most && 3 * characters < MAX_ANSWER_BYTES;
    const through = whole ? Math.max(from, Math.min(shown, from + MAX_CONSIDERED)) : last;
    return { events, through: through === 0 ? {} : at(through), caughtUp: through === head };
  }
}

/**
 * A row with the end of the log, whose stream is null, and the rows of the page. $1 is where to begin, $2 the most events, $3 how far to look, $4 the categories;
 * `upto` is the horizon, where there is one. The end: its position, the horizon as id, the end of what was archived as type.
 */
export function pageQueries(schema: string, { commitOrder, eventsPerPartition }: LogShape): { readonly unfiltered: string; readonly filtered: string } {
  const s = quoted(schema);
  const horizon = commitOrder === "horizon";
  const columns = EVENT_COLUMNS.join(", ");
  const archived = eventsPerPartition === undefined ? "NULL" : `(SELECT max(a.last) FROM ${s}.partitions a WHERE a.archived IS NOT NULL)::text`;
  const query = (where: string): string => `
    SELECT NULL AS stream, NULL::int AS version, coalesce(max(position), 0) AS position, ${horizon ? "upto::text" : "NULL"} AS id, ${archived} AS type, NULL::bigint AS recorded_at, NULL AS metadata, NULL AS data FROM ${s}.events
    UNION ALL (
      SELECT stream, ${columns} FROM (
        SELECT p.*, sum(octet_length(p.data) + octet_length(p.metadata)) OVER (ORDER BY p.position ROWS UNBOUNDED PRECEDING) - octet_length(p.data) - octet_length(p.metadata) AS before
        FROM (SELECT * FROM ${s}.events e WHERE ${where}${horizon ? " AND e.position <= upto" : ""} ORDER BY e.position LIMIT $2) p
      ) q
      WHERE before < ${MAX_ANSWER_BYTES} ORDER BY position
    )`;
  return {
    unfiltered: query("e.position > $1"),
    filtered: query("e.position > $1 AND e.position <= $1 + $3 AND split_part(e.stream, '-', 1) = ANY ($4)"),
  };
}
