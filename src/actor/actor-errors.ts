/** What actors tell their callers, made in one place. */
import { AppClosed, AppendTooLarge, InvalidArgument, StoreClosed, StoreRefused, StoreRewound, StoreUnavailable, TooMuchContention } from "../errors.ts";
import type { AppendOutcome } from "../store/event-store.ts";

export type Refused = Extract<AppendOutcome, { kind: "refused" }>;

/** Whether one command of a shared append may be to blame, and its neighbours not. */
export function isOneCommandsFault(outcome: Refused): boolean {
  return outcome.code === "too-large" || outcome.code === "invalid";
}

export function refusal(outcome: Refused, stream: string): Error {
  const details = { stream, reason: outcome.code, ...(outcome.ownerHint === undefined ? {} : { ownerHint: outcome.ownerHint }) };
  const options = { details, retryable: outcome.retryable, cause: outcome.cause };
  switch (outcome.code) {
    case "too-large":
      return new AppendTooLarge(outcome.message, options);
    case "invalid":
      return new InvalidArgument(outcome.message, options);
    case "closed":
      return new StoreClosed(outcome.message, options);
    case "busy":
    case "unavailable":
      return new StoreUnavailable(outcome.message, options);
    default:
      return new StoreRefused(outcome.message, options);
  }
}

export function rewound(stream: string, version: number, actual: number): StoreRewound {
  return new StoreRewound(`${stream} ends at version ${actual}, but version ${version} was acknowledged: the store was reset or restored from an older state`, {
    details: { stream, version, actual },
  });
}

export function tooNew(stream: string, wanted: number, version: number): StoreRewound {
  return new StoreRewound(`the token names version ${wanted} of ${stream}, which ends at ${version}: either nobody was ever answered with it, or the store was reset or restored from an older state`, { details: { stream, version, expected: wanted } });
}

export function closed(stream: string, cause: unknown): AppClosed {
  return new AppClosed("the app was closed before the command was answered", { details: { stream }, cause });
}

export function contention(stream: string, version: number, attempts: number): TooMuchContention {
  return new TooMuchContention(`other writers won ${attempts} times on ${stream}; nothing was changed, try again later`, { retryable: true, details: { stream, version, attempts } });
}
