/** Events per second over the last few seconds, from two counters. */
import type { Clock } from "../environment.ts";

const WINDOW_MS = 2000;

export class Rate {
  readonly #clock: Clock;
  #since: number;
  #count = 0;
  #last = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.elapsed();
  }

  add(events: number): void {
    this.#turn();
    this.#count += events;
  }

  perSecond(): number {
    this.#turn();
    const elapsed = Math.min(Math.max(this.#clock.elapsed() - this.#since, 0), WINDOW_MS);
    return Math.round(((this.#count + (this.#last * (WINDOW_MS - elapsed)) / WINDOW_MS) / WINDOW_MS) * 1000);
  }

  #turn(): void {
    const elapsed = this.#clock.elapsed() - this.#since;
    if (elapsed < WINDOW_MS) return;
    this.#last = elapsed < 2 * WINDOW_MS ? this.#count : 0;
    this.#count = 0;
    this.#since = this.#clock.elapsed();
  }
}
