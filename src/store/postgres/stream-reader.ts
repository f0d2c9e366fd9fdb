/**
 * Reads streams. Reads forward share round trips: what is asked for while `MAX_IN_FLIGHT` questions are under way waits, and then goes as one.
 *
 * B1 A question is put after its caller has called, never before: the answer holds everything that was acknowledged by then (S4 of the port).
 * B2 All slices of an answer come from one state of the log, each with the version of its stream in that state.
 * B3 An answer is bounded in bytes as a whole. A slice that was cut says where to go on; one that did not fit at all is asked for again. The first always fits.
 * B4 An error is each waiting caller's own; one that gave up leaves the others alone.
 * B5 What was archived is left out and declared (`firstVersion`). An event that is missing without that is looked for once more (its partition may be younger than
 *    the statement's plan), and then told: somebody has detached a partition by hand.
 */
import { Aborted, StoreCorrupt } from "../../errors.ts";
import type { StoredEvent, StreamSlice } from "../event-store.ts";
import type { StreamRead } from "../validate-read.ts";
import { intArray, textArray } from "./binary-array.ts";
import { quoted, type Cells, type Database } from "./database.ts";
import type { LogShape } from "./log-shape.ts";
import { frontOf } from "./read-streams.ts";
import { EVENT_COLUMNS, MAX_ANSWER_BYTES, MAX_ANSWER_EVENTS, storedEvent } from "./stored-event.ts";

const MAX_IN_FLIGHT = 3;
const MAX_STREAMS = 128;
const MOST_VERSIONS = 2 ** 31 - 1;

interface Question {
  readonly stream: string;
  readonly from: number;
  readonly limit: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (slice: StreamSlice) => void;
  readonly reject: (error: unknown) => void;
  /** B5. */
  readonly again?: true;
}

export class StreamReader {
  readonly #db: Database;
  readonly #forward: string;
  readonly #backward: string;
  #waiting: Question[] = [];
  #inFlight = 0;
  #scheduled = false;

  constructor(db: Database, schema: string, { eventsPerPartition }: LogShape) {
    this.#db = db;
    const s = quoted(schema);
    const columns = EVENT_COLUMNS.map((column) => `e.${column}`).join(", ");
    this.#forward = `SELECT * FROM ${s}.read_streams($1, $2, $3, ${MAX_ANSWER_BYTES})`;
    const [keys, one, front] =
      eventsPerPartition === undefined
        ? ["events", `SELECT * FROM ${s}.events WHERE stream = $1 AND version <= $2 ORDER BY version DESC LIMIT $3`, "NULL"]
        : [
            "event_keys",
            `SELECT k.version, k.position, x.id, x.type, x.recorded_at, x.metadata, x.data FROM ${s}.event_keys k LEFT JOIN ${s}.events x ON x.position = k.position
             WHERE k.stream = $1 AND k.version <= $2 AND k.position > gone.through ORDER BY k.version DESC LIMIT $3`,
            frontOf(schema),
          ];
    const gone = eventsPerPartition === undefined ? "0" : `(SELECT coalesce(max(p.last), 0) FROM ${s}.partitions p WHERE p.archived IS NOT NULL)`;
    this.#backward = `
      SELECT q.* FROM (
        SELECT h.head, ${columns}, ${front} AS front, sum(octet_length(e.data) + octet_length(e.metadata)) OVER (ORDER BY e.version DESC ROWS UNBOUNDED PRECEDING) - octet_length(e.data) - octet_length(e.metadata) AS before
        FROM (SELECT coalesce(max(version), 0) AS head FROM ${s}.${keys} WHERE stream = $1) h
        CROSS JOIN (SELECT $1::text AS stream) r
        CROSS JOIN (SELECT ${gone} AS through) gone
        LEFT JOIN LATERAL (${one}) e ON true
      ) q
      WHERE q.version IS NULL OR q.before IS NULL OR q.before < ${MAX_ANSWER_BYTES} ORDER BY q.version DESC`;
  }

  /** Errors: of the database, Aborted. */
  read(stream: string, { backward, from, limit }: StreamRead, signal?: AbortSignal): Promise<StreamSlice> {
    const most = Math.min(limit, MAX_ANSWER_EVENTS);
    if (backward) return this.#readBackward(stream, Math.min(from ?? MOST_VERSIONS, MOST_VERSIONS), most, signal);
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(new Aborted(`reading ${stream} was aborted`, { cause: signal?.reason }));
      signal?.addEventListener("abort", abort, { once: true });
      const forget = (): void => signal?.removeEventListener("abort", abort);
      this.#waiting.push({
        stream,
        from: Math.min(from ?? 1, MOST_VERSIONS),
        limit: most,
        signal,
        resolve: (slice) => (forget(), resolve(slice)),
        reject: (error) => (forget(), reject(error as Error)),
      });
      this.#schedule();
    });
  }

  /** What is asked for in one turn of the loop goes together. */
  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= MAX_IN_FLIGHT) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      while (this.#waiting.length > 0 && this.#inFlight < MAX_IN_FLIGHT) void this.#ask(this.#waiting.splice(0, MAX_STREAMS));
    });
  }

  /** B1 to B4. Never rejects. */
  async #ask(batch: readonly Question[]): Promise<void> {
    const questions = batch.filter(({ signal }) => signal?.aborted !== true);
    if (questions.length === 0) return;
    this.#inFlight++;
    try {
      const values = [textArray(questions.map(({ stream }) => stream)), intArray(questions.map(({ from }) => from)), intArray(questions.map(({ limit }) => limit))];
      const rows = await this.#db.query(this.#forward, values, { prepared: true });
      let row = 0;
      for (const [index, question] of questions.entries()) {
        const first = row;
        while (row < rows.length && Number(rows[row]?.[0]) === index + 1) row++;
        const own = rows.slice(first, row);
        if (own.length === 0) this.#waiting.push(question);
        else if (question.again === undefined && own.some((cells) => isLost(cells, 2))) this.#waiting.push({ ...question, again: true });
        else settle(question, own);
      }
    } catch (error) {
      for (const question of questions) question.reject(error);
    } finally {
      this.#inFlight--;
      if (this.#waiting.length > 0) this.#schedule();
    }
  }

  async #readBackward(stream: string, from: number, most: number, signal: AbortSignal | undefined): Promise<StreamSlice> {
    let rows = await this.#db.query(this.#backward, [stream, from, most], { signal });
    if (rows.some((cells) => isLost(cells, 1))) rows = await this.#db.query(this.#backward, [stream, from, most], { signal });
    const version = Number(rows[0]?.[0] ?? 0);
    const firstVersion = Number(rows[0]?.[8] ?? 1);
    const events = eventsOf(stream, rows, 1);
    const next = (events.at(-1)?.version ?? Math.min(from, version) + 1) - 1;
    return { events, version, firstVersion, next: next >= firstVersion ? next : undefined };
  }
}

function settle(question: Question, rows: readonly Cells[]): void {
  try {
    question.resolve(forwardSlice(question, rows));
  } catch (error) {
    question.reject(error);
  }
}

function forwardSlice({ stream, from }: Question, rows: readonly Cells[]): StreamSlice {
  const version = Number(rows[0]?.[1]);
  const firstVersion = Number(rows[0]?.[9] ?? 1);
  const events = eventsOf(stream, rows, 2);
  const next = Math.max(from, firstVersion) + events.length;
  return { events, version, firstVersion, next: next <= version ? next : undefined };
}

/** A version that has a place, and no event there. */
function isLost(cells: Cells, first: number): boolean {
  return cells[first] !== null && cells[first + 2] === null;
}

/** A stream without events in the range has one row whose version is null. B5. Errors: StoreCorrupt. */
function eventsOf(stream: string, rows: readonly Cells[], first: number): StoredEvent[] {
  if (rows[0]?.[first] === null) return [];
  return rows.map((cells) => {
    if (isLost(cells, first)) {
      throw new StoreCorrupt(`version ${cells[first]} of ${stream} stands at position ${cells[first + 1]}, which no partition holds and no archive was declared for: attach the partition again`, {
        details: { stream, version: Number(cells[first]), position: Number(cells[first + 1]) },
      });
    }
    return storedEvent(stream, cells, first);
  });
}
