import { describe, expect, it } from "vitest";
import { environmentOf, silentLogger, systemClock } from "../../../src/environment.ts";
import type { Fetched, PartitionLink } from "../../../src/store/kafka/cluster.ts";
import { memoryIndex } from "../../../src/store/kafka/memory-index.ts";
import { PartitionLog } from "../../../src/store/kafka/partition-log.ts";
import { BatchWriter } from "../../../src/store/kafka/record-batch.ts";

const BATCHES = 12;

/** A log of foreign records, ten in a batch, of which each fetch gives one batch. */
function longLog(onFetch: () => void): PartitionLink {
  return {
    async fetch({ offset }): Promise<Fetched> {
      onFetch();
      const batch = new BatchWriter();
      for (let count = 0; count < 10; count++) {
        batch.beginRecord("k", "v", 0);
        batch.endRecord();
      }
      const { batch: bytes } = batch.finish({ producerId: -1, epoch: -1, sequence: -1, timestamp: 0 });
      bytes.writeBigInt64BE(BigInt(offset), 0);
      return { records: offset < BATCHES * 10 ? bytes : Buffer.alloc(0), highWatermark: BATCHES * 10, logStart: 0 };
    },
    end: async () => ({ offset: BATCHES * 10, leaderEpoch: 0 }),
    produce: () => Promise.reject(new Error("nobody writes")),
    close: () => undefined,
  };
}

describe("an index that is built from a long log", () => {
  it.each([
    ["tells every five seconds how far it is", 2000, [33, 58, 83].map((percent) => ({ lane: "order/0", percent }))],
    ["says nothing where it is quick", 100, []],
  ])("%s", async (_, millisecondsPerFetch, expected) => {
    const told: object[] = [];
    let now = 0;
    const logger = { ...silentLogger, info: (fields: object) => void told.push(fields) };
    const log = new PartitionLog({
      lane: "order/0",
      topicId: "t",
      link: longLog(() => (now += millisecondsPerFetch)),
      index: memoryIndex(),
      environment: environmentOf({ logger, clock: { ...systemClock, elapsed: () => now } }),
      boundMs: 1e9,
      topicIdNow: async () => "t",
    });
    await log.reach(BATCHES * 10);
    await log.close();
    expect(told).toMatchObject(expected);
    expect(told).toHaveLength(expected.length);
  });
});
