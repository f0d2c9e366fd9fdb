import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NewEvent } from "../../../src/store/event-store.ts";
import { decodeEvent, encodeEvent, wireBytes, wireId } from "../../../src/store/eventstoredb/wire.ts";

const text = fc.string({ maxLength: 40, unit: "grapheme" });
const uuid = fc.uuid();
const event: fc.Arbitrary<NewEvent> = fc.record({
  id: fc.oneof(uuid, text.filter((id) => id !== "")),
  type: text.filter((type) => type !== ""),
  data: fc.oneof(fc.json(), text),
  metadata: fc.record(
    { correlationId: text, causationId: text, commandId: text, fingerprint: text, schemaVersion: fc.integer(), traceparent: text, user: fc.dictionary(text, fc.jsonValue()).map((user) => JSON.parse(JSON.stringify(user)) as Record<string, unknown>) },
    { requiredKeys: ["correlationId", "causationId", "commandId"] },
  ),
  recordedAt: fc.maxSafeInteger().map((n) => (n === 0 ? 0 : n)),
});

const kept = (one: NewEvent) => {
  const { id, type, data, metadata } = encodeEvent(one);
  return decodeEvent({ id, type, stream: "order-1", revision: 4, commit: 1234, prepare: 1234, createdAt: 99, data, metadata });
};

describe("an event on the wire", () => {
  it("comes back as it went in", () => {
    fc.assert(
      fc.property(event, (one) => {
        expect(kept(one)).toEqual({ ...one, stream: "order-1", version: 5, position: { log: 1234 } });
      }),
    );
  });

  it("counts what the server counts, and little more than the port does", () => {
    fc.assert(
      fc.property(event, (one) => {
        const encoded = encodeEvent(one);
        const counted = Buffer.byteLength(one.data) + Buffer.byteLength(JSON.stringify(one.metadata));
        expect(wireBytes([encoded, encoded])).toBe(2 * (encoded.data.length + encoded.metadata.length + 2 * encoded.type.length));
        expect(wireBytes([encoded])).toBeLessThanOrEqual(counted + 2 * one.type.length + 64 + 6 * one.id.length);
      }),
    );
  });

  it("has a UUID that its id makes, the same every time, and never the empty one", () => {
    const shape = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
    const seen = new Map<string, string>();
    fc.assert(
      fc.property(fc.oneof(uuid, uuid.map((id) => id.toUpperCase()), text, fc.constant("00000000-0000-0000-0000-000000000000")), (id) => {
        const made = wireId(id);
        expect(made).toMatch(shape);
        expect(made).not.toBe("00000000-0000-0000-0000-000000000000");
        expect(wireId(id)).toBe(made);
        expect(seen.get(made) ?? id).toBe(id);
        seen.set(made, id);
      }),
    );
    expect(wireId("6d1f2a30-6f0b-4d0a-9c39-3f2f1f1f1f1f")).toBe("6d1f2a30-6f0b-4d0a-9c39-3f2f1f1f1f1f");
  });
});
