import { describe, expect, it } from "vitest";
import { against, compared, median, percentile } from "../../bench/figures.ts";

const figure = { case: "c", unit: "u", referenceName: "r" };

describe("a comparison", () => {
  it("says how many times better, where more is better", () => {
    expect(compared({ ...figure, better: "more", tidemark: 300, reference: 100, goal: 3 })).toEqual({ ...figure, tidemark: 300, reference: 100, ratio: 3, goal: 3, holds: true });
  });

  it("says how many times better, where less is better", () => {
    expect(compared({ ...figure, better: "less", tidemark: 4, reference: 2 }).ratio).toBe(0.5);
  });

  it("falls short below its goal", () => {
    expect(compared({ ...figure, better: "more", tidemark: 299, reference: 100, goal: 3 }).holds).toBe(false);
  });

  it("holds without a goal", () => {
    expect(compared({ ...figure, better: "more", tidemark: 1, reference: 100 })).toMatchObject({ goal: null, holds: true });
  });
});

describe("an absolute goal", () => {
  it("is the reference, and to be reached", () => {
    expect(against(5, { case: "c", unit: "ms", better: "less", tidemark: 4 })).toEqual({
      case: "c",
      unit: "ms",
      tidemark: 4,
      reference: 5,
      referenceName: "goal",
      ratio: 1.25,
      goal: 1,
      holds: true,
    });
    expect(against(5, { case: "c", unit: "ms", better: "less", tidemark: 6 }).holds).toBe(false);
    expect(against(100, { case: "c", unit: "events/s", better: "more", tidemark: 99 }).holds).toBe(false);
  });
});

describe("medians and percentiles", () => {
  it("take the middle, or lie between the two in the middle", () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([1, 2, 10, 4])).toBe(3);
  });

  it("leave the values as they were", () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });

  it("interpolate between neighbours, and reach the ends", () => {
    expect(percentile([10, 20], 0.25)).toBe(12.5);
    expect(percentile([10, 20], 0)).toBe(10);
    expect(percentile([10, 20], 1)).toBe(20);
  });

  it("do not exist for nothing", () => {
    expect(() => median([])).toThrow(RangeError);
  });
});
