/**
 * What the seam's errors mean to a caller, and how calls that may be repeated are repeated: reads, and whatever changes nothing when it happens twice.
 */
import { delay, type Environment } from "../../environment.ts";
import { Aborted, isTidemarkError, StoreClosed, StoreRefused, StoreUnavailable, type TidemarkError } from "../../errors.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost } from "./cluster.ts";

const FIRST_PAUSE_MS = 10;
/** Longest pause between two tries, milliseconds. */
export const LONGEST_PAUSE_MS = 500;

/** Answers that no waiting changes. */
const FINAL = new Set<number>([
  KAFKA_ERROR.invalidTopic,
  KAFKA_ERROR.topicAuthorizationFailed,
  KAFKA_ERROR.clusterAuthorizationFailed,
  KAFKA_ERROR.transactionalIdAuthorizationFailed,
  KAFKA_ERROR.unsupportedSaslMechanism,
  KAFKA_ERROR.illegalSaslState,
  KAFKA_ERROR.unsupportedVersion,
]);

export function isFinal(error: unknown): boolean {
  return error instanceof BrokerRefusal && FINAL.has(error.errorCode);
}

export interface Insistence {
  readonly environment: Environment;
  /** Milliseconds. */
  readonly boundMs: number;
  /** What is done, for messages: "reading the end of order/3". */
  readonly what: string;
  readonly signal?: AbortSignal | undefined;
}

/** Repeats `work` while the cluster gives no answer or is between leaders. Errors: StoreUnavailable when the bound has passed, StoreRefused, Aborted; errors that are not the seam's at once. */
export async function insist<T>(work: () => Promise<T>, { environment, boundMs, what, signal }: Insistence): Promise<T> {
  const { clock } = environment;
  const since = clock.elapsed();
  for (let failures = 0; ; failures++) {
    if (signal?.aborted === true) throw new Aborted(`${what} was aborted`, { cause: signal.reason });
    const began = clock.elapsed();
    try {
      return await work();
    } catch (error) {
      if (!isSeamError(error) || isFinal(error) || clock.elapsed() - since >= boundMs) throw toTidemarkError(error, what);
      environment.logger.debug({ error }, `${what} is tried again`);
    }
    await pause(environment, failures, signal, clock.elapsed() - began);
  }
}

/**
 * Waits before another try: doubled, jittered, bounded; ends early, without an error, when the signal aborts. `spent`: milliseconds that the try itself took; they
 * count, so that after an answer that never came there is no pause on top.
 */
export function pause({ clock, random }: Environment, failures: number, signal?: AbortSignal, spent = 0): Promise<void> {
  const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 10));
  return delay(clock, Math.max(1, Math.ceil(most * (0.5 + random.next() / 2) - spent)), signal).catch(() => undefined);
}

/** The promise's answer, or Aborted as soon as the signal aborts; the work itself goes on. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined, what: string): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new Aborted(`${what} was aborted`, { cause: signal.reason }));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

export function isSeamError(error: unknown): error is BrokerRefusal | RequestLost {
  return error instanceof BrokerRefusal || error instanceof RequestLost;
}

/** Errors of Tidemark stand as they are. */
export function toTidemarkError(error: unknown, what: string): TidemarkError {
  if (isTidemarkError(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (isFinal(error)) return new StoreRefused(`Kafka refused ${what}: ${message}`, { cause: error, details: { reason: "refused-by-kafka", errorCode: (error as BrokerRefusal).errorCode } });
  return new StoreUnavailable(`Kafka did not do ${what}: ${message}`, { retryable: true, cause: error });
}

export function storeClosed(): StoreClosed {
  return new StoreClosed("the store is closed");
}
