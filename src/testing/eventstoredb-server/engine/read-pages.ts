/** Pages of a stream (IndexReader) and of `$all` (AllReader), as the server cuts them. */
import type { EventLog } from "./event-log.ts";
import type { EventFilter } from "./filter.ts";
import { commitOf, DELETED, NO_STREAM, type RecordedEvent } from "./model.ts";

export type StreamPage =
  | { readonly kind: "no-stream" }
  | { readonly kind: "deleted" }
  /** The server's word for a read that makes no sense to it, such as forwards from the end. */
  | { readonly kind: "error" }
  | { readonly kind: "events"; readonly events: readonly RecordedEvent[]; readonly next: number; readonly last: number; readonly atEnd: boolean };

export function readStreamForwards(log: EventLog, stream: string, from: number, count: number, now: number): StreamPage {
  if (from < 0 || count < 1 || stream === "") return { kind: "error" };
  const absent = absence(log, stream);
  if (absent !== undefined) return absent;
  const last = log.lastRevision(stream);
  const first = log.firstRevision(stream, now);
  const to = from + count - 1;
  if (to < first) return { kind: "events", events: [], next: first, last, atEnd: false };
  const start = Math.max(from, first);
  if (start > last) return { kind: "events", events: [], next: last + 1, last, atEnd: true };
  const events = log.eventsOf(stream, start, to);
  return { kind: "events", events, next: start + events.length, last, atEnd: to >= last };
}

/** `from` undefined: from the last event. */
export function readStreamBackwards(log: EventLog, stream: string, from: number | undefined, count: number, now: number): StreamPage {
  if (count < 1 || stream === "") return { kind: "error" };
  const absent = absence(log, stream);
  if (absent !== undefined) return absent;
  const last = log.lastRevision(stream);
  const first = log.firstRevision(stream, now);
  const to = from ?? last;
  if (to < first) return { kind: "events", events: [], next: NO_STREAM, last, atEnd: true };
  const start = Math.max(0, to - count + 1, first);
  const atEnd = start <= first;
  return { kind: "events", events: log.eventsOf(stream, start, to).toReversed(), next: atEnd ? NO_STREAM : Math.min(start - 1, last), last, atEnd };
}

function absence(log: EventLog, stream: string): StreamPage | undefined {
  const last = log.lastRevision(stream);
  if (last === DELETED) return { kind: "deleted" };
  return last === NO_STREAM || log.isSoftDeleted(stream) ? { kind: "no-stream" } : undefined;
}

export interface AllPage {
  readonly events: readonly RecordedEvent[];
  /** Where this page began and where the next one begins: places. */
  readonly from: number;
  readonly next: number;
  readonly atEnd: boolean;
  /** How many events were looked at. */
  readonly considered: number;
}

/** Events at the place `from` and after it: at most `count` of them, found among `window`. Undefined: no record begins there. */
export function readAllForwards(log: EventLog, from: number, count: number, window: number, filter: EventFilter): AllPage | undefined {
  if (commitOf(from) <= log.lastPosition && !log.isBoundary(commitOf(from))) return undefined;
  const events: RecordedEvent[] = [];
  let index = log.indexAt(from);
  let considered = 0;
  let atEnd = false;
  while (events.length < count && considered < window) {
    const event = log.at(index);
    if (event === undefined) {
      atEnd = true;
      break;
    }
    index++;
    considered++;
    if (filter(event)) events.push(event);
  }
  return { events, from, next: considered === 0 ? from : (log.at(index)?.position ?? log.end) - 0.5, atEnd, considered };
}

/** Events that end at the place `from` or before it: backwards a position is that of a record's end, so the event at `from` itself is left out. */
export function readAllBackwards(log: EventLog, from: number, count: number, window: number, filter: EventFilter): AllPage | undefined {
  if (from > log.end || !log.isBoundary(commitOf(from))) return undefined;
  const events: RecordedEvent[] = [];
  let index = log.indexAt(from) - (Number.isInteger(from) ? 1 : 2);
  let considered = 0;
  let atEnd = false;
  while (events.length < count && considered < window) {
    const event = log.at(index);
    if (event === undefined) {
      atEnd = true;
      break;
    }
    index--;
    considered++;
    if (filter(event)) events.push(event);
  }
  return { events, from, next: log.at(index + 1)?.position ?? from, atEnd, considered };
}
