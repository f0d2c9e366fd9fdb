/**
 * Decides a run of commands, one after another, on one stream: from a known state to what would be, if their events were appended.
 *
 * D1 Each command is decided on the state that the ones before it left; nothing of that leaves the round before the events are durable.
 * D2 All events of a round make one append; a command whose events do not fit any more closes the round, and waits with all that come after it.
 * D3 The state is evolved with what a reader will see: encoded, decoded, upcast, frozen (I3).
 * D4 A command id that its caller chose is looked for before anything is decided: in the stream's window, whose hits are compared with the log, then among the
 *    commands of this round and of the one before it that is under way. The same id with another payload is `CommandIdReused`.
 * D5 Ids of events are drawn for this decision: the same ids can only be the same events, in any process.
 * D6 Asynchronous only where it must be: a hit in the window, an asynchronous codec.
 */
import type { Behaviour, Decided, DecisionInputs, DomainEvent } from "../aggregate/behaviour.ts";
import { AppendTooLarge, CommandIdReused, DomainCodeFailed, isTidemarkError, StoreRewound, TidemarkError, UnserialisableData, WrongExpectedVersion } from "../errors.ts";
import { jsonCodec, toJson } from "../store/codec.ts";
import type { EventMetadata, NewEvent, StoredEvent } from "../store/event-store.ts";
import type { Position } from "../store/position.ts";
import { appendBound, appendBytes } from "../store/validate-append.ts";
import type { ActorPorts } from "./actor-ports.ts";
import { derivedId } from "./command-id.ts";
import type { RememberedCommand } from "./command-window.ts";
import type { ActorAnswer, CommandRequest, PendingCommand } from "./pending-command.ts";
import { currentForm, type StreamState } from "./stream-state.ts";

/** What became of a command in a round. `version`: of the stream after it, if the round's events are appended. */
export type Outcome =
  | ActorAnswer
  | { readonly kind: "failed"; readonly version: number; readonly error: unknown }
  /** It stands in the log already: nothing more has to be confirmed. */
  | { readonly kind: "known"; readonly answer: ActorAnswer; readonly position: Position }
  /** Whatever becomes of it, the state has no part in it. */
  | { readonly kind: "refused"; readonly error: unknown };

export interface Decision {
  readonly command: PendingCommand;
  readonly outcome: Outcome;
  /** Place of its events in the append; `count` is 0 for those that append nothing of their own. */
  readonly first: number;
  readonly count: number;
}

/** What a round starts from: the confirmed state, or the round that is under way. */
export interface Basis {
  readonly version: number;
  readonly state: unknown;
}

const NO_DECISIONS: readonly Decision[] = Object.freeze([]);
const NO_EVENTS: readonly NewEvent[] = Object.freeze([]);

export class Round {
  /** Most rounds hold one decision and one event: an array of its own begins with the first. */
  #decisions: Decision[] | undefined;
  #events: NewEvent[] | undefined;
  /** D2. */
  full = false;
  readonly #stream: string;
  readonly #ports: ActorPorts;
  readonly #confirmed: StreamState;
  readonly #from: number;
  #state: unknown;
  #bound = 0;
  #chosen: Map<string, Decision> | undefined;
  #before: Round | undefined;

  constructor(stream: string, ports: ActorPorts, confirmed: StreamState, before: Round | undefined) {
    this.#stream = stream;
    this.#ports = ports;
    this.#confirmed = confirmed;
    this.#before = before;
    const basis: Basis = before ?? confirmed;
    this.#from = basis.version;
    this.#state = basis.state;
  }

  get decisions(): readonly Decision[] {
    return this.#decisions ?? NO_DECISIONS;
  }

  get events(): readonly NewEvent[] {
    return this.#events ?? NO_EVENTS;
  }

  /** Of the stream, after all events of the round. */
  get version(): number {
    return this.#from + this.events.length;
  }

  /** After all events of the round. */
  get state(): unknown {
    return this.#state;
  }

  /** Commands in it that have no answer yet. */
  get unanswered(): PendingCommand[] {
    return this.decisions.filter(({ command }) => !command.answered).map(({ command }) => command);
  }

  /** Some command whose events are in it was ended meanwhile: they must not be written (C2). */
  get spoilt(): boolean {
    for (const { command, count } of this.decisions) if (count > 0 && command.answered) return true;
    return false;
  }

  /** The command with events in this round whose caller chose this id. */
  chosen(commandId: string): Decision | undefined {
    return this.#chosen?.get(commandId);
  }

  /** The round before this one was committed: what it knew is in the window now. */
  basisCommitted(): void {
    this.#before = undefined;
  }

  /** Decides commands in their order until the round is full; how many it took. */
  decide(commands: readonly PendingCommand[]): number | Promise<number> {
    const now = this.#ports.environment.clock.now();
    for (let index = 0; index < commands.length; index++) {
      const taken = this.#take(commands[index] as PendingCommand, now);
      if (taken instanceof Promise) return this.#decideRest(commands, index, taken);
      if (!taken) return index;
    }
    return commands.length;
  }

  async #decideRest(commands: readonly PendingCommand[], from: number, first: Promise<boolean>): Promise<number> {
    if (!(await first)) return from;
    for (let index = from + 1; index < commands.length; index++) {
      if (!(await this.#take(commands[index] as PendingCommand, this.#ports.environment.clock.now()))) return index;
    }
    return commands.length;
  }

  /** False when the command did not fit. */
  #take(command: PendingCommand, now: number): boolean | Promise<boolean> {
    if (command.answered) return true;
    const { request } = command;
    if (request.fingerprint === undefined) return this.#fresh(command, now);
    const places = this.#confirmed.window.find(request.commandId);
    if (places.length === 0) return this.#twinOrFresh(command, now);
    return remembered(request, places, this.#stream, this.#ports).then((known) => {
      if (known === undefined) return this.#twinOrFresh(command, now);
      return this.#note(command, known, 0);
    });
  }

  /** D4, commands that are not in the log yet: what the first one becomes, the second one becomes. */
  #twinOrFresh(command: PendingCommand, now: number): boolean | Promise<boolean> {
    const { request } = command;
    const first = this.chosen(request.commandId) ?? this.#before?.chosen(request.commandId);
    if (first === undefined || first.outcome.kind !== "accepted") return this.#fresh(command, now);
    if (first.command.request.fingerprint === request.fingerprint) return this.#note(command, first.outcome, 0);
    const { version } = first.outcome;
    return this.#note(command, { kind: "failed", version, error: reused(request, this.#stream, version) }, 0);
  }

  #note(command: PendingCommand, outcome: Outcome, count: number): true {
    const decision = { command, outcome, first: this.events.length - count, count };
    if (this.#decisions === undefined) this.#decisions = [decision];
    else this.#decisions.push(decision);
    if (count > 0 && command.request.fingerprint !== undefined) (this.#chosen ??= new Map()).set(command.request.commandId, decision);
    return true;
  }

  #fresh(command: PendingCommand, now: number): boolean | Promise<boolean> {
    const { request } = command;
    const { version } = this;
    const { behaviour, codec } = this.#ports;
    const expected = request.options.expectedVersion;
    if (expected !== undefined && expected !== version) return this.#note(command, { kind: "failed", version, error: wrongVersion(expected, version, this.#stream) }, 0);
    if (request.command === undefined) return this.#note(command, { kind: "state", version, state: this.#state }, 0);

    const said = decideOne(behaviour, request.command, request, this.#state, new Inputs(this.#stream, request, version, now));
    if (said instanceof TidemarkError) return this.#note(command, { kind: "failed", version, error: said }, 0);
    if (!said.ok) return this.#note(command, { kind: "rejected", version, code: said.code, details: said.details }, 0);
    if (said.events.length === 0) return this.#note(command, { kind: "accepted", version, events: said.events }, 0);
    try {
      if (codec === jsonCodec) return this.#record(command, said.events, undefined, now);
      const encoding = codec.encode(said.events.map(({ type, data }) => ({ stream: this.#stream, type, data })));
      const recorded = encoding instanceof Promise ? encoding.then((texts) => this.#record(command, said.events, texts, now)) : this.#record(command, said.events, encoding, now);
      return recorded instanceof Promise ? recorded.catch((cause: unknown) => this.#unrecordable(command, cause)) : recorded;
    } catch (cause) {
      return this.#unrecordable(command, cause);
    }
  }

  /** D2, D3. Without `texts` the data is JSON's own image already, and is written as JSON. */
  #record(command: PendingCommand, said: readonly DomainEvent[], texts: readonly string[] | undefined, now: number): boolean | Promise<boolean> {
    const { request } = command;
    const { version } = this;
    const { behaviour, codec, store } = this.#ports;
    const { maxAppendBytes } = store.capabilities;
    const fresh = said.map(({ type, data }, index) => newEvent(type, texts === undefined ? toJson(data, type) : texts[index], request, now, this.#ports));
    const bound = this.#bound + appendBound(fresh);
    if (bound > maxAppendBytes && appendBytes([...this.events, ...fresh]) > maxAppendBytes) {
      if (this.events.length > 0) {
        this.full = true;
        return false;
      }
      const message = `the events of ${behaviour.category}.${request.command} on ${this.#stream} are ${appendBytes(fresh)} bytes; the store takes at most ${maxAppendBytes} in one append`;
      return this.#note(command, { kind: "failed", version, error: new AppendTooLarge(message, { details: { stream: this.#stream, version, maxAppendBytes } }) }, 0);
    }
    if (texts === undefined) return this.#fold(command, fresh, said, bound);
    const decoding = codec.decode(fresh.map(({ type, data }) => ({ stream: this.#stream, type, data })));
    const current = (decoded: readonly unknown[]): true => {
      const seen = fresh.map((event, index) => behaviour.upcast(event.type, event.metadata.schemaVersion ?? 1, decoded[index], { stream: this.#stream, version: version + 1 + index }));
      return this.#fold(command, fresh, seen, bound);
    };
    return decoding instanceof Promise ? decoding.then(current) : current(decoding);
  }

  #fold(command: PendingCommand, fresh: NewEvent[], current: readonly DomainEvent[], bound: number): true {
    const { version } = this;
    this.#state = this.#ports.behaviour.evolve(this.#state, current, { stream: this.#stream, version: version + 1 });
    this.#bound = bound;
    if (this.#events === undefined) this.#events = fresh;
    else for (const event of fresh) this.#events.push(event);
    return this.#note(command, { kind: "accepted", version: version + fresh.length, events: current }, fresh.length);
  }

  #unrecordable(command: PendingCommand, cause: unknown): true {
    const { version } = this;
    return this.#note(command, { kind: "failed", version, error: notRecordable(cause, command.request.command ?? "", this.#stream, version, this.#ports.behaviour) }, 0);
  }
}

const NO_METADATA: Readonly<Record<string, unknown>> = Object.freeze({});

/** What is injected into the decision of one command. */
class Inputs implements DecisionInputs {
  readonly now: number;
  readonly version: number;
  readonly stream: string;
  readonly #request: CommandRequest;
  #drawn = 0;

  constructor(stream: string, request: CommandRequest, version: number, now: number) {
    this.stream = stream;
    this.#request = request;
    this.version = version;
    this.now = now;
  }

  get metadata(): Readonly<Record<string, unknown>> {
    return this.#request.options.metadata ?? NO_METADATA;
  }

  /** A function of its own for each that asks: few decisions do. */
  get id(): () => string {
    return () => derivedId(this.stream, this.#request.commandId, this.#drawn++);
  }
}

function decideOne(behaviour: Behaviour, command: string, request: CommandRequest, state: unknown, inputs: Inputs): Decided | TidemarkError {
  try {
    return behaviour.decide(state, command, request.input, inputs);
  } catch (error) {
    const details = { stream: inputs.stream, version: inputs.version, command };
    // The behaviour knows no stream.
    if (isTidemarkError(error, "DomainCodeFailed")) return new DomainCodeFailed(error.message, { cause: error.cause, details: { ...error.details, ...details } });
    if (error instanceof TidemarkError) return error;
    return new DomainCodeFailed(`${behaviour.category}.${command} failed`, { cause: error, details });
  }
}

function newEvent(type: string, data: string | undefined, request: CommandRequest, now: number, ports: ActorPorts): NewEvent {
  if (typeof data !== "string") throw new UnserialisableData(`the codec made no text of the data of ${type}`, { details: { type } });
  const { commandId, fingerprint } = request;
  const { correlationId = commandId, causationId = commandId, traceparent, metadata: user } = request.options;
  const metadata: { -readonly [K in keyof EventMetadata]: EventMetadata[K] } = { correlationId, causationId, commandId };
  if (fingerprint !== undefined) metadata.fingerprint = fingerprint;
  const schemaVersion = ports.behaviour.schemaVersionOf(type);
  if (schemaVersion > 1) metadata.schemaVersion = schemaVersion;
  if (traceparent !== undefined) metadata.traceparent = traceparent;
  if (user !== undefined) metadata.user = user;
  Object.freeze(metadata);
  return { id: ports.environment.random.uuid(), type, data, metadata, recordedAt: now };
}

/** D4, the log. Errors of the store become the outcome: the command is not decided. */
async function remembered(request: CommandRequest, places: readonly RememberedCommand[], stream: string, ports: ActorPorts): Promise<Outcome | undefined> {
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
      return { kind: "known", answer: { kind: "accepted", version: last.version, events }, position: last.position };
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

function reused(request: CommandRequest, stream: string, version: number): CommandIdReused {
  return new CommandIdReused(`the commandId ${JSON.stringify(request.commandId)} was used on ${stream} for another command or another input: choose a new id for a new command`, {
    details: { stream, version, commandId: request.commandId },
  });
}

function wrongVersion(expected: number, actual: number, stream: string): WrongExpectedVersion {
  return new WrongExpectedVersion(`${stream} is at version ${actual}, not at ${expected}: read it again and decide anew`, { details: { stream, expected, actual } });
}

function notRecordable(cause: unknown, command: string, stream: string, version: number, behaviour: Behaviour): TidemarkError {
  if (isTidemarkError(cause, "UnserialisableData") || isTidemarkError(cause, "StoreUnavailable")) return cause as TidemarkError;
  return new DomainCodeFailed(`an event of ${behaviour.category}.${command} could not be folded into ${stream}; nothing was written: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
    details: { stream, version, command },
  });
}
