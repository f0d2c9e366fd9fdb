/**
 * Reads the log in its order, a page at a time, by position.
 *
 * R1 Positions have no gaps and the order of commits: what a page has seen is all that stands up to its last event, for ever.
 * R2 The end of the log comes in the same answer, from the same state: a position beyond it is of another log.
 * R3 A filtered page looks at a bounded stretch of the log, and says in `through` how far it looked.
 * R4 A page is bounded in bytes: it ends with the event that passes the bound, and holds at least one where there is one.
 */
import { StoreCorrupt, StoreRewound } from "../../errors.ts";
import type { LogPage, StoredEvent } from "../event-store.ts";
import { at, offsetOf, type Position } from "../position.ts";
import type { LogRead } from "../validate-read.ts";
import { textArray } from "./binary-array.ts";
import { quoted, type Database } from "./database.ts";
import { EVENT_COLUMNS, MAX_ANSWER_BYTES, MAX_ANSWER_EVENTS, storedEvent } from "./stored-event.ts";

/** R3: some milliseconds of looking. */
const MAX_CONSIDERED = 50_000;

export class LogReader {
  readonly #db: Database;
  readonly #meta: string;
  readonly #head: string;
  readonly #all: string;
  readonly #filtered: string;

  constructor(db: Database, schema: string) {
    this.#db = db;
    const s = quoted(schema);
    this.#meta = `SELECT value FROM ${s}.meta WHERE name = 'identity'`;
    this.#head = `SELECT coalesce(max(position), 0) FROM ${s}.events`;
    this.#all = pageQuery(s, "e.position > $1");
    this.#filtered = pageQuery(s, "e.position > $1 AND e.position <= $1 + $3 AND split_part(e.stream, '-', 1) = ANY ($4)");
  }

  async identity(signal?: AbortSignal): Promise<string> {
    const id = (await this.#db.query(this.#meta, [], { signal }))[0]?.[0];
    if (typeof id !== "string") throw new StoreCorrupt(`the log in ${this.#db.name} has no identity`, { details: { database: this.#db.name } });
    return id;
  }

  /** Position of the last event, 0 when there is none. */
  async head(signal?: AbortSignal): Promise<number> {
    return Number((await this.#db.query(this.#head, [], { signal }))[0]?.[0]);
  }

  /** Errors: StoreRewound, those of the database. */
  async page(after: Position, { categories, pageSize }: LogRead, signal?: AbortSignal): Promise<LogPage> {
    const from = offsetOf(after);
    const most = Math.min(pageSize, MAX_ANSWER_EVENTS);
    const rows =
      categories === undefined
        ? await this.#db.query(this.#all, [from, most], { signal })
        : await this.#db.query(this.#filtered, [from, most, MAX_CONSIDERED, textArray([...categories])], { signal });
    let head = 0;
    let characters = 0;
    let last = from;
    const events: StoredEvent[] = [];
    for (const cells of rows) {
      const stream = cells[0];
      if (typeof stream !== "string") {
        head = Number(cells[2]);
        continue;
      }
      const event = storedEvent(stream, cells, 1);
      last = offsetOf(event.position);
      characters += event.data.length + (cells[6]?.length ?? 0);
      events.push(event);
    }
    // R2.
    if (from > head) {
      throw new StoreRewound(`position ${from} lies beyond the last event (${head}) of ${this.#db.name}: this is not the log it was made on`, { details: { position: after, head } });
    }
    // A character has at most three bytes: a page that was not cut for certain goes as far as it looked. R3, R4.
    const whole = categories !== undefined && events.length < most && 3 * characters < MAX_ANSWER_BYTES;
    const through = whole ? Math.min(head, from + MAX_CONSIDERED) : last;
    return { events, through: through === 0 ? {} : at(through), caughtUp: through === head };
  }
}

/** One row with the end of the log, whose stream is null, and the rows of the page. */
function pageQuery(s: string, where: string): string {
  const columns = EVENT_COLUMNS.join(", ");
  return `
    SELECT NULL AS stream, NULL::int AS version, coalesce(max(position), 0) AS position, NULL AS id, NULL AS type, NULL::bigint AS recorded_at, NULL AS metadata, NULL AS data FROM ${s}.events
    UNION ALL (
      SELECT stream, ${columns} FROM (
        SELECT p.*, sum(octet_length(p.data) + octet_length(p.metadata)) OVER (ORDER BY p.position ROWS UNBOUNDED PRECEDING) - octet_length(p.data) - octet_length(p.metadata) AS before
        FROM (SELECT * FROM ${s}.events e WHERE ${where} ORDER BY e.position LIMIT $2) p
      ) q
      WHERE before < ${MAX_ANSWER_BYTES} ORDER BY position
    )`;
}
