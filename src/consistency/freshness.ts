/**
 * Is a reader fresh enough, and how to wait until it is.
 *
 * F1 A wait ends by whichever comes first: the target is covered (true), `timeoutMs` passed (false), the signal aborted, the source failed. Nothing else ends it,
 *    and whichever ends it, listener and timer are gone afterwards.
 * F2 It wakes by notification: no advance is missed between the first look and the subscription, and nothing polls.
 * F3 What is covered is answered at once, also by a source that failed meanwhile: its view holds the write.
 * F4 A token can only demand what this reader reads: entries of other stores and of categories that it does not read are no reason to wait.
 */
import { Aborted, ReadModelStopped, TokenForeign } from "../errors.ts";
import type { Clock } from "../environment.ts";
import { covers, merge, SINGLE_LANE, START, type Position } from "../store/position.ts";
import type { TokenEntry } from "./token.ts";

/** Something that advances through a log: a read model, or whatever else can be waited for. */
export interface FreshnessSource {
  /** Everything up to here can be read. */
  position(): Position;
  /** Why it no longer advances, or undefined while it does. */
  failure(): Error | undefined;
  /** Calls back after each advance and each change of `failure`; the result unsubscribes. */
  onAdvance(listener: () => void): () => void;
}

/**
 * The position that a reader of `categories` in store `storeId` must have reached for these entries (F4).
 * Errors: TokenForeign when there are entries and all are of other stores.
 */
export function requirementOf(entries: readonly TokenEntry[], storeId: string, categories: readonly string[]): Position {
  let required = START;
  let own = entries.length === 0;
  for (const entry of entries) {
    if (entry.store !== storeId) continue;
    own = true;
    if (categories.includes(entry.category)) required = merge(required, entry.position);
  }
  if (own) return required;
  throw new TokenForeign("the token was made on another event store", { details: { store: storeId, tokenStores: [...new Set(entries.map((entry) => entry.store))] } });
}

/** How many places of the log lie between a position and its target, over all lanes; 0 = covered. Events of all categories count. */
export function placesBehind(position: Position, target: Position): number {
  let places = 0;
  for (const lane in target) {
    // Offsets of the single lane start at 1, those of a partition at 0.
    const reached = position[lane] ?? (lane === SINGLE_LANE ? 0 : -1);
    places += Math.max(0, (target[lane] as number) - reached);
  }
  return places;
}

/**
 * Waits until `source` covers `target`; true when it does, false after `timeoutMs` milliseconds (F1).
 * Errors: Aborted, ReadModelStopped with what stopped it as cause.
 */
export function waitForPosition(
  source: FreshnessSource,
  target: Position,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal | undefined; readonly clock: Clock },
): Promise<boolean> {
  const { timeoutMs, signal, clock } = options;
  return new Promise((resolve, reject) => {
    const ends: (() => void)[] = [];
    let ended = false;
    const end = (answer: () => void): void => {
      if (ended) return;
      ended = true;
      for (const undo of ends) undo();
      answer();
    };
    const onAbort = (): void => end(() => reject(new Aborted("the wait for fresh data was aborted", { cause: signal?.reason as unknown })));
    const look = (): void => {
      if (covers(source.position(), target)) return end(() => resolve(true));
      const failure = source.failure();
      if (failure !== undefined) end(() => reject(stopped(failure)));
    };
    if (signal?.aborted === true) return onAbort();
    look();
    if (!ended && timeoutMs <= 0) end(() => resolve(false));
    if (ended) return;
    signal?.addEventListener("abort", onAbort, { once: true });
    const timer = clock.setTimer(timeoutMs, () => end(() => resolve(false)), { keepAlive: true });
    const unsubscribe = source.onAdvance(look);
    ends.push(() => signal?.removeEventListener("abort", onAbort), () => timer.cancel(), unsubscribe);
    // F2: a source may have advanced, or called back, while it was being subscribed to.
    if (ended) for (const undo of ends) undo();
    else look();
  });
}

function stopped(cause: Error): ReadModelStopped {
  if (cause instanceof ReadModelStopped) return cause;
  return new ReadModelStopped(`the read model no longer advances: ${cause.message}`, { cause });
}
