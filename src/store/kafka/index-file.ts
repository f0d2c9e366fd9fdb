/**
 * The SQLite file of an index: its tables, and how what is read of it is checked. It is a copy of what the log says, so damage costs a rebuild and nothing else,
 * provided that it is noticed: a wrong answer from here would be taken for the log's.
 *
 * D1 Every row carries a sum over all of its fields, compared when it is read.
 * D2 A row that is missing is noticed by what stands beside it: the events and the claims of a lane each name the one before them, the lane's row names the last of both,
 *    the versions of a stream have no gaps and end at the version in the stream's row, and a stream is unknown only if two indexes say so.
 * D3 All that a flush writes is one transaction; after a crash the file is as of one of them (a write-ahead log, synchronous = NORMAL: a power failure may take the last ones).
 * D4 One process at a time has the file open (locking_mode = EXCLUSIVE).
 *
 * Longer than an adapter should be: what is written and how it is checked when it is read belong together.
 *
 * A row of an event or claim has the key lane · 2^40 + offset, so that the log of a lane is one run of the table.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { InvalidArgument, StoreCorrupt, StoreUnavailable } from "../../errors.ts";
import type { Claim, IndexedEvent, LaneState } from "./log-index.ts";

const APPLICATION_ID = 0x746d_6b78;
const FORMAT = 2;
const LANE_WIDTH = 2 ** 40;
/** Most rows that one read returns. */
const MOST_ROWS = 1000;

const SCHEMA = `
CREATE TABLE lanes (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, lastClaim INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE claims (at INTEGER PRIMARY KEY, previous INTEGER NOT NULL, claim TEXT NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE INDEX claims_by_nonce ON claims (claim ->> '$.nonce');
CREATE TABLE events (at INTEGER PRIMARY KEY, previous INTEGER NOT NULL, stream INTEGER NOT NULL, version INTEGER NOT NULL, record BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE streams (id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, name TEXT NOT NULL UNIQUE, hash INTEGER NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE INDEX streams_by_hash ON streams (hash);
CREATE TABLE versions (stream INTEGER NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (stream, version)) STRICT, WITHOUT ROWID;
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${FORMAT};
`;

/** `streamSum` in SQL, of a row whose version becomes `added.top`. */
const STREAM_SUM = "(hash * 31 + id * 40503 + lane * 65599 + added.top * 2654435761) % 4294967296";

/** SQLite's primary result codes. */
const SQLITE = { BUSY: 5, CORRUPT: 11, NOTADB: 26 } as const;

/** What the file says is not what was written. */
export class IndexDamaged extends Error {
  override readonly name = "IndexDamaged";
}

/** A lane as it is in the file. */
export interface SavedLane {
  readonly number: number;
  readonly state: LaneState;
  /** Offset of its last claim; -1 = none. */
  readonly lastClaim: number;
}

/** What a flush adds to one lane. */
export interface LaneAdditions {
  readonly lane: string;
  readonly events: readonly IndexedEvent[];
  readonly claims: readonly Claim[];
  readonly state: LaneState;
}

interface SavedStream {
  readonly id: number;
  version: number;
}

type Row = Readonly<Record<string, unknown>>;

const sumOf = (at: number, previous: number, rest: string | Uint8Array, more = 0): number => crc32(rest, (at % 4_294_967_291 ^ (previous + 1) % 4_294_967_279 ^ more) >>> 0);
const streamSum = (id: number, lane: number, hash: number, version: number): number =>
  Number((BigInt(hash) * 31n + BigInt(id) * 40503n + BigInt(lane) * 65599n + BigInt(version) * 2654435761n) % 4294967296n);

export class IndexFile {
  readonly #db: DatabaseSync;
  readonly #lanes = new Map<string, SavedLane>();
  readonly #statements = new Map<string, StatementSync>();
  readonly #streams = new RecentStreams();
  #nextStream = 1;

  /** Opens the file or makes it. Errors: IndexDamaged, InvalidArgument (another application's file), StoreUnavailable. */
  constructor(path: string) {
    try {
      this.#db = new DatabaseSync(path);
    } catch (cause) {
      throw new StoreUnavailable(`the index ${path} cannot be opened: ${(cause as Error).message}`, { cause, details: { file: path } });
    }
    try {
      this.#open(path);
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  lane(lane: string): SavedLane | undefined {
    return this.#lanes.get(lane);
  }

  /** Adds to the lanes, in one transaction: D3. Errors: IndexDamaged, errors of SQLite; then nothing of it stands. */
  add(additions: readonly LaneAdditions[]): void {
    const [lanes, nextStream] = [new Map(this.#lanes), this.#nextStream];
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      for (const addition of additions) this.#addToLane(addition);
      this.#db.exec("COMMIT");
    } catch (error) {
      this.#undo(lanes, nextStream);
      throw error;
    }
  }

  /** Forgets a lane. */
  remove(lane: string): void {
    const saved = this.#lanes.get(lane);
    if (saved === undefined) return;
    const lanes = new Map(this.#lanes);
    const [from, to] = [saved.number * LANE_WIDTH, (saved.number + 1) * LANE_WIDTH - 1];
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      this.#run("DELETE FROM versions WHERE stream IN (SELECT id FROM streams WHERE lane = ?)", saved.number);
      this.#run("DELETE FROM streams WHERE lane = ?", saved.number);
      this.#run("DELETE FROM events WHERE at BETWEEN ? AND ?", from, to);
      this.#run("DELETE FROM claims WHERE at BETWEEN ? AND ?", from, to);
      this.#run("DELETE FROM lanes WHERE number = ?", saved.number);
      this.#db.exec("COMMIT");
    } catch (error) {
      this.#undo(lanes, this.#nextStream);
      throw error;
    }
    this.#lanes.delete(lane);
    this.#streams.clear();
  }

  /** Errors: IndexDamaged. */
  versionOf(stream: string): number {
    return this.#stream(stream)?.version ?? 0;
  }

  /** Errors: IndexDamaged. */
  stream(stream: string, first: number, last: number): readonly IndexedEvent[] {
    const saved = this.#stream(stream);
    const end = Math.min(last, saved?.version ?? 0, first + MOST_ROWS - 1);
    if (saved === undefined || end < first) return [];
    const rows = this.#all(
      "SELECT e.at, e.previous, e.stream, e.version, e.record, e.sum FROM versions v JOIN events e ON e.at = v.at WHERE v.stream = ? AND v.version BETWEEN ? AND ? ORDER BY v.version",
      saved.id,
      first,
      end,
    );
    const events = rows.map((row) => this.#event(row, stream));
    // D2.
    if (events.length !== end - first + 1) throw damaged(`stream ${stream} has ${events.length} events from version ${first} to ${end}`);
    for (const [index, { version }] of events.entries()) if (version !== first + index) throw damaged(`stream ${stream} has version ${version} where ${first + index} belongs`);
    for (const row of rows) if (row["stream"] !== saved.id) throw damaged(`an event of stream ${stream} is of another one`);
    return events;
  }

  /** Errors: IndexDamaged. */
  log(lane: string, from: number, to: number, most: number): readonly IndexedEvent[] {
    const saved = this.#lanes.get(lane);
    if (saved === undefined || most < 1) return [];
    const base = saved.number * LANE_WIDTH;
    const limit = Math.min(most, MOST_ROWS);
    // One more than is returned: its neighbour tells whether one between is missing. D2.
    const rows = this.#all("SELECT at, previous, stream, version, record, sum FROM events WHERE at >= ? AND at < ? ORDER BY at LIMIT ?", base + Math.max(from, 0), base + LANE_WIDTH, limit + 1);
    const events: IndexedEvent[] = [];
    let before: number | undefined;
    for (const row of rows) {
      const event = this.#event(row);
      const previous = row["previous"] as number;
      if (before === undefined ? previous >= from : previous !== before) throw damaged(`an event of ${lane} before offset ${event.offset} is missing`);
      before = event.offset;
      events.push(event);
    }
    const last = saved.state.last?.offset ?? -1;
    if (rows.length <= limit && (before === undefined ? last >= from : last !== before)) throw damaged(`the last event of ${lane}, at offset ${last}, is missing`);
    return events.slice(0, limit).filter(({ offset }) => offset < to);
  }

  /** The last claim at or below an offset. Errors: IndexDamaged. */
  claimAt(lane: string, offset: number): Claim | undefined {
    const saved = this.#lanes.get(lane);
    if (saved === undefined) return undefined;
    const base = saved.number * LANE_WIDTH;
    const row = this.#get("SELECT at, previous, claim, sum FROM claims WHERE at >= ? AND at <= ? ORDER BY at DESC LIMIT 1", base, base + offset);
    const next = this.#get("SELECT at, previous, claim, sum FROM claims WHERE at > ? AND at < ? ORDER BY at LIMIT 1", base + offset, base + LANE_WIDTH);
    const found = row === undefined ? undefined : claimOf(row);
    // D2: the one after it, or the lane where there is none, names it.
    if (next !== undefined) claimOf(next);
    const expected = next === undefined ? saved.lastClaim : (next["previous"] as number);
    if ((found?.offset ?? -1) !== expected) throw damaged(`the claim of ${lane} at offset ${expected} is missing`);
    return found;
  }

  hasClaim(lane: string, nonce: string): boolean {
    const saved = this.#lanes.get(lane);
    if (saved === undefined) return false;
    const base = saved.number * LANE_WIDTH;
    return this.#get("SELECT at FROM claims WHERE claim ->> '$.nonce' = ? AND at BETWEEN ? AND ?", nonce, base, base + LANE_WIDTH - 1) !== undefined;
  }

  close(): void {
    this.#db.close();
  }

  #open(path: string): void {
    const db = this.#db;
    try {
      db.exec("PRAGMA busy_timeout = 200; PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF");
      const [application, format] = [pragma(db, "application_id"), pragma(db, "user_version")];
      const isNew = application === 0 && format === 0 && db.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"] === 0;
      if (!isNew && application !== APPLICATION_ID) {
        throw new InvalidArgument(`${path} is an SQLite file, but not an index of the Kafka store: choose another file`, { details: { file: path } });
      }
      if (!isNew && format !== FORMAT) throw damaged(`it has format ${format}, and this version of Tidemark keeps format ${FORMAT}`);
      if (isNew) db.exec("PRAGMA page_size = 4096");
      db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -32000; PRAGMA cell_size_check = ON");
      if (isNew) db.exec(`BEGIN IMMEDIATE; ${SCHEMA} COMMIT`);
      // D4: the lock is taken with the first read and kept.
      this.#loadLanes();
      this.#nextStream = Number(db.prepare("SELECT coalesce(max(id), 0) + 1 AS id FROM streams").get()?.["id"]);
    } catch (error) {
      throw this.#meaningOf(error, path);
    }
  }

  #meaningOf(error: unknown, path: string): unknown {
    const errcode = (error as { errcode?: unknown }).errcode;
    const code = typeof errcode === "number" ? errcode & 0xff : undefined;
    if (code === SQLITE.BUSY) return new StoreUnavailable(`the index ${path} is in use by another process: give each process a file of its own`, { cause: error, details: { file: path } });
    return isDamage(error) ? damaged((error as Error).message, error) : error;
  }

  #loadLanes(): void {
    for (const row of this.#db.prepare("SELECT number, name, state, lastClaim, sum FROM lanes").all() as Row[]) {
      const { number, name, state, lastClaim, sum } = row as { number: number; name: string; state: string; lastClaim: number; sum: number };
      if (sum !== laneSum(number, name, state, lastClaim)) throw damaged("the row of a lane is not what was written");
      const { last, ...rest } = JSON.parse(state) as Omit<LaneState, "claim"> & { readonly claim: Claim | null };
      this.#lanes.set(name, { number, lastClaim, state: { topicId: rest.topicId, next: rest.next, claim: rest.claim ?? undefined, last } });
    }
    // The ends of all lanes must be there: what is read next begins with them.
    for (const [name, { state }] of this.#lanes) {
      this.log(name, state.last?.offset ?? 0, Number.MAX_SAFE_INTEGER, 1);
      this.claimAt(name, state.next);
    }
  }

  #addToLane({ lane, events, claims, state }: LaneAdditions): void {
    const known = this.#lanes.get(lane);
    if (state.next >= LANE_WIDTH) throw new InvalidArgument(`the index cannot hold offset ${state.next} of ${lane}`);
    const number = known?.number ?? 1 + Math.max(0, ...[...this.#lanes.values()].map((each) => each.number));
    const base = number * LANE_WIDTH;
    let previous = known?.state.last?.offset ?? -1;
    const [first] = events;
    const insert = this.#statement("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)");
    for (const { stream, version, offset, record } of events) {
      const saved = this.#stream(stream) ?? this.#newStream(stream, number);
      insert.run(base + offset, previous, saved.id, version, record, sumOf(base + offset, previous, record, saved.id ^ version));
      // Should the flush fail, all of these are forgotten.
      saved.version = version;
      previous = offset;
    }
    if (first !== undefined) {
      // Sorted, in one statement, they go in many times faster than one by one.
      this.#run("INSERT INTO versions SELECT stream, version, at FROM events WHERE at BETWEEN ? AND ? ORDER BY stream, version", base + first.offset, base + previous);
      this.#run(
        `UPDATE streams SET version = added.top, sum = ${STREAM_SUM} FROM (SELECT stream, max(version) AS top FROM events WHERE at BETWEEN ? AND ? GROUP BY stream) AS added WHERE streams.id = added.stream`,
        base + first.offset,
        base + previous,
      );
    }
    let lastClaim = known?.lastClaim ?? -1;
    for (const claim of claims) {
      const text = JSON.stringify(claim);
      this.#run("INSERT INTO claims VALUES (?, ?, ?, ?)", base + claim.offset, lastClaim, text, sumOf(base + claim.offset, lastClaim, text));
      lastClaim = claim.offset;
    }
    const text = JSON.stringify({ ...state, claim: state.claim ?? null });
    this.#run("INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?)", number, lane, text, lastClaim, laneSum(number, lane, text, lastClaim));
    this.#lanes.set(lane, { number, state, lastClaim });
  }

  #newStream(stream: string, lane: number): SavedStream {
    const id = this.#nextStream++;
    const hash = crc32(stream);
    this.#run("INSERT INTO streams VALUES (?, ?, ?, ?, 0, ?)", id, lane, stream, hash, streamSum(id, lane, hash, 0));
    const saved = { id, version: 0 };
    this.#streams.set(stream, saved);
    return saved;
  }

  #stream(stream: string): SavedStream | undefined {
    const recent = this.#streams.get(stream);
    if (recent !== undefined) return recent;
    const hash = crc32(stream);
    const row = this.#get("SELECT id, lane, name, hash, version, sum FROM streams WHERE name = ?", stream);
    if (row === undefined) {
      // D2.
      for (const { name } of this.#all("SELECT name FROM streams WHERE hash = ?", hash)) if (name === stream) throw damaged(`stream ${stream} is found by one index only`);
      return undefined;
    }
    const { id, lane, version, sum } = row as { id: number; lane: number; version: number; sum: number };
    if (row["hash"] !== hash || sum !== streamSum(id, lane, hash, version)) throw damaged(`the row of stream ${stream} is not what was written`);
    const top = this.#get("SELECT version FROM versions WHERE stream = ? ORDER BY version DESC LIMIT 1", id);
    if (top?.["version"] !== version) throw damaged(`stream ${stream} ends at version ${String(top?.["version"])}, and its row says ${version}`);
    const saved = { id, version };
    this.#streams.set(stream, saved);
    return saved;
  }

  /** D1. */
  #event(row: Row, stream?: string): IndexedEvent {
    const { at, previous, stream: id, version, record, sum } = row as { at: number; previous: number; stream: number; version: number; record: Uint8Array; sum: number };
    if (sum !== sumOf(at, previous, record, id ^ version)) throw damaged(`the row of an event is not what was written (${at})`);
    return { stream: stream ?? this.#nameOf(id), version, offset: at % LANE_WIDTH, record };
  }

  #nameOf(id: number): string {
    const row = this.#get("SELECT lane, name, hash, version, sum FROM streams WHERE id = ?", id) as { lane: number; name: string; hash: number; version: number; sum: number } | undefined;
    if (row === undefined || row.hash !== crc32(row.name) || row.sum !== streamSum(id, row.lane, row.hash, row.version)) throw damaged(`the row of stream ${id} is not what was written`);
    return row.name;
  }

  #undo(lanes: ReadonlyMap<string, SavedLane>, nextStream: number): void {
    try {
      this.#db.exec("ROLLBACK");
    } catch {
      // SQLite has rolled back by itself (a full disk, an I/O error).
    }
    this.#lanes.clear();
    for (const [name, lane] of lanes) this.#lanes.set(name, lane);
    this.#nextStream = nextStream;
    this.#streams.clear();
  }

  #run(sql: string, ...values: (string | number | Uint8Array)[]): void {
    this.#statement(sql).run(...values);
  }

  #get(sql: string, ...values: (string | number)[]): Row | undefined {
    return this.#statement(sql).get(...values);
  }

  #all(sql: string, ...values: (string | number)[]): readonly Row[] {
    return this.#statement(sql).all(...values);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#db.prepare(sql)));
    return statement;
  }
}

/** Streams that were used lately: between `KEPT` and twice as many. */
class RecentStreams {
  static readonly KEPT = 100_000;
  #young = new Map<string, SavedStream>();
  #old = new Map<string, SavedStream>();

  get(stream: string): SavedStream | undefined {
    const young = this.#young.get(stream);
    if (young !== undefined) return young;
    const old = this.#old.get(stream);
    if (old !== undefined) this.set(stream, old);
    return old;
  }

  set(stream: string, saved: SavedStream): void {
    if (this.#young.size >= RecentStreams.KEPT) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(stream, saved);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
  }
}

function claimOf(row: Row): Claim {
  const { at, previous, claim, sum } = row as { at: number; previous: number; claim: string; sum: number };
  if (sum !== sumOf(at, previous, claim)) throw damaged(`the row of a claim is not what was written (${at})`);
  return JSON.parse(claim) as Claim;
}

const laneSum = (number: number, name: string, state: string, lastClaim: number): number => sumOf(number, lastClaim, state, crc32(name));

/** Whether an error says that the file is not what was written. */
export function isDamage(error: unknown): boolean {
  if (error instanceof IndexDamaged) return true;
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  const code = typeof errcode === "number" ? errcode & 0xff : undefined;
  return code === SQLITE.CORRUPT || code === SQLITE.NOTADB;
}

function damaged(what: string, cause?: unknown): IndexDamaged {
  return new IndexDamaged(what, cause === undefined ? undefined : { cause });
}

function pragma(db: DatabaseSync, name: "user_version" | "application_id"): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name]);
}

/** For callers: the file was put aside, and what to do. */
export function damagedIndex(path: string, cause: unknown): StoreCorrupt {
  return new StoreCorrupt(`the index ${path} is damaged (${(cause as Error).message}) and was put aside: open the store again, and it is built from the log. Nothing is lost`, { cause, details: { file: path } });
}
