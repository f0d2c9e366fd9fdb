/**
 * Everything that can happen in a simulation, in one queue from which the seed draws.
 *
 * W1 One thing happens at a time: a timer, an immediate, the arrival of a message. Then all microtasks run until none is left, and only then the next is drawn.
 * W2 Time moves with what is drawn. A timer or a message is late at times, never early.
 * W3 Of one host immediates happen in the order they were given, timers in the order of their time; messages overtake each other.
 * W4 A host that is dead does nothing any more, for ever: no timer, no immediate, no message reaches it. One that stalls does nothing until the stall ends.
 * W5 A host's wall clock may jump; its timers do not.
 * W6 The same draws give the same run: nothing here reads a real clock or draws a real number.
 */
import { systemClock, type Environment, type Logger, type Timer } from "../../environment.ts";
import { seededRandom } from "../manual-environment.ts";
import type { Draws } from "./draws.ts";

interface Item {
  readonly at: number;
  readonly task: () => void;
}

/** What one step costs, in milliseconds: time passes also for those who only give way to each other. */
const STEP_MS = 0.01;
/** How late something may be drawn while other things are due, in milliseconds. */
const LATE_MS = 4;

/** A simulated machine with one process on it. */
export interface Host {
  readonly name: string;
  readonly environment: Environment;
  readonly alive: boolean;
  /** Does nothing at the moment: nobody on it can ask for anything. */
  readonly stalled: boolean;
  /** Stalls and jumps so far: while it stands still, times that the host has measured can be relied on. */
  readonly disturbances: number;
  /** Messages, timers and immediates that still wait here. */
  readonly waiting: number;
  /** A message that arrives after `delayMs`. */
  deliver(delayMs: number, task: () => void): void;
  /** W4. */
  kill(): void;
  /** W4: for so long from now. */
  stall(forMs: number): void;
  /** W5: forward, or backward where `byMs` is negative. */
  jump(byMs: number): void;
  /** Ends a stall. */
  wake(): void;
  /** Calls back when the host dies. */
  onDeath(task: () => void): void;
}

export interface WorldOptions {
  readonly draws: Draws;
  readonly logger: Logger;
  /** Called with what a task threw. */
  readonly onError: (host: string, error: unknown) => void;
}

export class World {
  readonly #options: WorldOptions;
  readonly #hosts: SimulatedHost[] = [];
  readonly #messages: Item[] = [];
  #now = Date.UTC(2026, 0, 1);
  #steps = 0;
  #seeds = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
  }

  /** Milliseconds since the epoch, with fractions. */
  get now(): number {
    return this.#now;
  }

  get steps(): number {
    return this.#steps;
  }

  /** Messages under way that belong to no host. */
  get messages(): number {
    return this.#messages.length;
  }

  host(name: string): Host {
    const host = new SimulatedHost(name, () => this.#now, ++this.#seeds * 7919 + this.#options.draws.int(0, 2 ** 30), this.#options.logger);
    host.onDeath(() => this.#hosts.splice(this.#hosts.indexOf(host), 1));
    this.#hosts.push(host);
    return host;
  }

  /** What happens outside of all hosts: on the way to the store, in it, with a user. */
  post(delayMs: number, task: () => void): void {
    this.#messages.push({ at: this.#now + delayMs, task });
  }

  /** Runs until the condition holds (true), or nothing is left, `forMs` have passed or `maxSteps` were taken (false). */
  async runUntil(condition: () => boolean, bounds: { readonly forMs: number; readonly maxSteps: number }): Promise<boolean> {
    const until = this.#now + bounds.forMs;
    const last = this.#steps + bounds.maxSteps;
    await quiescence();
    while (!condition()) {
      if (this.#now > until || this.#steps >= last || !this.step()) return false;
      await quiescence();
    }
    return true;
  }

  /** Draws one thing and lets it happen; false when nothing is left. Microtasks are the caller's to wait for. */
  step(): boolean {
    const candidates: (readonly [at: number, take: () => Item, host: string])[] = [];
    for (const host of this.#hosts) host.offer(candidates);
    this.#messages.forEach((item, index) => candidates.push([item.at, () => remove(this.#messages, index), "outside"]));
    if (candidates.length === 0) return false;
    const { draws } = this.#options;
    let earliest = Number.POSITIVE_INFINITY;
    for (const [at] of candidates) if (at < earliest) earliest = at;
    const limit = Math.max(this.#now, earliest) + (draws.chance(0.15) ? draws.next() * LATE_MS : 0);
    const [at, take, host] = draws.pick(candidates.filter((candidate) => candidate[0] <= limit));
    this.#now = Math.max(this.#now + STEP_MS, at);
    this.#steps++;
    try {
      take().task();
    } catch (error) {
      this.#options.onError(host, error);
    }
    return true;
  }
}

/** W1: one turn of the real loop comes after all microtasks. */
export function quiescence(): Promise<void> {
  return new Promise((resolve) => systemClock.immediate(resolve));
}

function remove(items: Item[], index: number): Item {
  return items.splice(index, 1)[0] as Item;
}

class SimulatedHost implements Host {
  readonly name: string;
  readonly environment: Environment;
  readonly #now: () => number;
  readonly #timers = new Set<Item>();
  readonly #immediates: Item[] = [];
  readonly #messages: Item[] = [];
  readonly #deaths: (() => void)[] = [];
  #alive = true;
  #stalledUntil = 0;
  #skew = 0;
  #disturbances = 0;

  constructor(name: string, now: () => number, seed: number, logger: Logger) {
    this.name = name;
    this.#now = now;
    this.environment = {
      random: seededRandom(seed),
      logger,
      clock: {
        now: () => Math.floor(now() + this.#skew),
        elapsed: now,
        setTimer: (delayMs, task): Timer => {
          const timer = { at: now() + Math.max(0, delayMs), task };
          if (this.#alive) this.#timers.add(timer);
          return { cancel: () => void this.#timers.delete(timer) };
        },
        immediate: (task) => {
          if (this.#alive) this.#immediates.push({ at: now(), task });
        },
      },
    };
  }

  get alive(): boolean {
    return this.#alive;
  }

  get stalled(): boolean {
    return this.#stalledUntil > this.#now();
  }

  get disturbances(): number {
    return this.#disturbances;
  }

  get waiting(): number {
    return this.#timers.size + this.#immediates.length + this.#messages.length;
  }

  deliver(delayMs: number, task: () => void): void {
    if (this.#alive) this.#messages.push({ at: this.#now() + delayMs, task });
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#timers.clear();
    this.#immediates.length = 0;
    this.#messages.length = 0;
    for (const task of this.#deaths) task();
  }

  stall(forMs: number): void {
    this.#disturbances++;
    this.#stalledUntil = Math.max(this.#stalledUntil, this.#now() + forMs);
  }

  wake(): void {
    if (this.stalled) this.#disturbances++;
    this.#stalledUntil = 0;
  }

  jump(byMs: number): void {
    this.#disturbances++;
    this.#skew += byMs;
  }

  onDeath(task: () => void): void {
    this.#deaths.push(task);
  }

  /** W3: what may happen next here, each with the time before which it cannot. */
  offer(candidates: (readonly [at: number, take: () => Item, host: string])[]): void {
    const from = this.#stalledUntil;
    const immediate = this.#immediates[0];
    if (immediate !== undefined) candidates.push([Math.max(immediate.at, from), () => remove(this.#immediates, 0), this.name]);
    let first: Item | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.at < first.at) first = timer;
    if (first !== undefined) {
      const timer = first;
      const take = (): Item => {
        this.#timers.delete(timer);
        return timer;
      };
      candidates.push([Math.max(timer.at, from), take, this.name]);
    }
    this.#messages.forEach((item, index) => candidates.push([Math.max(item.at, from), () => remove(this.#messages, index), this.name]));
  }
}
