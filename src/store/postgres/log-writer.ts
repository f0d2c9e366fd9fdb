/**
 * Writes a batch of appends with one call of a function in the database: one round trip, one transaction, one notification.
 *
 * A1 A batch of exact expectations goes through `append_exact`, whose check is the unique index. When that fails, nothing of it was written, and the batch goes
 *    again through `append_checked`, where a conflict leaves its neighbours alone (S2 of the port). Batches with `any` or `exists` go there at once.
 * A2 After a conflict the next `CAREFUL_BATCHES` go through `append_checked` too: where conflicts are common, a failed call costs more than a careful one.
 * A3 Everything is copied into the parameters before the first wait: nothing of the caller's is looked at later.
 * A4 What failed for certain is refused; everything else is `unknown` (S6 of the port).
 */
import { isTidemarkError } from "../../errors.ts";
import type { Append, AppendOutcome } from "../event-store.ts";
import { at } from "../position.ts";
import { refused } from "../validate-append.ts";
import { bigintArray, intArray, textArray } from "./binary-array.ts";
import { quoted, type Database } from "./database.ts";
import { isDefinite, PG, sqlState, toTidemarkError } from "./postgres-error.ts";

/** Longest wait for the answer; beyond it the outcome is unknown. The wait for the position lock ends before. */
const APPEND_BOUND_MS = 10_000;
const CAREFUL_BATCHES = 50;
/** Versions are `int`: no stream is longer, so an expectation beyond is a conflict. */
const MOST_EVENTS = 2 ** 31 - 1;
const ANY = -1;
const EXISTS = -2;

/** An append with its metadata as text. */
export interface PreparedAppend extends Append {
  readonly metadata: readonly string[];
}

export class LogWriter {
  readonly #db: Database;
  readonly #exact: string;
  readonly #checked: string;
  #careful = 0;

  constructor(db: Database, schema: string) {
    this.#db = db;
    this.#exact = `SELECT ${quoted(schema)}.append_exact($1, $2, $3, $4, $5, $6, $7, $8)`;
    this.#checked = `SELECT * FROM ${quoted(schema)}.append_checked($1, $2, $3, $4, $5, $6, $7, $8)`;
  }

  /** Outcomes in the order of the appends. Never rejects. */
  async write(appends: readonly PreparedAppend[]): Promise<AppendOutcome[]> {
    // A3.
    const events = appends.flatMap((append) => append.events);
    const columns = [
      textArray(events.map((event) => event.id)),
      textArray(events.map((event) => event.type)),
      bigintArray(events.map((event) => event.recordedAt)),
      textArray(appends.flatMap((append) => append.metadata)),
      textArray(events.map((event) => event.data)),
    ];
    const counts = appends.map((append) => append.events.length);
    const expected = appends.map(expectedOf);
    const streams = appends.map((append) => append.stream);
    try {
      if (this.#careful > 0) this.#careful--;
      else if (expected.every((version, index) => version >= 0 && version + (counts[index] ?? 0) <= MOST_EVENTS)) {
        const base = await this.#insert(streams, expected, counts, columns);
        if (base !== undefined) return committed(base, expected, counts);
        this.#careful = CAREFUL_BATCHES;
      }
      return await this.#check(streams, expected, counts, columns);
    } catch (error) {
      const outcome = outcomeOf(error, this.#db.name);
      return appends.map(() => outcome);
    }
  }

  /** A1: the position before the first event, or undefined when an expectation did not hold. */
  async #insert(streams: readonly string[], expected: readonly number[], counts: readonly number[], columns: readonly Buffer[]): Promise<number | undefined> {
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
      return Number(rows[0]?.[0]);
    } catch (error) {
      const state = sqlState(error);
      if (state === PG.uniqueViolation || state === PG.gap) return undefined;
      throw error;
    }
  }

  async #check(streams: readonly string[], expected: readonly number[], counts: readonly number[], columns: readonly Buffer[]): Promise<AppendOutcome[]> {
    const rows = await this.#db.query(this.#checked, [textArray(streams), intArray(expected), intArray(counts), ...columns], { boundMs: APPEND_BOUND_MS, prepared: true });
    const versions = numbersOf(rows[0]?.[0]);
    const positions = numbersOf(rows[0]?.[1]);
    return streams.map((_, index) => {
      const version = versions[index] as number;
      return version < 0 ? { kind: "conflict", actual: -1 - version } : { kind: "committed", version, position: at(positions[index] as number) };
    });
  }
}

function expectedOf({ expected }: Append): number {
  if (expected === "any") return ANY;
  if (expected === "exists") return EXISTS;
  return expected === "none" ? 0 : Math.min(expected, MOST_EVENTS);
}

function committed(base: number, expected: readonly number[], counts: readonly number[]): AppendOutcome[] {
  let offset = base;
  return expected.map((version, index) => {
    const count = counts[index] as number;
    offset += count;
    return { kind: "committed", version: version + count, position: at(offset) };
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

