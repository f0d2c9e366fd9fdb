import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { interleaved, inTempFolder, load, rate } from "../../bench/harness.ts";

describe("interleaved rounds", () => {
  it("let the contenders take turns, leave out the first round and answer medians", async () => {
    const order: string[] = [];
    const figures = { a: [1000, 1, 9, 5], b: [2000, 2, 2, 2] };
    const contender = (name: "a" | "b") => async (): Promise<number> => {
      order.push(name);
      return figures[name].shift() as number;
    };
    expect(await interleaved(3, { a: contender("a"), b: contender("b") })).toEqual({ a: 5, b: 2 });
    expect(order.join("")).toBe("abbaabba");
  });
});

describe("load", () => {
  it("runs every task once and keeps so many in flight", async () => {
    const begun: number[] = [];
    let inFlight = 0;
    let most = 0;
    await load(50, 7, async (index) => {
      begun.push(index);
      most = Math.max(most, ++inFlight);
      await Promise.resolve();
      inFlight--;
    });
    expect(begun).toEqual(Array.from({ length: 50 }, (_, index) => index));
    expect(most).toBe(7);
  });

  it("fails with the first task that fails", async () => {
    await expect(load(5, 2, (index) => (index === 3 ? Promise.reject(new Error("no")) : Promise.resolve()))).rejects.toThrow("no");
  });
});

describe("a temporary folder", () => {
  it("is gone with what is in it, also after a failure", async () => {
    let seen = "";
    const work = inTempFolder(async (folder) => {
      seen = folder;
      writeFileSync(join(folder, "file"), "text");
      throw new Error("no");
    });
    await expect(work).rejects.toThrow("no");
    expect(seen).not.toBe("");
    expect(existsSync(seen)).toBe(false);
  });
});

it("a rate is told by the second", () => {
  expect(rate(50, 100)).toBe(500);
});
