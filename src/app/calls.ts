/**
 * From a call to an actor and back: options checked, input parsed and prepared, answers with their tokens.
 */
import type { Behaviour } from "../aggregate/behaviour.ts";
import { jsonImage } from "../aggregate/json.ts";
import { isThenable } from "../aggregate/schema.ts";
import type { ActorPorts } from "../actor/actor-ports.ts";
import { assertCommandId } from "../actor/command-id.ts";
import { fingerprint } from "../actor/fingerprint.ts";
import { PendingCommand, type ActorAnswer, type Asker, type CommandRequest } from "../actor/pending-command.ts";
import type { Registry } from "../actor/registry.ts";
import { requirementOf } from "../consistency/freshness.ts";
import type { TokenCodec } from "../consistency/token-codec.ts";
import { Aborted, DeadlineExceeded, InvalidArgument } from "../errors.ts";
import { MAX_TIMER_MS, type Environment } from "../environment.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import { merge, START, type Position } from "../store/position.ts";
import type { CallOptions, CommandMiddleware, StateAnswer, StateOptions, UntypedResult } from "./call.ts";

/** One aggregate instance, as calls know it. */
export class Target implements Asker {
  readonly id: string;
  readonly stream: string;
  readonly ports: ActorPorts;
  readonly #tokens: TokenCodec;
  readonly #storeId: string;

  constructor(id: string, stream: string, ports: ActorPorts, { tokens, storeId }: Pick<CallPorts, "tokens" | "storeId">) {
    this.id = id;
    this.stream = stream;
    this.ports = ports;
    this.#tokens = tokens;
    this.#storeId = storeId;
  }

  result(answer: ActorAnswer, position: Position): UntypedResult | StateAnswer<unknown> {
    const { version } = answer;
    const token = this.#tokens.encode([{ store: this.#storeId, category: this.ports.behaviour.category, id: this.id, version, position }]);
    if (answer.kind === "accepted") return { ok: true, version, token, events: answer.events };
    if (answer.kind === "rejected") return { ok: false, code: answer.code, details: answer.details, decidedAt: { version, token } };
    return { state: answer.state, version, token };
  }
}

export interface CallPorts {
  readonly registry: Registry;
  readonly tokens: TokenCodec;
  readonly storeId: string;
  readonly environment: Environment;
  readonly middleware: CommandMiddleware | undefined;
}

const NO_OPTIONS: CallOptions = Object.freeze({});
const NO_METADATA: Readonly<Record<string, unknown>> = Object.freeze({});

export class Calls {
  readonly #ports: CallPorts;
  /** Calls before their mailbox. */
  readonly #preparing = new Set<AbortController>();

  constructor(ports: CallPorts) {
    this.#ports = ports;
  }

  /** Ends the calls that are not in a mailbox yet. */
  close(reason: Error): void {
    for (const call of this.#preparing) call.abort(reason);
  }

  /** Never throws: what is wrong with the call rejects. */
  command(target: Target, command: string, input: unknown, options: CallOptions = NO_OPTIONS): Promise<UntypedResult> {
    try {
      const { middleware } = this.#ports;
      if (middleware === undefined) return this.#run(target, command, input, options);
      const { id, stream } = target;
      const call = { category: target.ports.behaviour.category, id, stream, command, input, options };
      return Promise.resolve(
        middleware(call, (changed) => {
          const change = changed ?? {};
          try {
            return this.#run(target, command, "input" in change ? change.input : input, change.options ?? options);
          } catch (error) {
            return Promise.reject(error as Error);
          }
        }),
      ).then((result: UntypedResult | undefined) => {
        if (result === undefined) throw new InvalidArgument(`the middleware gave no answer to ${command}: return what next() gives`, { details: { stream, command } });
        return result;
      });
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  state(target: Target, options: StateOptions = NO_OPTIONS): Promise<StateAnswer<unknown>> {
    try {
      checkOptions(options);
      return this.#send(target, this.#request(target, undefined, undefined, undefined, options), options, this.#ports.environment.clock.elapsed()) as Promise<StateAnswer<unknown>>;
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  /** Errors: InvalidArgument, InvalidInput, UnknownCommand; and, as rejections, all others. */
  #run(target: Target, command: string, input: unknown, options: CallOptions): Promise<UntypedResult> {
    checkOptions(options);
    const { behaviour } = target.ports;
    const parsed = behaviour.parseInput(command, input);
    const prepare = behaviour.prepare(command);
    if (prepare === undefined && !isThenable(parsed)) return this.#decided(target, command, input, parsed, options, this.#ports.environment.clock.elapsed());
    return this.#prepared(target, command, input, parsed, prepare, options);
  }

  /** What is asynchronous before the mailbox has the bound of the call. */
  async #prepared(target: Target, command: string, input: unknown, parsing: unknown, prepare: ReturnType<Behaviour["prepare"]>, options: CallOptions): Promise<UntypedResult> {
    const { clock } = this.#ports.environment;
    if (isThenable(parsing)) parsing.then(undefined, () => undefined); // should nobody wait for it any more
    this.#ports.registry.begin(target.stream);
    const begun = clock.elapsed();
    const boundMs = options.deadlineMs ?? target.ports.options.commandTimeoutMs;
    const given = new AbortController();
    const details = { stream: target.stream, command };
    const timer = clock.setTimer(boundMs, () => given.abort(new DeadlineExceeded(`the deadline of ${command} on ${target.stream} passed before it was decided; it changed nothing`, { details, retryable: true })));
    const onAbort = (): void => given.abort(new Aborted(`${command} on ${target.stream} was aborted before it was decided`, { details, cause: options.signal?.reason as unknown }));
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    let decides: unknown;
    this.#preparing.add(given);
    try {
      decides = await orAborted(given.signal, async () => {
        const parsed = await (parsing as Promise<unknown>);
        return prepare === undefined ? parsed : await prepare(parsed, { signal: given.signal, metadata: options.metadata ?? NO_METADATA });
      });
    } finally {
      this.#ports.registry.end();
      this.#preparing.delete(given);
      timer.cancel();
      options.signal?.removeEventListener("abort", onAbort);
    }
    return this.#decided(target, command, input, decides, options, begun);
  }

  #decided(target: Target, command: string, input: unknown, decides: unknown, options: CallOptions, begun: number): Promise<UntypedResult> {
    const print = options.commandId === undefined ? undefined : fingerprint(command, input);
    const request = this.#request(target, command, decides, print, options);
    return this.#send(target, request, options, begun) as Promise<UntypedResult>;
  }

  #send(target: Target, request: CommandRequest, { deadlineMs, signal }: StateOptions, begun: number): Promise<unknown> {
    const { environment, registry } = this.#ports;
    const mustEndBy = begun + Math.max(target.ports.options.commandTimeoutMs, deadlineMs ?? 0);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const command = new PendingCommand(target, request, mustEndBy, resolve, reject);
    command.bound(environment.clock, deadlineMs === undefined ? undefined : Math.max(0, deadlineMs - (environment.clock.elapsed() - begun)), signal);
    if (!command.answered) registry.send(command, target.ports);
    return promise;
  }

  #request(target: Target, command: string | undefined, input: unknown, print: string | undefined, options: CallOptions): CommandRequest {
    const { leastVersion, leastPosition } = options.atLeast === undefined ? NOTHING_ASKED : this.#least(target, options.atLeast);
    return {
      command,
      input,
      commandId: options.commandId ?? this.#ports.environment.random.uuid(),
      fingerprint: print,
      leastVersion,
      leastPosition,
      // A copy: what the caller does with its own afterwards is no part of the call.
      options: options === NO_OPTIONS ? options : options.metadata === undefined ? { ...options } : { ...options, metadata: jsonImage(options.metadata, "the call's metadata", {}) as NonNullable<CallOptions["metadata"]> },
    };
  }

  /** What a token asks of this stream: a version, where it names the stream, and a position, where it names none. */
  #least(target: Target, token: string): Pick<CommandRequest, "leastVersion" | "leastPosition"> {
    const { tokens, storeId } = this.#ports;
    const { category } = target.ports.behaviour;
    const entries = tokens.decode(token);
    requirementOf(entries, storeId, [category]);
    let leastVersion = 0;
    let leastPosition: Position | undefined;
    for (const entry of entries) {
      if (entry.store !== storeId || entry.category !== category) continue;
      if (entry.id === undefined) leastPosition = merge(leastPosition ?? START, entry.position);
      else if (entry.id === target.id) leastVersion = Math.max(leastVersion, entry.version);
    }
    return { leastVersion, leastPosition };
  }
}

const NOTHING_ASKED = { leastVersion: 0, leastPosition: undefined } as const;

const NAMES: OptionNames<CallOptions> = {
  expectedVersion: true,
  commandId: true,
  atLeast: true,
  signal: true,
  deadlineMs: true,
  metadata: true,
  correlationId: true,
  causationId: true,
  traceparent: true,
  from: true,
};

/** Errors: InvalidArgument that names the option. */
function checkOptions(options: CallOptions): void {
  if (options === NO_OPTIONS) return;
  assertKnown(options, NAMES, "a call");
  const { expectedVersion, commandId, deadlineMs, metadata, from } = options;
  if (expectedVersion !== undefined && !(Number.isSafeInteger(expectedVersion) && expectedVersion >= 0)) throw refused("expectedVersion", "a whole number from 0");
  if (deadlineMs !== undefined && !(deadlineMs > 0 && deadlineMs <= MAX_TIMER_MS)) throw refused("deadlineMs", `a number above 0 and at most ${MAX_TIMER_MS}`);
  if (from !== undefined && from !== "store" && from !== "cache") throw refused("from", '"store" or "cache"');
  if (commandId !== undefined) assertCommandId(commandId);
  for (const name of ["correlationId", "causationId", "traceparent"] as const) {
    const text = options[name];
    if (text !== undefined && (typeof text !== "string" || text.length === 0 || text.length > MAX_TEXT)) throw refused(name, `text of 1 to ${MAX_TEXT} characters`);
  }
  if (metadata !== undefined && (typeof metadata !== "object" || metadata === null || Array.isArray(metadata))) throw refused("metadata", "an object");
}

const MAX_TEXT = 1024;

function refused(option: string, allowed: string): InvalidArgument {
  return new InvalidArgument(`the option ${option} of a call must be ${allowed}`, { details: { option } });
}

function orAborted<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work().then(resolve, reject);
  });
}
