/** What can go wrong in a simulation. A fault counts when it takes effect, not when it is planned. */

/** These wait for the next operation that they fit. */
export const armedFaults = [
  /** The append stands, its reply is lost: unknown. */
  "lost-reply",
  /** The append never reaches the store: unknown. */
  "lost-request",
  /** The append is answered as unknown, and stands later. */
  "late-append",
  /** The append is delivered twice. */
  "duplicate-delivery",
  /** A part of a group is committed, the rest is unknown, and stands later or never. */
  "torn-group",
  /** The store refuses an append for certain. */
  "refused-append",
  /** A read finds the store unavailable. */
  "failed-read",
  /** Rows and checkpoint are committed, the reply is lost. */
  "lost-view-commit",
  /** A snapshot is neither saved nor loaded. */
  "failed-snapshot",
  /** A snapshot comes back with another state than it was saved with. */
  "damaged-snapshot",
  /** The snapshot of another stream comes back. */
  "mixed-up-snapshot",
  /** A sound snapshot of another past of the stream comes back, as after the log alone was restored. */
  "foreign-snapshot",
] as const;

/** These happen at their time. */
export const timedFaults = [
  /** A process ends in the middle of whatever it does; a new one starts after a while. */
  "crash",
  /** A process is closed and started again. */
  "restart",
  /** A process does nothing for a while, then goes on as if nothing had been. */
  "stall",
  /** The wall clock of a process jumps forward or back. */
  "clock-jump",
  /** The store is gone for a while, with the replies that were under way. */
  "store-crash",
  /** The store takes many times as long as usual. */
  "slow-store",
  /** Somebody who is no process of the app appends to a stream. */
  "second-writer",
] as const;

export type ArmedFault = (typeof armedFaults)[number];
export type TimedFault = (typeof timedFaults)[number];
/** A store under simulation may know faults of its own. */
export type FaultKind = ArmedFault | TimedFault | (string & {});

/** What can go wrong in one simulation. */
export interface FaultKinds {
  readonly armed: readonly FaultKind[];
  readonly timed: readonly FaultKind[];
}

/** What can go wrong with a store behind the ports. */
export const portFaults: FaultKinds = { armed: armedFaults, timed: timedFaults };

/** How often each thing happened; a simulation that does nothing is seen by it. */
export class Coverage {
  readonly counts: Record<string, number> = {};

  count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  get faults(): number {
    return Object.entries(this.counts).reduce((sum, [what, count]) => sum + (what.startsWith("fault ") ? count : 0), 0);
  }
}

/** Faults that wait for their operation. */
export class Faults {
  readonly #coverage: Coverage;
  readonly #armed = new Map<FaultKind, number>();

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  arm(kind: FaultKind, times = 1): void {
    this.#armed.set(kind, (this.#armed.get(kind) ?? 0) + times);
  }

  /** Whether the next operation of this kind suffers the fault. */
  take(kind: FaultKind): boolean {
    const left = this.#armed.get(kind) ?? 0;
    if (left === 0) return false;
    this.#armed.set(kind, left - 1);
    this.happened(kind);
    return true;
  }

  happened(kind: FaultKind): void {
    this.#coverage.count(`fault ${kind}`);
  }

  /** From now on nothing goes wrong any more. */
  clear(): void {
    this.#armed.clear();
  }
}
