/**
 * Time, randomness and logging under a test's control.
 *
 * M1 Time moves by `advance` alone; due timers run in the order of their time, those of one time in the order they were set, each at its own time.
 * M2 `immediate` tasks run when `settle` (or `advance`, which settles around every timer) comes to them, after all microtasks, in the order they were given.
 * M3 `settle` returns once nothing more happens by itself: no microtask, no immediate. Real I/O is not waited for.
 * M4 Tasks that throw make `settle` and `advance` reject; the tasks after them stay queued.
 */
import { systemClock, type Clock, type Environment, type Logger, type Random, type Timer } from "../environment.ts";

export interface ManualClock extends Clock {
  /** Moves time on by `byMs` milliseconds and runs what is due on the way, including what that sets anew (M1). */
  advance(byMs: number): Promise<void>;
  /** Runs immediates and microtasks until none is left (M3). */
  settle(): Promise<void>;
  /** Timers that are set and not cancelled: zero when nothing leaked. */
  readonly pendingTimers: number;
}

/** More rounds than this without coming to rest is a loop. */
const MAX_ROUNDS = 100_000;

/** A clock that stands still until told otherwise. `now`: milliseconds since the epoch, default 2026-01-01. */
export function manualClock(options: { readonly now?: number } = {}): ManualClock {
  let now = options.now ?? Date.UTC(2026, 0, 1);
  let sequence = 0;
  const timers = new Set<{ readonly at: number; readonly order: number; readonly task: () => void }>();
  const immediates: (() => void)[] = [];

  const settle = async (): Promise<void> => {
    // Two quiet turns of the real loop: the first may have queued microtasks that queue another turn.
    for (let quiet = 0, rounds = 0; quiet < 2; rounds++) {
      if (rounds > MAX_ROUNDS) throw new Error("the system never comes to rest: immediates go on for ever");
      await new Promise<void>((resolve) => systemClock.immediate(resolve));
      const task = immediates.shift();
      quiet = task === undefined ? quiet + 1 : 0;
      task?.();
    }
  };
  const nextDue = (until: number): { at: number; order: number; task: () => void } | undefined => {
    let next: { at: number; order: number; task: () => void } | undefined;
    for (const timer of timers) {
      if (timer.at > until || (next !== undefined && (timer.at > next.at || (timer.at === next.at && timer.order > next.order)))) continue;
      next = timer;
    }
    return next;
  };

  return {
    now: () => now,
    elapsed: () => now,
    setTimer(delayMs, task): Timer {
      const timer = { at: now + Math.max(0, delayMs), order: sequence++, task };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    immediate(task) {
      immediates.push(task);
    },
    settle,
    async advance(byMs) {
      const until = now + byMs;
      await settle();
      for (let timer = nextDue(until); timer !== undefined; timer = nextDue(until)) {
        timers.delete(timer);
        now = Math.max(now, timer.at);
        timer.task();
        await settle();
      }
      now = until;
    },
    get pendingTimers() {
      return timers.size;
    },
  };
}

/** Randomness that a seed repeats. */
export function seededRandom(seed: number): Random {
  let state = seed | 0;
  // A Weyl sequence through two rounds of xor and multiply.
  const bits = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
  return {
    next: () => (bits() * 2 ** 21 + (bits() >>> 11)) / 2 ** 53,
    uuid() {
      const hex = [bits(), bits(), bits(), bits()].map((word) => word.toString(16).padStart(8, "0")).join("");
      const variant = "89ab"[Number.parseInt(hex.charAt(16), 16) & 3] as string;
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
    },
  };
}

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: object;
  readonly message: string;
}

/** A logger that keeps what it was told, for tests to look at. */
export function recordingLogger(): Logger & { readonly lines: readonly LogLine[] } {
  const lines: LogLine[] = [];
  const keep =
    (level: LogLine["level"]) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields, message });
  return { lines, debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") };
}

/** All three together. */
export function manualEnvironment(options: { readonly now?: number; readonly seed?: number } = {}): Environment & {
  readonly clock: ManualClock;
  readonly logger: ReturnType<typeof recordingLogger>;
} {
  return { clock: manualClock(options), random: seededRandom(options.seed ?? 1), logger: recordingLogger() };
}
