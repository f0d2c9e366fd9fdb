/**
 * What is asked of `$all`: where it ends, and what of ours stands after a place.
 *
 * A1 Positions are places in the server's log, in bytes. The position of an event of ours is the one at which its append was committed; a place between two events is a
 *    position too.
 * A2 Ours are the events of streams named `category-id`; snapshots, the streams of the system and events whose type begins with `$` are left out. The server filters by the
 *    stream's name; what passes is looked at once more.
 * A3 A read of the log says nothing when it has reached the end, and one that a server on its way down ends early looks the same. So the end is known beforehand: the last
 *    event of all is asked for by the name of its stream, beside ours, and a read that did not meet it was not complete.
 * A4 Events that share one commit (transactions of other writers) are never parted: reading goes on after a commit, and would skip the rest.
 * A5 A read ends where the server ends it: it is asked for as much as is needed. A call that is cancelled resets its stream, and servers and proxies close a connection, with
 *    all that is under way on it, that resets many (the protection against HTTP/2 Rapid Reset, CVE-2023-44487). Only what is too large in bytes is cancelled.
 */
import type { StoredEvent } from "../event-store.ts";
import { categoryOf, MAX_ID_LENGTH } from "../stream-name.ts";
import { abortable, type Connection } from "./connection.ts";
import { EndedEarly } from "./eventstoredb-error.ts";
import { readAllRequest, recordedEvent, type LogFilter, type RecordedEvent } from "./protocol.ts";
import { MAX_SLICE_BYTES } from "./stream-reader.ts";
import { decodeEvent } from "./wire.ts";

/** A3: room for events of the stream of the log's last event, where that is none of those that are looked for. */
const OTHERS = 100;

/** The category whose streams hold snapshots. */
export const SNAPSHOT_CATEGORY = "snapshot";
const OURS = /^(?!snapshot-)[A-Za-z][A-Za-z0-9_]{0,63}-[^\0]/;

/** An event with the place after which reading goes on. */
export interface LogEntry {
  readonly event: StoredEvent;
  readonly commit: number;
  /** It is one of several that may share a commit (A4). */
  readonly shared: boolean;
}

/** The last event of all, those of the system included. */
export interface Head {
  readonly position: number;
  readonly stream: string;
}

export interface Stretch {
  readonly entries: readonly LogEntry[];
  /** What of ours stands up to here is in the entries. */
  readonly through: number;
  /** The head was met: nothing of ours that stood before it was asked for stands after `through`. */
  readonly toTheEnd: boolean;
}

/** A2, as the server filters. */
export function filterOf(categories: ReadonlySet<string> | undefined): LogFilter {
  if (categories === undefined) return { regex: "^(?!snapshot-)[A-Za-z][A-Za-z0-9_]{0,63}-" };
  const prefixes = [...categories].filter((category) => category !== SNAPSHOT_CATEGORY).map((category) => `${category}-`);
  // No stream of ours begins with a dash; no prefixes at all would be no filter.
  return { prefixes: prefixes.length > 0 ? prefixes : ["-"] };
}

/** A2: undefined where the event is none of ours, or of another category. */
export function entryOf(event: RecordedEvent, categories: ReadonlySet<string> | undefined): LogEntry | undefined {
  const { stream, type, commit, prepare } = event;
  if (!OURS.test(stream) || type.startsWith("$") || stream.length - stream.indexOf("-") - 1 > MAX_ID_LENGTH) return undefined;
  if (categories?.has(categoryOf(stream)) === false) return undefined;
  return { event: decodeEvent(event), commit, shared: prepare !== commit };
}

function passes(filter: LogFilter, stream: string): boolean {
  return "prefixes" in filter ? filter.prefixes.some((prefix) => stream.startsWith(prefix)) : new RegExp(filter.regex).test(stream);
}

/** A3: the events of one more stream pass too. */
function withStream(filter: LogFilter, stream: string): LogFilter {
  if ("prefixes" in filter) return { prefixes: [...filter.prefixes, stream] };
  const escaped = stream.replaceAll(/[^A-Za-z0-9]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return { regex: `${filter.regex}|^${escaped}$` };
}

export class LogReads {
  readonly #connection: Connection;
  #asking: Promise<Head> | undefined;
  #asksNext: Promise<Head> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Where the log ends, asked after the call: who asks while an answer is on its way waits for the next one, and shares it with all who do.
   * Errors: of the connection, EndedEarly where there is no event at all (ours has its identity).
   */
  head(signal?: AbortSignal): Promise<Head> {
    if (this.#asking === undefined) return abortable(this.#ask(), signal);
    this.#asksNext ??= this.#asking
      .catch(() => undefined)
      .then(() => {
        this.#asksNext = undefined;
        return this.#ask();
      });
    return abortable(this.#asksNext, signal);
  }

  #ask(): Promise<Head> {
    const asking = this.#head().finally(() => {
      if (this.#asking === asking) this.#asking = undefined;
    });
    this.#asking = asking;
    return asking;
  }

  async #head(): Promise<Head> {
    let head: Head | undefined;
    await this.#connection.read(readAllRequest({ from: 0, count: 1, backward: true }), {
      onResponse: (response) => {
        const event = recordedEvent(response);
        if (event !== undefined) head = { position: event.commit, stream: event.stream };
      },
    });
    if (head === undefined) throw new EndedEarly();
    return head;
  }

  /**
   * Up to `count` events after `after`, which lies before the head, and a few more where there are more; fewer where they are large, or where others stand between them.
   * Errors: of the connection, EndedEarly.
   */
  async after(after: number, head: Head, categories: ReadonlySet<string> | undefined, count: number, signal?: AbortSignal): Promise<Stretch> {
    const filter = filterOf(categories);
    // One that tells whether there are more, and the one that stands at `after`.
    for (let most = count + 2 + (passes(filter, head.stream) ? 0 : OTHERS); ; most *= 2) {
      const { entries, through, toTheEnd } = await this.#stretch(after, head, categories, { most, filter: withStream(filter, head.stream) }, signal);
      if (toTheEnd) return { entries, through, toTheEnd };
      const whole = wholeCommits(entries);
      // A commit of more events than were asked for: once more, with room for all of it.
      if (whole.length === 0 && (entries.length > 0 || through === after)) continue;
      return { entries: whole, through: whole.length < entries.length ? (whole.at(-1) as LogEntry).commit : through, toTheEnd };
    }
  }

  async #stretch(after: number, head: Head, categories: ReadonlySet<string> | undefined, { most, filter }: { readonly most: number; readonly filter: LogFilter }, signal?: AbortSignal): Promise<Stretch> {
    const entries: LogEntry[] = [];
    let received = 0;
    let bytes = 0;
    let through = after;
    let cut = false;
    await this.#connection.read(readAllRequest({ from: after, count: most, filter }), {
      signal,
      onResponse: (response) => {
        const event = recordedEvent(response);
        if (event === undefined) return false;
        received++;
        // The server reads from a place on, inclusive.
        if (event.commit <= after) return false;
        through = event.commit;
        const entry = entryOf(event, categories);
        if (entry === undefined) return false;
        entries.push(entry);
        bytes += event.data.length + event.metadata.length;
        cut = bytes >= MAX_SLICE_BYTES && !entry.shared;
        return cut;
      },
    });
    const limited = cut || received >= most;
    if (!limited && through < head.position) throw new EndedEarly(); // A3
    return { entries, through, toTheEnd: !limited };
  }
}

/** A4: without the last ones, where more of their commit may follow. */
export function wholeCommits(entries: readonly LogEntry[]): readonly LogEntry[] {
  const last = entries.at(-1);
  if (last?.shared !== true) return entries;
  return entries.slice(0, entries.findIndex(({ commit }) => commit === last.commit));
}
