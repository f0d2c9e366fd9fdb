/**
 * What a command says: emitted events, nothing (`[]`), or a rejection. `emit` and `reject` may be destructured and cost nothing; what was said and not returned is noticed.
 */
import type { DecisionInputs } from "./behaviour.ts";
import type { Frozen } from "./json.ts";

/** The type an event's data has for readers; an event whose recipe takes no data carries `null`. */
export type DataOf<D> = [unknown] extends [D] ? null : Frozen<D>;

/** One of an aggregate's events: its type and its frozen data. */
export type EventOf<E> = { [K in keyof E & string]: { readonly type: K; readonly data: DataOf<E[K]> } }[keyof E & string];

/** A command's "yes", with the events it emits. */
export interface Emitted<E> {
  readonly ok: true;
  readonly events: readonly EventOf<E>[];
}

/** A command's "no": a literal code and typed details. It is a value of the domain, never an exception. */
export interface Rejected<C extends string, D = unknown> {
  readonly ok: false;
  readonly code: C;
  readonly details: D;
}

/** What a command returns. Several `emit`s stand in an array, in order; `[]` = nothing to do. */
export type Decision<E> = Emitted<E> | readonly Emitted<E>[] | Rejected<string>;

/** The parameters of `emit` after the event's type. */
export type DataArgs<D> = [unknown] extends [D] ? [] : [data: Frozen<D>];

/** Makes a rejection from a literal code and, where there is more to say, details. */
export interface Reject {
  <const C extends string>(code: C): Rejected<C, undefined>;
  <const C extends string, const D>(code: C, details: D): Rejected<C, D>;
}

/** What a decision may use beside state and input. All of it is injected and recorded, so that a decision can be repeated exactly. */
export interface Context<E> {
  readonly emit: <K extends keyof E & string>(type: K, ...data: DataArgs<E[K]>) => Emitted<E>;
  readonly reject: Reject;
  /** The time of this decision; the events' `recordedAt`. */
  readonly now: Date;
  /** A fresh id; the n-th call in a decision gives the same id when the decision is repeated. */
  readonly id: () => string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Version of the stream that the decision rests on; 0 = the stream holds nothing. */
  readonly version: number;
}

/** One emitted event, before it has a place in a stream. */
export interface Emission {
  readonly ok: true;
  readonly events: readonly { readonly type: string; readonly data: unknown }[];
}

/** What the decision under way has said so far; decisions are synchronous, so there is only one. */
export const said: { emitted: number; rejected: string | undefined } = { emitted: 0, rejected: undefined };

const emit = (type: string, data?: unknown): Emission => {
  said.emitted++;
  return { ok: true, events: [{ type, data: data === undefined ? null : data }] };
};
const reject = (code: string, details?: unknown): Rejected<string> => {
  said.rejected = code;
  return { ok: false, code, details };
};

/** The context of one decision: one small object; `now` is made only when it is asked for. */
export class DecisionContext {
  readonly #inputs: DecisionInputs;

  constructor(inputs: DecisionInputs) {
    this.#inputs = inputs;
  }

  get emit(): typeof emit {
    return emit;
  }
  get reject(): typeof reject {
    return reject;
  }
  get now(): Date {
    return new Date(this.#inputs.now);
  }
  get id(): () => string {
    return this.#inputs.id;
  }
  get metadata(): Readonly<Record<string, unknown>> {
    return this.#inputs.metadata;
  }
  get version(): number {
    return this.#inputs.version;
  }
}
