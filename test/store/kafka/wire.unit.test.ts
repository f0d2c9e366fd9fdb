/** What goes over the wire: batches, records, check sums, partitions. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EventMetadata, NewEvent } from "../../../src/store/event-store.ts";
import { crc32c } from "../../../src/store/kafka/crc32c.ts";
import { murmur2, partitionOf } from "../../../src/store/kafka/partitioner.ts";
import { prepare } from "../../../src/store/kafka/prepared-append.ts";
import { batchesIn, BatchWriter, eachRecord, type Batch } from "../../../src/store/kafka/record-batch.ts";
import { decodeEvent, marksOf, writeClaim, writeEvent } from "../../../src/store/kafka/record-format.ts";

const STAMP = { producerId: 4711, epoch: 7, sequence: 42, timestamp: 1_700_000_000_000 };

/** Text of every kind, lone surrogates included where the store takes them. */
const text = fc.string({ unit: "grapheme", maxLength: 40 });
const anyText = fc.oneof(text, fc.constantFrom("", "\ud800", "a\udc00b", "é\u2028", "\0"));
const metadata: fc.Arbitrary<EventMetadata> = fc
  .record({ commandId: anyText, correlationId: fc.option(anyText, { nil: undefined }), causationId: fc.option(anyText, { nil: undefined }), fingerprint: fc.option(anyText, { nil: undefined }), schemaVersion: fc.option(fc.integer(), { nil: undefined }), traceparent: fc.option(text, { nil: undefined }), user: fc.option(fc.dictionary(text, fc.jsonValue() as fc.Arbitrary<unknown>), { nil: undefined }) })
  .map(({ commandId, correlationId = commandId, causationId = commandId, ...rest }) => JSON.parse(JSON.stringify({ commandId, correlationId, causationId, ...rest })) as EventMetadata);
const event: fc.Arbitrary<NewEvent> = fc.record({ id: fc.string({ minLength: 1, maxLength: 20 }), type: fc.string({ unit: "grapheme", minLength: 1, maxLength: 200 }), data: fc.oneof(text, fc.string({ minLength: 100, maxLength: 20_000 })), recordedAt: fc.integer({ min: 0, max: 2 ** 45 }), metadata });

function recordsOf(batch: Batch): { readonly record: Buffer; readonly offset: number }[] {
  const records: { record: Buffer; offset: number }[] = [];
  eachRecord(batch, (record, offset) => records.push({ record, offset }));
  return records;
}

describe("a record batch", () => {
  it("gives back what was written, whatever its size and text", () => {
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 20 }), (events) => {
        const writer = new BatchWriter();
        const prepared = prepare({ stream: "order-é", expected: 0, events });
        prepared.events.forEach((each, index) => writeEvent(writer, "order-é", each, { claim: "nonce", version: index + 5, index, size: events.length }));
        expect(writer.count).toBe(events.length);
        const size = writer.size;
        const { batch: bytes, records } = writer.finish(STAMP);
        expect(bytes.length).toBe(size);
        const [batch, ...others] = [...batchesIn(bytes)];
        expect(others).toEqual([]);
        expect(batch).toMatchObject({ producerId: 4711, epoch: 7, sequence: 42, count: events.length, baseOffset: 0, lastOffset: events.length - 1, plain: true, transactional: false, control: false });
        const read = recordsOf(batch as Batch);
        expect(read.map(({ record }) => record)).toEqual(records);
        read.forEach(({ record, offset }, index) => {
          expect(marksOf(record)).toMatchObject({ stream: "order-é", kind: undefined, claim: "nonce", id: events[index]?.id, version: index + 5, index, size: events.length });
          const stored = decodeEvent("order/1", { stream: "order-é", version: index + 5, offset, record });
          expect(stored).toEqual({ ...events[index], stream: "order-é", version: index + 5, position: { "order/1": index } });
        });
      }),
      { numRuns: 60 },
    );
  });

  it("forgets what does not fit, and goes on after it", () => {
    const writer = new BatchWriter();
    const nonces = (count: number): void => {
      for (let index = 0; index < count; index++) writeClaim(writer, { nonce: `n${writer.count}`, writer: "w", producerId: 1, epoch: 0, previous: null });
    };
    nonces(3);
    const size = writer.size;
    nonces(5);
    writer.truncate(3);
    expect(writer.size).toBe(size);
    nonces(2);
    const [batch] = [...batchesIn(writer.finish(STAMP).batch)];
    expect(recordsOf(batch as Batch).map(({ record }) => marksOf(record).claim)).toEqual(["n0", "n1", "n2", "n3", "n4"]);
    expect(writer.count).toBe(0);
  });

  it("leaves out a piece at the end, and recognises damage", () => {
    const writer = new BatchWriter();
    const one = (): Buffer => {
      writeClaim(writer, { nonce: "n", writer: "w", producerId: 1, epoch: 0, previous: null });
      return writer.finish(STAMP).batch;
    };
    const two = Buffer.concat([one(), one()]);
    for (let cut = two.length / 2; cut < two.length; cut++) expect([...batchesIn(two.subarray(0, cut))]).toHaveLength(1);
    for (const at of [17, 21, 60, two.length / 2 - 1]) {
      const damaged = Buffer.from(two);
      damaged[at] = (damaged[at] as number) ^ 1;
      expect(() => [...batchesIn(damaged)]).toThrow(/check sum/);
    }
  });
});

describe("check sums and partitions", () => {
  it("are those of CRC-32C", () => {
    // RFC 3720, B.4.
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, index) => index)))).toBe(0x46dd794e);
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crc32c(Buffer.from("xx123456789y"), 2, 11)).toBe(0xe3069283);
  });

  it("are those of the Java client", () => {
    // org.apache.kafka.common.utils.UtilsTest.
    const cases: readonly [string, number][] = [
      ["21", -973932308],
      ["foobar", -790332482],
      ["a-little-bit-long-string", -985981536],
      ["a-little-bit-longer-string", -1486304829],
      ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
      ["abc", 479470107],
    ];
    for (const [key, hash] of cases) expect(murmur2(Buffer.from(key))).toBe(hash);
    expect(partitionOf("foobar", 100)).toBe((-790332482 & 0x7fffffff) % 100);
  });
});
