/**
 * Which commands begin streams: learned from what the last ones found.
 *
 * N1 A command whose last `after` first uses of a stream, one after another, all found a stream that holds nothing is expected to find one more. The first that finds
 *    something ends that, so of `after` + 1 expectations in a row one at most is wrong, beside those that are under way at once.
 * N2 Nothing rests on it but cost: an expectation is confirmed by the store before anybody hears of it (A7 of the actor).
 */
import type { CommandRequest } from "./pending-command.ts";

export class Beginnings {
  readonly #after: number;
  /** By command: how many in a row found nothing. */
  readonly #newInARow = new Map<string, number>();

  constructor(after: number) {
    this.#after = after;
  }

  /** Whether the stream of this request, of which this process knows nothing, is likely to be new. */
  isLikely({ command, leastVersion, options }: CommandRequest): boolean {
    if (command === undefined || leastVersion > 0 || (options.expectedVersion ?? 0) > 0) return false;
    return (this.#newInARow.get(command) ?? 0) >= this.#after;
  }

  /** What a request found that was the first of its stream. */
  found({ command }: CommandRequest, version: number): void {
    if (command !== undefined) this.#newInARow.set(command, version > 0 ? 0 : (this.#newInARow.get(command) ?? 0) + 1);
  }
}
