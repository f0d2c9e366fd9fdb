/**
 * Makes the pages of one iteration over several lanes (src/store/log-pages.ts asks for them and waits between them).
 *
 * P1 A page is made when it is asked for, from what the index holds; nothing is buffered.
 * P2 A page that says it has caught up was made after the ends of all its lanes, and which lanes there are, were asked. Once a subscription has caught up, what the
 *    tailers have seen is the measure.
 * P3 `through` names every lane that is followed: those asked for up to where the page went, others (of categories that are filtered out) up to where they were folded.
 * P4 A position beyond the end of its lane, or in a lane that does not exist, is of another log (StoreRewound). So is every position in a lane that was rewound.
 * P5 News are a change of any followed lane, which whoever made it tells, and a new category: it is looked for while the iteration waits.
 * P6 Between two pages the event loop gets its turn. Every page is bounded in bytes, and holds at least one event where there is one.
 */
import type { Environment, Timer } from "../../environment.ts";
import { isTidemarkError, StoreRewound } from "../../errors.ts";
import type { LogPage, StoredEvent } from "../event-store.ts";
import type { Position } from "../position.ts";
import type { LogRead } from "../validate-read.ts";
import { untilAborted } from "./kafka-error.ts";
import type { PartitionLog } from "./partition-log.ts";
import { decodeEvent } from "./record-format.ts";
import { categoryOfLane } from "./topics.ts";

/** P6: a bound in bytes of records. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const MAX_PAGE_EVENTS = 10_000;

export interface PageSourceOptions {
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
  /** P5: there is a new category. */
  readonly onNews: () => void;
}

export class PageSource {
  readonly #options: PageSourceOptions;
  readonly #through = new Map<string, number>();
  /** Of the lanes that are asked for, with how often each had been rewound when it was joined. */
  readonly #lanes = new Map<PartitionLog, number>();
  #begun = false;
  #caughtUp = false;
  #ended = false;
  #first = 0;
  #looking: Timer | undefined;
  /** What went wrong while new categories were looked for: the next page says it. */
  #failure: { readonly error: unknown } | undefined;

  constructor(options: PageSourceOptions) {
    this.#options = options;
    for (const [lane, offset] of Object.entries(options.read.after)) this.#through.set(lane, offset);
  }

  /** The page after the one before. Errors: StoreUnavailable, StoreRewound, StoreRefused, Aborted. */
  async page(): Promise<LogPage> {
    const { environment, live } = this.#options;
    this.#looking?.cancel();
    if (this.#failure !== undefined) throw this.#failure.error;
    if (!this.#begun) await this.#begin();
    else if (!this.#caughtUp) await new Promise<void>((resolve) => environment.clock.immediate(resolve)); // P6
    const page = await this.#page();
    if (page.caughtUp && live) this.#lookLater();
    return page;
  }

  end(): void {
    this.#ended = true;
    this.#looking?.cancel();
  }

  /** P4. */
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

  /** P1, P2. */
  async #page(): Promise<LogPage> {
    this.#adopt(this.#options.opened(this.#options.read.categories));
    let events = this.#collect();
    let caughtUp = this.#caughtUp && this.#isAtEnd();
    if (events.length === 0 && !this.#caughtUp) {
      await this.#join();
      await this.#abortable(Promise.all([...this.#lanes.keys()].map((log) => log.reachEnd(this.#options.signal))));
      events = this.#collect();
      caughtUp = this.#isAtEnd();
    }
    this.#caughtUp = caughtUp;
    return { events, through: this.#position(), caughtUp };
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

  /** P3. */
  #position(): Position {
    for (const log of this.#options.followed()) {
      if (!this.#lanes.has(log) && log.state.next > 0) this.#through.set(log.lane, Math.max(log.state.next - 1, this.#through.get(log.lane) ?? -1));
    }
    return Object.fromEntries(this.#through);
  }

  /** P4. */
  #assertReadable(log: PartitionLog, rewinds: number): void {
    if (log.failure !== undefined) throw log.failure;
    if (log.rewinds !== rewinds) throw new StoreRewound(`the log of ${log.lane} was rewound while it was read`, { details: { lane: log.lane } });
  }

  #abortable<T>(work: Promise<T>): Promise<T> {
    return untilAborted(work, this.#options.signal, "reading the log");
  }

  /** P5. */
  #lookLater(): void {
    this.#looking?.cancel();
    if (this.#ended || !this.#looksForLanes()) return;
    this.#looking = this.#options.environment.clock.setTimer(LOOK_MS, () => void this.#look());
  }

  async #look(): Promise<void> {
    const known = this.#lanes.size;
    try {
      await this.#join();
    } catch (error) {
      if (!isTidemarkError(error, "StoreUnavailable")) this.#failure = { error };
    }
    if (this.#lanes.size > known || this.#failure !== undefined) this.#options.onNews();
    else this.#lookLater();
  }

  /** Whether a category may appear that belongs to what was asked for. */
  #looksForLanes(): boolean {
    const { categories } = this.#options.read;
    if (categories === undefined) return true;
    const known = new Set([...this.#lanes.keys()].map(({ lane }) => categoryOfLane(lane)?.category));
    for (const category of categories) if (!known.has(category)) return true;
    return false;
  }
}

/** How often a waiting subscription asks for new categories. */
const LOOK_MS = 200;
