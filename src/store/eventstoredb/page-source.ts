/**
 * Makes the pages of one iteration over the log (src/store/log-pages.ts asks for them and waits between them).
 *
 * P1 A page is made when it is asked for. Far from the end it is what the subscription has told; near it, the log is read: a read says for certain that nothing of
 *    ours stands before its end, which a filtered subscription does not. The log only grows: whoever was far from the end where it stood last need not ask for it.
 * P2 `caughtUp` and a `through` at the end of the log rest on two reads, in this order: where the log ends, then what of ours stands after `through`. What was acknowledged
 *    before the first of them is in the second.
 * P3 News are those of the subscription, and a log that has grown.
 * P4 An iteration that is not live outlives failures of the server that pass within the bound.
 * P5 A position beyond the end of the log is of another log.
 */
import { delay } from "../../environment.ts";
import { isTidemarkError } from "../../errors.ts";
import type { LogPage } from "../event-store.ts";
import { at, offsetOf, type Position } from "../position.ts";
import { throwIfAborted, type LogRead } from "../validate-read.ts";
import type { Connection } from "./connection.ts";
import { EndedEarly, isInvalidPosition, isPassing, NoAnswer, toTidemarkError } from "./eventstoredb-error.ts";
import type { HeadWatch } from "./head-watch.ts";
import { wholeCommits, type LogEntry, type LogReads } from "./log-reads.ts";
import { LogTail, rewound } from "./log-tail.ts";

/** So near to the end, in bytes of the server's log, reads are quicker than a subscription. */
const NEAR_BYTES = 1024 * 1024;
/** A subscription that says nothing for so long is near the end, whatever it says. */
const QUIET_MS = 250;
const FIRST_PAUSE_MS = 30;
const LONGEST_PAUSE_MS = 1000;

export interface PageSourceOptions {
  readonly connection: Connection;
  readonly reads: LogReads;
  readonly heads: HeadWatch;
  readonly identity: () => Promise<string>;
  readonly read: LogRead;
  readonly live: boolean;
  readonly signal: AbortSignal | undefined;
  /** P3. */
  readonly onNews: () => void;
}

export class PageSource {
  readonly #options: PageSourceOptions;
  #through = 0;
  /** Where the log ended when that was asked last. */
  #head = 0;
  #tail: LogTail | undefined;
  #unwatch: (() => void) | undefined;
  #ended = false;
  #heardAt = 0;
  /** Ends the wait for the subscription. */
  #hearing = new AbortController();

  constructor(options: PageSourceOptions) {
    this.#options = options;
  }

  /** The page after a position. P4. Errors: StoreUnavailable, StoreRewound, Aborted, StoreClosed. */
  async page(after: Position): Promise<LogPage> {
    const { connection, live, signal } = this.#options;
    const { clock, logger } = connection.environment;
    const begun = clock.elapsed();
    this.#through = offsetOf(after);
    for (let failures = 0; ; ) {
      try {
        const page = await this.#page();
        if (page === "later") {
          if (!live && clock.elapsed() - Math.max(begun, this.#heardAt) > connection.timeoutMs) throw this.#silence();
          await this.#hear();
          if (!this.#ended) continue;
          return pageOf([], this.#through, false);
        }
        this.#through = offsetOf(page.through);
        if (page.caughtUp && live) this.#watch();
        return page;
      } catch (cause) {
        throwIfAborted(signal, "reading the log");
        // Nothing at all: a log that was set up anew, which has no identity yet.
        if (cause instanceof EndedEarly) await this.#options.identity().catch(() => undefined);
        const error = isInvalidPosition(cause) ? rewound(this.#through, connection.name) : toTidemarkError(cause, connection.name);
        const passes = isTidemarkError(error, "StoreUnavailable") && isPassing(cause) && clock.elapsed() - begun <= connection.timeoutMs;
        if (live || this.#ended || !passes) throw error;
        logger.warn({ error }, "the log could not be read and is tried again");
        await delay(clock, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++), signal).catch(() => undefined);
      }
    }
  }

  /** Its iteration is over, or its store is closed. A page that is still waited for comes empty. */
  end(): void {
    this.#ended = true;
    this.#tail?.end();
    this.#unwatch?.();
    this.#hearing.abort();
  }

  /** P1. `later`: the subscription is on its way. */
  async #page(): Promise<LogPage | "later"> {
    const { reads, connection, live, signal, read } = this.#options;
    if (this.#tail?.fatal !== undefined) throw this.#tail.fatal;
    const told = this.#told();
    if (told !== undefined && !told.drained) return told.page;
    if (told === undefined && this.#tail?.failure === undefined && !this.#isNear(this.#head)) return "later";
    // P2: the end first.
    const head = await reads.head(signal);
    const { position } = head;
    this.#head = position;
    if (position < this.#through) throw rewound(this.#through, connection.name, position);
    if (told !== undefined) return { ...told.page, caughtUp: position <= offsetOf(told.page.through) };
    if (live || position - this.#through > NEAR_BYTES) this.#follow();
    if (position === this.#through) return pageOf([], position, true);
    if (!this.#isNear(position)) return "later";
    const { entries, through, toTheEnd } = await reads.after(this.#through, head, read.categories, read.pageSize, signal);
    if (entries.length > 0) await this.#tail?.confirm();
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
        this.#hearing.abort();
        this.#options.onNews();
      },
    });
  }

  #silence(): Error {
    const failure = this.#tail?.failure;
    return failure instanceof Error ? failure : new NoAnswer(this.#options.connection.timeoutMs);
  }

  /** P3: from the first time that it has caught up. */
  #watch(): void {
    this.#unwatch ??= this.#options.heads.add((head) => {
      if (head !== this.#through) this.#options.onNews();
    });
  }

  /** Until the subscription has news, and all that came with them, or has been silent for so long that it is near the end. Errors: Aborted. */
  async #hear(): Promise<void> {
    const { connection, signal } = this.#options;
    const { clock } = connection.environment;
    this.#hearing = new AbortController();
    const woken = signal === undefined ? this.#hearing.signal : AbortSignal.any([this.#hearing.signal, signal]);
    await delay(clock, QUIET_MS, woken).catch(() => undefined);
    // The events of one packet are told one by one: a page of each would cost more than the events do.
    await new Promise<void>((resolve) => clock.immediate(resolve));
    throwIfAborted(signal, "reading the log");
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
