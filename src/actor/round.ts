/**
 * Decides a run of commands, one after another, on one stream: from what is known for certain to what would be, if their events were appended.
 *
 * D1 Each command is decided on the state that the ones before it left; nothing of that leaves the round before the events are durable.
 * D2 All events of a round make one append; a command whose events do not fit any more is left over, with all that come after it.
 * D3 The state is evolved with what a reader will see: encoded, decoded, upcast, frozen (I3).
 * D4 A command id that its caller chose is looked for before anything is decided: in the stream's window, whose hits are compared with the log, then among the
 *    commands of this round. The same id with another payload is `CommandIdReused`.
 * D5 Ids of events are drawn for this decision: the same ids can only be the same events, in any process.
 */
import type { Behaviour, Decided, DomainEvent } from "../aggregate/behaviour.ts";
import { AppendTooLarge, CommandIdReused, DomainCodeFailed, isTidemarkError, StoreRewound, TidemarkError, UnserialisableData, WrongExpectedVersion } from "../errors.ts";
import type { EventMetadata, NewEvent, StoredEvent } from "../store/event-store.ts";
import { appendBound, appendBytes } from "../store/validate-append.ts";
import type { ActorPorts } from "./actor-ports.ts";
import { derivedId } from "./command-id.ts";
import type { ActorAnswer, CommandRequest, PendingCommand } from "./pending-command.ts";
import { currentForm, type StreamState } from "./stream-state.ts";

/** What became of a command in a round. `version`: of the stream after it, if the round's events are appended. */
export type Outcome =
  | { readonly kind: "accepted"; readonly version: number; readonly events: readonly DomainEvent[] }
  | { readonly kind: "rejected"; readonly version: number; readonly code: string; readonly details: unknown }
  | { readonly kind: "state"; readonly version: number; readonly state: unknown }
  | { readonly kind: "failed"; readonly version: number; readonly error: unknown }
  /** It stands in the log already: nothing more has to be confirmed. */
  | { readonly kind: "known"; readonly answer: ActorAnswer }
  /** Whatever becomes of it, the state has no part in it. */
  | { readonly kind: "refused"; readonly error: unknown };

export interface Decision {
  readonly command: PendingCommand;
  readonly outcome: Outcome;
  /** Place of its events in the append; `count` is 0 for those that append nothing of their own. */
  readonly first: number;
  readonly count: number;
}

export interface Round {
  readonly decisions: readonly Decision[];
  readonly events: readonly NewEvent[];
  /** D2. */
  readonly leftOver: readonly PendingCommand[];
  /** After all events. */
  readonly state: unknown;
}

export async function decideRound(commands: readonly PendingCommand[], confirmed: StreamState, stream: string, ports: ActorPorts): Promise<Round> {
  const { behaviour, environment, store } = ports;
  const { maxAppendBytes } = store.capabilities;
  const now = environment.clock.now();
  const decisions: Decision[] = [];
  const events: NewEvent[] = [];
  let { state } = confirmed;
  let bound = 0;
  let chosen: Map<string, Decision> | undefined;

  const decide = async (command: PendingCommand): Promise<Outcome | "left-over"> => {
    const { request } = command;
    const version = confirmed.version + events.length;
    if (request.fingerprint !== undefined) {
      const known = (await remembered(request, confirmed, stream, ports)) ?? twin(request, chosen?.get(request.commandId), stream);
      if (known !== undefined) return known;
    }
    if (request.expectedVersion !== undefined && request.expectedVersion !== version) return { kind: "failed", version, error: wrongVersion(request.expectedVersion, version, stream) };
    if (request.command === undefined) return { kind: "state", version, state };

    const said = decideOne(behaviour, request, request.command, { state, version, now, stream });
    if (said instanceof TidemarkError) return { kind: "failed", version, error: said };
    if (!said.ok) return { kind: "rejected", version, code: said.code, details: said.details };
    if (said.events.length === 0) return { kind: "accepted", version, events: said.events };

    try {
      const encoding = ports.codec.encode(said.events.map(({ type, data }) => ({ stream, type, data })));
      const texts = encoding instanceof Promise ? await encoding : encoding;
      const fresh = said.events.map((event, index) => newEvent(event.type, texts[index], request, now, ports));
      const size = appendBound(fresh);
      if (bound + size > maxAppendBytes && appendBytes([...events, ...fresh]) > maxAppendBytes) {
        if (events.length > 0) return "left-over"; // D2
        const message = `the events of ${behaviour.category}.${request.command} on ${stream} are ${appendBytes(fresh)} bytes; the store takes at most ${maxAppendBytes} in one append`;
        return { kind: "failed", version, error: new AppendTooLarge(message, { details: { stream, version, command: request.command, maxAppendBytes } }) };
      }
      const decoding = ports.codec.decode(fresh.map(({ type, data }) => ({ stream, type, data })));
      const decoded = decoding instanceof Promise ? await decoding : decoding;
      const current = fresh.map((event, index) => behaviour.upcast(event.type, event.metadata.schemaVersion ?? 1, decoded[index], { stream, version: version + 1 + index })); // D3
      state = behaviour.evolve(state, current, { stream, version: version + 1 });
      bound += size;
      for (const event of fresh) events.push(event);
      return { kind: "accepted", version: version + fresh.length, events: current };
    } catch (cause) {
      return { kind: "failed", version, error: notRecordable(cause, request.command, stream, version, behaviour) };
    }
  };

  for (let index = 0; index < commands.length; index++) {
    const command = commands[index] as PendingCommand;
    if (command.answered) continue;
    const first = events.length;
    const outcome = await decide(command);
    if (outcome === "left-over") return { decisions, events, leftOver: commands.slice(index), state };
    const decision = { command, outcome, first, count: events.length - first };
    decisions.push(decision);
    if (decision.count > 0 && command.request.fingerprint !== undefined) (chosen ??= new Map()).set(command.request.commandId, decision);
  }
  return { decisions, events, leftOver: [], state };
}

interface Basis {
  readonly state: unknown;
  readonly version: number;
  readonly now: number;
  readonly stream: string;
}

const NO_METADATA: Readonly<Record<string, unknown>> = Object.freeze({});

function decideOne(behaviour: Behaviour, request: CommandRequest, command: string, basis: Basis): Decided | TidemarkError {
  let drawn = 0;
  try {
    return behaviour.decide(basis.state, command, request.input, {
      now: basis.now,
      id: () => derivedId(basis.stream, request.commandId, drawn++),
      metadata: request.metadata ?? NO_METADATA,
      version: basis.version,
    });
  } catch (error) {
    if (error instanceof TidemarkError) return error;
    return new DomainCodeFailed(`${behaviour.category}.${command} failed`, { cause: error, details: { stream: basis.stream, version: basis.version, command } });
  }
}

function newEvent(type: string, data: string | undefined, request: CommandRequest, now: number, ports: ActorPorts): NewEvent {
  if (typeof data !== "string") throw new UnserialisableData(`the codec made no text of the data of ${type}`, { details: { type } });
  const { commandId, correlationId = commandId, causationId = commandId, fingerprint, traceparent, metadata: user } = request;
  const metadata: { -readonly [K in keyof EventMetadata]: EventMetadata[K] } = { correlationId, causationId, commandId };
  if (fingerprint !== undefined) metadata.fingerprint = fingerprint;
  const schemaVersion = ports.behaviour.schemaVersionOf(type);
  if (schemaVersion > 1) metadata.schemaVersion = schemaVersion;
  if (traceparent !== undefined) metadata.traceparent = traceparent;
  if (user !== undefined) metadata.user = user;
  return { id: ports.environment.random.uuid(), type, data, metadata, recordedAt: now };
}

/** D4, the log. Errors of the store become the outcome: the command is not decided. */
async function remembered(request: CommandRequest, confirmed: StreamState, stream: string, ports: ActorPorts): Promise<Outcome | undefined> {
  const places = confirmed.window.find(request.commandId);
  if (places.length === 0) return undefined;
  try {
    for (const { version, count } of places) {
      const standing = await readRange(stream, version, count, ports);
      const first = standing[0];
      if (standing.length < count || first === undefined) {
        throw new StoreRewound(`${stream} does not hold version ${version} any more, which this process has seen`, { details: { stream, version } });
      }
      if (first.metadata.commandId !== request.commandId) continue; // a stranger with the same hash
      if (first.metadata.fingerprint !== request.fingerprint) return { kind: "refused", error: reused(request, stream, version) };
      const last = standing[standing.length - 1] as StoredEvent;
      const events = await currentForm(standing, ports.behaviour, ports.codec);
      return { kind: "known", answer: { kind: "accepted", version: last.version, position: last.position, events } };
    }
  } catch (error) {
    return { kind: "refused", error };
  }
  return undefined;
}

async function readRange(stream: string, from: number, count: number, ports: ActorPorts): Promise<StoredEvent[]> {
  const events: StoredEvent[] = [];
  let next: number | undefined = from;
  while (next !== undefined && events.length < count) {
    const slice = await ports.store.readStream(stream, { from: next, limit: count - events.length, signal: ports.ending });
    events.push(...slice.events);
    next = slice.events.length === 0 ? undefined : slice.next;
  }
  return events;
}

/** D4, this round: what the first one becomes, the second one becomes. */
function twin(request: CommandRequest, first: Decision | undefined, stream: string): Outcome | undefined {
  if (first === undefined || first.outcome.kind !== "accepted") return undefined;
  if (first.command.request.fingerprint === request.fingerprint) return first.outcome;
  return { kind: "failed", version: first.outcome.version, error: reused(request, stream, first.outcome.version) };
}

function reused(request: CommandRequest, stream: string, version: number): CommandIdReused {
  return new CommandIdReused(`the commandId ${JSON.stringify(request.commandId)} was used on ${stream} for another command or another input: choose a new id for a new command`, {
    details: { stream, version, commandId: request.commandId },
  });
}

function wrongVersion(expected: number, actual: number, stream: string): WrongExpectedVersion {
  return new WrongExpectedVersion(`${stream} is at version ${actual}, not at ${expected}: read it again and decide anew`, { details: { stream, expected, actual } });
}

function notRecordable(cause: unknown, command: string, stream: string, version: number, behaviour: Behaviour): TidemarkError {
  if (isTidemarkError(cause, "UnserialisableData")) return cause;
  return new DomainCodeFailed(`an event of ${behaviour.category}.${command} could not be folded into ${stream}; nothing was written: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
    details: { stream, version, command },
  });
}
