/**
 * Folds events into a state with Immer.
 *
 * F1 The result equals folding one event per draft, whatever stands in one call: live state, a page of history and a snapshot agree.
 * F2 One draft holds all events of a call. Two things that a shared draft would do otherwise are found and done again in smaller drafts:
 *    a) a recipe writes to what an earlier one put in from its (frozen) event data: it throws, and a new draft starts before that event;
 *    b) one new object stands at two places of the state: a write through one of them would show at both. Then every event gets its own draft.
 *    Recipes are pure, so running one again is harmless; no event is run more than three times.
 * F3 The result is frozen throughout and plain data: what JSON, and so a snapshot, could not hold is refused.
 * F4 A call that throws leaves the state as it was.
 */
import { Immer } from "immer";

export type Recipe = (state: never, data: never) => unknown;

/** One event with the recipe that its type has. */
export interface Fold {
  readonly count: number;
  /** Applies event `index` to a draft; throws when the recipe does, or when it returns something. */
  readonly apply: (draft: unknown, index: number) => void;
}

/** The recipe of event `index` failed. */
export class FoldFailed extends Error {
  readonly index: number;
  constructor(index: number, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.index = index;
  }
}

// `settle` freezes instead of Immer: it looks at the same objects, and answers F2b and F3 on the way.
const immer = new Immer({ autoFreeze: false });

/** Folds `fold.count` events into a state. Errors: FoldFailed. */
export function foldInto(state: unknown, fold: Fold): unknown {
  let current = state;
  let from = 0;
  while (from < fold.count) {
    const draft = immer.createDraft(current as object);
    const reached = run(draft, fold, from, fold.count);
    if (reached === fold.count) {
      const next: unknown = immer.finishDraft(draft);
      const single = fold.count - from === 1;
      const problem = settle(next, single ? undefined : new Set());
      if (problem === undefined) return next;
      if (single) throw new FoldFailed(from, new TypeError(problem));
      return oneByOne(current, fold, from, fold.count); // F2b, F3: and the event that is to blame gets named
    }
    if (reached === from) throw new FoldFailed(from, failure);
    current = reached - from === 1 ? oneByOne(current, fold, from, reached) : segment(current, fold, from, reached); // F2a
    from = reached;
  }
  return current;
}

/** What made `run` stop early. */
let failure: unknown;

/** Applies events until one throws; returns the index it reached. */
function run(draft: unknown, fold: Fold, from: number, to: number): number {
  let index = from;
  try {
    for (; index < to; index++) fold.apply(draft, index);
  } catch (cause) {
    failure = cause;
  }
  return index;
}

/** Events that are known to run in one draft. */
function segment(state: unknown, fold: Fold, from: number, to: number): unknown {
  const draft = immer.createDraft(state as object);
  if (run(draft, fold, from, to) === to) {
    const next: unknown = immer.finishDraft(draft);
    if (settle(next, new Set()) === undefined) return next;
  }
  return oneByOne(state, fold, from, to);
}

function oneByOne(state: unknown, fold: Fold, from: number, to: number): unknown {
  let current = state;
  for (let index = from; index < to; index++) {
    const draft = immer.createDraft(current as object);
    if (run(draft, fold, index, index + 1) === index) throw new FoldFailed(index, failure);
    current = immer.finishDraft(draft);
    const problem = settle(current, undefined);
    if (problem !== undefined) throw new FoldFailed(index, new TypeError(problem));
  }
  return current;
}

/**
 * Freezes everything new below (and with) `value`; what is frozen is taken as frozen throughout. Returns a complaint about the first thing that is not plain data,
 * or, where `fresh` is given to remember what is new, that stands at two places.
 */
export function settle(value: unknown, fresh: Set<object> | undefined): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (Object.isFrozen(value)) return fresh?.has(value) === true ? "one object stands at two places of the state" : undefined;
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
      if (typeof inner !== "object" || inner === null) continue;
      const problem = settle(inner, fresh);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  for (const key in value) {
    const inner = (value as Record<string, unknown>)[key];
    if (typeof inner !== "object" || inner === null) continue;
    const problem = settle(inner, fresh);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
