/**
 * Iterates over the pages of the log, and waits for more when it is live. Calls of `next` are answered one after the other.
 *
 * L1 A page is made when the consumer asks for it. Far from the end it is what the subscription has told; near it, the log is read: a read says for certain that nothing of
 *    ours stands before its end, which a filtered subscription does not.
 * L2 `caughtUp` and a `through` at the end of the log rest on two reads, in this order: where the log ends, then what of ours stands after `through`. What was acknowledged
 *    before the first of them is in the second.
 * L3 Waiting ends with news of the subscription, with a log that has grown, with the signal, `close()` and `return()`, whichever comes first.
 * L4 A live iteration outlives failures of the server: it goes on where it stood. One that is not live throws when nothing has come for the bound.
 * L5 A position beyond the end of the log is of another log.
 */
import { delay, type Timer } from "../../environment.ts";
import { isTidemarkError } from "../../errors.ts";
import type { LogPage } from "../event-store.ts";
import { at, offsetOf } from "../position.ts";
import { throwIfAborted, type LogRead } from "../validate-read.ts";
import type { Connection } from "./connection.ts";
import { EndedEarly, isInvalidPosition, isPassing, toTidemarkError } from "./eventstoredb-error.ts";
import type { HeadWatch } from "./head-watch.ts";
import { wholeCommits, type LogEntry, type LogReads } from "./log-reads.ts";
import { LogTail, rewound } from "./log-tail.ts";

/** So near to the end, in bytes of the server's log, reads are quicker than a subscription. */
const NEAR_BYTES = 1024 * 1024;
/** A subscription that says nothing for so long is near the end, whatever it says. */
const QUIET_MS = 250;
const FIRST_PAUSE_MS = 30;
const LONGEST_PAUSE_MS = 1000;

export interface LogPagesOptions {
  readonly connection: Connection;
  readonly reads: LogReads;
  readonly heads: HeadWatch;
  readonly identity: () => Promise<string>;
  readonly read: LogRead;
  readonly live: boolean;
  readonly signal: AbortSignal | undefined;
  readonly isClosed: () => boolean;
  /** Told once, when the iteration is over. */
  readonly onEnd: () => void;
}

export class LogPages implements AsyncIterableIterator<LogPage> {
  readonly #options: LogPagesOptions;
  #through: number;
  #tail: LogTail | undefined;
  #unwatch: (() => void) | undefined;
  #caughtUp = false;
  #ended = false;
  #news = true;
  #heardAt = 0;
  #wake: (() => void) | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LogPagesOptions) {
    this.#options = options;
    this.#through = offsetOf(options.read.after);
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

  /** L3. */
  wake(): void {
    this.#news = true;
    this.#wake?.();
  }

  async #step(): Promise<IteratorResult<LogPage>> {
    const { connection, live, isClosed, signal } = this.#options;
    const { clock } = connection.environment;
    const done = { done: true, value: undefined } as const;
    const begun = clock.elapsed();
    try {
      for (let failures = 0; ; ) {
        if (this.#ended || (this.#caughtUp && !live)) {
          this.#end();
          return done;
        }
        throwIfAborted(signal, "reading the log");
        if (isClosed()) throw connection.closedError();
        if (this.#tail?.fatal !== undefined) throw this.#tail.fatal;
        if (this.#caughtUp && !this.#news) {
          await this.#wait();
          continue;
        }
        const idle = this.#caughtUp;
        let page: LogPage | "later";
        try {
          this.#news = false;
          page = await this.#page();
          failures = 0;
        } catch (cause) {
          throwIfAborted(signal, "reading the log");
          if (isClosed()) continue;
          // Nothing at all: a log that was set up anew, which has no identity yet.
          if (cause instanceof EndedEarly) await this.#options.identity().catch(() => undefined);
          const error = isInvalidPosition(cause) ? rewound(this.#through, connection.name) : toTidemarkError(cause, connection.name);
          if (!isTidemarkError(error, "StoreUnavailable")) throw error;
          // L4.
          if (!live && (!isPassing(cause) || clock.elapsed() - begun > connection.timeoutMs)) throw error;
          connection.environment.logger.warn({ error }, "the log could not be read and is tried again");
          await delay(clock, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++), signal);
          this.#news = true;
          continue;
        }
        if (this.#ended) return done;
        if (isClosed()) continue;
        if (page === "later") {
          if (!live && clock.elapsed() - Math.max(begun, this.#heardAt) > connection.timeoutMs) throw toTidemarkError(this.#tail?.failure ?? new Error("the subscription is silent"), connection.name);
          await this.#wait(QUIET_MS);
          continue;
        }
        const moved = offsetOf(page.through) > this.#through;
        this.#caughtUp = page.caughtUp;
        if (page.caughtUp && live) this.#watch();
        if (idle && !moved && page.caughtUp) continue;
        this.#through = offsetOf(page.through);
        return { done: false, value: page };
      }
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** L1. `later`: the subscription is on its way. */
  async #page(): Promise<LogPage | "later"> {
    const { reads, connection, live, signal, read } = this.#options;
    const told = this.#told();
    if (told !== undefined && !told.drained) return told.page;
    // L2: the end first.
    const head = await reads.head(signal);
    const { position } = head;
    if (position < this.#through) throw rewound(this.#through, connection.name, position);
    if (told !== undefined) return { ...told.page, caughtUp: position <= offsetOf(told.page.through) };
    if (live || position - this.#through > NEAR_BYTES) this.#follow();
    if (position === this.#through) return pageOf([], position, true);
    if (!this.#isNear(position)) return "later";
    const { entries, through, toTheEnd } = await reads.after(this.#through, head, read.categories, read.pageSize, signal);
    if (entries.length <= read.pageSize) return pageOf(entries, through, toTheEnd);
    const cut = cutAt(entries, read.pageSize);
    return pageOf(cut, (cut.at(-1) as LogEntry).commit, false);
  }

  /** A page of what the subscription has told. Whether it has caught up it cannot say; where nothing more is kept, and it thought so, it is worth asking. */
  #told(): { readonly page: LogPage; readonly drained: boolean } | undefined {
    const tail = this.#tail;
    if (tail === undefined) return undefined;
    const { pageSize } = this.#options.read;
    const kept = tail.peek(this.#through);
    const entries = kept.length > pageSize ? cutAt(kept, pageSize) : wholeCommits(kept);
    const last = entries.at(-1);
    const all = entries.length === kept.length;
    if (last !== undefined) return { page: pageOf(entries, all ? Math.max(last.commit, tail.told) : last.commit, false), drained: all && tail.caughtUp };
    // Far from the end, where nothing of ours comes for long.
    if (all && tail.told > this.#through && !tail.caughtUp) return { page: pageOf([], tail.told, false), drained: false };
    return undefined;
  }

  #isNear(head: number): boolean {
    const tail = this.#tail;
    if (tail === undefined || head - this.#through <= NEAR_BYTES) return true;
    return tail.caughtUp || (tail.failure === undefined && this.#options.connection.environment.clock.elapsed() - this.#heardAt >= QUIET_MS);
  }

  #follow(): void {
    if (this.#tail !== undefined) return;
    const { connection, identity, read } = this.#options;
    const { clock } = connection.environment;
    this.#heardAt = clock.elapsed();
    this.#tail = new LogTail({
      connection,
      categories: read.categories,
      after: this.#through,
      identity,
      onNews: () => {
        this.#heardAt = clock.elapsed();
        this.wake();
      },
    });
  }

  /** L3: from the first time that it has caught up. */
  #watch(): void {
    this.#unwatch ??= this.#options.heads.add((head) => {
      if (head !== this.#through) this.wake();
    });
  }

  /** L3. */
  #wait(boundMs?: number): Promise<void> {
    const { signal, connection } = this.#options;
    if (this.#news) return Promise.resolve();
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const wake = (): void => {
        this.#wake = undefined;
        timer?.cancel();
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      if (boundMs !== undefined) timer = connection.environment.clock.setTimer(boundMs, wake, { keepAlive: true });
      signal?.addEventListener("abort", wake, { once: true });
      this.#wake = wake;
    });
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#tail?.end();
    this.#unwatch?.();
    this.#options.onEnd();
  }
}

function pageOf(entries: readonly LogEntry[], through: number, caughtUp: boolean): LogPage {
  return { events: entries.map(({ event }) => event), through: through === 0 ? {} : at(through), caughtUp };
}

/** The first `size`, and the rest of a commit that would be parted. */
function cutAt(entries: readonly LogEntry[], size: number): readonly LogEntry[] {
  let end = size;
  while (end < entries.length && (entries[end] as LogEntry).commit === (entries[end - 1] as LogEntry).commit) end++;
  return entries.slice(0, end);
}
