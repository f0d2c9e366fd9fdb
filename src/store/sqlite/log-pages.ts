/**
 * Iterates over the pages of the log, and waits for more when it is live. Calls of `next` are answered one after the other.
 *
 * L1 A page is read when the consumer asks for it, never before.
 * L2 News that come at any time after a page was read are remembered until the next one is: the hand-over to live misses nothing.
 * L3 Waiting ends with an append of this process, a commit of another one, the signal, `close()` and `return()`, whichever comes first.
 * L4 Between two pages the event loop gets its turn.
 */
import { delay } from "../../environment.ts";
import { isTidemarkError, StoreClosed } from "../../errors.ts";
import type { LogPage } from "../event-store.ts";
import { offsetOf, type Position } from "../position.ts";
import { throwIfAborted, type LogRead } from "../validate-read.ts";
import type { LogReader } from "./log-reader.ts";
import { toTidemarkError } from "./sqlite-error.ts";
import type { SqliteFile } from "./sqlite-file.ts";

/** First and longest pause after a failed read of a subscription, in milliseconds. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;

export interface LogPagesOptions {
  readonly file: SqliteFile;
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
  #started = false;
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

  /** Something may have changed. L2, L3. */
  wake(): void {
    this.#news = true;
    this.#wake?.();
  }

  async #step(): Promise<IteratorResult<LogPage>> {
    const { live, file, isClosed, signal } = this.#options;
    const done = { done: true, value: undefined } as const;
    try {
      for (let failures = 0; ; ) {
        if (this.#ended || (this.#caughtUp && !live)) {
          this.#end();
          return done;
        }
        throwIfAborted(signal, "reading the log");
        if (isClosed()) throw new StoreClosed("the store was closed", { details: { file: file.path } });
        if (this.#caughtUp && !this.#news) {
          await this.#wait();
          continue;
        }
        const idle = this.#caughtUp;
        // L4.
        if (this.#started && !idle) await new Promise<void>((resolve) => file.environment.clock.immediate(resolve));
        const page = await this.#page().catch((error: unknown) => {
          if (!live || !isTidemarkError(error, "StoreUnavailable")) throw error;
        });
        if (page === undefined) {
          await delay(file.environment.clock, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++), signal).catch(() => undefined);
          continue;
        }
        if (this.#ended) return done;
        const moved = offsetOf(page.through) > offsetOf(this.#through);
        this.#caughtUp = page.caughtUp;
        if (idle && !moved) continue;
        this.#started = true;
        this.#through = page.through;
        return { done: false, value: page };
      }
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** L1. */
  async #page(): Promise<LogPage> {
    const { file, reader, read, signal, isClosed } = this.#options;
    try {
      return await file.whenFree(() => {
        throwIfAborted(signal, "reading the log");
        if (isClosed()) throw new StoreClosed("the store was closed", { details: { file: file.path } });
        // L2: forgotten before the read, so that what comes after it counts.
        this.#news = false;
        return reader.page(this.#through, read.categories, read.pageSize);
      });
    } catch (error) {
      throw toTidemarkError(error, file.path);
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
