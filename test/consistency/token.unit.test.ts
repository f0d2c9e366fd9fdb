import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_STREAMS, mergeEntries, tokenCovers, type TokenEntry } from "../../src/consistency/token.ts";
import { at } from "../../src/store/position.ts";
import { token } from "./entries.ts";

const equivalent = (a: readonly TokenEntry[], b: readonly TokenEntry[]): boolean => tokenCovers(a, b) && tokenCovers(b, a);
const write = (id: string, version: number, offset: number): TokenEntry => ({ store: "store-000001", category: "order", id, version, position: at(offset) });

function law(...check: Parameters<typeof fc.property<[TokenEntry[], TokenEntry[], TokenEntry[]]>>[3][]): void {
  for (const holds of check) fc.assert(fc.property(token, token, token, holds));
}

describe("merging tokens", () => {
  it("C1 is associative in what is demanded", () => {
    law((a, b, c) => equivalent(mergeEntries(a, mergeEntries(b, c)), mergeEntries(mergeEntries(a, b), c)) && equivalent(mergeEntries(a, b, c), mergeEntries(a, mergeEntries(b, c))));
  });

  it("C1 is commutative in what is demanded", () => {
    law((a, b) => equivalent(mergeEntries(a, b), mergeEntries(b, a)));
  });

  it("C1 is idempotent in what is demanded", () => {
    law((a) => equivalent(mergeEntries(a, a), a) && equivalent(mergeEntries(a), a));
  });

  it("C1 is covered exactly where all of its parts are", () => {
    law((a, b, x) => tokenCovers(x, mergeEntries(a, b)) === (tokenCovers(x, a) && tokenCovers(x, b)));
    law((a, b) => tokenCovers(mergeEntries(a, b), a) && tokenCovers(mergeEntries(a, b), b));
  });

  it("C2 names at most sixteen streams, each once, and folds the rest", () => {
    law((a, b, c) => {
      const merged = mergeEntries(a, b, c);
      const names = merged.map((entry) => JSON.stringify([entry.store, entry.category, entry.id]));
      expect(new Set(names).size).toBe(names.length);
      expect(merged.filter((entry) => entry.id !== undefined).length).toBeLessThanOrEqual(MAX_STREAMS);
    });
  });

  it("C2 keeps the streams that were touched last", () => {
    const writes = Array.from({ length: 17 }, (_, i) => [write(`s${i}`, 1, i + 1)]);
    const merged = mergeEntries(...writes, [write("s0", 2, 18)]);
    expect(merged.map((entry) => entry.id)).toEqual([undefined, ...Array.from({ length: 15 }, (_, i) => `s${i + 2}`), "s0"]);
    expect(merged[0]).toEqual({ store: "store-000001", category: "order", version: 0, position: at(2) });
  });

  it("takes the greater version of a stream and the position that covers both", () => {
    expect(mergeEntries([write("1", 5, 9)], [write("1", 3, 4)])).toEqual([write("1", 5, 9)]);
  });

  it("changes none of its arguments", () => {
    law((a, b) => {
      const before = structuredClone([a, b]);
      mergeEntries(a, b);
      expect([a, b]).toEqual(before);
    });
  });
});

describe("covering tokens", () => {
  it("needs every category of every store", () => {
    const order = write("1", 1, 5);
    expect(tokenCovers([order], [write("2", 1, 5)])).toBe(true);
    expect(tokenCovers([order], [write("2", 1, 6)])).toBe(false);
    expect(tokenCovers([order], [{ ...order, category: "customer" }])).toBe(false);
    expect(tokenCovers([order], [{ ...order, store: "another-store" }])).toBe(false);
    expect(tokenCovers([], [])).toBe(true);
  });
});
