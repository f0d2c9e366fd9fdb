/**
 * Reads the next page of a log while its consumer still works on the one before it: the server and this process each have a half of the work, and do it at once.
 *
 * A1 At most one page is read ahead, and none before the second page was asked for: whoever wants one page pays for one.
 * A2 A page that was read ahead is given only to whoever asks for what comes after exactly the place where it begins, and only where it is not the end of the log: of the
 *    end, news may have come since (L2 of the pages), so it is read again. Any other page says what stands up to its end for ever, whenever it was read.
 * A3 Where the last page was full and without gaps, the next but one begins so many events later, in all likelihood: it is read together with the next one. A guess that
 *    is wrong is thrown away (A2).
 * A4 What fails ahead is forgotten: it is read again when it is asked for, and fails then.
 */
import type { LogPage } from "../event-store.ts";
import { at, covers, offsetOf, type Position } from "../position.ts";

interface Ahead {
  readonly from: number;
  /** Undefined: it failed. */
  readonly page: Promise<LogPage | undefined>;
}

/** Wraps the reading of pages of `pageSize` events by one consumer, who asks for one at a time. */
export function readingAhead(read: (after: Position) => Promise<LogPage>, pageSize: number): (after: Position) => Promise<LogPage> {
  let ahead: Ahead | undefined;
  let goesOn = false;
  let isFull = false;
  const begin = (from: number): Ahead => ({ from, page: read(at(from)).catch(() => undefined) });
  return async (after) => {
    const from = offsetOf(after);
    const early = ahead?.from === from ? ahead.page : undefined;
    ahead = undefined;
    let next = isFull ? begin(from + pageSize) : undefined; // A3
    let page = await early;
    if (page === undefined || page.caughtUp) page = await read(after); // A2, A4
    const through = offsetOf(page.through);
    if (page.caughtUp) next = undefined;
    else if (goesOn && next?.from !== through && !covers(after, page.through)) next = begin(through); // A1
    ahead = next;
    isFull = goesOn && !page.caughtUp && through === from + pageSize;
    goesOn = true;
    return page;
  };
}
