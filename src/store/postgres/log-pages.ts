/**
 * Iterates over the pages of the log, and waits for more when it is live. Calls of `next` are answered one after the other.
 *
 * L1 A page is read when the consumer asks for it, never before: back-pressure is the consumer's own pace.
 * L2 News that come at any time after a page was asked for are remembered until the next one is: the hand-over to live misses nothing.
 * L3 Waiting ends with news, the signal, `close()` and `return()`, whichever comes first.
 * L4 A live iteration outlives failures of the database: it reads again where it stood, with growing pauses.
 */
import { isTidemarkError, StoreClosed } from "../../errors.ts";
import type { LogPage } from "../event-store.ts";
import { offsetOf, type Position } from "../position.ts";
import { throwIfAborted, type LogRead } from "../validate-read.ts";
import { pause, type Database } from "./database.ts";
import type { LogReader } from "./log-reader.ts";
import { toTidemarkError } from "./postgres-error.ts";

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;

export interface LogPagesOptions {
  readonly db: Database;
  readonly reader: LogReader;
  readonly read: LogRead;
  readonly live: boolean;
  readonly signal: AbortSignal | undefined;
  readonly isClosed: () => boolean;
  /** Told once, when the iteration is over. */
  readonly onEnd: () => void;
}

export class LogPages implements AsyncIterableIterator<LogPage> {
  readonly #options: LogPagesOptions;
  #through: Position;
  #caughtUp = false;
  #ended = false;
  #news = false;
  #wake: (() => void) | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LogPagesOptions) {
    this.#options = options;
    this.#through = options.read.after;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<LogPage> {
    return this;
  }

  next(): Promise<IteratorResult<LogPage>> {
    const turn = this.#turn.then(() => this.#step());
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async return(): Promise<IteratorResult<LogPage>> {
    this.#end();
    this.wake();
    return { done: true, value: undefined };
  }

  /** The log may reach up to `head` now; undefined: nobody knows. L2, L3. */
  wake(head?: number): void {
    if (head !== undefined && this.#caughtUp && head <= offsetOf(this.#through)) return;
    this.#news = true;
    this.#wake?.();
  }

  async #step(): Promise<IteratorResult<LogPage>> {
    const { db, live, isClosed, signal } = this.#options;
    const done = { done: true, value: undefined } as const;
    try {
      for (let failures = 0; ; ) {
        if (this.#ended || (this.#caughtUp && !live)) {
          this.#end();
          return done;
        }
        throwIfAborted(signal, "reading the log");
        if (isClosed()) throw new StoreClosed("the store was closed", { details: { database: db.name } });
        if (this.#caughtUp && !this.#news) {
          await this.#wait();
          continue;
        }
        const idle = this.#caughtUp;
        const page = await this.#page();
        if (page === undefined) {
          // L4.
          await pause(db.environment, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++), signal);
          continue;
        }
        if (this.#ended) return done;
        if (isClosed()) continue;
        const moved = offsetOf(page.through) > offsetOf(this.#through);
        this.#caughtUp = page.caughtUp;
        if (idle && !moved) continue;
        this.#through = page.through;
        return { done: false, value: page };
      }
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** L1. Undefined: the database failed, and a live iteration tries again. */
  async #page(): Promise<LogPage | undefined> {
    const { db, reader, read, live, signal } = this.#options;
    // L2: forgotten before the read, so that what comes after it counts.
    this.#news = false;
    try {
      return await reader.page(this.#through, read, signal);
    } catch (cause) {
      throwIfAborted(signal, "reading the log");
      const error = toTidemarkError(cause, db.name);
      if (!live || !isTidemarkError(error, "StoreUnavailable")) throw error;
      db.environment.logger.warn({ error }, "the log could not be read and is tried again");
      return undefined;
    }
  }

  /** L3. */
  #wait(): Promise<void> {
    const { signal } = this.#options;
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wake = undefined;
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      signal?.addEventListener("abort", wake, { once: true });
      this.#wake = wake;
    });
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd();
  }
}
