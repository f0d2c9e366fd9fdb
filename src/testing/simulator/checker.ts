/**
 * Holds a history against the invariants and the sequential model.
 *
 * I1 every acknowledged event stands in the store exactly once, and every reader sees it.
 * I2 the versions of a stream are contiguous, starting at 1, in every reader's view.
 * I3 states and decisions are those of the sequential model: every event in the log, every rejection and every state is decided, or folded, again.
 * I4 an append that was answered with a definite failure never appears.
 * I5 a read that carries a token never misses the write of that token.
 * I6 everything is answered, and readers make progress.
 */
import { fingerprint } from "../../actor/fingerprint.ts";
import type { ReadModel } from "../../readmodel/read-model.ts";
import type { StoredEvent } from "../../store/event-store.ts";
import { offsetOf } from "../../store/position.ts";
import { categoryOf } from "../../store/stream-name.ts";
import { describeAnswer, describeCall, type CallRecord, type Consumed, type History, type ReadRecord } from "./history.ts";
import { decideOn, textOf, type DecisionPlace, type Reference } from "./reference.ts";
import type { ViewCommit } from "./simulated-store.ts";
import type { Workload } from "./workload.ts";

/** `port`: the app broke a rule of a port; `run`: the run itself went wrong. */
export type Invariant = "I1" | "I2" | "I3" | "I4" | "I5" | "I6" | "port" | "run";

export interface Violation {
  readonly invariant: Invariant;
  readonly what: string;
}

/** Errors after which nothing was changed. */
const DEFINITE = new Set(["MailboxFull", "RegistryFull", "DeadlineExceeded", "Aborted", "Overloaded", "AppClosed", "StoreClosed", "StoreUnavailable", "StoreRefused", "WrongExpectedVersion", "TooMuchContention", "CommandIdReused"]);
/** Errors that an overloaded app may answer with although nothing goes wrong. */
const OVERLOAD = new Set(["MailboxFull", "RegistryFull", "Overloaded", "TooMuchContention"]);
/** Errors that reads of read models may answer with while things go wrong. */
const UNREADABLE = new Set(["StaleRead", "AppClosed", "StoreUnavailable", "StoreClosed", "ReadModelStopped"]);

/** Events that one call has appended. */
interface Run {
  readonly call: string;
  readonly stream: string;
  readonly first: number;
  readonly events: StoredEvent[];
}

/** What somebody who is no process of the app has appended: known by its correlation id, and decided like a call. */
export interface Stranger {
  readonly id: string;
  readonly wish: CallRecord["wish"];
  readonly metadata: CallRecord["metadata"];
}

export interface Evidence {
  readonly workload: Workload;
  readonly history: History;
  readonly reference: Reference;
  readonly strangers: readonly Stranger[];
  readonly viewCommits: readonly ViewCommit[];
  /** No call takes longer, in milliseconds; calls of processes that stall or whose clocks jump excepted. */
  readonly callBoundMs: number;
}

/** All violations, at most `MAX_VIOLATIONS` of them. */
export async function check(evidence: Evidence): Promise<Violation[]> {
  const checker = new Checker(evidence);
  checker.log();
  for (const call of evidence.history.calls) checker.call(call);
  checker.answersAlike();
  checker.readers();
  checker.pastStates();
  await checker.views();
  return checker.violations;
}

const MAX_VIOLATIONS = 20;

class Checker {
  readonly violations: Violation[] = [];
  readonly #evidence: Evidence;
  readonly #runs = new Map<string, Run>();

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
  }

  #violated(invariant: Invariant, what: string): void {
    if (this.violations.length < MAX_VIOLATIONS) this.violations.push({ invariant, what });
  }

  /** I1, I2, I3: every event of the log stands once, in its place, and is what its call had to decide there. */
  log(): void {
    const { reference, history, strangers } = this.#evidence;
    const calls = new Map<string, CallRecord | Stranger>([...history.calls.map((call) => [call.id, call] as const), ...strangers.map((stranger) => [stranger.id, stranger] as const)]);
    const ids = new Set<string>();
    for (const [stream, events] of reference.streams) {
      let run: Run | undefined;
      const commands = new Map<string, Run>();
      for (const [index, event] of events.entries()) {
        if (event.version !== index + 1) this.#violated("I2", `${stream} holds version ${event.version} where ${index + 1} was expected`);
        if (ids.has(event.id)) this.#violated("I1", `event ${event.id} stands twice, in ${stream} at ${event.version} too`);
        ids.add(event.id);
        const call = event.metadata.correlationId;
        if (run?.call !== call) {
          const before = this.#runs.get(call);
          if (before !== undefined) this.#violated("I1", `${call} took effect twice: in ${before.stream} from version ${before.first}, in ${stream} from version ${event.version}`);
          run = { call, stream, first: event.version, events: [] };
          this.#runs.set(call, run);
          const { commandId, fingerprint: chosen } = event.metadata;
          if (chosen !== undefined) {
            const other = commands.get(commandId);
            if (other !== undefined) this.#violated("I1", `${commandId} took effect twice in ${stream}: by ${other.call} from version ${other.first}, by ${call} from version ${event.version}`);
            commands.set(commandId, run);
          }
        }
        run.events.push(event);
      }
    }
    for (const run of this.#runs.values()) {
      const call = calls.get(run.call);
      if (call === undefined) this.#violated("I1", `nobody asked for the events of ${run.stream} from version ${run.first}: ${run.call}`);
      else this.#decidedWell(run, call);
    }
  }

  /** I3. */
  #decidedWell(run: Run, call: CallRecord | Stranger): void {
    const [event] = run.events as [StoredEvent];
    const decided = this.#decide(call, run.stream, run.first - 1, { now: event.recordedAt, commandId: event.metadata.commandId, metadata: call.metadata });
    const stands = textOf(run.events.map(({ type, data }) => ({ type, data: JSON.parse(data) as unknown })));
    const wanted = decided.ok ? textOf(decided.events) : `a rejection: ${decided.code}`;
    if (stands !== wanted) this.#violated("I3", `${run.stream} from version ${run.first}: ${run.call} appended ${stands}, but decided on version ${run.first - 1} it is ${wanted}`);
    if ("expectedVersion" in call && call.expectedVersion !== undefined && call.expectedVersion !== run.first - 1) {
      this.#violated("I3", `${run.call} expected version ${call.expectedVersion} of ${run.stream} and was appended on version ${run.first - 1}`);
    }
  }

  #decide(call: CallRecord | Stranger, stream: string, version: number, place: DecisionPlace): ReturnType<typeof decideOn> {
    return decideOn(call.wish, this.#evidence.reference.stateAt(stream, version), version, place);
  }

  call(call: CallRecord): void {
    const { answer } = call;
    const says = (): string => `${describeCall(call)} → ${describeAnswer(answer)}`;
    if (answer === undefined) return this.#violated("I6", `never answered: ${describeCall(call)}`);
    if (call.calm && (answer.kind === "lost" || (answer.kind === "error" && !OVERLOAD.has(answer.code)))) this.#violated("I6", `failed although nothing went wrong: ${says()}`);
    const took = (call.answeredAt ?? call.calledAt) - call.calledAt;
    if (call.undisturbed === true && answer.kind !== "lost" && took > this.#evidence.callBoundMs) this.#violated("I6", `answered after ${Math.round(took)} ms, the bound is ${this.#evidence.callBoundMs}: ${says()}`);
    const run = this.#runs.get(call.id);
    switch (answer.kind) {
      case "lost":
        return;
      case "accepted":
        if (answer.events.length > 0) return this.#accepted(call, answer.version, answer.events);
        this.#wasAt(call, answer.version);
        if (this.#rejectsOrEmits(call, answer.version) !== "[]") this.#violated("I3", `on version ${answer.version} there was something to do: ${says()}`);
        break;
      case "rejected": {
        this.#wasAt(call, answer.version);
        const wanted = this.#rejectsOrEmits(call, answer.version);
        if (wanted !== textOf([answer.code, answer.details])) this.#violated("I3", `decided on version ${answer.version} it is ${wanted}: ${says()}`);
        break;
      }
      case "state": {
        this.#wasAt(call, answer.version);
        const wanted = textOf([this.#evidence.reference.stateAt(call.stream, answer.version)]);
        if (textOf([answer.state]) !== wanted) this.#violated("I3", `the fold of version ${answer.version} is ${wanted}: ${says()}`);
        break;
      }
      case "error":
        return this.#failed(call, answer.code, answer.details, run, says);
    }
    if (run !== undefined) this.#violated("I4", `its events stand in ${run.stream} from version ${run.first}: ${says()}`);
  }

  /** I1: the events stand where the answer says, by this call or by an earlier one with the same command id. */
  #accepted(call: CallRecord, version: number, events: readonly { readonly type: string; readonly data: unknown }[]): void {
    const first = version - events.length + 1;
    const standing = this.#evidence.reference.events(call.stream).slice(first - 1, version);
    const own = standing.every(({ metadata }) => metadata.correlationId === call.id || (call.commandId !== undefined && metadata.commandId === call.commandId));
    const alike = textOf(standing.map(({ type, data }) => ({ type, data: JSON.parse(data) as unknown }))) === textOf(events);
    const print = call.commandId === undefined ? undefined : fingerprint(call.wish.command, call.wish.input);
    if (standing.length < events.length || !own || !alike || standing[0]?.metadata.fingerprint !== print) {
      this.#violated("I1", `acknowledged, but versions ${first} to ${version} of ${call.stream} are not its events: ${describeCall(call)} → accepted at ${version}`);
    }
  }

  /** I3: the stream was at this version at some moment between call and answer, and not before what the call's token names. */
  #wasAt(call: CallRecord, version: number): void {
    const least = Math.max(call.cached ? 0 : call.versionAtCall, call.leastVersion);
    const most = call.versionAtAnswer ?? version;
    if (version < least || version > most) this.#violated("I3", `it rests on version ${version}, but between call and answer the stream was at ${least} to ${most}: ${describeCall(call)} → ${describeAnswer(call.answer)}`);
  }

  #rejectsOrEmits(call: CallRecord, version: number): string {
    if (this.#evidence.reference.stateAt(call.stream, version) === undefined) return `nothing: ${call.stream} never was at version ${version}`;
    const decided = this.#decide(call, call.stream, version, { now: call.calledAt, commandId: call.commandId ?? call.id, metadata: call.metadata });
    return decided.ok ? textOf(decided.events) : textOf([decided.code, decided.details]);
  }

  /** I4, and the errors that say something of the stream. */
  #failed(call: CallRecord, code: string, details: Readonly<Record<string, unknown>>, run: Run | undefined, says: () => string): void {
    if (code === "OutcomeUnknown") return;
    if (!DEFINITE.has(code)) return this.#violated("I6", `answered with an error that nothing here explains: ${says()}`);
    if (run !== undefined) this.#violated("I4", `its events stand in ${run.stream} from version ${run.first}: ${says()}`);
    if (code === "WrongExpectedVersion") {
      const actual = Number(details["actual"]);
      this.#wasAt(call, actual);
      if (actual === call.expectedVersion) this.#violated("I3", `the stream was at the expected version: ${says()}`);
    }
    if (code === "CommandIdReused") {
      const print = fingerprint(call.wish.command, call.wish.input);
      const used = this.#evidence.reference.events(call.stream).some(({ metadata }) => metadata.commandId === call.commandId && metadata.fingerprint !== print);
      if (!used) this.#violated("I3", `no other command has this id: ${says()}`);
    }
  }

  /** I1: the same command id is answered the same, whoever asks. */
  answersAlike(): void {
    const answered = new Map<string, CallRecord>();
    for (const call of this.#evidence.history.calls) {
      if (call.commandId === undefined || call.answer?.kind !== "accepted" || call.answer.events.length === 0) continue;
      const key = `${call.stream} ${call.commandId}`;
      const before = answered.get(key);
      if (before?.answer?.kind === "accepted" && before.answer.version !== call.answer.version) {
        this.#violated("I1", `${call.commandId} was answered in two ways: ${before.id} at ${before.answer.version}, ${call.id} at ${call.answer.version}`);
      }
      answered.set(key, call);
    }
  }

  /** I1, I2: whoever reads the log, or a stream, sees what stands there, in its order, each event once. */
  readers(): void {
    const { history, reference } = this.#evidence;
    const ids = reference.log.map(({ id }) => id);
    for (const consumed of history.consumed) this.#consumed(consumed, ids);
    for (const slice of history.slices) {
      const stands = reference.events(slice.stream);
      const wrong = slice.versions.findIndex((version, index) => version !== index + 1 || stands[index]?.id !== slice.ids[index]);
      if (wrong >= 0) this.#violated("I2", `${slice.process} was shown version ${slice.versions[wrong]} of ${slice.stream} in place ${wrong + 1}`);
    }
  }

  /** I3. */
  pastStates(): void {
    const { history, reference } = this.#evidence;
    for (const { process, stream, version, state } of history.states) {
      const wanted = textOf([reference.stateAt(stream, version)]);
      if (textOf([state]) !== wanted) this.#violated("I3", `${process} says that ${stream} was ${JSON.stringify(state)} at version ${version}; the fold is ${wanted}`);
    }
  }

  #consumed({ process, ids: seen }: Consumed, ids: readonly string[]): void {
    const wrong = seen.findIndex((id, index) => id !== ids[index]);
    if (wrong >= 0) this.#violated("I2", `the consumer of process ${process} saw event ${seen[wrong]} in place ${wrong + 1}, where ${ids[wrong]} stands`);
  }

  /** I5, and rows against the reference: after each commit, and in each answer. */
  async views(): Promise<void> {
    const { workload, history, reference, viewCommits } = this.#evidence;
    for (const [index, model] of workload.readModels.entries()) {
      const rows = await reference.rows(model);
      for (const commit of viewCommits) if (commit.key.model === model.name && commit.key.version === model.version) this.#committed(commit, rows);
      for (const read of history.reads) if (read.model === index) this.#read(read, model, rows);
    }
  }

  #committed({ key, checkpoint, rows }: ViewCommit, wanted: readonly string[]): void {
    const offset = offsetOf(checkpoint.position);
    const found = textOf(rows);
    if (found !== wanted[offset]) {
      this.#violated("I5", `revision ${checkpoint.revision} of ${key.model} says it stands at ${offset}, but its rows are not those of that place: ${found} instead of ${wanted[offset]}`);
    }
  }

  #read(read: ReadRecord, model: ReadModel<unknown>, wanted: readonly string[]): void {
    const { answer } = read;
    const what = `${read.id} of ${model.name} on ${read.process}`;
    if (answer === undefined) return this.#violated("I6", `never answered: ${what}`);
    if (answer.kind === "lost") return read.calm ? this.#violated("I6", `lost although nothing went wrong: ${what}`) : undefined;
    if (answer.kind === "error") {
      if (read.calm || !UNREADABLE.has(answer.code)) this.#violated("I6", `${what} failed${read.calm ? " although nothing went wrong" : ""}: ${answer.code}: ${answer.message}`);
      return;
    }
    const demanded = this.#demanded(read, model);
    const position = offsetOf(answer.position);
    if (position < demanded && !answer.stale) this.#violated("I5", `${what} answers from position ${position} as if it were fresh, but its token names a write at ${demanded}`);
    const least = answer.stale ? position : Math.max(position, demanded);
    const found = textOf(answer.rows);
    if (!wanted.slice(least, (read.lengthAtAnswer ?? wanted.length) + 1).includes(found)) {
      this.#violated("I5", `${what} shows rows that the view never had from position ${least} on: ${found}; there it was ${wanted[least]}`);
    }
    if (read.asked !== undefined && model.behaviours.some(({ category }) => category === categoryOf(read.asked ?? ""))) {
      const version = this.#evidence.reference.events(read.asked).filter((event) => offsetOf(event.position) <= position).length;
      if (answer.lastProcessed !== version) this.#violated("I5", `${what} says it has processed version ${answer.lastProcessed} of ${read.asked}; at ${position} that is ${version}`);
    }
  }

  /** The last place of the log that the session was told of, as far as the model reads it. */
  #demanded(read: ReadRecord, model: ReadModel<unknown>): number {
    if (!read.tokenised) return 0;
    const categories = new Set(model.behaviours.map(({ category }) => category));
    let demanded = 0;
    for (const [stream, version] of read.streams) {
      const event = categories.has(categoryOf(stream)) ? this.#evidence.reference.events(stream)[version - 1] : undefined;
      if (event !== undefined) demanded = Math.max(demanded, offsetOf(event.position));
    }
    for (const [category, offset] of read.positions) if (categories.has(category)) demanded = Math.max(demanded, offset);
    return demanded;
  }
}
