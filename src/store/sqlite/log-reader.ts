/**
 * Reads streams and the log, synchronously, each answer from one state of the file.
 *
 * R1 The end is read first and bounds the rows that are read next: what is committed in between by another process is left to the next read,
 *    so the two statements agree although each sees its own snapshot. This rests on the log being append-only.
 * R2 Positions have no gaps, so a filtered page looks at a bounded stretch of the log and says in `through` how far it looked.
 * R3 Every answer is bounded in bytes: it ends after the first event that passes `MAX_PAGE_BYTES`, and never holds less than one.
 */
import type { SQLInputValue, StatementSync } from "node:sqlite";
import { StoreCorrupt, StoreRewound } from "../../errors.ts";
import type { LogPage, StoredEvent, StreamSlice } from "../event-store.ts";
import { metadataOf } from "../metadata-text.ts";
import { at, offsetOf, type Position } from "../position.ts";
import type { StreamRead } from "../validate-read.ts";
import type { SqliteFile } from "./sqlite-file.ts";

/** R3: a bound in UTF-16 units of data and metadata, close to bytes. */
export const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const MAX_PAGE_EVENTS = 10_000;
/** R2: some milliseconds of looking. */
const MAX_CONSIDERED = 50_000;

const COLUMNS = "e.position, e.version, e.id, e.type, e.recorded_at, e.metadata, e.data";
type EventRow = readonly [position: number, version: number, id: string, type: string, recordedAt: number, metadata: string, data: string, stream: string];

export class LogReader {
  readonly #path: string;
  readonly #head: StatementSync;
  readonly #end: StatementSync;
  readonly #forward: Rows;
  readonly #backward: Rows;
  readonly #log: Rows;
  readonly #filtered: Rows;
  readonly #identity: StatementSync;
  readonly #category: StatementSync;

  constructor(file: SqliteFile) {
    const { db } = file;
    this.#path = file.path;
    this.#head = db.prepare("SELECT max(position) AS head FROM events");
    this.#end = db.prepare("SELECT id, (SELECT max(version) FROM events WHERE stream = streams.id) AS version FROM streams WHERE name = ?");
    this.#forward = new Rows(db.prepare(`SELECT ${COLUMNS} FROM events e WHERE e.stream = ? AND e.version >= ? AND e.version <= ? ORDER BY e.version LIMIT ?`));
    this.#backward = new Rows(db.prepare(`SELECT ${COLUMNS} FROM events e WHERE e.stream = ? AND e.version >= ? AND e.version <= ? ORDER BY e.version DESC LIMIT ?`));
    // CROSS JOIN keeps the events outside, in the order of the log.
    const log = `SELECT ${COLUMNS}, s.name FROM events e CROSS JOIN streams s ON s.id = e.stream WHERE e.position > ? AND e.position <= ?`;
    this.#log = new Rows(db.prepare(`${log} ORDER BY e.position LIMIT ?`));
    this.#filtered = new Rows(db.prepare(`${log} AND e.category IN (SELECT value FROM json_each(?)) ORDER BY e.position LIMIT ?`));
    this.#identity = db.prepare("SELECT value FROM meta WHERE name = 'identity'");
    this.#category = db.prepare("SELECT id FROM categories WHERE name = ?");
  }

  identity(): string {
    const id = this.#identity.get()?.["value"];
    if (typeof id !== "string") throw new StoreCorrupt(`${this.#path} has no identity`, { details: { file: this.#path } });
    return id;
  }

  /** Position of the last event, 0 when there is none. */
  head(): number {
    return Number(this.#head.get()?.["head"] ?? 0);
  }

  /** The stream's number and last version, or undefined when it holds nothing. */
  end(stream: string): { readonly id: number; readonly version: number } | undefined {
    const row = this.#end.get(stream);
    return row === undefined ? undefined : { id: Number(row["id"]), version: Number(row["version"] ?? 0) };
  }

  slice(stream: string, { backward, from, limit }: StreamRead): StreamSlice {
    const end = this.end(stream);
    if (end === undefined) return { events: [], version: 0, firstVersion: 1, next: undefined };
    const { id, version } = end;
    const most = Math.min(limit, MAX_PAGE_EVENTS);
    if (backward) {
      const last = Math.min(from ?? version, version);
      const events = this.#backward.read(stream, id, 1, last, most);
      const next = last - events.length;
      return { events, version, firstVersion: 1, next: next >= 1 ? next : undefined };
    }
    const first = from ?? 1;
    const events = this.#forward.read(stream, id, first, version, most);
    const next = first + events.length;
    return { events, version, firstVersion: 1, next: next <= version ? next : undefined };
  }

  /** R1, R2. Errors: StoreRewound. */
  page(after: Position, categories: ReadonlySet<string> | undefined, pageSize: number): LogPage {
    const head = this.head();
    const from = offsetOf(after);
    if (from > head) {
      throw new StoreRewound(`position ${from} lies beyond the last event (${head}) of ${this.#path}: this is not the log it was made on`, {
        details: { position: after, head, file: this.#path },
      });
    }
    const most = Math.min(pageSize, MAX_PAGE_EVENTS);
    if (categories === undefined) {
      const events = this.#log.read(undefined, from, head, most);
      const last = events.at(-1);
      const through = last === undefined ? from : offsetOf(last.position);
      return { events, through: last?.position ?? positionAt(from), caughtUp: through === head };
    }
    const until = Math.min(head, from + MAX_CONSIDERED);
    const { events, complete } = this.#filtered.readBounded(undefined, most, from, until, this.#numbersOf(categories), most);
    const last = events.at(-1);
    const through = complete || last === undefined ? until : offsetOf(last.position);
    return { events, through: positionAt(through), caughtUp: through === head };
  }

  /** A category that nobody has written to yet has no number, and no events. */
  #numbersOf(categories: ReadonlySet<string>): string {
    const numbers: unknown[] = [];
    for (const category of categories) {
      const id = this.#category.get(category)?.["id"];
      if (id !== undefined) numbers.push(id);
    }
    return JSON.stringify(numbers);
  }
}

function positionAt(offset: number): Position {
  return offset === 0 ? {} : at(offset);
}

/** One statement whose rows are events. */
class Rows {
  readonly #statement: StatementSync;
  readonly #arrays: boolean;

  constructor(statement: StatementSync) {
    this.#statement = statement;
    // Faster where this Node has it (22.16, 24).
    this.#arrays = typeof statement.setReturnArrays === "function";
    if (this.#arrays) statement.setReturnArrays(true);
  }

  read(stream: string | undefined, ...parameters: readonly SQLInputValue[]): StoredEvent[] {
    return this.readBounded(stream, Number.POSITIVE_INFINITY, ...parameters).events;
  }

  /** R3. `complete`: the statement had fewer than `most` rows and all of them are here. */
  readBounded(stream: string | undefined, most: number, ...parameters: readonly SQLInputValue[]): { readonly events: StoredEvent[]; readonly complete: boolean } {
    const events: StoredEvent[] = [];
    let bytes = 0;
    for (const row of this.#statement.iterate(...parameters)) {
      const columns = (this.#arrays ? row : Object.values(row)) as unknown as EventRow;
      events.push({
        id: columns[2],
        type: columns[3],
        data: columns[6],
        metadata: metadataOf(columns[5]),
        recordedAt: columns[4],
        stream: stream ?? columns[7],
        version: columns[1],
        position: at(columns[0]),
      });
      bytes += columns[5].length + columns[6].length;
      if (bytes > MAX_PAGE_BYTES) return { events, complete: false };
    }
    return { events, complete: events.length < most };
  }
}
