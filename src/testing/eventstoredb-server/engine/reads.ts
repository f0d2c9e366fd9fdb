/** Reads that end (Enumerator.ReadStream…, Enumerator.ReadAll…). */
import type { Engine } from "./engine.ts";
import { everything, type EventFilter } from "./filter.ts";
import { PAGE } from "./model.ts";
import { readAllBackwards, readAllForwards, readStreamBackwards, readStreamForwards } from "./read-pages.ts";
import { ReadFailure, resolved, type ReadResponse } from "./read-response.ts";

export interface StreamRead {
  readonly stream: string;
  /** A revision, or the end. */
  readonly from: number | "end";
  readonly backwards: boolean;
  readonly count: number;
  readonly resolveLinks: boolean;
  /** What the client understands: from 1 on it is told the first and the last revision. */
  readonly compatibility: number;
}

export function* readStream(engine: Engine, read: StreamRead): Generator<ReadResponse> {
  const { stream, count, backwards, compatibility } = read;
  let from = read.from === "end" ? undefined : read.from;
  let sent = 0;
  for (;;) {
    const size = Math.min(PAGE, count);
    const page = backwards ? readStreamBackwards(engine.log, stream, from, size, engine.now()) : readStreamForwards(engine.log, stream, from ?? -1, size, engine.now());
    if (page.kind === "no-stream") {
      yield { kind: "stream-not-found", stream };
      return;
    }
    if (page.kind === "deleted") throw new ReadFailure("stream-deleted", stream);
    if (page.kind === "error") throw new ReadFailure("error", stream);
    if (!backwards && sent === 0 && compatibility >= 1 && page.events.length === 0 && page.next !== from) yield { kind: "first-stream-position", revision: page.next };
    for (const event of page.events) {
      if (sent >= count) break;
      yield resolved(engine, event, read.resolveLinks);
      sent++;
    }
    if (page.atEnd || sent >= count) {
      if (compatibility >= 1) yield { kind: "last-stream-position", revision: page.last };
      return;
    }
    from = page.next;
  }
}

export interface AllRead {
  /** A place, or the end. */
  readonly from: number | "end";
  readonly backwards: boolean;
  readonly count: number;
  readonly resolveLinks: boolean;
  readonly filter?: EventFilter;
  /** Events looked at for one page of a filtered read. */
  readonly window?: number;
}

export function* readAll(engine: Engine, read: AllRead): Generator<ReadResponse> {
  const { count, backwards, filter = everything, window = read.filter === undefined ? Number.POSITIVE_INFINITY : PAGE } = read;
  let from = read.from === "end" ? engine.log.end : read.from;
  let sent = 0;
  while (sent < count) {
    const page = (backwards ? readAllBackwards : readAllForwards)(engine.log, from, Math.min(PAGE, count), window, filter);
    if (page === undefined) throw new ReadFailure("invalid-position");
    for (const event of page.events) {
      if (sent >= count) return;
      yield resolved(engine, event, read.resolveLinks);
      sent++;
    }
    if (page.atEnd) return;
    from = page.next;
  }
}
