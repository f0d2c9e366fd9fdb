import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { shardOf } from "../../src/readmodel/shard-of.ts";
import { combined, type SavedCheckpoint } from "../../src/readmodel/view-store.ts";
import { covers, meet, merge, type Position } from "../../src/store/position.ts";
import { readModel, table } from "../../src/index.ts";
import { Order } from "./support.ts";

const position = fc.dictionary(fc.constantFrom("log", "p0", "p1"), fc.nat(5)) as fc.Arbitrary<Position>;

describe("the shard of a stream", () => {
  it("never changes: checkpoints rest on it", () => {
    expect(["order-1", "order-2", "order-42", "cart-ä", "x-\u{1F600}"].map((stream) => [2, 3, 8, 64].map((shards) => shardOf(stream, shards)))).toEqual([
      [0, 2, 4, 28],
      [0, 0, 0, 0],
      [1, 2, 7, 23],
      [1, 2, 3, 19],
      [0, 1, 0, 40],
    ]);
  });

  it("is spread evenly", () => {
    const counts = Array.from({ length: 8 }, () => 0);
    for (let n = 0; n < 8000; n++) counts[shardOf(`order-${n}`, 8)] = (counts[shardOf(`order-${n}`, 8)] ?? 0) + 1;
    for (const count of counts) expect(count).toBeGreaterThan(850);
  });

  it.each([0, -1, 1.5, 65, Number.NaN])("is one of 1 to 64: not %d", (shards) => {
    expect(() => readModel("m", { from: [Order], shards, view: table<{ id: string }>("t", { key: "id" }), project: (events$) => events$ })).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });

  it("does not see the order of all events", () => {
    expect(() => readModel("m", { from: [Order], shards: 2, needs: "totalOrder", view: table<{ id: string }>("t", { key: "id" }), project: (events$) => events$ })).toThrow(/order of all events/);
  });
});

describe("what all shards have seen", () => {
  it("is the greatest position that each of them covers", () => {
    fc.assert(
      fc.property(position, position, position, (a, b, c) => {
        const met = meet(a, b);
        expect(covers(a, met) && covers(b, met)).toBe(true);
        if (covers(a, c) && covers(b, c)) expect(covers(met, c)).toBe(true);
        expect(meet(b, a)).toEqual(met);
        expect(meet(a, merge(a, b))).toEqual(a);
      }),
    );
  });

  it("adds up what they have handled, and grows with the revision of each", () => {
    const shard = (log: number, revision: number, store = "s"): SavedCheckpoint => ({ position: { log }, store, events: log, revision, recordedAt: 1000 + log });
    expect(combined([shard(5, 2, ""), shard(3, 1), shard(9, 7)])).toEqual({ position: { log: 3 }, store: "s", events: 17, revision: 10, recordedAt: 1009 });
    expect(combined([shard(5, 2), { position: {}, store: "", events: 0, revision: 0 }]).position).toEqual({});
  });
});
