/** What users and authors of backends simulate: their own domain, their own backend. Whoever breaks a rule is found, and the plan that shows it is short. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatMap } from "rxjs";
import { describe, expect, it } from "vitest";
import { aggregate, readModel, table } from "../../src/index.ts";
import type { Backend } from "../../src/store/backend.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import { sqliteBackend } from "../../src/store/sqlite/index.ts";
import { describeSimulation, minimiseSimulation, simulate } from "../../src/testing/simulator/simulate.ts";
import type { Workload } from "../../src/testing/simulator/workload.ts";

const MINUTES = 60_000;
const small = { commands: 60, reads: 20, faults: 20 } as const;

function votes(decide: (votes: number) => number): Workload {
  const Poll = aggregate("poll", {
    initial: () => ({ votes: 0 }),
    events: {
      Voted: (poll, data: { by: number }) => {
        poll.votes += data.by;
      },
    },
    commands: { vote: (poll, _: undefined, { emit, reject }) => (poll.votes >= 40 ? reject("over") : emit("Voted", { by: decide(poll.votes) })) },
  });
  const polls = readModel("polls", {
    from: [Poll],
    view: table<{ readonly id: string; readonly votes: number }>("polls", { key: "id" }),
    project: (events$, { view }) => events$.pipe(concatMap(({ id, data }) => view.update(id, (row = { id, votes: 0 }) => ({ id, votes: row.votes + data.by })))),
  });
  return { aggregates: [Poll], readModels: [polls], wish: (draws) => ({ aggregate: Poll, id: draws.pick(["x", "y"]), command: "vote" }) };
}

describe("a simulation of one's own domain", () => {
  it("finds nothing where the domain keeps the rules", { timeout: MINUTES }, async () => {
    for (const seed of [1, 2, 3]) {
      const report = await simulate({ seed, ...small, workload: votes(() => 1) });
      expect(report.violations, describeSimulation(report)).toEqual([]);
      expect(report.events).toBeGreaterThan(10);
    }
  });

  it("refuses what cannot be simulated, by name", async () => {
    const prepared = aggregate("quote", {
      initial: () => ({ price: 0 }),
      events: { Priced: (quote, data: { price: number }) => void (quote.price = data.price) },
      prepare: { price: async (_: { sku: string }) => ({ price: 3 }) },
      commands: { price: (_, input: { price: number }, { emit }) => emit("Priced", input) },
    });
    const workload: Workload = { aggregates: [prepared], readModels: [], wish: () => ({ aggregate: prepared, id: "q", command: "price" }) };
    await expect(simulate({ seed: 1, workload })).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("quote.price") as string });
    await expect(simulate({ seed: 1, processes: 0 })).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("processes") as string });
    await expect(simulate({ seed: 0.5 })).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("seed") as string });
  });

  it("finds a decision that rests on more than the state", { timeout: MINUTES }, async () => {
    let calls = 0;
    const report = await simulate({ seed: 1, ...small, workload: votes(() => ++calls) });
    expect(report.violations.map(({ invariant }) => invariant)).toContain("I3");
  });
});

describe("a simulation on one's own backend", () => {
  it("finds nothing on SQLite", { timeout: 2 * MINUTES }, async () => {
    for (const seed of [1, 2, 3]) {
      const folder = mkdtempSync(join(tmpdir(), "tidemark-simulator-"));
      try {
        const report = await simulate({ seed, backend: (environment) => sqliteBackend({ file: join(folder, "log.db"), synchronous: "normal", environment }) });
        expect(report.violations, describeSimulation(report)).toEqual([]);
        expect(report.events).toBeGreaterThan(50);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  });

  /** Says "committed" and drops the append, each time the stream comes to its third version. */
  function forgetful(): Backend {
    const inner = memoryBackend();
    return {
      ...inner,
      events: {
        ...portOf(inner),
        async append(appends) {
          const lost = appends.findIndex(({ expected }) => expected === 2);
          if (lost < 0) return inner.events.append(appends);
          const outcomes = [...(await inner.events.append(appends.toSpliced(lost, 1)))];
          return outcomes.toSpliced(lost, 0, { kind: "committed", version: 2 + (appends[lost]?.events.length ?? 0), position: { log: 1 } });
        },
      },
    };
  }

  it("finds an acknowledged append that is not there, and shows it with a short plan", { timeout: 2 * MINUTES }, async () => {
    const options = { seed: 1, ...small, workload: votes(() => 1), backend: forgetful };
    const whole = await simulate(options);
    expect(whole.violations.length).toBeGreaterThan(0);
    const report = await minimiseSimulation(options);
    expect(report.violations.map(({ invariant }) => invariant)).toContain(whole.violations[0]?.invariant);
    expect(report.plan.length).toBeLessThan(12);
    const text = describeSimulation(report);
    expect(text).toContain("seed 1 violates:");
    for (const line of report.plan) expect(text).toContain(line);
  });
});

/** The port's methods, bound, so that some can be replaced. */
function portOf({ events }: Backend): Backend["events"] {
  return {
    capabilities: events.capabilities,
    identity: (signal) => events.identity(signal),
    append: (appends) => events.append(appends),
    readStream: (stream, options) => events.readStream(stream, options),
    readAll: (options) => events.readAll(options),
    subscribe: (options) => events.subscribe(options),
    close: () => events.close(),
  };
}
