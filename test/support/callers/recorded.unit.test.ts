import { describe, expect, it } from "vitest";
import { fingerprint } from "../../../src/actor/fingerprint.ts";
import type { StoredEvent } from "../../../src/store/event-store.ts";
import { checkRecording, type Answered, type Asked } from "./recorded.ts";

const event = (version: number, type: string, amount: number, id: string, commandId: string): StoredEvent => ({
  id: `e-${version}`,
  stream: "account-a",
  version,
  type,
  data: JSON.stringify({ amount }),
  metadata: { correlationId: id, causationId: id, commandId, fingerprint: fingerprint(type === "Deposited" ? "deposit" : "withdraw", { amount }) },
  recordedAt: 1,
  position: { log: version },
});
const log = [event(1, "Deposited", 10, "p.1", "c1"), event(2, "Withdrawn", 4, "p.2", "c2")];
const asked = (id: string, command: "deposit" | "withdraw", amount: number, commandId: string, at: number): Asked => ({ kind: "command", id, calm: false, at, account: "a", command, amount, commandId });
const rows = [{ id: "a", balance: 6, version: 2 }];
const truth: readonly (Asked | Answered)[] = [
  asked("p.1", "deposit", 10, "c1", 1),
  { id: "p.1", at: 2, answer: { kind: "accepted", version: 1, events: [{ type: "Deposited", data: { amount: 10 } }] } },
  asked("p.2", "withdraw", 4, "c2", 3),
  { id: "p.2", at: 4, answer: { kind: "accepted", version: 2, events: [{ type: "Withdrawn", data: { amount: 4 } }] } },
  asked("p.3", "withdraw", 50, "c3", 5),
  { id: "p.3", at: 6, answer: { kind: "rejected", version: 2, code: "not-covered", details: { balance: 6 } } },
  { kind: "state", id: "p.4", calm: false, at: 7, account: "a" },
  { id: "p.4", at: 8, answer: { kind: "state", version: 2, state: { balance: 6, entries: 2 } } },
  { kind: "read", id: "p.5", calm: false, at: 9, account: "a", version: 2 },
  { id: "p.5", at: 10, length: 2, answer: { kind: "rows", rows, position: { log: 2 }, stale: false, lastProcessed: 2 } },
];

async function found(lines: readonly (Asked | Answered)[], stands = log, killed: readonly string[] = []): Promise<readonly string[]> {
  const violations = await checkRecording({ lines, killed: new Set(killed), log: stands, boundMs: 100 });
  return [...new Set(violations.map(({ invariant }) => invariant))];
}

/** The truth, but for the answer to one call. */
const instead = (id: string, answer: Answered["answer"], at?: number): readonly (Asked | Answered)[] => truth.map((line) => ("answer" in line && line.id === id ? { ...line, ...(at !== undefined && { at }), answer } : line));

describe("what processes were told, held against the log", () => {
  it("is found in order where it is true, and where a killed process did not answer", async () => {
    expect(await found(truth)).toEqual([]);
    expect(await found([...truth, asked("q.1", "deposit", 1, "c9", 11)], log, ["q"])).toEqual([]);
  });

  it.each<[string, string, readonly (Asked | Answered)[], (readonly StoredEvent[])?]>([
    ["I1", "an acknowledged event that is lost", truth, log.slice(0, 1)],
    ["I1", "an event that nobody asked for", truth.filter((line) => line.id !== "p.2")],
    ["I2", "a gap", truth, [log[0] as StoredEvent, { ...(log[1] as StoredEvent), version: 3 }]],
    ["I3", "a state that is not the fold", instead("p.4", { kind: "state", version: 2, state: { balance: 7, entries: 2 } })],
    ["I3", "an answer older than one that had ended", instead("p.4", { kind: "state", version: 1, state: { balance: 10, entries: 1 } })],
    ["I4", "a definite failure that stands", instead("p.2", { kind: "error", code: "StoreUnavailable", message: "", details: {} })],
    ["I5", "a read that misses its write", instead("p.5", { kind: "rows", rows: [{ id: "a", balance: 10, version: 1 }], position: { log: 1 }, stale: false, lastProcessed: 1 })],
    ["I5", "rows that the view never had", instead("p.5", { kind: "rows", rows: [{ id: "a", balance: 7, version: 2 }], position: { log: 2 }, stale: false, lastProcessed: 2 })],
    ["I6", "a call that is never answered", [...truth, asked("p.9", "deposit", 1, "c9", 11)]],
    ["I6", "a failure in the calm", [...truth, { ...asked("p.9", "deposit", 1, "c9", 11), calm: true }, { id: "p.9", at: 12, answer: { kind: "error", code: "StoreUnavailable", message: "", details: {} } }]],
    ["I6", "an answer in the calm that takes too long", [...truth, { kind: "state", id: "p.9", calm: true, at: 11, account: "a" }, { id: "p.9", at: 999, answer: { kind: "state", version: 2, state: { balance: 6, entries: 2 } } }]],
  ])("%s: %s is found", async (invariant, _what, lines, stands) => {
    expect(await found(lines, [...(stands ?? log)])).toContain(invariant);
  });
});
