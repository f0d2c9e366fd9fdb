import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { leaveOut } from "../../src/testing/simulator/minimise.ts";

describe("leaving out what a failure does not need", () => {
  it("leaves exactly the steps that it needs, in their order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 120 }), fc.array(fc.nat(119), { maxLength: 4 }), async (length, places) => {
        const needed = new Set(places.filter((place) => place < length));
        const items = Array.from({ length }, (_, index) => index);
        const left = await leaveOut(items, async (fewer) => [...needed].every((place) => fewer.includes(place)), 10_000);
        expect(left).toEqual([...needed].sort((a, b) => a - b));
      }),
    );
  });

  it("gives a list that fails, after no more runs than allowed", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(9), { minLength: 1, maxLength: 60 }), fc.nat(40), async (items, tries) => {
        // Not monotone: less may pass where more and still less fail.
        const fails = (list: readonly number[]): boolean => list.reduce((sum, item) => sum + item, 0) % 3 === items.reduce((sum, item) => sum + item, 0) % 3;
        let runs = 0;
        const left = await leaveOut(
          items,
          async (fewer) => {
            runs++;
            return fails(fewer);
          },
          tries,
        );
        expect(runs).toBeLessThanOrEqual(tries);
        expect(fails(left)).toBe(true);
      }),
    );
  });
});
