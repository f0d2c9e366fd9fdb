import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KnownIds } from "../../../src/testing/eventstoredb-server/engine/known-ids.ts";

/** What an id of a stream with a name of three letters counts. */
const COST = 28 + 2 * 3;

describe("known ids", () => {
  it("are bounded: the oldest are forgotten first", () => {
    const known = new KnownIds(3 * COST);
    for (const id of ["1", "2", "3", "4"]) known.put(id, "s-1", Number(id));
    expect(["1", "2", "3", "4"].map((id) => known.get(id, "s-1"))).toEqual([undefined, 2, 3, 4]);
  });

  it("are those that came last, also those that come again after they were forgotten", () => {
    const ids = ["a", "b", "c", "d", "e", "f"] as const;
    fc.assert(
      fc.property(fc.nat(4), fc.array(fc.constantFrom(...ids), { maxLength: 60 }), (room, puts) => {
        const known = new KnownIds(room * COST);
        let kept: { readonly id: string; readonly revision: number }[] = [];
        for (const [revision, id] of puts.entries()) {
          known.put(id, "s-1", revision);
          if (!kept.some((one) => one.id === id)) kept = [...kept, { id, revision }].slice(room === 0 ? Infinity : -room);
          expect(ids.map((each) => known.get(each, "s-1"))).toEqual(ids.map((each) => kept.find((one) => one.id === each)?.revision));
        }
      }),
    );
  });

  it("cost as little when the oldest are forgotten for each new one", () => {
    const room = 66_000;
    const known = new KnownIds(room * COST);
    for (let id = 0; id < room; id++) known.put(`${id}`, "s-1", id);
    const puts = 150_000;
    // Of the CPU: what else the machine does is none of its business.
    const before = process.threadCpuUsage();
    for (let id = room; id < room + puts; id++) known.put(`${id}`, "s-1", id);
    const { user, system } = process.threadCpuUsage(before);
    // Microseconds, with slack: it is one or two, and far more where what was forgotten is stepped over each time.
    expect((user + system) / puts).toBeLessThan(10);
  });
});
