/**
 * Folds events into a state with drafts (draft.ts).
 *
 * F1 The result equals folding one event per draft, whatever stands in one call: live state, a page of history and a snapshot agree.
 * F2 One draft holds all events of a call. Two things that a shared draft would do otherwise are found and done again in smaller drafts:
 *    a) a recipe writes to what an earlier one put in from its (frozen) event data: it throws, and a new draft starts before that event;
 *    b) one object stands at two places of the state: a write through one of them would show at both. Recipes that do so are found by looking at the first
 *       `SAMPLES` events of each type, which are folded alone, at what is put at a place of the state itself, and at the end of each call; from then on the aggregate
 *       gets one draft per event, for good. (What is left: a recipe that does so deeper in the state, or with a new object, only in a rare branch, in one call with
 *       a write through one place and the loss of the other.)
 *    Recipes are pure, so running one again is harmless; no event is run more than three times.
 * F3 The result is frozen throughout and plain data: what JSON, and so a snapshot, could not hold is refused.
 * F4 A call that throws leaves the state as it was.
 */
import type { DomainEvent } from "./behaviour.ts";
import { draftOf, finish } from "./draft.ts";

export type Recipe = (state: never, data: never) => unknown;

/** Applies an event to a draft; throws when the recipe does, or when it returns something. */
export type Apply = (draft: unknown, event: DomainEvent) => void;

/** Events of each type that are looked at for F2b. */
const SAMPLES = 8;
/** Objects that one look visits at most: a large state is not walked in full. */
const LOOK_LIMIT = 2_000;

/** What is known of an aggregate's recipes: whether its events may share a draft (F2b). */
export class Sharing {
  allowed = true;
  readonly #left: Map<string, number>;

  constructor(types: readonly string[]) {
    this.#left = new Map(types.map((type) => [type, SAMPLES]));
  }

  /** How many events from `from` on may stand in one draft. */
  stretch(events: readonly DomainEvent[], from: number): number {
    if (!this.allowed) return 1;
    if (this.#left.size === 0) return events.length - from;
    let to = from;
    while (to < events.length && !this.#left.has((events[to] as DomainEvent).type)) to++;
    return Math.max(1, to - from);
  }

  /** Looks at the state that an event of this type left, while its samples last. */
  look(type: string, state: unknown): void {
    const left = this.#left.get(type);
    if (left === undefined) return;
    if (left === 1) this.#left.delete(type);
    else this.#left.set(type, left - 1);
    if (standsTwice(state, new Set())) this.allowed = false;
  }
}

/** The recipe of event `index` failed. */
export class FoldFailed extends Error {
  readonly index: number;
  constructor(index: number, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.index = index;
  }
}

/** Folds events into a state. Errors: FoldFailed. */
export function foldInto(state: unknown, events: readonly DomainEvent[], apply: Apply, sharing: Sharing): unknown {
  let current = state;
  let from = 0;
  while (from < events.length) {
    const to = from + sharing.stretch(events, from);
    if (to - from === 1) {
      current = single(current, events, apply, from);
      if (sharing.allowed) sharing.look((events[from] as DomainEvent).type, current);
      from = to;
      continue;
    }
    const whole = shared(current, events, apply, from, to, sharing);
    if (whole.reached < to) current = shared(current, events, apply, from, whole.reached, sharing).state; // F2a
    else current = whole.state;
    from = whole.reached;
  }
  return current;
}

/** What made `run` stop early. */
let failure: unknown;

/** Applies events until one throws; returns the index it reached. */
function run(draft: unknown, events: readonly DomainEvent[], apply: Apply, from: number, to: number): number {
  let index = from;
  try {
    for (; index < to; index++) apply(draft, events[index] as DomainEvent);
  } catch (cause) {
    failure = cause;
  }
  return index;
}

function single(state: unknown, events: readonly DomainEvent[], apply: Apply, index: number): unknown {
  const { reached, state: next } = inOneDraft(state, events, apply, index, index + 1);
  if (reached === index) throw new FoldFailed(index, failure);
  const problem = settle(next, undefined);
  if (problem !== undefined) throw new FoldFailed(index, new TypeError(problem)); // F3
  return next;
}

/** How far the events of one draft came, and what it became; below `to` there is no state. */
interface Drafted {
  readonly reached: number;
  readonly state: unknown;
  readonly moved: boolean;
}

/** Several events in one draft. */
function shared(state: unknown, events: readonly DomainEvent[], apply: Apply, from: number, to: number, sharing: Sharing): Drafted {
  if (to - from === 1) return { reached: to, state: single(state, events, apply, from), moved: false };
  const drafted = inOneDraft(state, events, apply, from, to);
  if (drafted.reached === from) throw new FoldFailed(from, failure);
  if (drafted.reached < to) return drafted;
  const problem = drafted.moved ? TWICE : settle(drafted.state, new Set());
  if (problem === undefined) return drafted;
  if (problem === TWICE) sharing.allowed = false;
  let current = state; // F2b; F3: folded alone, the event that is to blame gets named
  for (let index = from; index < to; index++) current = single(current, events, apply, index);
  return { reached: to, state: current, moved: false };
}

/** Not frozen yet. */
function inOneDraft(state: unknown, events: readonly DomainEvent[], apply: Apply, from: number, to: number): Drafted {
  const drafting = draftOf(state as object);
  const reached = run(drafting.draft, events, apply, from, to);
  return { reached, state: reached === to ? finish(drafting) : undefined, moved: drafting.moved };
}

const TWICE = "one object stands at two places of the state";

function standsTwice(value: unknown, seen: Set<object>): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (seen.has(value)) return true;
  if (seen.size >= LOOK_LIMIT) return false;
  seen.add(value);
  for (const key in value) if (standsTwice((value as Record<string, unknown>)[key], seen)) return true;
  return false;
}

/**
 * Freezes everything new below (and with) `value`; what is frozen is taken as frozen throughout. Returns a complaint about the first thing that is not plain data,
 * or, where `fresh` is given to remember what is new, that stands at two places.
 */
export function settle(value: unknown, fresh: Set<object> | undefined): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (Object.isFrozen(value)) return fresh?.has(value) === true ? TWICE : undefined;
  const isArray = Array.isArray(value);
  if (!isArray) {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return "the state must be plain data (objects, arrays, text, numbers, booleans, null)";
  }
  Object.freeze(value);
  fresh?.add(value);
  if (isArray) {
    for (let index = 0; index < value.length; index++) {
      const inner: unknown = value[index];
      const problem = typeof inner !== "object" || inner === null ? unfit(inner, index) : settle(inner, fresh);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  for (const key in value) {
    const inner = (value as Record<string, unknown>)[key];
    const problem = typeof inner !== "object" || inner === null ? unfit(inner, key) : settle(inner, fresh);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** F3: a number that is none passes every comparison of a decision, and is most often an event of another shape than its recipe expects. */
function unfit(value: unknown, key: string | number): string | undefined {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? undefined : `the state would hold ${value} at ${JSON.stringify(key)}, which is no number in JSON`;
    case "bigint":
    case "function":
    case "symbol":
      return `the state would hold a ${typeof value} at ${JSON.stringify(key)}, which JSON cannot`;
    default:
      return undefined;
  }
}
