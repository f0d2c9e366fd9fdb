/**
 * Time, randomness and logging, injected everywhere: nothing else in src/ reads a clock, sets a timer or draws a number.
 * The simulator replaces all of it by one seeded scheduler.
 */
import { randomUuid } from "./random-uuid.ts";

/** A pending timer; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** The only source of time, in milliseconds. */
export interface Clock {
  /** Since the Unix epoch: what is recorded. It may jump, also back; nothing is measured by it. */
  now(): number;
  /** Since some moment: what durations are measured by. It never goes back. */
  elapsed(): number;
  /** Calls `task` once after `delayMs`. Never keeps the process alive unless `keepAlive` is set. */
  setTimer(delayMs: number, task: () => void, options?: { readonly keepAlive?: boolean }): Timer;
  /** Calls `task` at the end of the current turn of the event loop, after all microtasks. */
  immediate(task: () => void): void;
}

/** The only source of randomness. */
export interface Random {
  /** In [0, 1). */
  next(): number;
  /** A version 4 UUID. */
  uuid(): string;
}

/** The shape of pino and of `console`-like loggers: structured fields first, then the message. What a logger throws is dropped. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

const quiet = (): void => undefined;

/** Drops everything. */
export const silentLogger: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };

/** The longest delay of a timer: longer ones are cut to it, about 25 days. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The clock of this machine. */
export const systemClock: Clock = {
  now: Date.now,
  elapsed: () => performance.now(),
  setTimer(delayMs, task, options) {
    // A longer delay would overflow the timer and be over at once.
    const handle = setTimeout(task, Math.min(delayMs, MAX_TIMER_MS));
    if (options?.keepAlive !== true) handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  immediate(task) {
    setImmediate(task);
  },
};

/** The randomness of this machine. */
export const systemRandom: Random = { next: Math.random, uuid: randomUuid };

/** Completes a partial environment with the machine's own. */
export function environmentOf(given: Partial<Environment> = {}): Environment {
  return { clock: given.clock ?? systemClock, random: given.random ?? systemRandom, logger: given.logger === undefined ? silentLogger : guarded(given.logger) };
}

const guards = new WeakSet<Logger>();

/** A line that cannot be written must not keep anybody from an answer. */
function guarded(logger: Logger): Logger {
  if (guards.has(logger)) return logger;
  const line = (level: keyof Logger) => (fields: object, message: string): void => {
    try {
      logger[level](fields, message);
    } catch {
      // There is nowhere left to say it.
    }
  };
  const guard = { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
  guards.add(guard);
  return guard;
}

/** Longest work without giving way to other tasks of the process, milliseconds. */
const TURN_MS = 8;

/** Makes a function to be awaited between two pieces of long work: it gives way to others when its time is over, and costs nothing before. */
export function turns(clock: Clock): () => Promise<void> | undefined {
  let since = clock.elapsed();
  return () => {
    if (clock.elapsed() - since < TURN_MS) return undefined;
    return new Promise((resolve) => {
      clock.immediate(() => {
        since = clock.elapsed();
        resolve();
      });
    });
  };
}

/** Resolves after `delayMs`, or rejects with the signal's reason as soon as it aborts. */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason as Error);
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = clock.setTimer(
      delayMs,
      () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      },
      { keepAlive: true },
    );
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
