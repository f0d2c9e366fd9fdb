/**
 * Iterates over the pages of several lanes, and waits for more when it is live. Calls of `next` are answered one after the other.
 *
 * L1 A page is made when the consumer asks for it, from what the index holds; nothing is buffered.
 * L2 A page that says it has caught up was made after the ends of all its lanes, and which lanes there are, were asked. Once a subscription has caught up, what the
 *    tailers have seen is the measure.
 * L3 `through` names every lane that is followed: those asked for up to where the page went, others (of categories that are filtered out) up to where they were folded.
 * L4 A position beyond the end of its lane, or in a lane that does not exist, is of another log (StoreRewound). So is every position in a lane that was rewound.
 * L5 Waiting ends with a change of any followed lane, a new category, the signal, `close()` and `return()`; what changes between a page and the wait is not missed.
 * L6 Between two pages the event loop gets its turn. Every page is bounded in bytes, and holds at least one event where there is one.
 */
import { delay } from "../../environment.ts";
import type { Environment } from "../../environment.ts";
import { isTidemarkError, StoreRewound } from "../../errors.ts";
import type { LogPage, StoredEvent } from "../event-store.ts";
import { covers, type Position } from "../position.ts";
import { throwIfAborted, type LogRead } from "../validate-read.ts";
import { pause, storeClosed, untilAborted } from "./kafka-error.ts";
import type { PartitionLog } from "./partition-log.ts";
import { decodeEvent } from "./record-format.ts";
import { categoryOfLane } from "./topics.ts";

/** L6: a bound in bytes of records. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const MAX_PAGE_EVENTS = 10_000;

export interface LogPagesOptions {
  readonly environment: Environment;
  readonly read: LogRead;
  readonly live: boolean;
  readonly signal: AbortSignal | undefined;
  /** All lanes of these categories as they are now, or of all categories; asked anew at each call. */
  readonly lanesOf: (categories: ReadonlySet<string> | undefined) => Promise<readonly PartitionLog[]>;
  /** Those of them that are open already. */
  readonly opened: (categories: ReadonlySet<string> | undefined) => Iterable<PartitionLog>;
  /** Lanes that are read by this process, whoever asked for them. */
  readonly followed: () => Iterable<PartitionLog>;
  readonly isClosed: () => boolean;
  /** Told once, when the iteration is over. */
  readonly onEnd: () => void;
}

export class LogPages implements AsyncIterableIterator<LogPage> {
  readonly #options: LogPagesOptions;
  readonly #through = new Map<string, number>();
  #told: Position = {};
  /** Of the lanes that are asked for, with how often each had been rewound when it was joined. */
  readonly #lanes = new Map<PartitionLog, number>();
  #begun = false;
  #caughtUp = false;
  #ended = false;
  #news = false;
  #first = 0;
  #wake: (() => void) | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LogPagesOptions) {
    this.#options = options;
    for (const [lane, offset] of Object.entries(options.read.after)) this.#through.set(lane, offset);
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

  /** Something may have changed. L5. */
  wake(): void {
    this.#news = true;
    this.#wake?.();
  }

  async #step(): Promise<IteratorResult<LogPage>> {
    const { live, environment } = this.#options;
    const done = { done: true, value: undefined } as const;
    try {
      for (let failures = 0; ; ) {
        if (this.#ended || (this.#caughtUp && !live)) {
          this.#end();
          return done;
        }
        this.#assertGoingOn();
        if (this.#caughtUp && !this.#news) {
          await this.#wait();
          continue;
        }
        try {
          if (!this.#begun) await this.#begin();
          else if (!this.#caughtUp) await new Promise<void>((resolve) => environment.clock.immediate(resolve)); // L6
          const page = await this.#page();
          if (this.#ended) return done;
          this.#assertGoingOn();
          if (page !== undefined) return { done: false, value: page };
        } catch (error) {
          if (!live || !isTidemarkError(error, "StoreUnavailable")) throw error;
          environment.logger.warn({ error }, "a subscription could not read on and tries again");
          await pause(environment, failures++, this.#options.signal);
        }
      }
    } catch (error) {
      this.#end();
      throw this.#options.isClosed() ? storeClosed() : error;
    }
  }

  /** L4. */
  async #begin(): Promise<void> {
    await this.#join();
    const joined = new Map([...this.#lanes.keys()].map((log) => [log.lane, log]));
    const { categories, after } = this.#options.read;
    const check = async (lane: string, position: number): Promise<void> => {
      const named = categoryOfLane(lane);
      if (named === undefined || (categories !== undefined && !categories.has(named.category))) return;
      const end = (await joined.get(lane)?.end()) ?? 0;
      if (position < end) return;
      throw new StoreRewound(`position ${position} lies beyond the end (${end}) of ${lane}: this is not the log it was made on`, { details: { lane, position, end } });
    };
    await this.#abortable(Promise.all(Object.entries(after).map(([lane, position]) => check(lane, position))));
    this.#begun = true;
  }

  /** Follows the lanes that are asked for, those included that have appeared since. */
  async #join(): Promise<void> {
    const { lanesOf, read } = this.#options;
    this.#adopt(await this.#abortable(lanesOf(read.categories)));
  }

  #adopt(lanes: Iterable<PartitionLog>): void {
    for (const log of lanes) {
      if (this.#lanes.has(log)) continue;
      log.start();
      this.#lanes.set(log, log.rewinds);
    }
  }

  /** L1, L2. Undefined: a live reader has nothing to be told. */
  async #page(): Promise<LogPage | undefined> {
    // L5: forgotten before the lanes are looked at, so that what comes after it counts.
    this.#news = false;
    this.#adopt(this.#options.opened(this.#options.read.categories));
    let events = this.#collect();
    let caughtUp = this.#caughtUp && this.#isAtEnd();
    if (events.length === 0 && !this.#caughtUp) {
      await this.#join();
      await this.#abortable(Promise.all([...this.#lanes.keys()].map((log) => log.reachEnd(this.#options.signal))));
      this.#news = false;
      events = this.#collect();
      caughtUp = this.#isAtEnd();
    }
    const idle = this.#caughtUp && events.length === 0;
    this.#caughtUp = caughtUp;
    const through = this.#position();
    if (idle && covers(this.#told, through)) return undefined;
    this.#told = { ...through };
    return { events, through, caughtUp };
  }

  /** Everything that is folded of the lanes asked for was handed out. */
  #isAtEnd(): boolean {
    for (const [log] of this.#lanes) if ((this.#through.get(log.lane) ?? -1) < log.state.next - 1) return false;
    return true;
  }

  #collect(): StoredEvent[] {
    const most = Math.min(this.#options.read.pageSize, MAX_PAGE_EVENTS);
    const events: StoredEvent[] = [];
    const lanes = [...this.#lanes];
    let bytes = 0;
    // Lanes take turns to be first, so that a busy one does not hold up the others.
    this.#first = lanes.length === 0 ? 0 : (this.#first + 1) % lanes.length;
    for (let turn = 0; turn < lanes.length; turn++) {
      const [log, rewinds] = lanes[(this.#first + turn) % lanes.length] as [PartitionLog, number];
      this.#assertReadable(log, rewinds);
      const { next } = log.state;
      let from = (this.#through.get(log.lane) ?? -1) + 1;
      while (from < next && events.length < most && bytes < MAX_PAGE_BYTES) {
        const found = log.index.log(log.lane, from, next, most - events.length);
        if (found.length === 0) from = next;
        for (const event of found) {
          events.push(decodeEvent(log.lane, event));
          from = event.offset + 1;
          bytes += event.record.length;
          if (bytes >= MAX_PAGE_BYTES) break;
        }
      }
      if (from > 0) this.#through.set(log.lane, Math.max(from - 1, this.#through.get(log.lane) ?? -1));
    }
    return events;
  }

  /** L3. */
  #position(): Position {
    for (const log of this.#options.followed()) {
      if (!this.#lanes.has(log) && log.state.next > 0) this.#through.set(log.lane, Math.max(log.state.next - 1, this.#through.get(log.lane) ?? -1));
    }
    return Object.fromEntries(this.#through);
  }

  /** L4. */
  #assertReadable(log: PartitionLog, rewinds: number): void {
    if (log.failure !== undefined) throw log.failure;
    if (log.rewinds !== rewinds) throw new StoreRewound(`the log of ${log.lane} was rewound while it was read`, { details: { lane: log.lane } });
  }

  #abortable<T>(work: Promise<T>): Promise<T> {
    return untilAborted(work, this.#options.signal, "reading the log");
  }

  #assertGoingOn(): void {
    throwIfAborted(this.#options.signal, "reading the log");
    if (this.#options.isClosed()) throw storeClosed();
  }

  /** L5: whoever made it tells it by `wake` what happens to lanes. */
  async #wait(): Promise<void> {
    const { signal, environment } = this.#options;
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    signal?.addEventListener("abort", wake, { once: true });
    this.#wake = wake;
    const rest = this.#looksForLanes() ? LOOK_MS : LONG_MS;
    const looked = await delay(environment.clock, rest, woken.signal).then(
      () => true,
      () => false,
    );
    this.#wake = undefined;
    signal?.removeEventListener("abort", wake);
    if (!looked || !this.#looksForLanes() || this.#ended || this.#options.isClosed()) return;
    const known = this.#lanes.size;
    await this.#join().catch((error: unknown) => {
      if (!isTidemarkError(error, "StoreUnavailable")) throw error;
    });
    if (this.#lanes.size > known) this.wake();
  }

  /** Whether a category may appear that belongs to what was asked for. */
  #looksForLanes(): boolean {
    const { categories } = this.#options.read;
    if (categories === undefined) return true;
    const known = new Set([...this.#lanes.keys()].map(({ lane }) => categoryOfLane(lane)?.category));
    for (const category of categories) if (!known.has(category)) return true;
    return false;
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd();
  }
}

/** How often a waiting subscription asks for new categories; where none can appear it is woken when there is something. */
const LOOK_MS = 200;
const LONG_MS = 60_000;
