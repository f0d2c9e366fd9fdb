/**
 * Tells those who wait at the end of the log when it has grown. A filtered subscription says so only for what passes its filter, and every thousand events or so for the
 * rest; so the end is looked at every `LOOK_EVERY_MS`, once for all who wait, and only while somebody does.
 */
import type { Timer } from "../../environment.ts";
import type { Connection } from "./connection.ts";
import type { LogReads } from "./log-reads.ts";

export const LOOK_EVERY_MS = 40;

export type OnHead = (head: number) => void;

export class HeadWatch {
  readonly #connection: Connection;
  readonly #reads: LogReads;
  readonly #listeners = new Set<OnHead>();
  #timer: Timer | undefined;
  #looking = false;
  #closed = false;

  constructor(connection: Connection, reads: LogReads) {
    this.#connection = connection;
    this.#reads = reads;
  }

  /** Calls back after each look. Returns what ends it. */
  add(listener: OnHead): () => void {
    this.#listeners.add(listener);
    this.#schedule();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#stop();
    };
  }

  close(): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#stop();
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#looking || this.#closed || this.#listeners.size === 0) return;
    this.#timer = this.#connection.environment.clock.setTimer(LOOK_EVERY_MS, () => {
      this.#timer = undefined;
      this.#looking = true;
      // Where the server does not answer, whoever waits learns it from the subscription, and goes on waiting.
      void this.#reads
        .head()
        .then(
          ({ position }) => this.#tell(position),
          () => undefined,
        )
        .then(() => {
          this.#looking = false;
          this.#schedule();
        });
    });
  }

  #tell(head: number): void {
    for (const listener of this.#listeners) listener(head);
  }
}
