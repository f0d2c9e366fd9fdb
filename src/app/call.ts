/**
 * A call of a command: what it may say beside its input, what it is answered, and the one function that may stand around it.
 */
import type { CommandNames, EventsOf, RejectionOf } from "../aggregate/aggregate.ts";

/** What a call of a command may say beside its input. */
export interface CallOptions {
  /** The version that the caller saw (0 = nothing): anything else is `WrongExpectedVersion`, never retried over. */
  readonly expectedVersion?: number;
  /** The same id again changes the stream once and answers the same; see docs/guarantees.md for the window. */
  readonly commandId?: string;
  /** The decision rests at least on what this token names of the stream. */
  readonly atLeast?: string;
  /** Before the decision: the command is never decided. After it: the call answers what happened. */
  readonly signal?: AbortSignal;
  /** Milliseconds from the call; passed before the decision: `DeadlineExceeded`, and the command is never decided. Default: the actors' `commandTimeoutMs`. */
  readonly deadlineMs?: number;
  /** Recorded with the events, and seen by the decision as `context.metadata`. Plain JSON. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** Default: the command's own id. */
  readonly correlationId?: string;
  /** Default: the command's own id. */
  readonly causationId?: string;
  /** W3C trace context. */
  readonly traceparent?: string;
  /** "cache": an answer that appends nothing is not confirmed with the store; it may rest on an older version. */
  readonly from?: "store" | "cache";
}

/** The command was accepted; its events stand, durably. No events: there was nothing to do. */
export interface Accepted<E> {
  readonly ok: true;
  /** Version of the stream after the command's last event; of the decision where there was none. */
  readonly version: number;
  /** A read with this token sees the command's events. */
  readonly token: string;
  readonly events: readonly E[];
}

/** Where a decision that changed nothing was made. */
export interface DecidedAt {
  readonly version: number;
  /** A read with this token sees the state that the decision rests on. */
  readonly token: string;
}

type WithDecidedAt<R> = R extends unknown ? R & { readonly decidedAt: DecidedAt } : never;

/** What a command answers: accepted, or one of its rejections with the version it was decided on. */
export type CommandResult<A, K extends CommandNames<A>> = Accepted<EventsOf<A>> | WithDecidedAt<RejectionOf<A, K>>;

export interface StateOptions {
  readonly atLeast?: string;
  readonly signal?: AbortSignal;
  readonly deadlineMs?: number;
  readonly from?: "store" | "cache";
}

/** An aggregate's state, frozen, with the version it stands at. */
export interface StateAnswer<S> extends DecidedAt {
  readonly state: S;
}

/** What `execute` answers. */
export type UntypedResult =
  Accepted<{ readonly type: string; readonly data: unknown }> | { readonly ok: false; readonly code: string; readonly details: unknown; readonly decidedAt: DecidedAt };

/** A command on its way in. */
export interface CommandCall {
  readonly category: string;
  readonly id: string;
  readonly stream: string;
  readonly command: string;
  /** As the caller gave it, not yet parsed. */
  readonly input: unknown;
  readonly options: CallOptions;
}

/** One function around every command: call `next` with the same or other input and options, look at its answer, or throw instead. */
export type CommandMiddleware = (call: CommandCall, next: (change?: { readonly input?: unknown; readonly options?: CallOptions }) => Promise<UntypedResult>) => Promise<UntypedResult>;
