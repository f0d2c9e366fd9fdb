/**
 * Writes a batch of appends with one call of a function in the database: one round trip, one transaction, one notification.
 *
 * A1 A batch of exact expectations goes through `append_exact`, whose check is the unique index. When that fails, nothing of it was written, and the batch goes
 *    again through `append_each`, where a conflict leaves its neighbours alone (S2 of the port). Batches with `any` or `exists` go there at once.
 * A2 After a conflict the next `CAREFUL_BATCHES` go through `append_each` too: where conflicts are common, a failed call costs more than a careful one.
 * A3 Everything is copied into the parameters before the first wait: nothing of the caller's is looked at later.
 * A4 What failed for certain is refused; everything else is `unknown` (S6 of the port).
 * A5 Where appends commit side by side, those of a batch go in the order of their streams' names: no two batches wait for each other in a circle.
 * A6 A position without a partition fails the call for certain; partitions are made, and it goes again. It hardly ever happens: they are made ahead.
 * A7 A conflict brings what the caller misses, within bounds, in the same answer.
 */
import { isTidemarkError } from "../../errors.ts";
import type { Append, AppendOutcome, StoredEvent } from "../event-store.ts";
import { metadataOf } from "../metadata-text.ts";
import { at } from "../position.ts";
import { refused } from "../validate-append.ts";
import { bigintArray, intArray, textArray } from "./binary-array.ts";
import { quoted, type Database } from "./database.ts";
import { isPlain, type LogShape } from "./log-shape.ts";
import type { Partitions } from "./partitions.ts";
import { isDefinite, PG, sqlState, toTidemarkError } from "./postgres-error.ts";

/** Longest wait for the answer; beyond it the outcome is unknown. The wait for the position lock ends before. */
const APPEND_BOUND_MS = 10_000;
const CAREFUL_BATCHES = 50;
/** A6. */
const ROOM_ATTEMPTS = 8;
/** Versions are `int`: no stream is longer, so an expectation beyond is a conflict. */
const MOST_EVENTS = 2 ** 31 - 1;
const ANY = -1;
const EXISTS = -2;

/** A7: for each append; four times these bytes for a batch. More is read by pages. */
const MOST_MISSING = 100;
const MISSING_BYTES = 64 * 1024;

/** An append with its metadata as text. */
export interface PreparedAppend extends Append {
  readonly metadata: readonly string[];
}

interface Failure {
  readonly error: unknown;
}

/** The events of a batch as parameters. */
interface Batch {
  readonly streams: readonly string[];
  readonly expected: readonly number[];
  readonly counts: readonly number[];
  readonly columns: readonly Buffer[];
  readonly events: number;
}

export class LogWriter {
  readonly #db: Database;
  readonly #exact: string;
  readonly #each: string;
  readonly #plain: boolean;
  readonly #sideBySide: boolean;
  readonly #partitions: Partitions | undefined;
  #careful = 0;

  constructor(db: Database, schema: string, shape: LogShape, partitions: Partitions | undefined) {
    this.#db = db;
    this.#exact = `SELECT ${quoted(schema)}.append_exact($1, $2, $3, $4, $5, $6, $7, $8)`;
    this.#each = `SELECT * FROM ${quoted(schema)}.append_each($1, $2, $3, $4, $5, $6, $7, $8, ${MOST_MISSING}, ${MISSING_BYTES})`;
    this.#plain = isPlain(shape);
    this.#sideBySide = shape.commitOrder === "horizon";
    this.#partitions = partitions;
  }

  /** Outcomes in the order of the appends. Never rejects. */
  async write(appends: readonly PreparedAppend[]): Promise<AppendOutcome[]> {
    if (!this.#sideBySide || appends.length === 1) return this.#write(appends);
    // A5.
    const order = appends.map((_, index) => index).sort((a, b) => ((appends[a] as Append).stream < (appends[b] as Append).stream ? -1 : 1));
    const written = await this.#write(order.map((index) => appends[index] as PreparedAppend));
    const outcomes: AppendOutcome[] = [];
    for (const [place, index] of order.entries()) outcomes[index] = written[place] as AppendOutcome;
    return outcomes;
  }

  async #write(appends: readonly PreparedAppend[]): Promise<AppendOutcome[]> {
    // A3.
    const events = appends.flatMap((append) => append.events);
    const batch: Batch = {
      streams: appends.map((append) => append.stream),
      expected: appends.map(expectedOf),
      counts: appends.map((append) => append.events.length),
      columns: [
        textArray(events.map((event) => event.id)),
        textArray(events.map((event) => event.type)),
        bigintArray(events.map((event) => event.recordedAt)),
        textArray(appends.flatMap((append) => append.metadata)),
        textArray(events.map((event) => event.data)),
      ],
      events: events.length,
    };
    try {
      return await this.#send(batch);
    } catch (error) {
      const after = await this.#afterMoreRoom(batch, error);
      if (Array.isArray(after)) return after;
      const outcome = outcomeOf(after.error, this.#db.name);
      return appends.map(() => outcome);
    }
  }

  async #send(batch: Batch): Promise<AppendOutcome[]> {
    const { expected, counts } = batch;
    if (this.#careful > 0) this.#careful--;
    else if (expected.every((version, index) => version >= 0 && version + (counts[index] ?? 0) <= MOST_EVENTS)) {
      const positions = await this.#insert(batch);
      if (positions !== undefined) return committed(positions, expected, counts);
      this.#careful = CAREFUL_BATCHES;
    }
    return this.#decideEach(batch);
  }

  /** A6: the outcomes of another try, or the error that stands. Others use the new room too, so each try asks for more. */
  async #afterMoreRoom(batch: Batch, failure: unknown): Promise<AppendOutcome[] | Failure> {
    let error = failure;
    for (let attempt = 1; attempt <= ROOM_ATTEMPTS && this.#partitions !== undefined && sqlState(error) === PG.checkViolation; attempt++) {
      try {
        await this.#partitions.make(batch.events * 2 ** attempt);
        return await this.#send(batch);
      } catch (again) {
        error = again;
      }
    }
    return { error };
  }

  /** A1: where each event stands, or undefined when an expectation did not hold. */
  async #insert({ streams, expected, counts, columns }: Batch): Promise<((event: number) => number) | undefined> {
    const names: string[] = [];
    const versions: number[] = [];
    const continued: number[] = [];
    for (let index = 0; index < streams.length; index++) {
      const version = expected[index] as number;
      if (version > 0) continued.push(versions.length + 1);
      for (let event = 1; event <= (counts[index] as number); event++) {
        names.push(streams[index] as string);
        versions.push(version + event);
      }
    }
    try {
      const rows = await this.#db.query(this.#exact, [intArray(continued), textArray(names), intArray(versions), ...columns], { boundMs: APPEND_BOUND_MS, prepared: true });
      if (this.#plain) {
        const base = Number(rows[0]?.[0]);
        return (event) => base + event + 1;
      }
      const positions = numbersOf(rows[0]?.[0]);
      return (event) => positions[event] as number;
    } catch (error) {
      const state = sqlState(error);
      if (state === PG.uniqueViolation || state === PG.gap) return undefined;
      throw error;
    }
  }

  async #decideEach({ streams, expected, counts, columns }: Batch): Promise<AppendOutcome[]> {
    const rows = await this.#db.query(this.#each, [textArray(streams), intArray(expected), intArray(counts), ...columns], { boundMs: APPEND_BOUND_MS, prepared: true });
    const versions = numbersOf(rows[0]?.[0]);
    const positions = numbersOf(rows[0]?.[1]);
    const missing = missingOf(rows[0]?.[2], streams);
    return streams.map((_, index) => {
      const version = versions[index] as number;
      if (version >= 0) return { kind: "committed", version, position: at(positions[index] as number) };
      const found = missing.get(index);
      // Not where the front of what is missing was archived.
      const fits = found?.[0]?.version === (expected[index] as number) + 1;
      return { kind: "conflict", actual: -1 - version, ...(fits && { missing: found }) };
    });
  }
}

/** A7: by the place of the append. */
function missingOf(text: string | null | undefined, streams: readonly string[]): Map<number, StoredEvent[]> {
  const missing = new Map<number, StoredEvent[]>();
  if (typeof text !== "string") return missing;
  type Row = readonly [append: number, version: number, position: number, id: string, type: string, recordedAt: number, metadata: string, data: string];
  for (const [append, version, position, id, type, recordedAt, metadata, data] of JSON.parse(`[${text}]`) as readonly Row[]) {
    const event: StoredEvent = { id, type, data, metadata: metadataOf(metadata), recordedAt, stream: streams[append - 1] as string, version, position: at(position) };
    const others = missing.get(append - 1);
    if (others === undefined) missing.set(append - 1, [event]);
    else others.push(event);
  }
  return missing;
}

function expectedOf({ expected }: Append): number {
  if (expected === "any") return ANY;
  if (expected === "exists") return EXISTS;
  return expected === "none" ? 0 : Math.min(expected, MOST_EVENTS);
}

function committed(positionOf: (event: number) => number, expected: readonly number[], counts: readonly number[]): AppendOutcome[] {
  let events = 0;
  return expected.map((version, index) => {
    const count = counts[index] as number;
    events += count;
    return { kind: "committed", version: version + count, position: at(positionOf(events - 1)) };
  });
}

/** An array of numbers as the server writes it: `{1,2,3}`. */
function numbersOf(text: string | null | undefined): number[] {
  return JSON.parse(`[${(text ?? "{}").slice(1, -1)}]`) as number[];
}

/** A4: what a failed call means for each of its appends. */
function outcomeOf(error: unknown, database: string): AppendOutcome {
  if (isTidemarkError(error, "StoreClosed")) return refused("closed", "the store was closed; nothing was written", { cause: error });
  if (!isDefinite(error)) return { kind: "unknown", cause: error };
  const cause = toTidemarkError(error, database);
  switch (sqlState(error)) {
    case PG.lockNotAvailable:
    case PG.deadlock:
    case PG.canceled:
      return refused("busy", `other writers of ${database} held the log for too long; nothing was written`, { retryable: true, cause });
    case PG.tooManyConnections:
      return refused("busy", `${database} takes no more connections; nothing was written`, { retryable: true, cause });
    case PG.diskFull:
      return refused("disk-full", `there is no room left for ${database}; nothing was written`, { cause });
    case PG.readOnly:
      return refused("unavailable", `${database} takes no writes (is it a standby?); nothing was written`, { retryable: true, cause });
    default:
      return refused("unavailable", cause.message, { retryable: isTidemarkError(cause) && cause.retryable, cause });
  }
}

