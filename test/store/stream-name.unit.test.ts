import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_ID_LENGTH, assertCategory, assertStreamName, categoryOf, idOf, streamName } from "../../src/store/stream-name.ts";

const REFUSED = expect.objectContaining({ code: "InvalidArgument" }) as Error;

describe("a stream's name", () => {
  it("is a category and any well-formed id, and comes apart again", () => {
    const categories = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_]{0,63}$/);
    const ids = fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }).filter((id) => id.length <= MAX_ID_LENGTH && !id.includes("\0"));
    fc.assert(
      fc.property(categories, ids, (category, id) => {
        const name = streamName(category, id);
        expect(categoryOf(name)).toBe(category);
        expect(idOf(name)).toBe(id);
        assertStreamName(name);
      }),
    );
  });

  it("ends its category at the first dash", () => {
    expect([categoryOf("order-a-b"), idOf("order-a-b")]).toEqual(["order", "a-b"]);
    expect([categoryOf("order--"), idOf("order--")]).toEqual(["order", "-"]);
  });

  it.each(["", "1order", "_order", "or der", "or-der", "ordér", "order\n", "c".repeat(65)])("has no category like %j", (category) => {
    expect(() => assertCategory(category)).toThrow(REFUSED);
  });

  it.each(["a", "Z9_", "c".repeat(64)])("may have the category %j", (category) => {
    expect(() => assertCategory(category)).not.toThrow();
  });

  it.each(["", "a\0b", "\ud800", "a\udc00b", "i".repeat(MAX_ID_LENGTH + 1)])("has no id like %j", (id) => {
    expect(() => streamName("order", id)).toThrow(REFUSED);
    expect(() => assertStreamName(`order-${id}`)).toThrow(REFUSED);
  });

  it("takes an id of the greatest length, and no id that is not text", () => {
    expect(streamName("order", "i".repeat(MAX_ID_LENGTH))).toHaveLength(MAX_ID_LENGTH + 6);
    expect(() => streamName("order", 5 as unknown as string)).toThrow(REFUSED);
  });

  it.each(["", "order", "-1", "no name"])("is not %j", (name) => {
    expect(() => assertStreamName(name)).toThrow(REFUSED);
  });

  it("does not show more than the beginning of a refused name", () => {
    let message = "";
    try {
      assertStreamName("x".repeat(100_000));
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain("category-id");
    expect(message.length).toBeLessThan(200);
  });
});
