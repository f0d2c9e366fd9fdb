/**
 * Writes a batch of appends in one transaction: one group commit.
 *
 * A1 Expected versions are checked while the write lock is held, before anything of that append is inserted: a conflict leaves its neighbours alone
 *    and needs no savepoint (S1, S2 of the port).
 * A2 Versions and the head are remembered between transactions; `PRAGMA data_version`, read under the write lock, says whether another connection has
 *    committed since, and then they are forgotten. The unique index (stream, version) stands behind it: were the memory wrong, the insertion fails,
 *    and the batch is done again without it.
 * A3 What a failed transaction put into the memory is forgotten with it.
 * A4 Rows are inserted at the end of the batch, many by one statement: nothing else in it reads them, because a batch holds one append for each stream.
 * A5 The same ids again: an exact expectation that others have passed is compared with the ids that stand after it (S5 of the port).
 */
import type { SQLInputValue, StatementSync } from "node:sqlite";
import type { Append, AppendOutcome } from "../event-store.ts";
import { at } from "../position.ts";
import { categoryOf } from "../stream-name.ts";
import type { LogReader } from "./log-reader.ts";
import { SQLITE, sqliteCode } from "./sqlite-error.ts";
import type { SqliteFile } from "./sqlite-file.ts";

/** Most events that a conflict hands back. */
const MAX_MISSING = 1000;
/** A4: a statement of so many rows costs a fifth less for each than one of a single row; larger ones gain nothing more. */
const ROWS_AT_ONCE = 16;
const COLUMNS = ["position", "stream", "version", "category", "id", "type", "recorded_at", "metadata", "data"] as const;
/** Streams whose version is remembered, at about 200 bytes each: half of them in each of two generations. */
const REMEMBERED_STREAMS = 40_000;

interface KnownStream {
  readonly id: number;
  readonly category: number;
  version: number;
}

/** An append with its metadata as text. */
export interface PreparedAppend extends Append {
  readonly metadata: readonly string[];
}

export class LogWriter {
  readonly #file: SqliteFile;
  readonly #reader: LogReader;
  readonly #dataVersion: StatementSync;
  readonly #insertRow: StatementSync;
  readonly #insertRows: StatementSync;
  readonly #insertStream: StatementSync;
  readonly #insertCategory: StatementSync;
  readonly #categoryId: StatementSync;
  readonly #ids: StatementSync;
  #young = new Map<string, KnownStream>();
  #old = new Map<string, KnownStream>();
  readonly #categories = new Map<string, number>();
  #head: number | undefined;
  #seen: unknown;

  constructor(file: SqliteFile, reader: LogReader) {
    const { db } = file;
    this.#file = file;
    this.#reader = reader;
    this.#dataVersion = db.prepare("PRAGMA data_version");
    const row = `(${COLUMNS.map(() => "?").join(", ")})`;
    const insert = (rows: number): StatementSync => db.prepare(`INSERT INTO events (${COLUMNS.join(", ")}) VALUES ${Array.from({ length: rows }, () => row).join(", ")}`);
    this.#insertRow = insert(1);
    this.#insertRows = insert(ROWS_AT_ONCE);
    this.#insertStream = db.prepare("INSERT INTO streams (category, name) VALUES (?, ?)");
    this.#insertCategory = db.prepare("INSERT INTO categories (name) VALUES (?)");
    this.#categoryId = db.prepare("SELECT id FROM categories WHERE name = ?");
    this.#ids = db.prepare("SELECT id, position FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?");
  }

  /** Outcomes in the order of the appends. Errors: of SQLite (nothing was written), CommitFailed. */
  write(appends: readonly PreparedAppend[]): AppendOutcome[] {
    try {
      return this.#commit(appends);
    } catch (error) {
      // A2.
      if (sqliteCode(error) === SQLITE.CONSTRAINT) return this.#commit(appends);
      throw error;
    }
  }

  #commit(appends: readonly PreparedAppend[]): AppendOutcome[] {
    try {
      return this.#file.transaction(() => this.#batch(appends));
    } catch (error) {
      this.#forget();
      throw error;
    }
  }

  #batch(appends: readonly PreparedAppend[]): AppendOutcome[] {
    const seen = this.#dataVersion.get()?.["data_version"];
    if (seen !== this.#seen) this.#forget();
    this.#seen = seen;
    this.#head ??= this.#reader.head();
    const values: SQLInputValue[] = [];
    const outcomes = appends.map((append) => this.#one(append, values));
    this.#insert(values);
    return outcomes;
  }

  /** A4. `values`: those of all rows, one after the other. */
  #insert(values: readonly SQLInputValue[]): void {
    const many = ROWS_AT_ONCE * COLUMNS.length;
    let from = 0;
    for (; from + many <= values.length; from += many) this.#insertRows.run(...values.slice(from, from + many));
    for (; from < values.length; from += COLUMNS.length) this.#insertRow.run(...values.slice(from, from + COLUMNS.length));
  }

  /** Puts the values of what it appends into `rows`. */
  #one(append: PreparedAppend, rows: SQLInputValue[]): AppendOutcome {
    const { stream, expected, events, metadata } = append;
    let known = this.#lookUp(stream);
    const actual = known?.version ?? 0;
    const exact = expected === "none" ? 0 : typeof expected === "number" ? expected : undefined;
    if (exact === undefined ? expected === "exists" && actual === 0 : exact !== actual) {
      return this.#contested(append, known, exact);
    }
    known ??= this.#newStream(stream);
    let position = this.#head ?? 0;
    let version = actual;
    for (let index = 0; index < events.length; index++) {
      const event = events[index];
      if (event === undefined) break;
      rows.push(++position, known.id, ++version, known.category, event.id, event.type, event.recordedAt, metadata[index] ?? "{}", event.data);
    }
    this.#head = position;
    known.version = version;
    return { kind: "committed", version, position: at(position) };
  }

  /** A5, or the conflict with what the writer has missed. */
  #contested({ stream, events }: Append, known: KnownStream | undefined, exact: number | undefined): AppendOutcome {
    if (known === undefined || exact === undefined || exact >= known.version) return { kind: "conflict", actual: known?.version ?? 0 };
    if (exact + events.length <= known.version) {
      const standing = this.#ids.all(known.id, exact, events.length);
      if (standing.length === events.length && standing.every((row, index) => row["id"] === events[index]?.id)) {
        return { kind: "committed", version: exact + events.length, position: at(Number(standing.at(-1)?.["position"])) };
      }
    }
    const missing = this.#reader.slice(stream, { backward: false, from: exact + 1, limit: MAX_MISSING }).events;
    return { kind: "conflict", actual: known.version, missing };
  }

  #lookUp(stream: string): KnownStream | undefined {
    let known = this.#young.get(stream) ?? this.#old.get(stream);
    if (known === undefined) {
      const end = this.#reader.end(stream);
      if (end === undefined) return undefined;
      known = { ...end, category: this.#category(categoryOf(stream)) };
    }
    this.#remember(stream, known);
    return known;
  }

  #newStream(stream: string): KnownStream {
    const category = this.#category(categoryOf(stream));
    const known = { id: Number(this.#insertStream.run(category, stream).lastInsertRowid), category, version: 0 };
    this.#remember(stream, known);
    return known;
  }

  #category(name: string): number {
    let id = this.#categories.get(name);
    if (id === undefined) {
      id = Number(this.#categoryId.get(name)?.["id"] ?? this.#insertCategory.run(name).lastInsertRowid);
      this.#categories.set(name, id);
    }
    return id;
  }

  /** Two generations: what is used moves to the young one, and the old one is dropped when that is full. */
  #remember(stream: string, known: KnownStream): void {
    this.#young.set(stream, known);
    if (this.#young.size < REMEMBERED_STREAMS / 2) return;
    this.#old = this.#young;
    this.#young = new Map();
  }

  /** A3. */
  #forget(): void {
    this.#young.clear();
    this.#old.clear();
    this.#categories.clear();
    this.#head = undefined;
    this.#seen = undefined;
  }
}
