/**
 * What is asked of `$all`: where it ends, and what of ours stands after a place.
 *
 * A1 Positions are places in the server's log, in bytes. The position of an event of ours is the one at which its append was committed; a place between two events is a
 *    position too.
 * A2 Ours are the events of streams named `category-id`; snapshots, the streams of the system and events whose type begins with `$` are left out. The server filters by the
 *    stream's name; what passes is looked at once more.
 * A3 Events that share one commit (transactions of other writers) are never parted: reading goes on after a commit, and would skip the rest.
 */
import type { StoredEvent } from "../event-store.ts";
import { MAX_ID_LENGTH } from "../stream-name.ts";
import type { Connection } from "./connection.ts";
import { readAllRequest, recordedEvent, whole, type LogFilter, type RecordedEvent } from "./protocol.ts";
import { MAX_SLICE_BYTES } from "./stream-reader.ts";
import { decodeEvent } from "./wire.ts";

/** The category whose streams hold snapshots. */
export const SNAPSHOT_CATEGORY = "snapshot";
const OURS = /^(?!snapshot-)[A-Za-z][A-Za-z0-9_]{0,63}-[^\0]/;

/** An event with the place after which reading goes on. */
export interface LogEntry {
  readonly event: StoredEvent;
  readonly commit: number;
  /** It is one of several that may share a commit (A3). */
  readonly shared: boolean;
}

export interface Stretch {
  readonly entries: readonly LogEntry[];
  /** Nothing of ours stood after the last entry when the server looked. */
  readonly toTheEnd: boolean;
}

/** A2, as the server filters. */
export function filterOf(categories: ReadonlySet<string> | undefined): LogFilter {
  if (categories === undefined) return { regex: "^(?!snapshot-)[A-Za-z][A-Za-z0-9_]{0,63}-" };
  const prefixes = [...categories].filter((category) => category !== SNAPSHOT_CATEGORY).map((category) => `${category}-`);
  // No stream of ours begins with a dash; no prefixes at all would be no filter.
  return { prefixes: prefixes.length > 0 ? prefixes : ["-"] };
}

/** A2: undefined where the event is none of ours. */
export function entryOf(event: RecordedEvent): LogEntry | undefined {
  const { stream, type, commit, prepare } = event;
  if (!OURS.test(stream) || type.startsWith("$") || stream.length - stream.indexOf("-") - 1 > MAX_ID_LENGTH) return undefined;
  return { event: decodeEvent(event), commit, shared: prepare !== commit };
}

export class LogReads {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Position of the last event of all, those of the system included; 0 when there is none. */
  async head(signal?: AbortSignal): Promise<number> {
    let head = 0;
    await this.#connection.read(readAllRequest({ from: 0, count: 1, backward: true }), {
      signal,
      onResponse: (response) => {
        const event = response.getEvent();
        if (event === undefined) return false;
        head = whole(event.hasCommitPosition() ? event.getCommitPosition() : (event.getEvent()?.getCommitPosition() ?? "0"));
        return true;
      },
    });
    return head;
  }

  /** Up to `count` events after `after`; fewer where they are large. */
  async after(after: number, filter: LogFilter, count: number, signal?: AbortSignal): Promise<Stretch> {
    for (let asked = count + 1; ; asked *= 2) {
      const stretch = await this.#stretch(after, filter, asked, signal);
      const entries = stretch.toTheEnd ? stretch.entries : wholeCommits(stretch.entries);
      // A commit of more events than were asked for: once more, with room for all of it.
      if (entries.length > 0 || stretch.toTheEnd) return { entries, toTheEnd: stretch.toTheEnd };
    }
  }

  async #stretch(after: number, filter: LogFilter, count: number, signal?: AbortSignal): Promise<Stretch> {
    const entries: LogEntry[] = [];
    let received = 0;
    let bytes = 0;
    await this.#connection.read(readAllRequest({ from: after, count, filter }), {
      signal,
      onResponse: (response) => {
        const event = recordedEvent(response);
        if (event === undefined) return false;
        received++;
        // The server reads from a place on, inclusive.
        const entry = event.commit > after ? entryOf(event) : undefined;
        if (entry === undefined) return false;
        entries.push(entry);
        bytes += event.data.length + event.metadata.length;
        if (bytes < MAX_SLICE_BYTES || entry.shared) return false;
        received = count;
        return true;
      },
    });
    return { entries, toTheEnd: received < count };
  }
}

/** A3: without the last ones, where more of their commit may follow. */
export function wholeCommits(entries: readonly LogEntry[]): readonly LogEntry[] {
  const last = entries.at(-1);
  if (last?.shared !== true) return entries;
  return entries.slice(0, entries.findIndex(({ commit }) => commit === last.commit));
}
