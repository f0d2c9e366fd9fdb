import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Append, EventMetadata, NewEvent } from "../../src/store/event-store.ts";
import { appendBytes, isFlat, validateAppend, validateBatch } from "../../src/store/validate-append.ts";

const metadata: EventMetadata = { correlationId: "c", causationId: "c", commandId: "c" };
const event: NewEvent = { id: "e-1", type: "Happened", data: "{}", metadata, recordedAt: 1 };
const append: Append = { stream: "order-1", expected: 0, events: [event] };
const limits = { maxAppendBytes: 1000, maxAppendsInBatch: 3 };

describe("the checks before an append", () => {
  it("let a good batch through without saying anything", () => {
    expect(validateBatch([append, { ...append, stream: "order-2" }], limits)).toBeUndefined();
  });

  it("refuse what comes beyond the batch limit, and only that", () => {
    const codes = validateBatch([1, 2, 3, 4, 5].map((id) => ({ ...append, stream: `order-${id}` })), limits)?.map((one) => one?.code);
    expect(codes).toEqual([undefined, undefined, undefined, "too-large", "too-large"]);
  });

  it("let the next append of a stream through when the first one was refused", () => {
    expect(validateBatch([{ ...append, events: [] }, append, append], limits)?.map((one) => one?.code)).toEqual(["invalid", undefined, "duplicate-stream"]);
  });

  it("refuse by the exact number of bytes: data and metadata, in UTF-8", () => {
    const empty = appendBytes([{ ...event, data: "" }]);
    const fitting = { ...append, events: [{ ...event, data: "x".repeat(1000 - empty) }] };
    expect(validateAppend(fitting, limits)).toBeUndefined();
    expect(validateAppend({ ...append, events: [{ ...event, data: "x".repeat(1001 - empty) }] }, limits)?.code).toBe("too-large");
    const user = { note: "é".repeat(500) };
    expect(validateAppend({ ...append, events: [{ ...event, metadata: { ...metadata, user } }] }, limits)?.code).toBe("too-large");
  });

  it("never let too large an append through because of the cheap bound", () => {
    const user = fc.dictionary(fc.string({ unit: "binary" }), fc.oneof(fc.string({ unit: "binary" }), fc.double(), fc.boolean(), fc.constant(null), fc.array(fc.string())), { noNullPrototype: true });
    const texts = fc.string({ unit: "binary", maxLength: 300 });
    const datas = fc.string({ unit: "grapheme", maxLength: 300 }).filter((text) => !text.includes("\0"));
    fc.assert(
      fc.property(fc.array(fc.record({ data: datas, user: fc.option(user, { nil: undefined }), commandId: texts }), { minLength: 1, maxLength: 3 }), (list) => {
        const events = list.map((one, index) => ({
          ...event,
          id: `e-${index}`,
          data: one.data,
          metadata: { ...metadata, commandId: one.commandId, ...(one.user === undefined ? {} : { user: one.user }) },
        }));
        const bytes = appendBytes(events);
        expect(validateAppend({ ...append, events }, { ...limits, maxAppendBytes: bytes })).toBeUndefined();
        expect(validateAppend({ ...append, events }, { ...limits, maxAppendBytes: bytes - 1 })?.code).toBe("too-large");
      }),
    );
  });

  it("tell flat metadata, which a spread copies, from everything else", () => {
    expect([{}, { a: 1, b: "x", c: true, d: null }].map(isFlat)).toEqual([true, true]);
    const others: Record<string, unknown>[] = [{ a: [] }, { a: {} }, { a: undefined }, { a: Number.NaN }, { a: 1n }, { a: () => 1 }, new (class A {})() as Record<string, unknown>];
    expect(others.map(isFlat)).toEqual(others.map(() => false));
  });

  it("say the limit and the stream, and never more than the beginning of a long name", () => {
    const tooLarge = validateAppend({ ...append, events: [{ ...event, data: "x".repeat(2000) }] }, limits);
    expect(tooLarge?.message).toContain("order-1");
    expect(tooLarge?.message).toContain("1000");
    const long = validateAppend({ ...append, stream: `order-${"i".repeat(10_000)}` }, limits);
    expect(long?.message.length).toBeLessThan(400);
  });
});
