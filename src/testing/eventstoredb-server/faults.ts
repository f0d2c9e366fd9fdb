/**
 * What goes wrong on demand. A fault applies to the calls it names, from the moment it is added until it is removed or was met often enough;
 * of several the one that was added first is met.
 */
import { delay, type Clock } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";

export const faultTargets = ["append", "batch-append", "read", "subscription", "delete", "tombstone", "server-features", "gossip"] as const;

/** What a client calls; `batch-append` is one append on the stream that carries many. */
export type FaultTarget = (typeof faultTargets)[number];

export type FaultAction =
  /** The call is handled that much later. */
  | { readonly kind: "delay"; readonly delayMs: number }
  /** Nothing is handled and nothing sent, on calls that run too, until the fault is removed; then all goes on. */
  | { readonly kind: "stall" }
  /** The call fails with a status (default 14, UNAVAILABLE), nothing is done. With `leader` it fails as on a follower. */
  | { readonly kind: "refuse"; readonly code?: number; readonly message?: string; readonly leader?: { readonly host: string; readonly port: number }; readonly afterMessages?: number }
  /** What was asked for is done, and nobody hears of it. */
  | { readonly kind: "drop-reply" }
  /** The server says that it ran out of time, whether it was done or not. */
  | { readonly kind: "time-out"; readonly carriedOut: boolean }
  /** The connection is reset in place of an answer; a read or subscription sends that many messages before. */
  | { readonly kind: "cut"; readonly carriedOut?: boolean; readonly afterMessages?: number }
  /** The stream that would carry the answer is ended as if all were well; a read or subscription sends that many messages before. */
  | { readonly kind: "end"; readonly carriedOut?: boolean; readonly afterMessages?: number }
  /** A pause before the one answer, or after each message of a read or subscription. */
  | { readonly kind: "slow"; readonly betweenMs: number };

export interface Fault {
  /** Default: every call. */
  readonly on?: FaultTarget | readonly FaultTarget[];
  /** Only calls for this stream; `$all` is one. */
  readonly stream?: string;
  /** Lets that many calls pass first. */
  readonly skip?: number;
  /** How often it is met; default: until it is removed. */
  readonly times?: number;
  readonly action: FaultAction;
}

export interface AddedFault {
  readonly id: number;
  readonly fault: Fault;
  /** How many calls met it. */
  readonly met: number;
  remove(): void;
}

const kinds: readonly FaultAction["kind"][] = ["delay", "stall", "refuse", "drop-reply", "time-out", "cut", "end", "slow"];

class Rule implements AddedFault {
  readonly id: number;
  readonly fault: Fault;
  met = 0;
  seen = 0;
  readonly #remove: (rule: Rule) => void;

  constructor(id: number, fault: Fault, remove: (rule: Rule) => void) {
    this.id = id;
    this.fault = fault;
    this.#remove = remove;
  }

  remove(): void {
    this.#remove(this);
  }

  covers(target: FaultTarget, stream: string | undefined): boolean {
    const { on, stream: only } = this.fault;
    return (on === undefined || on === target || (Array.isArray(on) && on.includes(target))) && (only === undefined || only === stream);
  }
}

export class Faults {
  readonly #clock: Clock;
  readonly #rules: Rule[] = [];
  readonly #stalled = new Set<() => void>();
  #added = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Errors: InvalidArgument. */
  add(fault: Fault): AddedFault {
    assertFault(fault);
    const rule = new Rule(++this.#added, fault, (removed) => {
      const index = this.#rules.indexOf(removed);
      if (index >= 0) this.#rules.splice(index, 1);
      this.#release();
    });
    this.#rules.push(rule);
    return rule;
  }

  /** Removes all. */
  clear(): void {
    this.#rules.length = 0;
    this.#release();
  }

  list(): readonly AddedFault[] {
    return [...this.#rules];
  }

  get none(): boolean {
    return this.#rules.length === 0;
  }

  /** The fault that a new call meets, after the wait that it may bring; undefined: all is well. Rejects when the signal aborts. */
  async meet(target: FaultTarget, stream: string | undefined, signal: AbortSignal): Promise<FaultAction | undefined> {
    await this.whileStalled(target, stream, signal);
    const rule = this.#next(target, stream);
    if (rule?.fault.action.kind === "delay") await delay(this.#clock, rule.fault.action.delayMs, signal);
    return rule?.fault.action;
  }

  /** Waits while a stall covers a call that runs. */
  async whileStalled(target: FaultTarget, stream: string | undefined, signal: AbortSignal): Promise<void> {
    while (this.#rules.some((rule) => rule.fault.action.kind === "stall" && rule.covers(target, stream))) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const go = (): void => {
          this.#stalled.delete(go);
          signal.removeEventListener("abort", go);
          resolve();
        };
        this.#stalled.add(go);
        signal.addEventListener("abort", go, { once: true });
      });
    }
  }

  pause(ms: number, signal: AbortSignal): Promise<void> {
    return delay(this.#clock, ms, signal);
  }

  #next(target: FaultTarget, stream: string | undefined): Rule | undefined {
    for (const rule of this.#rules) {
      const { action, skip = 0, times = Number.POSITIVE_INFINITY } = rule.fault;
      if (action.kind === "stall" || rule.met >= times || !rule.covers(target, stream)) continue;
      if (++rule.seen <= skip) continue;
      rule.met++;
      return rule;
    }
    return undefined;
  }

  #release(): void {
    for (const go of this.#stalled) go();
  }
}

function assertFault(fault: Fault): void {
  const { on = [], skip = 0, times = 1, action } = fault;
  for (const target of typeof on === "string" ? [on] : on) {
    if (!faultTargets.includes(target)) throw new InvalidArgument(`a fault is on ${faultTargets.join(", ")}, not on ${JSON.stringify(target)}`);
  }
  if (!Number.isInteger(skip) || skip < 0) throw new InvalidArgument("skip of a fault is a whole number of calls");
  if (!Number.isInteger(times) || times < 1) throw new InvalidArgument("times of a fault is a whole number of calls, at least 1");
  const known = typeof action === "object" && action !== null && kinds.includes(action.kind);
  if (!known) throw new InvalidArgument(`the action of a fault is one of ${kinds.join(", ")}`);
  if (action.kind === "stall" && (fault.skip !== undefined || fault.times !== undefined)) throw new InvalidArgument("a stall lasts until it is removed: it takes neither skip nor times");
  const ms = action.kind === "delay" ? action.delayMs : action.kind === "slow" ? action.betweenMs : 0;
  if (!Number.isFinite(ms) || ms < 0) throw new InvalidArgument("the time of a fault is a number of milliseconds");
}
