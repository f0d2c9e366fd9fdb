import type { Clock } from "../environment.ts";
import { StoreUnavailable } from "../errors.ts";
import type { Codec } from "./codec.ts";

/** A codec whose asynchronous answers have a bound, in milliseconds: one that never answers must not hold up a stream for ever. Errors: StoreUnavailable, retryable. */
export function boundedCodec(codec: Codec, clock: Clock, boundMs: number): Codec {
  const bounded = <T>(answer: T | Promise<T>, what: string): T | Promise<T> => {
    if (!(answer instanceof Promise)) return answer;
    return new Promise((resolve, reject) => {
      const timer = clock.setTimer(boundMs, () => reject(new StoreUnavailable(`the codec has not ${what} within ${boundMs} ms`, { retryable: true })));
      answer.finally(() => timer.cancel()).then(resolve, reject);
    });
  };
  return { encode: (batch) => bounded(codec.encode(batch), "encoded"), decode: (batch) => bounded(codec.decode(batch), "decoded") };
}
