import { expect, it } from "vitest";
import { against, compared } from "../../bench/figures.ts";
import { amount, asTable, asText, report } from "../../bench/report.ts";

const results = [
  compared({ case: "long name of a case", unit: "events/s", better: "more", tidemark: 123_456, reference: 61_728, referenceName: "other", goal: 3 }),
  compared({ case: "told", unit: "ms", better: "less", tidemark: 0.5, reference: 1, referenceName: "other" }),
  against(5, { case: "short", unit: "ms", better: "less", tidemark: 0.1234 }),
];

it("amounts have three digits, or all of a whole number", () => {
  expect([0, 0.012345, 1.2345, 12.345, 123.45, 1234.5, 1_234_567].map(amount)).toEqual(["0", "0.0123", "1.23", "12.3", "123", "1,235", "1,234,567"]);
});

it("a table aligns its columns and names what falls short", () => {
  expect(asTable(results).split("\n")).toEqual([
    "case                 unit      tidemark  reference         ratio  goal",
    "───────────────────  ────────  ────────  ─────────  ─────  ─────  ────  ───────────",
    "long name of a case  events/s   123,456     61,728  other     2×  ≥ 3×  FALLS SHORT",
    "told                 ms             0.5          1  other     2×",
    "short                ms           0.123          5  goal   40.5×  ≥ 1×  holds",
  ]);
});

it("the text says how many goals hold", () => {
  expect(asText(report("actors", results, [])).endsWith("\n\n1 of 2 goals hold")).toBe(true);
});

it("the document names the machine and the versions of what was measured", () => {
  const found = report("actors", results, ["immer"]);
  expect(found.benchmark).toBe("actors");
  expect(found.results).toBe(results);
  expect(found.versions).toMatchObject({ node: process.versions.node, immer: expect.stringMatching(/^\d+\./) as string });
  expect(found.machine.cores).toBeGreaterThan(0);
});
