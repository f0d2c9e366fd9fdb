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
import { MAX_ANSWER_BYTES, MAX_ANSWER_EVENTS, storedEvent } from "./stored-event.ts";

/** R3: some milliseconds of looking. */
const MAX_CONSIDERED = 50_000;

export class LogReader {
  readonly #db: Database;
  readonly #meta: string;
  readonly #head: string;
  readonly #page: string;

  constructor(db: Database, schema: string, shape: LogShape) {
    this.#db = db;
    const s = quoted(schema);
    this.#meta = `SELECT value FROM ${s}.meta WHERE name = 'identity'`;
    // What stands beyond the horizon comes after "now".
    this.#head = `SELECT coalesce(max(position), 0) FROM ${s}.events${shape.commitOrder === "horizon" ? ` WHERE position <= (SELECT ${s}.log_horizon())` : ""}`;
    this.#page = `SELECT * FROM ${s}.read_log($1, $2, $3, $4)`;
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
    const rows = await this.#db.query(this.#page, [from, most, MAX_CONSIDERED, categories === undefined ? null : textArray([...categories])], { signal, prepared: true });
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
      const last = head === 0 ? await this.head(signal) : head;
      throw new StoreRewound(`position ${from} lies beyond the last event (${last}) of ${this.#db.name}: this is not the log it was made on`, { details: { position: after, head: last } });
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
