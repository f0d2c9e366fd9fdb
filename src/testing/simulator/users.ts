/**
 * The users of a simulation: they carry out the plan, remember what they were told, and repeat what was not answered.
 */
import type { Table } from "../../readmodel/staged-table.ts";
import type { Row } from "../../readmodel/view-store.ts";
import type { ReadModel } from "../../readmodel/read-model.ts";
import { offsetOf } from "../../store/position.ts";
import type { CallOptions } from "../../app/call.ts";
import type { Cluster, Running } from "./cluster.ts";
import type { Draws } from "./draws.ts";
import type { Coverage } from "./faults.ts";
import { describeAnswer, describeCall, describeRead, type CallAnswer, type CallRecord, type History, type ReadRecord } from "./history.ts";
import { SESSIONS, type CallPlan, type Step } from "./plan.ts";
import type { SimulatedStore } from "./simulated-store.ts";
import type { World } from "./world.ts";
import type { Wish, Workload } from "./workload.ts";

/** What a user has been told. */
interface Session {
  token: string | undefined;
  readonly streams: Map<string, number>;
  readonly positions: Map<string, number>;
}

/** Calls of a command until it is answered, the first included. */
const CALLS = 5;

export interface UsersOptions {
  readonly world: World;
  readonly store: SimulatedStore;
  readonly cluster: Cluster;
  readonly workload: Workload;
  readonly history: History;
  readonly draws: Draws;
  readonly coverage: Coverage;
}

type Of<K extends Step["kind"]> = Extract<Step, { readonly kind: K }>;

export class Users {
  readonly #options: UsersOptions;
  readonly #sessions: Session[] = Array.from({ length: SESSIONS }, () => ({ token: undefined, streams: new Map<string, number>(), positions: new Map<string, number>() }));
  readonly #commands = new Map<number, { readonly wish: Wish; readonly commandId: string }>();
  #calls = 0;
  /** What has no answer yet. */
  readonly open = new Set<string>();
  /** Repetitions that wait for their time. */
  #repeating = 0;
  /** Nothing goes wrong any more. */
  calm = false;

  constructor(options: UsersOptions) {
    this.#options = options;
  }

  /** Something has no answer yet, or will be asked again. */
  get waiting(): boolean {
    return this.open.size > 0 || this.#repeating > 0;
  }

  command(step: Of<"command">): void {
    const commandId = step.call.repeats ? `command-${step.number}` : undefined;
    if (commandId !== undefined) this.#commands.set(step.number, { wish: step.wish, commandId });
    this.#send(step.wish, step.call, commandId, step.session, step.process, CALLS);
  }

  again(step: Of<"again">): void {
    const { workload, draws } = this.#options;
    const earlier = this.#commands.get(step.number);
    if (earlier === undefined) return;
    const call: CallPlan = { repeats: true, expects: "nothing", tokenised: false, deadlineMs: undefined, abortMs: undefined, cached: false };
    let { wish } = earlier;
    if (!step.sameInput) {
      const other = workload.wish(draws);
      if (other.aggregate !== wish.aggregate) return;
      wish = { ...other, id: wish.id };
    }
    this.#send(wish, call, earlier.commandId, step.session, step.process, step.sameInput ? CALLS : 1);
  }

  /** One more call of a command, which has to succeed. */
  last(wish: Wish, running: Running, name: string): Promise<void> {
    return this.#call(running, wish, { metadata: { user: name } }, 0, undefined).then(() => undefined);
  }

  state(step: Of<"state">): void {
    const running = this.#options.cluster.at(step.process);
    if (running !== undefined) void this.readState(running, step.wish, step.tokenised ? step.session : undefined);
  }

  async readState(running: Running, wish: Wish, session: number | undefined): Promise<CallRecord> {
    const told = session === undefined ? undefined : this.#sessions[session];
    const stream = streamOf(wish);
    const atLeast = told?.token;
    const call = this.#newCall(running, wish, "state", {}, atLeast === undefined ? 0 : (told?.streams.get(stream) ?? 0));
    await this.#answered(call, running, async () => {
      const { state, version, token } = await running.app.at(wish.aggregate, wish.id).state(atLeast === undefined ? {} : { atLeast });
      this.#learn(told, running, stream, version, token);
      return { kind: "state", state, version };
    });
    return call;
  }

  /** A stream's first events, and its state as it was after the last of them. */
  showHistory({ process, wish }: Of<"history">): void {
    const running = this.#options.cluster.at(process);
    if (running === undefined) return;
    const { history, coverage } = this.#options;
    const { app, host } = running;
    const stream = streamOf(wish);
    const settled = this.#settling(running, `history ${history.slices.length} of ${stream} on ${host.name} at ${this.#options.world.now}`, () => undefined);
    const show = async (): Promise<void> => {
      const shown = (await app.history(wish.aggregate, wish.id, { limit: 50 })).events as readonly { readonly version: number; readonly eventId: string }[];
      const versions = shown.map(({ version }) => version);
      history.slices.push({ process: host.name, stream, versions, ids: shown.map(({ eventId }) => eventId) });
      const { state, version } = await app.stateAt(wish.aggregate, wish.id, versions.length);
      history.states.push({ process: host.name, stream, version, state });
    };
    show().then(
      () => settled() && coverage.count("history shown"),
      (error: unknown) => settled() && coverage.count(`history ${failureOf(error).code}`),
    );
  }

  steer(step: Of<"steer">): void {
    const running = this.#options.cluster.at(step.process);
    const model = this.#options.workload.readModels[step.model];
    if (running === undefined || model === undefined) return;
    const { world, history, coverage } = this.#options;
    const control = running.app.readModel(model);
    const what = step.pauseMs === undefined ? "rebuild" : "pause";
    const settled = this.#settling(running, `${what} of ${model.name} on ${running.host.name} at ${world.now}`, () => undefined);
    const ended = (how: string): void => {
      if (!settled()) return;
      history.note(world.now, `${what} of ${model.name} on ${running.host.name}: ${how}`);
      coverage.count(`${what} ${how}`);
    };
    if (step.pauseMs === undefined) {
      history.note(world.now, `rebuild of ${model.name} on ${running.host.name} begins`);
      control.rebuild().then(
        () => ended("done"),
        (error: unknown) => ended(failureOf(error).code),
      );
    } else {
      history.note(world.now, `pause of ${model.name} on ${running.host.name} begins`);
      void control.pause();
      running.host.deliver(step.pauseMs, () => {
        control.resume();
        ended("done");
      });
    }
  }

  read(step: Of<"read">): void {
    const running = this.#options.cluster.at(step.process);
    if (this.#options.workload.readModels.length === 0) return;
    if (running === undefined) return this.#later(20, () => this.read(step));
    void this.readModel(running, step.model, this.#sessions[step.session] as Session, { timeoutMs: step.timeoutMs, serve: step.serve, asked: step.wish && streamOf(step.wish) });
  }

  /** What all sessions together have been told. */
  everything(running: Running): Session {
    const all: Session = { token: undefined, streams: new Map(), positions: new Map() };
    const tokens = this.#sessions.flatMap(({ token }) => token ?? []);
    if (tokens.length > 0) all.token = running.app.mergeTokens(...tokens);
    for (const { streams, positions } of this.#sessions) {
      for (const [stream, version] of streams) raise(all.streams, stream, version);
      for (const [category, offset] of positions) raise(all.positions, category, offset);
    }
    return all;
  }

  async readModel(running: Running, model: number, told: Session, how: { readonly timeoutMs: number; readonly serve: boolean; readonly asked: string | undefined }): Promise<ReadRecord> {
    const { world, store, workload, history, coverage } = this.#options;
    const { host, app } = running;
    const read: ReadRecord = {
      id: `read-${history.reads.length}`,
      process: host.name,
      model,
      calm: this.calm,
      streams: new Map(told.streams),
      positions: new Map(told.positions),
      tokenised: told.token !== undefined,
      serve: how.serve,
      asked: how.asked,
      calledAt: world.now,
    };
    history.reads.push(read);
    if (read.tokenised) coverage.count("tokenised reads");
    const kind = workload.readModels[model] as ReadModel<Table<Row>>;
    history.note(world.now, `${read.id} on ${host.name}: ${kind.name}${read.tokenised ? " with the token" : ""}`);
    const settled = this.#settling(running, `${read.id} of ${kind.name} on ${host.name}`, () => (read.answer ??= { kind: "lost" }));
    try {
      const answer = await app.answer(kind, (view) => view.find({}, { limit: 10_000 }), {
        timeoutMs: how.timeoutMs,
        onStale: how.serve ? "serve" : "fail",
        ...(told.token !== undefined && { atLeast: told.token }),
        ...(how.asked !== undefined && { stream: how.asked }),
      });
      if (!settled()) return read;
      read.answer = { kind: "rows", rows: answer.value, position: answer.position, stale: answer.stale !== undefined, lastProcessed: answer.lastProcessedVersion };
      for (const { category } of kind.behaviours) raise(told.positions, category, offsetOf(answer.position));
      told.token = app.mergeTokens(...(told.token === undefined ? [] : [told.token]), answer.token);
      coverage.count(answer.stale === undefined ? "read fresh" : "read stale");
    } catch (error) {
      if (!settled()) return read;
      const { code, message } = failureOf(error);
      read.answer = { kind: "error", code, message };
      coverage.count(`read ${code}`);
    }
    read.answeredAt = world.now;
    read.lengthAtAnswer = store.length;
    history.note(world.now, `${read.id} ${describeRead(read.answer)}`);
    return read;
  }

  #send(wish: Wish, plan: CallPlan, commandId: string | undefined, session: number, process: number, calls: number): void {
    const { cluster, draws } = this.#options;
    const running = cluster.at(process);
    const told = this.#sessions[session] as Session;
    const stream = streamOf(wish);
    const repeat = (): void => this.#later(5 + draws.next() * 120, () => this.#send(wish, plan, commandId, session, process + 1, calls - 1));
    if (running === undefined) return repeat();
    const seen = told.streams.get(stream) ?? 0;
    const options: CallOptions = {
      metadata: { user: `session-${session}` },
      ...(commandId !== undefined && { commandId }),
      ...(plan.expects !== "nothing" && { expectedVersion: plan.expects === "seen" ? seen : draws.chance(0.5) ? seen + 1 : Math.max(0, seen - 1) }),
      ...(plan.tokenised && told.token !== undefined && { atLeast: told.token }),
      ...(plan.deadlineMs !== undefined && { deadlineMs: plan.deadlineMs }),
      ...(plan.cached && { from: "cache" as const }),
      ...(plan.abortMs !== undefined && { signal: this.#givingUp(running, plan.abortMs) }),
    };
    void this.#call(running, wish, options, plan.tokenised ? seen : 0, told).then((answer) => {
      const repeats = commandId !== undefined && calls > 1 && (answer.kind === "lost" || (answer.kind === "error" && answer.details["retryable"] === true));
      if (repeats) repeat();
    });
  }

  #later(afterMs: number, again: () => void): void {
    this.#repeating++;
    this.#options.world.post(afterMs, () => {
      this.#repeating--;
      again();
    });
  }

  #givingUp({ host }: Running, afterMs: number): AbortSignal {
    const control = new AbortController();
    host.deliver(afterMs, () => control.abort());
    return control.signal;
  }

  async #call(running: Running, wish: Wish, options: CallOptions, leastVersion: number, told: Session | undefined): Promise<CallAnswer> {
    const call = this.#newCall(running, wish, "command", options, leastVersion);
    await this.#answered(call, running, async () => {
      const result = await running.app.execute(wish.aggregate, wish.id, wish.command, wish.input, { ...options, correlationId: call.id });
      const { version, token } = result.ok ? result : result.decidedAt;
      this.#learn(told, running, call.stream, version, token);
      return result.ok ? { kind: "accepted", version, events: result.events } : { kind: "rejected", version, code: result.code, details: result.details };
    });
    return call.answer ?? { kind: "lost" };
  }

  #newCall(running: Running, wish: Wish, kind: CallRecord["kind"], options: CallOptions, leastVersion: number): CallRecord {
    const { world, store, history, coverage } = this.#options;
    const stream = streamOf(wish);
    const call: CallRecord = {
      id: `call-${this.#calls++}`,
      process: running.host.name,
      wish,
      stream,
      kind,
      commandId: options.commandId,
      expectedVersion: options.expectedVersion,
      metadata: options.metadata ?? {},
      leastVersion,
      cached: options.from === "cache",
      calm: this.calm,
      calledAt: world.now,
      versionAtCall: store.versions.get(stream) ?? 0,
    };
    history.calls.push(call);
    history.note(world.now, describeCall(call));
    coverage.count(kind === "state" ? "state reads" : "commands");
    return call;
  }

  async #answered(call: CallRecord, running: Running, ask: () => Promise<CallAnswer>): Promise<void> {
    const { world, store, history, coverage } = this.#options;
    await new Promise<void>((resolve) => {
      const { disturbances } = running.host;
      const note = (answer: CallAnswer): void => {
        call.undisturbed = disturbances === running.host.disturbances;
        call.answer = answer;
        call.answeredAt = world.now;
        call.versionAtAnswer = store.versions.get(call.stream) ?? 0;
        history.note(world.now, `${call.id} ${describeAnswer(answer)}`);
        coverage.count(answer.kind === "error" ? `answer ${answer.code}` : answer.kind === "accepted" && answer.events.length === 0 ? "answer nothing to do" : `answer ${answer.kind}`);
        resolve();
      };
      const settled = this.#settling(running, describeCall(call), () => note({ kind: "lost" }));
      ask().then(
        (answer) => {
          if (settled()) note(answer);
        },
        (error: unknown) => {
          if (!settled()) return;
          const { code, message, details, retryable } = failureOf(error);
          note({ kind: "error", code, message, details: { ...details, retryable } });
        },
      );
    });
  }

  /** Something that a process has to answer; `lost` is called when it dies before. The result ends the waiting, and tells whether it was still open. */
  #settling({ host }: Running, what: string, lost: () => void): () => boolean {
    const end = (): boolean => this.open.delete(what);
    this.open.add(what);
    host.onDeath(() => {
      if (end()) lost();
    });
    return end;
  }

  #learn(told: Session | undefined, { app }: Running, stream: string, version: number, token: string): void {
    if (told === undefined) return;
    raise(told.streams, stream, version);
    told.token = app.mergeTokens(...(told.token === undefined ? [] : [told.token]), token);
  }
}

export function streamOf({ aggregate, id }: Wish): string {
  return `${aggregate.name}-${id}`;
}

function raise(map: Map<string, number>, key: string, value: number): void {
  map.set(key, Math.max(map.get(key) ?? 0, value));
}

interface Failure {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;
}

function failureOf(error: unknown): Failure {
  const { code, message, retryable, details } = error as { readonly code?: unknown; readonly message?: unknown; readonly retryable?: unknown; readonly details?: Readonly<Record<string, unknown>> };
  return { code: typeof code === "string" ? code : "an error of no known kind", message: String(message ?? error), retryable: retryable === true, details: details ?? {} };
}
