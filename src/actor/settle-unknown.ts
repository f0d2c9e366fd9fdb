/**
 * Settles an append whose outcome is unknown.
 *
 * U1 Nothing is guessed: after `unknown` the stream is read. The append's events stand after the expected version, or another's do (then they never will: S1, S5),
 *    or nothing does yet.
 * U2 Where nothing stands yet, the append may still be on its way. The same events are sent again on the same version: whichever comes first, they stand once (S5).
 * U3 From then on a refusal is no answer either: it is one of the second try, and says nothing of the first. Only `committed`, `conflict` and the log are.
 * U4 It goes on until it knows, with growing, jittered pauses, while somebody waits; before each look the callers whose deadlines have passed are told. When nobody
 *    waits any more, or the app ends, it gives up: whoever comes next reads the log, and the version check keeps the late append and theirs apart.
 */
import { delay } from "../environment.ts";
import { isTidemarkError, OutcomeUnknown } from "../errors.ts";
import type { Append, AppendOutcome, NewEvent } from "../store/event-store.ts";
import { closed, rewound } from "./actor-errors.ts";
import type { ActorPorts } from "./actor-ports.ts";

export type SettledOutcome = Extract<AppendOutcome, { kind: "committed" | "conflict" }>;

/** An append as actors make it: on an exact version. */
export interface ExactAppend extends Append {
  readonly expected: number;
}

const FIRST_PAUSE_MS = 20;
const DOUBLINGS = 6;

/**
 * `cause`: why it is unknown. `whenUnknown` tells those who wait, and says whether somebody still does.
 * Errors: those of the store that no waiting heals, StoreRewound, AppClosed, OutcomeUnknown.
 */
export async function settleUnknown(append: ExactAppend, cause: unknown, ports: ActorPorts, whenUnknown: (cause: unknown) => boolean): Promise<SettledOutcome> {
  const { committer, counters, environment } = ports;
  const { stream, expected } = append;
  let doubt = cause;
  for (let tries = 1; ; tries++) {
    counters.unknownOutcomes++;
    environment.logger.warn({ stream, version: expected, error: doubt }, "the outcome of an append is unknown; the stream is read before anything else is sent");
    if (tries > 1) await pause(tries, ports);
    const found = await lookFor(append, ports, () => whenUnknown(doubt));
    if (found !== undefined) return found;
    const outcome = await new Promise<AppendOutcome>((resolve) => committer.append(append, { settled: resolve }));
    if (outcome.kind === "committed" || outcome.kind === "conflict") return outcome;
    doubt = outcome.cause; // U3
  }
}

/** U1. */
async function lookFor(append: ExactAppend, ports: ActorPorts, stillWaitedFor: () => boolean): Promise<SettledOutcome | undefined> {
  const { store, environment, ending } = ports;
  const { stream, expected, events } = append;
  for (let tries = 1; ; tries++) {
    if (ending.aborted) throw closed(stream, ending.reason);
    if (!stillWaitedFor()) throw new OutcomeUnknown(`nobody waits any more for the outcome of an append to ${stream}`, { details: { stream, version: expected }, retryable: true }); // U4
    try {
      const next = await store.readStream(stream, { from: expected + 1, limit: 1, signal: ending });
      if (next.version < expected) throw rewound(stream, expected, next.version);
      const standing = next.events[0];
      if (standing === undefined) return undefined;
      if (standing.id !== (events[0] as NewEvent).id) return { kind: "conflict", actual: next.version };
      const version = expected + events.length;
      const last = (await store.readStream(stream, { from: version, limit: 1, signal: ending })).events[0];
      if (last !== undefined) return { kind: "committed", version, position: last.position };
    } catch (error) {
      if (!isTidemarkError(error, "StoreUnavailable")) throw error;
      environment.logger.warn({ stream, error }, "the stream could not be read to settle an unknown outcome; it is tried again");
    }
    await pause(tries, ports);
  }
}

/** U4. */
function pause(tries: number, { environment, ending }: ActorPorts): Promise<void> {
  const most = FIRST_PAUSE_MS * 2 ** Math.min(tries, DOUBLINGS);
  return delay(environment.clock, Math.ceil(most * (0.5 + environment.random.next() / 2)), ending);
}
