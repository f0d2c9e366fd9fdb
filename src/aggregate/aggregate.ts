/**
 * The domain DSL: one object literal that infers everything. Commands decide, events evolve.
 */
import type { Draft, Immutable } from "immer";
import type { Behaviour, PrepareContext, SnapshotPolicy } from "./behaviour.ts";
import type { reservedCommandNames, UntypedDefinition } from "./check-definition.ts";
import { compile } from "./compile.ts";
import type { Context, Decision, EventOf } from "./decision.ts";
import type { NotJson } from "./json.ts";
import type { Schema, SchemaInput, SchemaOutput } from "./schema.ts";
import type { Chained, TypesOf, Upcasters } from "./upcast.ts";

/** A kind of aggregate: its name (the category of its streams) and, for the compiler only, its types. Made by `aggregate()`. */
export interface Aggregate<N extends string, S, E, C> {
  readonly name: N;
  /** What the framework runs. */
  readonly "~behaviour": Behaviour;
  /** Never set; holds the types. */
  readonly "~types"?: { readonly state: S; readonly events: E; readonly commands: C };
}

/** Any aggregate. */
export type AnyAggregate = Aggregate<string, unknown, unknown, unknown>;

/** A command's types: what the caller passes, what `decide` gets, the rejections it can answer with, and whether `prepare` stands between. */
export interface CommandTypes<I, D, R, Q extends boolean = boolean> {
  readonly input: I;
  readonly decides: D;
  readonly rejection: R;
  readonly prepared: Q;
}

/** Names that no command may have. */
export type ReservedCommandName = (typeof reservedCommandNames)[number];

type InputFunction = (input: never, context: never) => unknown;
type ParameterOf<F> = F extends (input: infer I, context: never) => unknown ? I : never;
type ResultOf<F> = F extends (...parameters: never) => infer R ? Awaited<R> : never;

/** What `decide` gets where a schema or `prepare` says so; `never` = the command's own annotation decides. */
export type DecidesOn<K, X, P> = K extends keyof P ? ResultOf<P[K]> : K extends keyof X ? SchemaOutput<X[K]> : never;

/** The types of all commands, from the functions, schemas and preparations that define them. */
export type CommandsOf<C, X, P> = {
  readonly [K in keyof C]: C[K] extends (state: never, input: infer I, context: never) => infer R
    ? CommandTypes<K extends keyof X ? SchemaInput<X[K]> : K extends keyof P ? ParameterOf<P[K]> : I, I, Extract<R, { readonly ok: false }>, K extends keyof P ? true : false>
    : never;
};

/** A command: the frozen state and the input in, a decision out; pure and synchronous. */
export type Decide<S, E, I> = (state: Immutable<S>, input: I, context: Context<E>) => Decision<E>;

/** What `aggregate()` takes. The order matters to the compiler: `events`, `inputs` and `prepare` stand before `commands`. */
export interface Definition<S, E, C, X extends Readonly<Record<string, Schema>>, P, U extends Upcasters> {
  /** The state of a stream that holds nothing; plain data. */
  readonly initial: () => S;
  /** For each event an Immer recipe: it changes the state it is given and returns nothing. */
  readonly events: { readonly [K in keyof E]: (state: Draft<S>, data: E[K]) => void | undefined } & NotJson<E>;
  /** Standard Schemas of inputs; those commands need no annotation. A bad input is refused before the mailbox. */
  readonly inputs?: X;
  /** What a decision needs from elsewhere: runs before the mailbox; what it returns is the command's input, what it takes is the caller's. */
  readonly prepare?: { readonly [K in keyof P]: P[K] & ((input: K extends keyof X ? SchemaOutput<X[K]> : never, context: PrepareContext) => unknown) };
  /** Pure, synchronous decisions: `emit(…)`, an array of them, `[]` for nothing to do, or `reject(code, details?)`. */
  readonly commands: { readonly [K in keyof C]: C[K] & Decide<S, E, DecidesOn<K, X, P>> } & {
    readonly [K in keyof C as K extends ReservedCommandName ? K : never]: "this name is reserved";
  };
  /** When to take a snapshot; what is given is combined by "or". */
  readonly snapshot?: SnapshotPolicy<Immutable<NoInfer<S>>>;
  /** For each event type, steps from one schema version of its data to the next. */
  readonly upcasters?: U & Chained<NoInfer<E>, U>;
  /** Old names of event types. */
  readonly renamed?: Readonly<Record<string, TypesOf<NoInfer<E>>>>;
}

/** Defines a kind of aggregate; everything is inferred from the definition. Errors: InvalidArgument, at once, for names and options that are not allowed. */
export function aggregate<
  const N extends string,
  S,
  E,
  C,
  const X extends Readonly<Record<string, Schema>> = Readonly<Record<never, Schema>>,
  P = Readonly<Record<never, InputFunction>>,
  U extends Upcasters = Readonly<Record<never, Readonly<Record<number, InputFunction>>>>,
>(name: N, definition: Definition<S, E, C, X, P, U>): Aggregate<N, S, E, CommandsOf<C, X, P>> {
  return Object.freeze({ name, "~behaviour": compile(name, definition as unknown as UntypedDefinition) });
}

/** The untyped behaviour of an aggregate: pure functions that the rest of the house runs. */
export function behaviourOf(kind: AnyAggregate): Behaviour {
  return kind["~behaviour"];
}

/** The frozen state of an aggregate. */
export type StateOf<A> = A extends Aggregate<string, infer S, unknown, unknown> ? Immutable<S> : never;

/** The union of an aggregate's events: type and frozen data. */
export type EventsOf<A> = A extends Aggregate<string, unknown, infer E, unknown> ? EventOf<E> : never;

type CommandMap<A> = A extends Aggregate<string, unknown, unknown, infer C> ? C : never;

/** The names of an aggregate's commands. */
export type CommandNames<A> = keyof CommandMap<A> & string;

/** What the caller passes to a command. */
export type InputOf<A, K extends CommandNames<A>> = CommandMap<A>[K] extends CommandTypes<infer I, unknown, unknown> ? I : never;

/** What a command decides on: the input after its schema and `prepare`. */
export type DecisionInputOf<A, K extends CommandNames<A>> = CommandMap<A>[K] extends CommandTypes<unknown, infer P, unknown> ? P : never;

/** The rejections that a command can answer with; `never` = none. */
export type RejectionOf<A, K extends CommandNames<A>> = CommandMap<A>[K] extends CommandTypes<unknown, unknown, infer R> ? R : never;

/** The parameters of a call: a command without input is called without one, options come last. */
export type Args<I, O = never> = [I] extends [never]
  ? [input?: undefined, ...Options<O>]
  : [unknown] extends [I]
    ? [input?: undefined, ...Options<O>]
    : [I] extends [void]
      ? [input?: undefined, ...Options<O>]
      : undefined extends I
        ? [input?: I, ...Options<O>]
        : [input: I, ...Options<O>];

type Options<O> = [O] extends [never] ? [] : [options?: O];
