/**
 * The local index in an SQLite file: a store that opens it again goes on where it was, and reads only the rest of the log.
 *
 * Q1 What is applied is first kept in memory, and moved into the file in one transaction with its claims and offsets (`flush`): after `FLUSH_EVENTS` events or
 *    `FLUSH_BYTES`, after `FLUSH_MS`, and when the index is closed. What a crash takes of it is read from the log again.
 * Q2 A flush that fails leaves memory as it was; it is tried again, and a step that finds memory full fails with it (X1).
 * Q3 A file that is missing is built; one that is damaged is put aside (`<file>.damaged`) and built anew. Damage that is found later stops the index:
 *    nothing that it says is trusted any more, and the next one to open it builds it anew.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Environment, Timer } from "../../environment.ts";
import { InvalidArgument, StoreUnavailable } from "../../errors.ts";
import { damagedIndex, IndexFile, isDamage } from "./index-file.ts";
import type { Claim, IndexedEvent, IndexStep, LaneState, LogIndex } from "./log-index.ts";
import { UnsavedSteps } from "./unsaved-steps.ts";

/** Q1. */
const FLUSH_EVENTS = 32_768;
const FLUSH_BYTES = 32 * 1024 * 1024;
const FLUSH_MS = 1000;

export interface SqliteIndexOptions {
  /** Path of the file; made if it is missing, its folder too. One process at a time. */
  readonly file: string;
  readonly environment: Environment;
}

/** Opens the index. Errors: InvalidArgument (another application's file), StoreUnavailable (in use by another process, no access). */
export function sqliteIndex({ file, environment }: SqliteIndexOptions): LogIndex {
  if (typeof file !== "string" || file === "" || file === ":memory:" || file.includes("\0")) throw new InvalidArgument("the index file must be the path of a file; without one the index is kept in memory");
  const path = resolve(file);
  mkdirSync(dirname(path), { recursive: true });
  return new SqliteIndex(path, openOrRebuild(path, environment), environment);
}

/** Q3. */
function openOrRebuild(path: string, environment: Environment): IndexFile {
  try {
    return new IndexFile(path);
  } catch (error) {
    if (!isDamage(error)) throw error;
    putAside(path);
    environment.logger.warn({ file: path, error }, "the index is damaged: it was put aside and is built again from the log");
    return new IndexFile(path);
  }
}

function putAside(path: string): void {
  if (existsSync(path)) renameSync(path, `${path}.damaged`);
  for (const suffix of ["-wal", "-shm"]) rmSync(`${path}${suffix}`, { force: true });
}

class SqliteIndex implements LogIndex {
  readonly #path: string;
  readonly #file: IndexFile;
  readonly #environment: Environment;
  /** Q1: what the file does not hold yet. */
  #unsaved = new UnsavedSteps();
  #timer: Timer | undefined;
  #failure: Error | undefined;
  #closed = false;

  constructor(path: string, file: IndexFile, environment: Environment) {
    this.#path = path;
    this.#file = file;
    this.#environment = environment;
  }

  lane(lane: string): LaneState | undefined {
    return this.#trusted(() => this.#unsaved.lane(lane) ?? this.#file.lane(lane)?.state);
  }

  apply(lane: string, step: IndexStep): void {
    this.#trusted(() => {
      // Q2: before the step is taken, so that it fails whole.
      if (this.#unsaved.events >= FLUSH_EVENTS || this.#unsaved.bytes >= FLUSH_BYTES) this.#flush();
      this.#unsaved.apply(lane, step);
    });
    this.#timer ??= this.#environment.clock.setTimer(FLUSH_MS, () => this.#flushInTime());
  }

  reset(lane: string): void {
    this.#trusted(() => {
      this.#unsaved.reset(lane);
      this.#file.remove(lane);
    });
  }

  versionOf(stream: string): number {
    return this.#trusted(() => this.#unsaved.versionOf(stream) ?? this.#file.versionOf(stream));
  }

  stream(stream: string, first: number, last: number): readonly IndexedEvent[] {
    return this.#trusted(() => {
      const own = this.#unsaved.stream(stream);
      const [begin] = own;
      if (begin === undefined || first < begin.version) return this.#file.stream(stream, first, Math.min(last, (begin?.version ?? Number.POSITIVE_INFINITY) - 1));
      return own.slice(first - begin.version, last - begin.version + 1);
    });
  }

  log(lane: string, from: number, to: number, most: number): readonly IndexedEvent[] {
    return this.#trusted(() => {
      const saved = from < (this.#file.lane(lane)?.state.next ?? 0) ? this.#file.log(lane, from, to, most) : [];
      return saved.length > 0 ? saved : this.#unsaved.log(lane, from, to, most);
    });
  }

  claimAt(lane: string, offset: number): Claim | undefined {
    return this.#trusted(() => this.#unsaved.claimAt(lane, offset) ?? this.#file.claimAt(lane, offset));
  }

  hasClaim(lane: string, nonce: string): boolean {
    return this.#trusted(() => this.#unsaved.hasClaim(lane, nonce) || this.#file.hasClaim(lane, nonce));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    if (this.#failure !== undefined) return;
    try {
      this.#flush();
    } catch (error) {
      // The log has it: the next one reads it from there.
      this.#environment.logger.warn({ file: this.#path, error }, "the end of the index could not be saved");
    }
    this.#file.close();
  }

  #flushInTime(): void {
    this.#timer = undefined;
    if (this.#closed || this.#failure !== undefined) return;
    try {
      this.#trusted(() => this.#flush());
    } catch (error) {
      this.#environment.logger.warn({ file: this.#path, error }, "the index could not be saved; it is tried again");
      this.#timer = this.#environment.clock.setTimer(FLUSH_MS, () => this.#flushInTime());
    }
  }

  #flush(): void {
    const additions = this.#unsaved.additions();
    if (additions.length === 0) return;
    this.#file.add(additions);
    this.#unsaved = new UnsavedSteps();
  }

  /** Q3. */
  #trusted<T>(work: () => T): T {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return work();
    } catch (error) {
      if (!isDamage(error)) throw unavailable(this.#path, error);
      this.#failure = damagedIndex(this.#path, error);
      this.#environment.logger.error({ file: this.#path, error }, "the index is damaged and was put aside");
      // Closed first: it would take the next one's write-ahead log for its own.
      this.#file.close();
      putAside(this.#path);
      throw this.#failure;
    }
  }
}

function unavailable(path: string, cause: unknown): Error {
  return cause instanceof Error && "errcode" in cause ? new StoreUnavailable(`the index ${path} cannot be written or read: ${cause.message}`, { cause, retryable: true, details: { file: path } }) : (cause as Error);
}
