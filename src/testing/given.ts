/**
 * Domain tests without a store: `given(Order, [events]).when("ship", { carrier: "dhl" }).then([events])`.
 *
 * All of it is synchronous. Time stands still, ids count up, and event data goes through JSON as it would in a store.
 * A test starts where the decision does: input passes the command's schema, but `prepare` is not run; for such a command give what `prepare` would return.
 */
import assert from "node:assert/strict";
import { behaviourOf, type Aggregate, type AnyAggregate, type Args, type CommandNames, type CommandTypes, type RejectionOf, type StateOf } from "../aggregate/aggregate.ts";
import type { Decided, DomainEvent } from "../aggregate/behaviour.ts";
import { freezeData, type Frozen } from "../aggregate/json.ts";
import { isThenable } from "../aggregate/schema.ts";
import { InvalidArgument } from "../errors.ts";

/** An event in a test: `{ type, data }`; without `data` where the event has none. */
export type GivenEvent<A> =
  A extends Aggregate<string, unknown, infer E, unknown>
    ? { [K in keyof E & string]: [unknown] extends [E[K]] ? { readonly type: K; readonly data?: null } : { readonly type: K; readonly data: Frozen<E[K]> } }[keyof E & string]
    : never;

type CommandOf<A, K> = A extends Aggregate<string, unknown, unknown, infer C> ? (K extends keyof C ? C[K] : never) : never;

/** What `when` takes: the caller's input, or what `prepare` returns where the command has one. */
export type WhenInput<A, K> =
  CommandOf<A, K> extends CommandTypes<infer I, infer D, unknown, infer Q> ? ([Q] extends [true] ? D : I) : never;

type RejectionLike<R> = R extends { readonly code: infer C; readonly details: infer D } ? { readonly rejected: C; readonly details?: D } : never;

/** A rejection that a test expects; `details` is compared when it is given. */
export type GivenRejection<A, K extends CommandNames<A>> = RejectionLike<RejectionOf<A, K>>;

export interface GivenOptions {
  /** The time of the decision; default 2026-01-01T00:00:00Z. */
  readonly now?: Date;
  /** Default: 00000000-0000-4000-8000-000000000001 and so on. */
  readonly id?: () => string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** What the command said, and the state after it; what `await` gives. */
export type GivenOutcome<A> = Decided & { readonly state: StateOf<A> };

export interface Then<A, K extends CommandNames<A>> {
  readonly outcome: GivenOutcome<A>;
  /**
   * Compares, deeply, the emitted events or the rejection with what is expected; throws node's AssertionError with a diff.
   * Awaiting the object gives `outcome`: the run time's own call of `then` is told by its two callbacks.
   */
  then(expected: readonly GivenEvent<A>[] | GivenRejection<A, K>): this;
  /** Compares the state after the command with a value, or hands it to a function that looks at it. */
  thenState(expected: StateOf<A> | ((state: StateOf<A>) => void)): this;
}

export interface Given<A> {
  readonly state: StateOf<A>;
  /** Decides. Errors: InvalidInput, DomainCodeFailed, UnserialisableData, as the app would. */
  when<K extends CommandNames<A>>(command: K, ...input: Args<WhenInput<A, K>>): Then<A, K>;
}

const DEFAULT_NOW = Date.UTC(2026, 0, 1);

/** Starts a domain test from the events that happened before. Errors: EventUnreadable, UnknownEventType. */
export function given<A extends AnyAggregate>(kind: A, events: readonly GivenEvent<A>[] = [], options: GivenOptions = {}): Given<A> {
  const behaviour = behaviourOf(kind);
  const stream = `${behaviour.category}-given`;
  const before = behaviour.evolve(behaviour.initial(), events.map(asStored), { stream, version: 1 });
  let ids = 0;
  const inputs = {
    now: options.now?.getTime() ?? DEFAULT_NOW,
    id: options.id ?? (() => `00000000-0000-4000-8000-${String(++ids).padStart(12, "0")}`),
    metadata: options.metadata ?? {},
    version: events.length,
  };
  return {
    state: before as StateOf<A>,
    when(command, ...[input]) {
      const parsed: unknown = behaviour.prepare(command) === undefined ? behaviour.parseInput(command, input) : input;
      if (isThenable(parsed)) {
        parsed.then(undefined, () => undefined);
        throw new InvalidArgument(`the schema of ${behaviour.category}.${command} is asynchronous; given/when/then is not: parse first`);
      }
      const said = behaviour.decide(before, command, parsed, inputs);
      const decided: Decided = said.ok ? { ok: true, events: said.events.map(asStored) } : said;
      const state = decided.ok ? behaviour.evolve(before, decided.events, { stream, version: events.length + 1 }) : before;
      return thenOf({ ...decided, state: state as StateOf<A> });
    },
  };
}

function thenOf<A, K extends CommandNames<A>>(outcome: GivenOutcome<A>): Then<A, K> {
  const result = {
    outcome,
    // oxlint-disable-next-line unicorn/no-thenable -- the word of given/when/then; `await` is answered with the outcome
    then(expected: unknown): unknown {
      if (typeof expected === "function") return (expected as (value: unknown) => unknown)(outcome); // `await`
      const said = outcome.ok ? outcome.events : { rejected: outcome.code, details: outcome.details };
      if (Array.isArray(expected)) assert.deepStrictEqual(said, (expected as DomainEvent[]).map(asStored));
      else assert.deepStrictEqual(outcome.ok || "details" in (expected as object) ? said : { rejected: outcome.code }, expected);
      return result;
    },
    thenState(expected: unknown): unknown {
      if (typeof expected === "function") (expected as (state: unknown) => void)(outcome.state);
      else assert.deepStrictEqual(outcome.state, expected);
      return result;
    },
  };
  return result as unknown as Then<A, K>;
}

/** What a store would give back. */
function asStored(event: { readonly type: string; readonly data?: unknown }): DomainEvent {
  return { type: event.type, data: freezeData(JSON.parse(JSON.stringify(event.data ?? null)) as unknown) };
}
