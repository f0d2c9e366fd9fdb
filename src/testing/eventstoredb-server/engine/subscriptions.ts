/**
 * Subscriptions as options of a read (Enumerator.StreamSubscription, AllSubscription, AllSubscriptionFiltered, with SubscriptionsService).
 *
 * U1 A subscription registers for live events first, is confirmed, catches up from the log, says that it has caught up, and goes on with what came live.
 * U2 What comes live waits in a channel of 32; when that runs over, the subscription catches up again, and says again that it has caught up.
 * U3 Only filtered subscriptions have checkpoints: while catching up after every interval of considered events and at the end, live after every interval.
 *    A checkpoint is never behind an event or a checkpoint that was sent; while catching up it may stay behind what was considered.
 * U4 A subscription to a stream fails when the stream is tombstoned, after the tombstone itself; any one fails when its user may not read any more.
 */
import type { CommitListener, Engine } from "./engine.ts";
import { everything, type EventFilter } from "./filter.ts";
import { LiveChannel } from "./live-channel.ts";
import { DELETED, metastreamOf, NO_STREAM, PAGE, SYSTEM_TYPES, type RecordedEvent } from "./model.ts";
import { readAllForwards, readStreamForwards } from "./read-pages.ts";
import { ReadFailure, resolved, type ReadResponse } from "./read-response.ts";

interface Subscriber {
  /** Whether the user may still read; looked at when metadata changes. */
  readonly mayRead: () => boolean;
  readonly signal: AbortSignal;
  readonly resolveLinks: boolean;
}

export interface StreamSubscription extends Subscriber {
  readonly stream: string;
  /** Events after this revision; "start" from the first, "end" only new ones. */
  readonly after: number | "start" | "end";
}

export async function* subscribeToStream(engine: Engine, { stream, after, mayRead, signal, resolveLinks }: StreamSubscription): AsyncGenerator<ReadResponse> {
  const { log } = engine;
  if (log.lastRevision(stream) === DELETED) throw new ReadFailure("stream-deleted", stream);
  const confirmedAt = log.lastRevision(stream);
  const channel = new LiveChannel();
  const stop = listen(engine, channel, stream, mayRead, (event) => {
    if (event.stream === stream && event.revision > confirmedAt) channel.push({ event });
  }); // U1
  try {
    yield { kind: "confirmed", subscriptionId: engine.uuid() };
    let sent = after === "start" ? NO_STREAM : after === "end" ? confirmedAt : after;
    let catchUp = sent < confirmedAt;
    let sequence = 0;
    for (;;) {
      for (let from = sent + 1; catchUp; ) {
        const page = readStreamForwards(log, stream, from, PAGE, engine.now());
        if (page.kind === "deleted") throw new ReadFailure("stream-deleted", stream); // U4
        if (page.kind === "error") throw new ReadFailure("error", stream);
        if (page.kind === "no-stream") break;
        for (const event of page.events) {
          yield resolved(engine, event, resolveLinks);
          sent = event.revision;
        }
        if (page.atEnd) break;
        from = page.next;
      }
      yield { kind: "caught-up" };
      for (;;) {
        const item = await channel.next(signal);
        if (item?.event === undefined) return;
        const inSequence = item.sequence === sequence + 1;
        ({ sequence } = item);
        if (item.event.revision <= sent) continue;
        if (!inSequence) break; // U2
        yield resolved(engine, item.event, resolveLinks);
        sent = item.event.revision;
        if (item.event.type === SYSTEM_TYPES.tombstone) throw new ReadFailure("stream-deleted", stream); // U4
      }
      catchUp = true;
    }
  } finally {
    stop();
  }
}

export interface AllSubscription extends Subscriber {
  /** Events after this place; "start" from the first, "end" only new ones. */
  readonly after: number | "start" | "end";
  readonly filter?: EventFilter;
  /** Events looked at for one page while catching up. */
  readonly window?: number;
  /** Checkpoints after this many windows. */
  readonly interval?: number;
}

export async function* subscribeToAll(engine: Engine, subscription: AllSubscription): AsyncGenerator<ReadResponse> {
  const { after, mayRead, signal, resolveLinks, filter = everything, interval = 1 } = subscription;
  const filtered = subscription.filter !== undefined;
  const window = filtered ? (subscription.window ?? PAGE) : Number.POSITIVE_INFINITY;
  const every = interval * window;
  const { log } = engine;
  const confirmedAt = log.lastPosition;
  const channel = new LiveChannel();
  let liveConsidered = 0;
  const stop = listen(engine, channel, "$all", mayRead, (event) => {
    if (filter(event)) channel.push({ event });
    if (filtered && ++liveConsidered >= every) {
      channel.push({ checkpoint: event.position });
      liveConsidered = 0;
    }
  }); // U1

  /** Place of the last event or checkpoint on its way to the client. */
  let sent = after === "start" ? -1 : after === "end" ? confirmedAt : after;
  let lastCheckpoint = -1;
  const checkpoint = function* (): Generator<ReadResponse> {
    if (!filtered || sent <= lastCheckpoint) return;
    lastCheckpoint = sent;
    yield { kind: "checkpoint", place: sent };
  };

  try {
    yield { kind: "confirmed", subscriptionId: engine.uuid() };
    let catchUp = sent < confirmedAt;
    let sequence = 0;
    for (;;) {
      let considered = 0;
      for (let from = Math.max(sent, 0); catchUp; ) {
        const page = readAllForwards(log, from, PAGE, window, filter);
        if (page === undefined) throw new ReadFailure("invalid-position");
        for (const event of page.events) {
          if (event.position <= sent) continue;
          yield resolved(engine, event, resolveLinks);
          sent = event.position;
        }
        // Without a match a page moves the checkpoint to where it began, not to where it ended.
        if (filtered && sent < page.from && page.from < page.next) sent = page.from;
        considered += page.considered;
        if (page.atEnd) {
          if (filtered && sent < 0 && page.next > 0) sent = 0;
          yield* checkpoint(); // U3
          break;
        }
        if (considered >= every) {
          considered %= every;
          yield* checkpoint(); // U3
        }
        from = page.next;
      }
      yield { kind: "caught-up" };
      for (;;) {
        const item = await channel.next(signal);
        if (item === undefined) return;
        const inSequence = item.sequence === sequence + 1;
        ({ sequence } = item);
        if (item.event !== undefined && item.event.position <= sent) continue;
        if (item.checkpoint !== undefined && item.checkpoint < sent) continue;
        if (!inSequence) {
          yield* checkpoint();
          break; // U2
        }
        if (item.event !== undefined) {
          yield resolved(engine, item.event, resolveLinks);
          sent = item.event.position;
        } else if (item.checkpoint !== undefined) {
          sent = item.checkpoint;
          yield* checkpoint(); // U3
        }
      }
      catchUp = true;
    }
  } finally {
    stop();
  }
}

/** Feeds a channel, and fails it when the metadata of what it follows takes the right to read. */
function listen(engine: Engine, channel: LiveChannel, stream: string, mayRead: () => boolean, onEvent: (event: RecordedEvent) => void): () => void {
  const metastream = metastreamOf(stream);
  const listener: CommitListener = (event) => {
    onEvent(event);
    if (event.stream === metastream && !mayRead()) channel.fail(new ReadFailure("access-denied", stream)); // U4
  };
  return engine.onCommit(listener);
}
