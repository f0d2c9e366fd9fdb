/** The log and its indexes, in memory: events in the order of their positions, and by stream. Nothing is ever scavenged. */
import { DELETED, isMetastream, metastreamOf, NO_STREAM, originalOf, type RecordedEvent } from "./model.ts";
import { NO_METADATA, OF_METASTREAMS, parseMetadata, type StreamMetadata } from "./stream-metadata.ts";

/** Before the first event stands what the real log begins with, the record of its epoch. */
const FIRST_POSITION = 160;

export class EventLog {
  readonly #events: RecordedEvent[] = [];
  readonly #streams = new Map<string, RecordedEvent[]>();
  readonly #tombstones = new Set<string>();
  readonly #metadata = new Map<string, StreamMetadata>();
  /** Where appends without events stand: valid positions, nothing to read. */
  readonly #empty = new Set<number>();
  #end = FIRST_POSITION;

  /** Position of the next event. */
  get end(): number {
    return this.#end;
  }

  get length(): number {
    return this.#events.length;
  }

  /** Position of the last event; -1 where there is none. */
  get lastPosition(): number {
    return this.#events.at(-1)?.position ?? -1;
  }

  at(index: number): RecordedEvent | undefined {
    return this.#events[index];
  }

  /** Adds what one append wrote; the log ends at `end` then. */
  add(events: readonly RecordedEvent[], end: number): void {
    if (events.length === 0) this.#empty.add(this.#end);
    for (const event of events) {
      this.#events.push(event);
      if (event.revision === DELETED) this.#tombstones.add(event.stream);
      else this.#stream(event.stream).push(event);
      if (isMetastream(event.stream)) this.#metadata.set(originalOf(event.stream), parseMetadata(event.data));
    }
    this.#end = end;
  }

  /** `NO_STREAM`, the revision of the last event, or `DELETED`. The metadata stream of a tombstoned stream is deleted too. */
  lastRevision(stream: string): number {
    if (this.#tombstones.has(stream) || (isMetastream(stream) && this.#tombstones.has(originalOf(stream)))) return DELETED;
    return (this.#streams.get(stream)?.length ?? 0) - 1;
  }

  /** Also of a stream that was truncated or deleted softly: idempotency is checked against what stands in the log. */
  eventAt(stream: string, revision: number): RecordedEvent | undefined {
    return this.#streams.get(stream)?.[revision];
  }

  eventsOf(stream: string, from: number, to: number): readonly RecordedEvent[] {
    return this.#streams.get(stream)?.slice(from, to + 1) ?? [];
  }

  metadataOf(stream: string): StreamMetadata {
    return isMetastream(stream) ? OF_METASTREAMS : (this.#metadata.get(stream) ?? NO_METADATA);
  }

  /** The last event of a stream's metadata stream. */
  metadataEventOf(stream: string): RecordedEvent | undefined {
    return this.#streams.get(metastreamOf(stream))?.at(-1);
  }

  isSoftDeleted(stream: string): boolean {
    return this.metadataOf(stream).truncateBefore === DELETED;
  }

  hasStream(stream: string): boolean {
    return this.lastRevision(stream) !== NO_STREAM;
  }

  /** First revision that may be read: by `$maxCount`, `$tb` and `$maxAge`. */
  firstRevision(stream: string, now: number): number {
    const { maxCount, truncateBefore, maxAgeMs } = this.metadataOf(stream);
    const events = this.#streams.get(stream) ?? [];
    let first = Math.max(0, maxCount === undefined ? 0 : events.length - maxCount, truncateBefore ?? 0);
    if (maxAgeMs !== undefined) first = Math.max(first, lowest(events.length, (index) => (events[index] as RecordedEvent).created >= now - maxAgeMs));
    return first;
  }

  /** Index of the first event at or after a position. */
  indexAt(position: number): number {
    return lowest(this.#events.length, (index) => (this.#events[index] as RecordedEvent).position >= position);
  }

  /** Whether a record begins there, or the log begins or ends there. */
  isBoundary(position: number): boolean {
    return position === 0 || position === FIRST_POSITION || position === this.#end || this.#empty.has(position) || this.#events[this.indexAt(position)]?.position === position;
  }

  #stream(name: string): RecordedEvent[] {
    let events = this.#streams.get(name);
    if (events === undefined) this.#streams.set(name, (events = []));
    return events;
  }
}

/** Lowest index for which a condition holds that, once it holds, holds for all that follow. */
function lowest(length: number, holds: (index: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
