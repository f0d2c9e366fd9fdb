/** Processes on one server, all of which are killed, stopped and cut off. Longer: `npm run soak -- --eventstoredb --minutes 10`. */
import { afterAll, describe, expect, it } from "vitest";
import { killServers } from "../../testing/eventstoredb-server/own-process.ts";
import { soakEventStoreDB } from "./soak.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Date.now() % 100_000);

describe(`processes on one EventStoreDB, killed, stopped and cut off (seed ${SEED})`, () => {
  afterAll(killServers);

  it("nobody is told what the log does not hold: I1 to I6 on what all of them have heard", { timeout: 180_000 }, async () => {
    const { violations, exits, answers, calmCalls } = await soakEventStoreDB({ seed: SEED, durationMs: 4000 });
    expect(violations).toEqual([]);
    expect(exits).toEqual([0, 0]);
    for (const kind of ["accepted", "state", "rows"]) expect(answers[kind] ?? 0, kind).toBeGreaterThan(10);
    expect(calmCalls, "calls in the calm").toBeGreaterThan(5);
  });
});
