import { InvalidArgument } from "../errors.ts";
import { assertKnown } from "../known-options.ts";
import { commandWindowDefaults, commandWindowOptions, type CommandWindowOptions } from "./command-window.ts";

/** Bounds of actors; sizes count, times are milliseconds. */
export interface ActorOptions {
  /** Most commands that wait in one mailbox; one more is `MailboxFull`. */
  readonly mailboxCapacity: number;
  /** Most commands of the process without an answer; one more is `Overloaded`, so that the latency of those that were taken stays bounded. */
  readonly maxPendingCommands: number;
  /** Most actors resident; the least recently used idle one goes first. */
  readonly maxActors: number;
  /** Most estimated bytes of resident states and windows. */
  readonly maxBytes: number;
  /** An actor that was not used for so long is unloaded. */
  readonly idleTimeoutMs: number;
  /** Decisions of one command over conflicts; then `TooMuchContention`. */
  readonly attempts: number;
  /** Most a second attempt waits; doubled for each further one, jittered. */
  readonly retryPauseMs: number;
  /** A command whose last so many first uses of a stream all found nothing there is decided without a read the next time, as on a new stream; nothing is answered on that. 0: always. */
  readonly assumeNewAfter: number;
  /** Bound of a call without `deadlineMs`. */
  readonly commandTimeoutMs: number;
  /** The window of command ids of each stream. */
  readonly commandWindow: CommandWindowOptions;
}

export const actorDefaults: ActorOptions = Object.freeze({
  mailboxCapacity: 1000,
  maxPendingCommands: 10_000,
  maxActors: 100_000,
  maxBytes: 512 * 1024 * 1024,
  idleTimeoutMs: 10 * 60 * 1000,
  attempts: 10,
  retryPauseMs: 5,
  assumeNewAfter: 32,
  commandTimeoutMs: 30_000,
  commandWindow: commandWindowDefaults,
});

/** Completes and checks options. Errors: InvalidArgument that names the option. */
export function actorOptions(given: Partial<ActorOptions> = {}): ActorOptions {
  assertKnown(given, actorDefaults, "actors");
  const options = { ...actorDefaults, ...given, commandWindow: commandWindowOptions(given.commandWindow) };
  for (const [name, value] of Object.entries(options)) {
    const least = name === "assumeNewAfter" ? 0 : 1;
    if (typeof value === "number" ? Number.isSafeInteger(value) && value >= least : name === "commandWindow") continue;
    throw new InvalidArgument(`${name} of actors must be a whole number from ${least}`, { details: { option: name } });
  }
  return Object.freeze(options);
}
