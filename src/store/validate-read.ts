/**
 * What every backend makes of the options of its reads, so that all of them have the same defaults and refuse the same.
 */
import { Aborted, InvalidArgument } from "../errors.ts";
import type { ReadLogOptions, ReadStreamOptions } from "./event-store.ts";
import type { Position } from "./position.ts";
import { assertCategory, assertStreamName } from "./stream-name.ts";

/** Events in a slice or a page, where the caller does not say. */
export const DEFAULT_LIMIT = 1000;

export interface StreamRead {
  readonly backward: boolean;
  /** Undefined: the last version (backward only). */
  readonly from: number | undefined;
  readonly limit: number;
}

/** The options of `readStream` with their defaults; errors: InvalidArgument. */
export function validateStreamRead(stream: string, options: ReadStreamOptions = {}): StreamRead {
  assertStreamName(stream);
  const backward = options.direction === "backward";
  const { from, limit = DEFAULT_LIMIT } = options;
  if (from !== undefined) assertWhole("from", from, 0);
  assertWhole("limit", limit, 0);
  return { backward, from: backward ? from : Math.max(1, from ?? 1), limit };
}

export interface LogRead {
  readonly after: Position;
  /** Undefined: all. */
  readonly categories: ReadonlySet<string> | undefined;
  readonly pageSize: number;
}

/** The options of `readAll` and `subscribe` with their defaults, copied; errors: InvalidArgument. */
export function validateLogRead(options: ReadLogOptions = {}): LogRead {
  const { pageSize = DEFAULT_LIMIT } = options;
  assertWhole("pageSize", pageSize, 1);
  const after: Position = Object.freeze({ ...options.after });
  for (const lane in after) assertWhole(`after.${lane.slice(0, 64)}`, after[lane] as number, 0);
  if (options.categories === undefined) return { after, categories: undefined, pageSize };
  for (const category of options.categories) assertCategory(category);
  return { after, categories: new Set(options.categories), pageSize };
}

/** Errors: Aborted, with the signal's reason as cause. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted === true) throw new Aborted(`${what} was aborted`, { cause: signal.reason });
}

function assertWhole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) throw new InvalidArgument(`${name} must be an integer from ${least}, not ${String(value).slice(0, 64)}`);
}
