import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { START, at, covers, merge, offsetOf } from "../../src/store/position.ts";
import type { Position } from "../../src/store/position.ts";

const positions: fc.Arbitrary<Position> = fc.dictionary(fc.constantFrom("log", "orders/0", "orders/1", "carts/0"), fc.nat(20), { noNullPrototype: true });

/** The same place: each covers the other. An absent lane and no lane at all are alike; offset 0 of a lane is a place of its own. */
function same(a: Position, b: Position): boolean {
  return covers(a, b) && covers(b, a);
}

describe("a position", () => {
  it("of a store with one lane holds its offset", () => {
    expect(offsetOf(at(7))).toBe(7);
    expect(offsetOf(START)).toBe(0);
  });

  it("covers the start, itself, and what stands before it in every lane", () => {
    expect(covers(START, START)).toBe(true);
    expect(covers(at(3), START)).toBe(true);
    expect(covers(at(3), at(3))).toBe(true);
    expect(covers(at(3), at(2))).toBe(true);
    expect(covers(at(2), at(3))).toBe(false);
    expect(covers({ a: 5, b: 1 }, { a: 4 })).toBe(true);
    expect(covers({ a: 5 }, { a: 4, b: 0 })).toBe(false);
  });

  it("may neither cover another one nor be covered by it", () => {
    const [a, b] = [{ a: 1, b: 2 }, { a: 2, b: 1 }];
    expect(covers(a, b) || covers(b, a)).toBe(false);
    expect(merge(a, b)).toEqual({ a: 2, b: 2 });
  });

  it("keeps the laws of a partial order", () => {
    fc.assert(
      fc.property(positions, positions, positions, (a, b, c) => {
        expect(covers(a, a)).toBe(true);
        if (covers(a, b) && covers(b, c)) expect(covers(a, c)).toBe(true);
        if (covers(a, b) && covers(b, a)) expect(a).toEqual(b);
      }),
    );
  });

  it("merges associatively, commutatively, idempotently, into the least that covers both", () => {
    fc.assert(
      fc.property(positions, positions, positions, (a, b, c) => {
        const merged = merge(a, b);
        expect(same(merged, merge(b, a))).toBe(true);
        expect(merge(a, a)).toEqual(a);
        expect(same(merge(merged, c), merge(a, merge(b, c)))).toBe(true);
        expect(covers(merged, a) && covers(merged, b)).toBe(true);
        if (covers(c, a) && covers(c, b)) expect(covers(c, merged)).toBe(true);
      }),
    );
  });

  it("is not changed by a merge", () => {
    fc.assert(
      fc.property(positions, positions, (a, b) => {
        const [copyOfA, copyOfB] = [{ ...a }, { ...b }];
        merge(Object.freeze(a), Object.freeze(b));
        expect([a, b]).toEqual([copyOfA, copyOfB]);
      }),
    );
  });
});
