import { deepStrictEqual } from "node:assert";
import fc from "fast-check";
import { current, Immer, isDraft, original } from "immer";
import { describe, expect, it } from "vitest";
import { draftOf, finish } from "../../src/aggregate/draft.ts";

type State = Record<PropertyKey, unknown>;
type Step = (draft: State) => unknown;

const immer = new Immer({ autoFreeze: false });
const MARK = Symbol("mark");

const keys = ["a", "b", "c", "1", "toString", "__proto__", "inner", "list"];
const key = fc.constantFrom(...keys);
const value = fc.constantFrom<unknown>(0, -0, 1, Number.NaN, "", "text", true, null, undefined, 5n);
const own = fc.constantFrom("inner", "list", "a");

/** Everything that a recipe might do to its state, by name, so that a failing run can be read. */
const steps: fc.Arbitrary<readonly [name: string, step: Step]> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(key, value).map(([k, v]) => [`${k} = ${String(v)}`, (d: State) => void (d[k] = v)] as const) },
  { weight: 4, arbitrary: key.map((k) => [`read ${k}`, (d: State) => (typeof d[k] === "object" ? "an object" : d[k])] as const) },
  { weight: 2, arbitrary: key.map((k) => [`delete ${k}`, (d: State) => delete d[k]] as const) },
  key.map((k) => [`${k} in it`, (d: State) => k in d] as const),
  key.map((k) => [`hasOwn ${k}`, (d: State) => Object.hasOwn(d, k)] as const),
  key.map((k) => [`${k} = {}`, (d: State) => void (d[k] = { n: 1 })] as const),
  key.map((k) => [`descriptor of ${k}`, (d: State) => Object.getOwnPropertyDescriptor(d, k)?.writable] as const),
  key.map((k) => [`define ${k}`, (d: State) => Object.defineProperty(d, k, { value: 3, enumerable: false })] as const),
  own.map((k) => [`push to ${k}`, (d: State) => (d[k] as unknown[]).push({ n: 2 })] as const),
  own.map((k) => [`write into ${k}`, (d: State) => void ((d[k] as { n: number }).n = 9)] as const),
  own.map((k) => [`copy ${k}`, (d: State) => void (d["b"] = d[k])] as const),
  fc.constantFrom<readonly [string, Step]>(
    ["keys", (d) => Object.keys(d)],
    ["own keys", (d) => Reflect.ownKeys(d).map(String)],
    ["for in", (d) => { const seen: string[] = []; for (const k in d) seen.push(k); return seen; }],
    ["as JSON", (d) => JSON.stringify({ ...d, c: undefined }, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v))],
    ["a symbol", (d) => void (d[MARK] = 1)],
    ["read a symbol", (d) => d[MARK]],
    ["assign", (d) => Object.assign(d, { a: 4, d: 5 }) === d],
    ["isDraft", (d) => isDraft(d)],
    ["current", (d) => void (d["b"] = Object.keys(current(d)).join())],
    ["original", (d) => Object.keys(original(d) as State).join()],
    ["structuredClone", (d) => structuredClone(d)],
    ["freeze", (d) => Object.freeze(d)],
    ["seal", (d) => Object.seal(d)],
    ["prevent extensions", (d) => Object.preventExtensions(d) === d],
    ["isExtensible", (d) => Object.isExtensible(d)],
    ["isFrozen", (d) => Object.isFrozen(d)],
    ["set prototype", (d) => Object.setPrototypeOf(d, null)],
    ["get prototype", (d) => Object.getPrototypeOf(d) === Object.prototype],
    ["instanceof", (d) => d instanceof Object],
    ["the state at a key of itself", (d) => void (d["b"] = d)],
    ["the state in itself", (d) => void (d["b"] = { inside: d })],
    ["is it itself", (d) => d === d["b"]],
    ["methods of objects", (d) => (d as object).hasOwnProperty("a")],
    ["as text", (d) => `${d as unknown as string}`],
    ["an heir", (d) => { const heir = Object.create(d) as State; heir["a"] = "heir"; return [heir["a"], Object.keys(heir)]; }],
    ["fails", () => { throw new RangeError("the recipe's own"); }],
  ),
);

/** What the steps saw, then what came of them; both as a reader would see them. */
function outcome(list: readonly (readonly [string, Step])[], draft: State, end: () => unknown): unknown {
  const seen: unknown[] = [];
  for (const [name, step] of list) {
    try {
      seen.push([name, step(draft)]);
    } catch (error) {
      seen.push([name, (error as Error).name]);
    }
  }
  let result: unknown;
  try {
    result = ordered(end(), new Set());
  } catch (error) {
    return [seen, (error as Error).name];
  }
  let after: string;
  try {
    after = String(draft["a"]);
  } catch (error) {
    after = (error as Error).name;
  }
  return [seen, result, after];
}

/** With the order of the keys, and the kind of each number. */
function ordered(thing: unknown, above: ReadonlySet<unknown>): unknown {
  if (typeof thing !== "object" || thing === null || above.has(thing)) return Object.is(thing, -0) ? "-0" : thing;
  const within = new Set([...above, thing]);
  return Reflect.ownKeys(thing).map((k) => [k, isDraft((thing as State)[k]), ordered((thing as State)[k], within)]);
}

const states: fc.Arbitrary<State> = fc.record(
  { a: value, b: value, "1": fc.constant(1), inner: fc.record({ n: fc.nat(3) }), list: fc.array(fc.record({ n: fc.nat(3) }), { maxLength: 2 }), toString: fc.constant("own") },
  { requiredKeys: [] },
);

const freeze = (state: State): State => {
  for (const inner of Object.values(state)) if (typeof inner === "object" && inner !== null) Object.freeze(Object.values(inner).map(Object.freeze) && inner);
  return Object.freeze(state);
};

describe("a draft", () => {
  it("shows and gives what a draft of Immer alone does, whatever a recipe asks of it (D1)", () => {
    fc.assert(
      fc.property(states, fc.array(steps, { maxLength: 8 }), (state, list) => {
        const base = freeze({ ...state });
        const drafting = draftOf(base);
        const ours = outcome(list, drafting.draft as State, () => finish(drafting));
        const draft = immer.createDraft(base);
        deepStrictEqual(ours, outcome(list, draft, () => immer.finishDraft(draft)));
      }),
      { numRuns: 3_000, examples: [[{ b: 0 }, [["b = 1", (d) => void (d["b"] = 1)], ["b = -0", (d) => void (d["b"] = -0)], ["keys", (d) => Object.keys(d)]]]] },
    );
  });

  it("is the state itself where nothing was changed", () => {
    const state = Object.freeze({ a: 1 });
    const drafting = draftOf(state);
    (drafting.draft as State)["a"] = 1;
    expect(finish(drafting)).toBe(state);
  });

  it("answers nothing once it is finished (D3)", () => {
    for (const step of [(d: State) => d["a"], (d: State) => (d["a"] = 2), (d: State) => "a" in d, (d: State) => Object.keys(d), (d: State) => Object.isExtensible(d)]) {
      const drafting = draftOf(Object.freeze({ a: 1 }));
      finish(drafting);
      for (let times = 0; times < 2; times++) expect(() => step(drafting.draft as State)).toThrow(/revoked/);
    }
  });

  it("of a list, and of a state without a prototype, is one of Immer", () => {
    const list = draftOf(Object.freeze([1]));
    (list.draft as number[]).push(2);
    expect(finish(list)).toEqual([1, 2]);
    const bare = draftOf(Object.freeze(Object.assign(Object.create(null) as State, { a: 1 })));
    (bare.draft as State)["a"] = 2;
    const after = finish(bare);
    expect([Object.getPrototypeOf(after), (after as State)["a"]]).toEqual([null, 2]);
  });
});
