/**
 * Iterates over the pages of a log, and waits for more when it is live: the half of `readAll` and `subscribe` that is the same for every store. Calls of `next` are
 * answered one after the other.
 *
 * L1 A page is given when the consumer asks for it, and the store reads at most one beyond it: back-pressure is the consumer's own pace.
 * L2 News that come at any time after a page was asked for are remembered until the next one is: the hand-over to live misses nothing.
 * L3 Waiting ends with news, the signal, `close()` and `return()`, whichever comes first.
 * L4 A live iteration outlives outages of its store: it reads again where it stood, with growing pauses, whether or not there are news.
 * L5 A store may know of events that it may not show yet. Such a page is neither given to the consumer nor taken for the end: it is read again, with growing pauses.
 */
import { delay, type Environment } from "../environment.ts";
import { isTidemarkError, StoreClosed } from "../errors.ts";
import type { LogPage } from "./event-store.ts";
import { covers, offsetOf, type Position } from "./position.ts";
import { throwIfAborted, type LogRead } from "./validate-read.ts";

/** L4, in milliseconds. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;
/** L5, in milliseconds. */
const FIRST_LOOK_MS = 1;
const LONGEST_LOOK_MS = 50;

export interface LogPagesOptions {
  readonly environment: Environment;
  /** Names the store in errors. */
  readonly details: Readonly<Record<string, unknown>>;
  readonly read: LogRead;
  readonly live: boolean;
  readonly signal: AbortSignal | undefined;
  /** Reads the page after a position: the start, or the `through` of the page before. Never called twice at once. Errors: of ours alone. */
  readonly page: (after: Position) => Promise<LogPage>;
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

  /** The log may reach up to `head` now, in a store with one lane; undefined: nobody knows. L2, L3. */
  wake(head?: number): void {
    if (head !== undefined && this.#caughtUp && head <= offsetOf(this.#through)) return;
    this.#news = true;
    this.#wake?.();
  }

  async #step(): Promise<IteratorResult<LogPage>> {
    const { live, signal } = this.#options;
    const done = { done: true, value: undefined } as const;
    try {
      for (let failures = 0, looks = 0; ; ) {
        if (this.#ended || (this.#caughtUp && !live)) {
          this.#end();
          return done;
        }
        throwIfAborted(signal, "reading the log");
        this.#assertOpen();
        if (this.#caughtUp && !this.#news) {
          await this.#wait();
          continue;
        }
        const idle = this.#caughtUp;
        const page = await this.#page();
        if (page === undefined) {
          // L4.
          if (this.#ended) return done;
          await this.#pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++));
          continue;
        }
        failures = 0;
        if (this.#ended) return done;
        this.#assertOpen();
        const moved = !covers(this.#through, page.through);
        if (!moved && !page.caughtUp) {
          // L5.
          this.#caughtUp = false;
          await this.#pause(Math.min(LONGEST_LOOK_MS, FIRST_LOOK_MS * 2 ** looks++));
          continue;
        }
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

  /** L1. Undefined: the store failed, and a live iteration tries again. */
  async #page(): Promise<LogPage | undefined> {
    const { environment, page, live, signal } = this.#options;
    // L2: forgotten before the read, so that what comes after it counts.
    this.#news = false;
    try {
      return await page(this.#through);
    } catch (error) {
      this.#news = true;
      if (this.#ended) return undefined;
      throwIfAborted(signal, "reading the log");
      this.#assertOpen();
      if (!live || !isTidemarkError(error, "StoreUnavailable")) throw error;
      environment.logger.warn({ error }, "the log could not be read and is tried again");
      return undefined;
    }
  }

  #assertOpen(): void {
    const { isClosed, details } = this.#options;
    if (isClosed()) throw new StoreClosed("the store was closed", { details });
  }

  /** Jittered; ends early with the signal. */
  async #pause(ms: number): Promise<void> {
    const { environment, signal } = this.#options;
    const { clock, random } = environment;
    await delay(clock, ms * (0.5 + random.next()), signal).catch(() => undefined);
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
