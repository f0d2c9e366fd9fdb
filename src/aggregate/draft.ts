/**
 * Drafts for recipes: Immer's, made when a recipe does something that needs one.
 *
 * D1 What a recipe sees, and what comes of it, is what a draft of Immer alone would have shown and given.
 * D2 Until then the draft is one shallow copy at most. It answers these itself: reading a value that is no object, and writing such a value to a key
 *    that the state has or that nothing inherits. Whatever else is asked (an object inside, a deletion, the keys, `isDraft`, a symbol) is asked of a draft
 *    of Immer, which is made at that moment from the state and the values written so far, and from then on answers everything.
 * D3 A draft that is finished answers nothing any more.
 */
import { Immer, isDraft } from "immer";

// fold.ts freezes: it looks at the same objects for its own ends.
const immer = new Immer({ autoFreeze: false });

/** Stands for the state of a finished draft (D3). */
const revoked = Proxy.revocable<Values>({}, {});
revoked.revoke();

/** A draft of a state on its way to the next one. */
export interface Drafting {
  /** What recipes get. */
  draft: object;
  readonly base: Values;
  /** `base` until the first write, then the copy. */
  latest: Values;
  /** Immer's draft, once it was needed. */
  immers: object | undefined;
  /** A part of the state was put at a place of the state itself: it may stand at two now, until one of them is lost. */
  moved: boolean;
}

type Values = Record<string, unknown>;

/** Starts a draft. */
export function draftOf(state: object): Drafting {
  const base = state as Values;
  // No class: its prototype would be seen through a proxy that was made inextensible.
  const drafting: Drafting = { draft: base, base, latest: base, immers: undefined, moved: false };
  drafting.draft = Object.getPrototypeOf(base) === Object.prototype ? new Proxy(drafting, traps) : whole(drafting);
  return drafting;
}

/** The new state, not frozen; the state itself where nothing was changed. */
export function finish(drafting: Drafting): unknown {
  if (drafting.immers !== undefined) return immer.finishDraft(drafting.immers) as unknown;
  const { latest } = drafting;
  drafting.latest = revoked.proxy;
  return latest;
}

/** D2. Immer's draft, with the values that were written so far. */
function whole(drafting: Drafting): object {
  if (drafting.immers !== undefined) return drafting.immers;
  const { base, latest } = drafting;
  const draft = immer.createDraft(base) as Values;
  for (const key of latest === base ? [] : Object.keys(latest)) {
    if (Object.is(latest[key], base[key]) && Object.hasOwn(base, key)) continue;
    if (latest[key] === 0) draft[key] = undefined; // Immer puts no -0 where 0 stands.
    draft[key] = latest[key];
  }
  return (drafting.immers = draft);
}

const isObject = (value: unknown): boolean => (typeof value === "object" && value !== null) || typeof value === "function";

const traps: ProxyHandler<Drafting> = {
  get(drafting, key) {
    if (drafting.immers === undefined && typeof key === "string") {
      const value = drafting.latest[key];
      if (!isObject(value)) return value;
    }
    return Reflect.get(whole(drafting), key) as unknown;
  },
  set(drafting, key, value) {
    if (isObject(value)) {
      if (isDraft(value)) drafting.moved = true;
    } else if (drafting.immers === undefined && typeof key === "string") {
      const { latest } = drafting;
      const own = Object.hasOwn(latest, key);
      if (own || !(key in latest)) {
        const present = latest[key];
        if (Object.is(value, present) && (value !== undefined || own)) return true;
        const copy = latest === drafting.base ? (drafting.latest = { ...latest }) : latest;
        // As Immer has it: what equals is not written again, so that 0 stays where -0 is put.
        if (value !== present || !own) copy[key] = value;
        return true;
      }
    }
    return Reflect.set(whole(drafting), key, value);
  },
  has: (drafting, key) => Reflect.has(whole(drafting), key),
  deleteProperty: (drafting, key) => Reflect.deleteProperty(whole(drafting), key),
  ownKeys: (drafting) => Reflect.ownKeys(whole(drafting)),
  getOwnPropertyDescriptor: (drafting, key) => Reflect.getOwnPropertyDescriptor(whole(drafting), key),
  defineProperty: (drafting, key, descriptor) => Reflect.defineProperty(whole(drafting), key, descriptor),
  getPrototypeOf: (drafting) => Reflect.getPrototypeOf(whole(drafting)),
  setPrototypeOf: (drafting, prototype) => Reflect.setPrototypeOf(whole(drafting), prototype),
  isExtensible: (drafting) => Reflect.isExtensible(whole(drafting)),
  preventExtensions: (drafting) => Reflect.preventExtensions(whole(drafting)) && Reflect.preventExtensions(drafting),
};
