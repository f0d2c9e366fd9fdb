import { describe, expect, it } from "vitest";
import { check, type LoggedEvent } from "./processes/check.ts";
import type { CallRecord } from "./processes/record.ts";
import { soakProcesses } from "./processes/run.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Date.now() % 100_000);

describe(`real processes on one SQLite file, killed, stopped and stalled (seed ${SEED})`, () => {
  it.each([2, 4])("with %i of them: nobody is told what the log does not hold", { timeout: 90_000 }, async (processes) => {
    const report = await soakProcesses({ processes, durationMs: 7000, seed: SEED + processes, attackEveryMs: 500, stallMs: 700 });
    expect(report.violations).toEqual([]);
    expect(report.calls).toBeGreaterThan(500);
    expect(report.answers).toMatchObject({ accepted: expect.any(Number) as number, state: expect.any(Number) as number, row: expect.any(Number) as number });
    expect(Object.values(report.attacks).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(3);
  });
});

describe("the check of what processes were told", () => {
  const stream = "account-1";
  const events: readonly LoggedEvent[] = [
    { stream, version: 1, type: "Deposited", amount: 10, commandId: "a", chosen: true },
    { stream, version: 2, type: "Withdrawn", amount: 4, commandId: "b", chosen: true },
  ];
  const record = (answer: CallRecord["answer"], more: Partial<CallRecord> = {}): CallRecord => ({ begun: 10, ended: 20, stream, call: "state", answer, ...more });
  const accepted = (commandId: string, version: number): CallRecord => record({ kind: "accepted", version, events: 1 }, { call: "deposit", commandId, amount: 10 });
  const first = (records: readonly CallRecord[], log = events): string | undefined => check(log, records)[0]?.slice(0, 5);

  it("finds nothing wrong with the truth", () => {
    expect(check(events, [accepted("a", 1), accepted("b", 2), record({ kind: "state", version: 2, balance: 6 }), record({ kind: "row", wanted: 1, version: 2, balance: 6 })])).toEqual([]);
  });

  it("takes a command id that comes again beyond the window for a new command, and no earlier", () => {
    const log = (between: number): LoggedEvent[] =>
      Array.from({ length: between + 2 }, (_, index) => ({ stream, version: index + 1, type: "Deposited", amount: 1, commandId: index === 0 || index === between + 1 ? "again" : `c${index}`, chosen: true }));
    expect(check(log(1000), [accepted("again", 1002)])).toEqual([]);
    expect(first([accepted("again", 1001)], log(999))).toBe("I1: a");
  });

  it("takes no failure for certain of a command whose process was killed while it was sent again; where it was answered each time, it does", () => {
    const failed = record({ kind: "error", code: "StoreUnavailable" }, { call: "deposit", commandId: "b", amount: 4 });
    const again = { again: { stream, commandId: "b" } };
    expect(check(events, [failed], [again])).toEqual([]);
    expect(check(events, [failed, failed], [again])[0]?.slice(0, 5)).toBe("I4: i");
    expect(check(events, [failed, failed], [again, again])).toEqual([]);
  });

  it.each<[string, string, readonly CallRecord[], (readonly LoggedEvent[])?]>([
    ["an acknowledged event that is lost", "I1: a", [accepted("c", 3)]],
    ["an acknowledged event that stands twice", "I1: a", [accepted("a", 1)], [...events, { stream, version: 3, type: "Deposited", amount: 10, commandId: "a", chosen: true }]],
    ["an acknowledged event at another version", "I1: a", [accepted("a", 2)]],
    ["a gap", "I2: a", [], [events[0] as LoggedEvent, { ...(events[1] as LoggedEvent), version: 3 }]],
    ["a state that is not the fold", "I3: t", [record({ kind: "state", version: 2, balance: 7 })]],
    ["a rejection that was covered", "I3: r", [record({ kind: "rejected", version: 2, balance: 6 }, { call: "withdraw", commandId: "x", amount: 5 })]],
    ["a withdrawal that was decided on stale state", "I3: a", [], [...events, { stream, version: 3, type: "Withdrawn", amount: 7, commandId: "c", chosen: true }]],
    ["a definite failure that stands", "I4: i", [record({ kind: "error", code: "StoreUnavailable" }, { call: "deposit", commandId: "b", amount: 4 })]],
    ["a read that misses its write", "I5: t", [record({ kind: "row", wanted: 2, version: 1, balance: 10 })]],
    ["a view that is not the fold", "I5: t", [record({ kind: "row", wanted: 1, version: 2, balance: 5 })]],
    ["an answer older than one that had ended", "fresh", [record({ kind: "state", version: 2, balance: 6 }), record({ kind: "state", version: 1, balance: 10 }, { begun: 30, ended: 40 })]],
  ])("finds %s", (_what, prefix, records, log) => {
    expect(first(records, log)).toBe(prefix);
  });
});
