import { randomInt } from "node:crypto";
import { describe, expect, it } from "vitest";
import { describeSimulation, minimiseSimulation, simulate } from "../../src/testing/simulator/simulate.ts";
import type { SimulationReport } from "../../src/testing/simulator/simulation-options.ts";
import { idleIn } from "../soak/results.ts";

const MINUTES = 60_000;

/** Runs seeds; fails with the shortest failing plan and its history. */
async function hold(first: number, count: number): Promise<SimulationReport[]> {
  const reports: SimulationReport[] = [];
  for (let seed = first; seed < first + count; seed++) {
    const report = await simulate({ seed });
    if (report.violations.length > 0) expect.fail(describeSimulation(await minimiseSimulation({ seed })));
    reports.push(report);
  }
  return reports;
}

describe("the invariants I1 to I6 hold under simulated faults", () => {
  it.each([1, 11, 21, 31, 41])("for the ten seeds from %i on", { timeout: 3 * MINUTES }, async (first) => {
    for (const report of await hold(first, 10)) {
      expect(idleIn({ ...report, ms: 0 })).toBeUndefined();
    }
  });

  it("for ten new seeds", { timeout: 3 * MINUTES }, async () => {
    const first = randomInt(1_000_000, 2 ** 31 - 10);
    process.stdout.write(`new seeds of the simulator: ${first} to ${first + 9}\n`);
    await hold(first, 10);
  });
});

describe("a simulation", () => {
  it("is the same whenever its seed is the same, to the last line of its history", { timeout: MINUTES }, async () => {
    const [once, again, other] = [await simulate({ seed: 7 }), await simulate({ seed: 7 }), await simulate({ seed: 8 })];
    expect(again).toEqual(once);
    expect(other.history).not.toEqual(once.history);
  });

  it("meets every fault and every kind of answer within a few seeds", { timeout: 2 * MINUTES }, async () => {
    const met = new Set<string>();
    for (const { coverage } of await hold(100, 8)) for (const what of Object.keys(coverage)) met.add(what);
    const { armedFaults, timedFaults } = await import("../../src/testing/simulator/faults.ts");
    const answers = ["accepted", "nothing to do", "rejected", "state", "lost", "OutcomeUnknown", "StoreUnavailable", "WrongExpectedVersion", "CommandIdReused", "DeadlineExceeded", "Aborted", "AppClosed", "RegistryFull", "MailboxFull"];
    const wanted = [...[...armedFaults, ...timedFaults].map((fault) => `fault ${fault}`), ...answers.map((answer) => `answer ${answer}`), "append committed", "append conflict", "read fresh", "read stale", "view commit lost", "rebuild done", "pause done"];
    expect(wanted.filter((what) => !met.has(what))).toEqual([]);
  });
});
