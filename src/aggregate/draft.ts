/**
 * What recipes are given to write to: a draft, which leaves the state it was made of as it is.
 *
 * A flat state (an object whose values are all text, numbers, booleans, null or undefined) is copied, which costs a tenth of a proxy; a deeper one gets a draft of Immer's.
 * Recipes can tell the two apart by Immer's own functions alone (`current`, `original`), which throw on a copy. So whatever fails on a copy is done again on a draft
 * of Immer's, whose word is final: see fold.ts. (`original` has no meaning in a recipe: a draft may hold several events.)
 */
import { Immer } from "immer";

// `settle` freezes instead of Immer: it looks at the same objects (fold.ts).
const immer = new Immer({ autoFreeze: false });

export type FlatCopy = Record<string, unknown>;

/** A copy of a flat state; undefined when the state is not flat. */
export function flatCopy(state: unknown): FlatCopy | undefined {
  if (Object.getPrototypeOf(state) !== Object.prototype) return undefined;
  for (const key in state as FlatCopy) {
    const value = (state as FlatCopy)[key];
    if (typeof value === "object" && value !== null) return undefined;
  }
  return { ...(state as FlatCopy) };
}

/** What the copy has become; the state it was made of when nothing was changed. */
export function finishCopy(state: unknown, copy: FlatCopy): unknown {
  const before = state as FlatCopy;
  let more = 0;
  for (const key in before) {
    if (!Object.is(before[key], copy[key]) || !(key in copy)) return copy;
    more--;
  }
  for (const _ in copy) more++;
  return more === 0 ? before : copy;
}

export function immerDraft(state: unknown): object {
  return immer.createDraft(state as object);
}

/** What the draft has become; the state it was made of when nothing was changed. */
export function finishDraft(draft: object): unknown {
  return immer.finishDraft(draft);
}
