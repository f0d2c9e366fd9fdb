/**
 * One stream, alive: a bounded mailbox, the confirmed state, and one loop that takes commands from the mailbox, decides them and makes them durable.
 *
 * A1 Serial: commands are decided one after another, in the order of the mailbox, each on the state that the ones before it left.
 * A2 At most one append of the stream is unsettled, and it expects exactly the confirmed version: an event that this actor has not folded makes it a conflict.
 *    While it is under way the next round is decided ahead, on the tentative state; its append is formed and not sent.
 * A3 Nobody hears what is not durable: every answer of a round waits for the round's append; where there is none, for one read that confirms that the stream is
 *    still at the version they were decided on. (The append before it does not confirm a round decided ahead: its commands may have come after that commit.)
 *    Excepted are calls that asked for the cache, once what they rest on is durable, and commands found standing in the log.
 * A4 On a conflict everything tentative is thrown away, only the missing events are read and folded, and the commands are decided again: a bounded number of
 *    times, with jitter. A caller's `expectedVersion` is compared with what is then known, never retried over.
 * A5 An unknown outcome is settled before anything else is sent: the events of the append stand after the confirmed version, or another's do, or the same events
 *    are sent again on the same version, which the store answers as if it were the first time (S5).
 * A6 Every accepted command is answered exactly once, also when the loop fails; an actor that failed is retired, and the next command begins with a new one.
 * A7 Where a new stream is likely, the actor begins on the empty state without a read. Nothing is answered on that, not even from the cache, until an append on it was
 *    committed: then the stream was new. Whatever else comes of it (a conflict, a refusal, nothing to append), the stream is read, and the commands are decided again,
 *    which is none of their attempts.
 *
 * Longer than most files: one loop whose steps share one small state, and are read together.
 */
import { delay } from "../environment.ts";
import { isTidemarkError } from "../errors.ts";
import { isDue } from "../snapshot/policy.ts";
import type { AppendOutcome, NewEvent, StoredEvent, StreamSlice } from "../store/event-store.ts";
import { covers, type Position } from "../store/position.ts";
import { closed, contention, isOneCommandsFault, refusal, rewound, tooNew, type Refused } from "./actor-errors.ts";
import type { ActorPorts } from "./actor-ports.ts";
import { estimateBytes } from "./estimate-bytes.ts";
import { emptyState, hydrate } from "./hydrate.ts";
import type { CommandRequest, PendingCommand } from "./pending-command.ts";
import { Round, type Decision } from "./round.ts";
import { settleUnknown, type ExactAppend } from "./settle-unknown.ts";
import type { StreamState } from "./stream-state.ts";

/** Where an actor lives. */
export interface ActorHome {
  /** The loop has nothing more to do; `bytes` may have changed. */
  rested(actor: Actor): void;
  /** A6: no further command may reach this actor. */
  retire(actor: Actor): void;
}

const MAX_PAUSE_MS = 250;

export class Actor {
  readonly stream: string;
  readonly #ports: ActorPorts;
  readonly #home: ActorHome;
  #confirmed: StreamState | undefined;
  /** A7: the first request of the stream, as long as the stream is only taken for new. */
  #assumedFor: CommandRequest | undefined;
  #mailbox: PendingCommand[] | undefined;
  /** Taken from the mailbox and not in a round yet: only while something asynchronous is needed to decide them. */
  #taken: readonly PendingCommand[] | undefined;
  #round: Round | undefined;
  /** A2: decided on top of the round whose append is under way. */
  #ahead: Round | undefined;
  #deciding: Promise<void> | undefined;
  /** The append that is under way. */
  #append: ExactAppend | undefined;
  /** Conflicts in a row. */
  #lost = 0;
  /** Commands that are to be decided one by one, because a neighbour spoilt their append. */
  #alone = 0;
  #working = false;
  #snapshotVersion = 0;
  #snapshotAt = 0;
  #measuredVersion = 0;

  /** Estimate of what the actor holds, and what of it the registry has counted. */
  bytes = 0;
  weighed = 0;
  /** Links and time of the registry's list, least recently used first. */
  older: Actor | undefined;
  newer: Actor | undefined;
  usedAt = 0;
  /** The registry has it: asked for each time the actor rests, where a look into a large map would cost more than the rest. */
  resident = true;
  /** Stands in the registry's list of those to work in this turn. */
  ready = false;

  constructor(stream: string, ports: ActorPorts, home: ActorHome) {
    this.stream = stream;
    this.#ports = ports;
    this.#home = home;
  }

  /** Neither works nor has to: it may be unloaded at once, and nothing is lost. */
  get idle(): boolean {
    return !this.#working && this.#mailbox === undefined;
  }

  /** Puts a command into the mailbox; false when it is full. What was decided ahead still counts as waiting. */
  accept(command: PendingCommand): boolean {
    const { mailboxCapacity } = this.#ports.options;
    if (this.#waiting >= mailboxCapacity) this.#dropEnded();
    if (this.#waiting >= mailboxCapacity) return false;
    if (this.#mailbox === undefined) this.#mailbox = [command];
    else this.#mailbox.push(command);
    return true;
  }

  /** What was ended while it waited makes room; the oldest ends first. */
  #dropEnded(): void {
    if (this.#ahead?.decisions[0]?.command.answered === true && this.#deciding === undefined) {
      const { unanswered } = this.#ahead;
      this.#ahead = undefined;
      this.#putBack(unanswered);
    }
    if (this.#mailbox?.[0]?.answered === true) this.#mailbox = this.#mailbox.filter((command) => !command.answered);
  }

  /** Commands that no append holds yet. */
  get #waiting(): number {
    return (this.#mailbox?.length ?? 0) + (this.#ahead?.decisions.length ?? 0);
  }

  /** Works through the mailbox, or decides ahead while an append is under way. */
  work(): void {
    if (this.#working) {
      if (this.#append !== undefined) this.#decideAhead();
      return;
    }
    this.#working = true;
    if (this.#confirmed === undefined) this.#begin();
    else this.#goOn(this.#confirmed);
  }

  /** Ends commands whose hard bound has passed. What is under way for them goes on until the store or the codec, each with a bound of its own, has answered (A2). */
  expire(now: number): void {
    for (const command of this.#unanswered()) if (command.mustEndBy <= now) command.expire();
  }

  /** Ends all commands, because the app gives up. */
  abandon(error: Error): void {
    for (const command of this.#unanswered()) command.abandon(error);
  }

  #unanswered(): PendingCommand[] {
    const rounds = [...(this.#round?.unanswered ?? []), ...(this.#ahead?.unanswered ?? [])];
    return [...rounds, ...[...(this.#taken ?? []), ...(this.#mailbox ?? [])].filter((command) => !command.answered)];
  }

  #begin(): void {
    const { beginnings, environment } = this.#ports;
    const first = this.#mailbox?.[0]?.request;
    if (first === undefined || !beginnings.isLikely(first)) return this.#after(this.#hydrate(first), (state) => this.#goOn(state));
    try {
      this.#confirmed = emptyState(this.#ports); // A7
    } catch (error) {
      return this.#failed(error);
    }
    this.#assumedFor = first;
    this.#snapshotAt = environment.clock.now();
    this.#goOn(this.#confirmed);
  }

  /** `whole`: all events of the stream, where they are known already. */
  async #hydrate(first: CommandRequest | undefined, whole?: readonly StoredEvent[]): Promise<StreamState> {
    const { state, snapshot } = await hydrate(this.stream, this.#ports, whole);
    this.#snapshotVersion = snapshot?.version ?? 0;
    // A stream that was replayed has waited for its snapshot long enough; a new one begins to.
    this.#snapshotAt = snapshot?.takenAt ?? (state.version === 0 ? this.#ports.environment.clock.now() : 0);
    this.#considerSnapshot(state);
    if (first !== undefined) this.#ports.beginnings.found(first, state.version);
    this.#confirmed = state;
    return state;
  }

  /** A7: reads the stream that was taken for new. */
  #findOut(round: Round, outcome: AppendOutcome | undefined): Promise<StreamState> {
    const first = this.#assumedFor;
    this.#assumedFor = undefined;
    this.#decideAnew(writable(round.decisions));
    const whole = outcome?.kind === "conflict" && outcome.missing?.length === outcome.actual ? outcome.missing : undefined;
    return this.#hydrate(first, whole);
  }

  /** A6. */
  #failed(cause: unknown): void {
    this.#home.retire(this);
    const { ending } = this.#ports;
    const error = ending.aborted ? closed(this.stream, cause) : (cause as Error);
    if (!ending.aborted && !isTidemarkError(cause)) this.#ports.environment.logger.error({ stream: this.stream, error }, "an actor failed");
    for (const command of this.#unanswered()) command.abandon(error);
    this.#mailbox = undefined;
    this.#taken = undefined;
    this.#round = undefined;
    this.#ahead = undefined;
    this.#append = undefined;
    this.#rest();
  }

  #rest(): void {
    this.#working = false;
    this.#home.rested(this);
  }

  /** A1: goes through the mailbox until it is empty, or until something is under way that calls it again. */
  #goOn(confirmed: StreamState): void {
    try {
      while (this.#mailbox !== undefined || this.#ahead !== undefined) {
        const round = this.#ahead ?? new Round(this.stream, this.#ports, confirmed, undefined);
        this.#ahead = undefined;
        this.#round = round;
        const deciding = this.#decideInto(round);
        if (deciding !== undefined) return this.#after(deciding, () => this.#settle(round, confirmed) || this.#goOn(confirmed));
        if (this.#settle(round, confirmed)) return;
      }
      this.#measure(confirmed);
    } catch (error) {
      return this.#failed(error);
    }
    this.#rest();
  }

  #after<T>(work: Promise<T>, resume: (result: T) => unknown): void {
    work.then(resume).catch((error: unknown) => this.#failed(error));
  }

  /** True when something is under way that calls `#goOn` at its end. */
  #settle(round: Round, confirmed: StreamState): boolean {
    this.#answerAtOnce(round, confirmed);
    if (round.spoilt) this.#decideAnew(round.unanswered);
    else if (round.events.length > 0) {
      this.#send(round, confirmed);
      return true;
    } else if (round.unanswered.length > 0) {
      if (this.#assumedFor !== undefined) this.#after(this.#findOut(round, undefined), (state) => this.#goOn(state));
      else {
        this.#after(this.#confirm(round, confirmed), () => {
          this.#round = undefined;
          this.#goOn(confirmed);
        });
      }
      return true;
    }
    this.#round = undefined;
    return false;
  }

  /** A2. */
  #send(round: Round, confirmed: StreamState): void {
    for (const { command } of round.decisions) command.sent();
    this.#append = { stream: this.stream, expected: confirmed.version, events: round.events };
    this.#ports.committer.append(this.#append, this);
  }

  /** The committer's answer to the append that is under way. */
  settled(outcome: AppendOutcome): void {
    const confirmed = this.#confirmed;
    const round = this.#round;
    if (confirmed === undefined || round === undefined) return; // given up meanwhile
    if (outcome.kind === "committed" && this.#deciding === undefined) {
      try {
        this.#append = undefined;
        this.#committed(round, outcome.position, confirmed);
        this.#round = undefined;
      } catch (error) {
        return this.#failed(error);
      }
      return this.#goOn(confirmed);
    }
    this.#after(this.#settleLater(round, confirmed, outcome), (state) => this.#goOn(state));
  }

  /** A4, A5, and whatever else is no plain commit. What is confirmed then. */
  async #settleLater(round: Round, confirmed: StreamState, sent: AppendOutcome): Promise<StreamState> {
    const append = this.#append as ExactAppend;
    const outcome = sent.kind === "unknown" ? await settleUnknown(append, sent.cause, this.#ports, (cause) => this.#tellUnknown(round, cause)) : sent;
    this.#append = undefined;
    if (this.#deciding !== undefined) await this.#deciding;
    if (outcome.kind === "conflict") this.#ports.counters.conflicts++;
    if (outcome.kind === "committed") this.#committed(round, outcome.position, confirmed);
    else if (this.#assumedFor !== undefined) return this.#findOut(round, outcome);
    else if (outcome.kind === "conflict") {
      await this.#overtaken(round, confirmed, outcome.actual, outcome.missing);
      await this.#pause(++this.#lost);
    } else this.#refused(round, outcome);
    this.#round = undefined;
    return confirmed;
  }

  /** Whether somebody still waits for this actor. */
  #tellUnknown(round: Round, cause: unknown): boolean {
    for (const { command } of round.decisions) command.outcomeUnknown(cause);
    return this.#unanswered().length > 0;
  }

  /** Decides what waits; a promise only where something asynchronous is needed. */
  #decideInto(round: Round): Promise<void> | undefined {
    const waiting = this.#mailbox;
    if (waiting === undefined || round.full) return undefined;
    // No more than a mailbox holds: after conflicts there may be twice as many, and what is left keeps the mailbox full.
    const most = this.#alone > 0 ? 1 : this.#ports.options.mailboxCapacity;
    const commands = waiting.length > most ? waiting.slice(0, most) : waiting;
    this.#mailbox = commands.length < waiting.length ? waiting.slice(commands.length) : undefined;
    if (this.#alone > 0) this.#alone--;
    const took = round.decide(commands);
    if (!(took instanceof Promise)) {
      this.#putBack(commands.slice(took));
      return undefined;
    }
    this.#taken = commands;
    return took.then((count) => {
      this.#taken = undefined;
      this.#putBack(commands.slice(count));
    });
  }

  /** A2. */
  #decideAhead(): void {
    if (this.#confirmed === undefined || this.#deciding !== undefined || this.#alone > 0 || this.#mailbox === undefined) return;
    this.#ahead ??= new Round(this.stream, this.#ports, this.#confirmed, this.#round);
    this.#deciding = this.#decideInto(this.#ahead)
      ?.catch((error: unknown) => this.#failed(error))
      .finally(() => (this.#deciding = undefined));
  }

  /** To the front of the mailbox: they came before what is in it. */
  #putBack(commands: readonly PendingCommand[]): void {
    if (commands.length > 0) this.#mailbox = this.#mailbox === undefined ? [...commands] : [...commands, ...this.#mailbox];
  }

  /** Throws away everything tentative: these commands, and what was decided ahead on top of them, are decided again. */
  #decideAnew(commands: readonly PendingCommand[]): void {
    const ahead = this.#ahead?.unanswered ?? [];
    this.#ahead = undefined;
    this.#round = undefined;
    this.#putBack([...commands, ...ahead]);
  }

  #refused(round: Round, outcome: Refused): void {
    const commands = writable(round.decisions);
    if (isOneCommandsFault(outcome) && commands.length > 1) {
      this.#alone = commands.length;
      return this.#decideAnew(commands);
    }
    const error = refusal(outcome, this.stream);
    for (const command of commands) command.fail(error);
    this.#decideAnew([]);
  }

  /** A3: those that need no confirmation. */
  #answerAtOnce(round: Round, confirmed: StreamState): void {
    for (const { command, outcome, first, count } of round.decisions) {
      if (outcome.kind === "known") {
        this.#ports.counters.duplicates++;
        this.#ports.counters.commandsAccepted++;
        command.answer(outcome.answer, outcome.position);
      } else if (outcome.kind === "refused") command.fail(outcome.error);
      else if (count === 0 && first === 0 && this.#assumedFor === undefined && mayComeFromCache(command.request, confirmed)) this.#answer(command, outcome, confirmed.position, confirmed);
    }
  }

  #committed(round: Round, position: Position, confirmed: StreamState): void {
    const { events } = round;
    let { version } = confirmed;
    if (this.#assumedFor !== undefined) {
      this.#ports.beginnings.found(this.#assumedFor, version);
      this.#assumedFor = undefined; // A7
    }
    // The window folds what the store will show it (W2).
    for (const event of events) confirmed.window.fold({ version: ++version, recordedAt: event.recordedAt, metadata: event.metadata });
    confirmed.version = version;
    confirmed.state = round.state;
    confirmed.position = position;
    confirmed.lastEventId = (events[events.length - 1] as NewEvent).id;
    this.#ahead?.basisCommitted();
    this.#lost = 0;
    this.#ports.counters.eventsAppended += events.length;
    for (const { command, outcome, count } of round.decisions) {
      if (outcome.kind === "accepted" && count === 0 && outcome.events.length > 0) this.#ports.counters.duplicates++;
      this.#answer(command, outcome, position, confirmed);
    }
    this.#considerSnapshot(confirmed);
  }

  /** A3: one read for the whole round. */
  async #confirm(round: Round, confirmed: StreamState): Promise<void> {
    const { store, counters, ending } = this.#ports;
    counters.confirmations++;
    let slice: StreamSlice;
    try {
      slice = await store.readStream(this.stream, { from: Math.max(1, confirmed.version), signal: ending });
    } catch (error) {
      if (ending.aborted) throw error;
      for (const { command } of round.decisions) command.fail(error);
      return;
    }
    // The last event that is known comes along: a log that was restored and went on differently is recognised by it.
    const known = confirmed.version > 0 ? slice.events[0] : undefined;
    const isOther = known !== undefined && (known.version !== confirmed.version || known.id !== confirmed.lastEventId);
    if (slice.version < confirmed.version || isOther) throw rewound(this.stream, confirmed.version, slice.version);
    if (slice.version > confirmed.version) return this.#overtaken(round, confirmed, slice.version, known === undefined ? slice.events : slice.events.slice(1));
    for (const { command, outcome } of round.decisions) this.#answer(command, outcome, confirmed.position, confirmed);
  }

  /** A4: brings the confirmed state up to date; the commands are decided again, those that have lost too often are told so. */
  async #overtaken(round: Round, confirmed: StreamState, actual: number, missing: readonly StoredEvent[] | undefined): Promise<void> {
    const { attempts } = this.#ports.options;
    const commands = writable(round.decisions);
    await this.#catchUp(confirmed, actual, missing);
    for (const command of commands) {
      if (++command.attempts >= attempts) command.fail(contention(this.stream, confirmed.version, attempts));
    }
    this.#decideAnew(commands.filter((command) => !command.answered));
  }

  /** Up to `actual` at least, where the stream stood when the conflict was found: what came later is found in its turn. */
  async #catchUp(confirmed: StreamState, actual: number, missing: readonly StoredEvent[] | undefined): Promise<void> {
    const { store, behaviour, codec, ending } = this.#ports;
    const known = confirmed.version;
    if (missing !== undefined && missing[0]?.version === known + 1) await confirmed.fold(missing, behaviour, codec);
    while (confirmed.version === known || confirmed.version < actual) {
      const slice = await store.readStream(this.stream, { from: confirmed.version + 1, signal: ending });
      if (slice.version < confirmed.version) throw rewound(this.stream, confirmed.version, slice.version);
      if (slice.events.length === 0) return;
      await confirmed.fold(slice.events, behaviour, codec);
      if (slice.next === undefined) return;
    }
  }

  #answer(command: PendingCommand, outcome: Outcome, position: Position, confirmed: StreamState): void {
    const { counters } = this.#ports;
    if (command.answered || outcome.kind === "known" || outcome.kind === "refused") return;
    if (confirmed.version < command.request.leastVersion) return command.fail(tooNew(this.stream, command.request.leastVersion, confirmed.version));
    if (outcome.kind === "failed") return command.fail(outcome.error);
    if (outcome.kind === "accepted") counters.commandsAccepted++;
    else if (outcome.kind === "rejected") counters.commandsRejected++;
    command.answer(outcome, position);
  }

  #considerSnapshot(confirmed: StreamState): void {
    const { behaviour, snapshotter, environment } = this.#ports;
    const policy = behaviour.snapshot;
    if (snapshotter === undefined || policy === undefined) return;
    const now = environment.clock.now();
    try {
      if (!isDue(policy, confirmed.state, { events: confirmed.version - this.#snapshotVersion, ms: now - this.#snapshotAt })) return;
    } catch (error) {
      environment.logger.warn({ stream: this.stream, error }, "the snapshot policy threw; no snapshot was taken");
      return;
    }
    this.#snapshotVersion = confirmed.version;
    this.#snapshotAt = now;
    const { version, lastEventId, position, state } = confirmed;
    snapshotter.offer({ stream: this.stream, version, eventId: lastEventId, position, schemaVersion: policy.schemaVersion ?? 1, state, window: confirmed.window.toJSON() });
  }

  /** A walk over the state now and then: when it may have grown by a quarter. */
  #measure(confirmed: StreamState): void {
    if (this.bytes > 0 && confirmed.version < this.#measuredVersion + 16 + (this.#measuredVersion >> 2)) return;
    this.#measuredVersion = confirmed.version;
    this.bytes = estimateBytes(confirmed.state) + confirmed.window.bytes;
  }

  /** The first retry goes at once, further ones wait: doubled, jittered, whole milliseconds as all times are. */
  async #pause(conflicts: number): Promise<void> {
    const { environment, options, ending } = this.#ports;
    if (conflicts < 2) return;
    const most = Math.min(MAX_PAUSE_MS, options.retryPauseMs * 2 ** (conflicts - 2));
    await delay(environment.clock, Math.ceil(most * (0.5 + environment.random.next() / 2)), ending);
  }
}

type Outcome = Decision["outcome"];

function mayComeFromCache({ options, leastVersion, leastPosition }: CommandRequest, confirmed: StreamState): boolean {
  return options.from === "cache" && confirmed.version >= leastVersion && (leastPosition === undefined || covers(confirmed.position, leastPosition));
}

/** Those whose events were not written, for certain, and who still wait. */
function writable(decisions: readonly Decision[]): PendingCommand[] {
  return decisions.filter(({ command }) => command.notWritten()).map(({ command }) => command);
}
