/**
 * Reads one stream.
 *
 * R1 After the events the server tells where the stream ends. Without that the read was not complete, however well it ended, and is tried again: an end that came early
 *    would hide events that were acknowledged.
 * R2 A slice is bounded in bytes: it ends with the event that passes the bound, and holds at least one where there is one.
 * R3 Revisions count from 0, versions from 1. A stream whose front is gone ($tb, $maxCount, $maxAge) tells its first version: with the slice where that begins late,
 *    otherwise by one more read.
 * R4 A stream that is not found may have been soft-deleted: its metadata tells, and that is an error, as going on would number its events anew in the eyes of its readers.
 * R5 Reads change nothing: one that fails because of the connection is tried again.
 */
import { delay } from "../../environment.ts";
import type { StoredEvent, StreamSlice } from "../event-store.ts";
import type { StreamRead } from "../validate-read.ts";
import type { Connection } from "./connection.ts";
import { EndedEarly, isPassing, NoAnswer, streamDeleted } from "./eventstoredb-error.ts";
import { readStreamRequest, recordedEvent, whole, type RecordedEvent } from "./protocol.ts";
import { decodeEvent } from "./wire.ts";

/** R2. */
export const MAX_SLICE_BYTES = 8 * 1024 * 1024;
const MAX_SLICE_EVENTS = 10_000;
/** R5. */
const TRIES = 4;
const PAUSE_MS = 50;
/** `$tb` of a stream that is soft-deleted: the largest revision there is, which JSON reads as this number. */
const DELETED = Number("9223372036854775807");

interface Answer {
  readonly recorded: readonly RecordedEvent[];
  /** There is no such stream, or none any more. */
  readonly missing: boolean;
  readonly first: number | undefined;
  readonly last: number | undefined;
}

const EMPTY: StreamSlice = Object.freeze({ events: Object.freeze([]) as unknown as readonly StoredEvent[], version: 0, firstVersion: 1, next: undefined });

export class StreamReader {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Errors: of the connection, Aborted, StreamDeleted. */
  async read(stream: string, { backward, from, limit }: StreamRead, signal?: AbortSignal): Promise<StreamSlice> {
    const most = Math.min(limit, MAX_SLICE_EVENTS);
    return backward ? this.#backward(stream, from, most, signal) : this.forward(stream, from ?? 1, most, signal);
  }

  async forward(stream: string, from: number, limit: number, signal?: AbortSignal): Promise<StreamSlice> {
    // A count of 0 is refused.
    const answer = await this.#ask(stream, from === 1 ? "start" : from - 1, false, Math.max(1, limit), signal);
    if (answer.missing) return this.#missing(stream, signal);
    const events = limit === 0 ? [] : answer.recorded.map(decodeEvent);
    const last = events.at(-1)?.version ?? 0;
    const version = Math.max(last, answer.last === undefined ? versionAt(await this.#ask(stream, "end", true, 1, signal)) : answer.last + 1);
    const next = Math.max(from, last + 1);
    return { events, version, firstVersion: await this.#first(stream, from, answer, version, signal), next: next <= version && events.length > 0 ? next : undefined };
  }

  /** The last event as it stands; undefined: there is none, or none any more. */
  async last(stream: string, signal?: AbortSignal): Promise<RecordedEvent | undefined> {
    return (await this.#ask(stream, "end", true, 1, signal)).recorded[0];
  }

  /** The last `count` events, in their order. */
  async lastOnes(stream: string, count: number, signal?: AbortSignal): Promise<StreamSlice> {
    const slice = await this.#backward(stream, undefined, count, signal);
    return { ...slice, events: [...slice.events].reverse() };
  }

  async #backward(stream: string, from: number | undefined, limit: number, signal?: AbortSignal): Promise<StreamSlice> {
    const end = await this.#ask(stream, "end", true, from === undefined ? Math.max(1, limit) : 1, signal);
    if (end.missing) return this.#missing(stream, signal);
    const version = versionAt(end);
    const start = Math.min(from ?? version, version);
    const answer = from === undefined || start < 1 || limit === 0 ? end : await this.#ask(stream, start - 1, true, limit, signal);
    const events = start < 1 || limit === 0 ? [] : answer.recorded.map(decodeEvent);
    const lowest = events.at(-1)?.version;
    const firstVersion = version === 0 || lowest === 1 ? 1 : await this.#begins(stream, version, signal);
    const next = (events.at(-1)?.version ?? start + 1) - 1;
    return { events, version, firstVersion, next: next >= firstVersion && events.length > 0 ? next : undefined };
  }

  /** R3. */
  async #first(stream: string, from: number, { recorded, first }: Answer, version: number, signal?: AbortSignal): Promise<number> {
    if (first !== undefined && first < version) return first + 1;
    const begun = recorded[0] === undefined ? undefined : recorded[0].revision + 1;
    if (begun !== undefined && (from === 1 || begun > from)) return begun;
    if (from === 1) return version + 1;
    // Just after the end, where actors ask whether they are up to date, nobody is told of a front that is gone.
    if (from === version + 1 && begun === undefined) return 1;
    return this.#begins(stream, version, signal);
  }

  async #begins(stream: string, version: number, signal?: AbortSignal): Promise<number> {
    const first = (await this.#ask(stream, "start", false, 1, signal)).recorded[0];
    return first === undefined ? version + 1 : first.revision + 1;
  }

  /** R4. */
  async #missing(stream: string, signal?: AbortSignal): Promise<StreamSlice> {
    const metadata = await this.last(`$$${stream}`, signal);
    if (metadata !== undefined && isDeletion(metadata.data.toString())) throw streamDeleted(stream, "soft-deleted");
    return EMPTY;
  }

  /** R5. */
  async #ask(stream: string, from: number | "start" | "end", backward: boolean, count: number, signal?: AbortSignal): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#askOnce(stream, from, backward, count, signal);
      } catch (error) {
        if (tries === TRIES || !isPassing(error) || error instanceof NoAnswer) throw error;
        await delay(this.#connection.environment.clock, PAUSE_MS * 2 ** tries, signal);
      }
    }
  }

  async #askOnce(stream: string, from: number | "start" | "end", backward: boolean, count: number, signal?: AbortSignal): Promise<Answer> {
    const recorded: RecordedEvent[] = [];
    let missing = false;
    let first: number | undefined;
    let last: number | undefined;
    let bytes = 0;
    let enough = false;
    await this.#connection.read(readStreamRequest(stream, { from, backward, count }), {
      signal,
      onResponse: (response) => {
        const event = recordedEvent(response);
        if (event !== undefined) {
          recorded.push(event);
          bytes += event.data.length + event.metadata.length;
          enough = recorded.length >= count || bytes >= MAX_SLICE_BYTES;
          return bytes >= MAX_SLICE_BYTES;
        }
        if (response.hasStreamNotFound()) missing = true;
        if (response.hasFirstStreamPosition()) first = whole(response.getFirstStreamPosition());
        if (response.hasLastStreamPosition()) last = whole(response.getLastStreamPosition());
        return false;
      },
    });
    if (!missing && !enough && last === undefined) throw new EndedEarly(); // R1
    return { recorded, missing, first, last };
  }
}

/** Of an answer to a read from the end. */
function versionAt({ recorded, last }: Answer): number {
  const revision = recorded[0]?.revision ?? last;
  return revision === undefined ? 0 : revision + 1;
}

export function isDeletion(metadata: string): boolean {
  try {
    return (JSON.parse(metadata) as { readonly $tb?: unknown } | null)?.$tb === DELETED;
  } catch {
    return false;
  }
}
