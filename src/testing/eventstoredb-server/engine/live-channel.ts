/**
 * What a live subscription has not yet sent (the `_liveEvents` of the server's enumerators): at most 32 items. A full channel drops its oldest,
 * and the gap in the sequence numbers tells the subscription to catch up from the log again.
 */
import { PAGE, type RecordedEvent } from "./model.ts";

export interface LiveItem {
  readonly sequence: number;
  /** An event, or the position of a checkpoint. */
  readonly event?: RecordedEvent;
  readonly checkpoint?: number;
}

export class LiveChannel {
  readonly #items: LiveItem[] = [];
  #sequence = 0;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  push(item: { readonly event: RecordedEvent } | { readonly checkpoint: number }): void {
    this.#items.push({ sequence: ++this.#sequence, ...item });
    if (this.#items.length > PAGE) this.#items.shift();
    this.#wake?.();
  }

  /** What waits is still handed out; then `next` throws. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    this.#wake?.();
  }

  /** Waits for the next item; undefined when the signal aborts. */
  async next(signal: AbortSignal): Promise<LiveItem | undefined> {
    while (this.#items.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (signal.aborted) return undefined;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener("abort", wake);
          this.#wake = undefined;
          resolve();
        };
        signal.addEventListener("abort", wake, { once: true });
        this.#wake = wake;
      });
    }
    return signal.aborted ? undefined : this.#items.shift();
  }
}
