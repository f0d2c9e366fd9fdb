/** A protection counts as tested when its absence is seen. All of them within 200 seeds: `npm run soak -- --mutants`; here those that few seeds find. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mutants, patched } from "../soak/mutants.ts";
import { runSeeds } from "../soak/seeds.ts";

const root = join(import.meta.dirname, "../..");
/** Most mutants turn the very first seeds red; what survives so many is a survivor, or rare. */
const SEEDS = 20;

describe("a protection that is switched off", () => {
  it("is a patch that fits its source, once", () => {
    for (const mutant of mutants) {
      const source = readFileSync(join(root, mutant.file), "utf8");
      expect(patched(mutant, source)).not.toBe(source);
    }
    expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
    expect(() => patched({ name: "none", file: "a.ts", find: "not there", replace: "" }, "text")).toThrow("does not fit a.ts");
    expect(() => patched({ name: "two", file: "a.ts", find: "t", replace: "" }, "text")).toThrow("2 times");
  });

  it.concurrent.each(mutants.filter(({ rare }) => rare !== true).map(({ name }) => name))("is missed: %s", { timeout: 120_000 }, async (name) => {
    const results = await runSeeds({ first: 1, count: SEEDS, workers: 1, mutant: name, stop: true });
    expect(results.some(({ violations }) => violations.length > 0)).toBe(true);
  });
});
