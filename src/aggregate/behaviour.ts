/**
 * What the rest of the house knows of an aggregate: pure functions over untyped values. `aggregate()` makes one from a definition.
 * No I/O, no clock, no randomness: everything a decision depends on comes in through its arguments.
 */

/** An event in its current form: upcast, decoded (or as JSON will give it back), frozen. */
export interface DomainEvent {
  readonly type: string;
  readonly data: unknown;
}

/** What a command decided. */
export type Decided =
  { readonly ok: true; readonly events: readonly DomainEvent[] } | { readonly ok: false; readonly code: string; readonly details: unknown };

/** What is injected into a decision, and recorded, so that it can be repeated exactly. */
export interface DecisionInputs {
  /** Milliseconds since the epoch; recorded as the events' `recordedAt`. */
  readonly now: number;
  /** The n-th call of `id()` in one decision is derived from (stream, command id, n). */
  readonly id: () => string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Version of the stream that the decision rests on. */
  readonly version: number;
}

/** When to take a snapshot; what is given is combined by "or". */
export interface SnapshotPolicy<S = unknown> {
  /** At least this many events since the last snapshot. */
  readonly everyEvents?: number;
  /** At least this many milliseconds since the last snapshot, when there is a new event. */
  readonly everyMs?: number;
  readonly when?: (state: S, since: { readonly events: number; readonly ms: number }) => boolean;
  /** Grows whenever the shape of the state changes; other versions are ignored. Default 1. */
  readonly schemaVersion?: number;
}

export interface Behaviour {
  readonly category: string;
  readonly commands: readonly string[];
  readonly eventTypes: readonly string[];
  readonly snapshot: SnapshotPolicy | undefined;
  /** Frozen. */
  initial(): unknown;
  /**
   * Decides synchronously. The state comes in frozen. Errors: UnknownCommand, UnserialisableData, DomainCodeFailed with the domain's error as cause.
   */
  decide(state: unknown, command: string, input: unknown, inputs: DecisionInputs): Decided;
  /**
   * Folds events in order with one Immer draft; the result is frozen. `at` names the place for errors: the stream, and the version of the first of the events.
   * Errors: UnknownEventType, EventUnreadable (the recipe threw; cause).
   */
  evolve(state: unknown, events: readonly DomainEvent[], at: { readonly stream: string; readonly version: number }): unknown;
  /** Brings a decoded event of an older schema version (or an old name) to its current form. Errors: UnknownEventType, EventUnreadable. */
  upcast(type: string, schemaVersion: number, data: unknown, at: { readonly stream: string; readonly version: number }): DomainEvent;
  /** The version in which new events of this type are written. */
  schemaVersionOf(type: string): number;
  /** Input through its Standard Schema, where the command has one; otherwise the input itself. May be asynchronous. Errors: InvalidInput, UnknownCommand. */
  parseInput(command: string, input: unknown): unknown;
  /** Runs the command's `prepare`, where it has one; otherwise undefined is returned and the input stands. */
  readonly prepare: (command: string) => ((input: unknown, context: PrepareContext) => unknown) | undefined;
}

/** What an asynchronous `prepare` may use; it runs before the mailbox and may run more than once for one command id. */
export interface PrepareContext {
  readonly signal: AbortSignal | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
}
