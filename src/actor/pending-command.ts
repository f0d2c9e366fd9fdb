/**
 * A command on its way through an actor: waiting, sent with an append, answered. It is answered exactly once, whatever comes first.
 *
 * C1 Deadline or signal end a command only while no append that holds its events is under way: from then on it answers what happened.
 * C2 What was ended is never decided, and never decided again after a conflict.
 * C3 A command whose deadline passed while its append was under way is told `OutcomeUnknown` once the store has said that it does not know, or at the hard bound of `expire`.
 * C4 A question for the state has no outcome: one that cannot be answered in time is told `DeadlineExceeded`, also where it waits for events that are under way.
 */
import { Aborted, DeadlineExceeded, OutcomeUnknown } from "../errors.ts";
import type { Clock, Timer } from "../environment.ts";
import type { DomainEvent } from "../aggregate/behaviour.ts";
import type { Position } from "../store/position.ts";

/** What an actor answers. `version`: of the stream after the command, or of the decision where it changed nothing. */
export type ActorAnswer =
  | { readonly kind: "accepted"; readonly version: number; readonly events: readonly DomainEvent[] }
  | { readonly kind: "rejected"; readonly version: number; readonly code: string; readonly details: unknown }
  | { readonly kind: "state"; readonly version: number; readonly state: unknown };

/** Who a command is for: turns its answer into what the caller gets. `position` covers everything that the answer rests on. */
export interface Asker {
  readonly stream: string;
  result(answer: ActorAnswer, position: Position): unknown;
}

/** What a caller may say beside the input, as far as actors know it. */
export interface RequestOptions {
  readonly expectedVersion?: number;
  readonly from?: "store" | "cache";
  /** The actor's own copy. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly correlationId?: string;
  readonly causationId?: string;
  readonly traceparent?: string;
}

/** What a caller asks of an actor. */
export interface CommandRequest {
  /** Undefined: no command, only the state is asked for. */
  readonly command: string | undefined;
  readonly input: unknown;
  readonly commandId: string;
  /** Present when the caller chose the command id: then it stands in the stream's window. */
  readonly fingerprint: string | undefined;
  /** The decision rests on this version at least. */
  readonly leastVersion: number;
  /** An answer from the cache has seen everything up to here. */
  readonly leastPosition: Position | undefined;
  readonly options: RequestOptions;
}

/** How many commands of a process have no answer yet, and how many ended with an error. */
export interface Load {
  pending: number;
  failed: number;
}

export class PendingCommand {
  readonly request: CommandRequest;
  /** The hard bound, by `clock.elapsed()`. */
  readonly mustEndBy: number;
  /** Decisions so far. */
  attempts = 0;
  /** Counts it while it has no answer. */
  load: Load | undefined;
  #answered = false;
  #sent = false;
  #overdue = false;
  readonly #asker: Asker;
  readonly #resolve: (result: unknown) => void;
  readonly #reject: (error: unknown) => void;
  #release: (() => void) | undefined;
  #signal: AbortSignal | undefined;

  constructor(asker: Asker, request: CommandRequest, mustEndBy: number, resolve: (result: unknown) => void, reject: (error: unknown) => void) {
    this.#asker = asker;
    this.request = request;
    this.mustEndBy = mustEndBy;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get stream(): string {
    return this.#asker.stream;
  }

  /** Arms the caller's own deadline and signal; costs nothing for calls without them. */
  bound(clock: Clock, deadlineMs: number | undefined, signal: AbortSignal | undefined): void {
    if (deadlineMs === undefined && signal === undefined) return;
    let timer: Timer | undefined;
    const onAbort = (): void => this.#end(signal);
    if (deadlineMs !== undefined) {
      timer = clock.setTimer(deadlineMs, () => {
        this.#overdue = true;
        this.#end(undefined);
      });
    }
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#release = () => {
      timer?.cancel();
      signal?.removeEventListener("abort", onAbort);
    };
    this.#signal = signal;
    if (signal?.aborted === true) onAbort();
  }

  get answered(): boolean {
    return this.#answered;
  }

  /** Its events are in an append that is under way. */
  sent(): void {
    this.#sent = true;
  }

  /** They were not written, for certain; false when it was meanwhile ended (C2). */
  notWritten(): boolean {
    this.#sent = false;
    if (this.#overdue) this.#end(undefined);
    else if (this.#signal?.aborted === true) this.#end(this.#signal);
    return !this.#answered;
  }

  /** The store does not know (C3). */
  outcomeUnknown(cause: unknown): void {
    if (this.#overdue) this.#giveUp(cause);
  }

  /** The hard bound: nothing waits longer. */
  expire(): void {
    this.#overdue = true;
    if (this.#sent) this.#giveUp(undefined);
    else this.#end(undefined);
  }

  answer(answer: ActorAnswer, position: Position): void {
    if (this.#close()) this.#resolve(this.#asker.result(answer, position));
  }

  fail(error: unknown): void {
    if (!this.#close()) return;
    if (this.load !== undefined) this.load.failed++;
    this.#reject(error);
  }

  /** As `fail`, but honest about events that are under way. */
  abandon(error: Error): void {
    if (this.#sent && !this.#isQuestion) this.#giveUp(error);
    else this.fail(error);
  }

  /** C4: for the state, which rests on events that are under way. */
  get #isQuestion(): boolean {
    return this.request.command === undefined;
  }

  get #details(): { readonly stream: string; readonly commandId: string } {
    return { stream: this.stream, commandId: this.request.commandId };
  }

  #giveUp(cause: unknown): void {
    if (this.#isQuestion) return this.fail(this.#late(cause));
    this.fail(
      new OutcomeUnknown(`nobody knows yet whether the events of the command stand in ${this.stream}: send it again with the same commandId (${this.request.commandId})`, {
        retryable: true,
        details: this.#details,
        ...(cause === undefined ? {} : { cause }),
      }),
    );
  }

  /** C1. */
  #end(signal: AbortSignal | undefined): void {
    if (this.#sent || this.#answered) return;
    if (signal?.aborted === true) this.fail(new Aborted(`the command on ${this.stream} was aborted before it was decided`, { details: this.#details, cause: signal.reason as unknown }));
    else this.fail(this.#late(undefined));
  }

  #late(cause: unknown): DeadlineExceeded {
    const what = this.#isQuestion ? `the question for the state of ${this.stream} passed before the state was known; it changed nothing` : `the command on ${this.stream} passed before it was decided; it changed nothing and never will`;
    return new DeadlineExceeded(`the deadline of ${what}`, { details: this.#details, retryable: true, ...(cause === undefined ? {} : { cause }) });
  }

  #close(): boolean {
    if (this.#answered) return false;
    this.#answered = true;
    if (this.load !== undefined) this.load.pending--;
    this.#release?.();
    this.#release = undefined;
    return true;
  }
}
