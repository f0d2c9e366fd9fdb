import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jsonCodec, toJson } from "../../src/store/codec.ts";

const at = { stream: "order-1", type: "OrderPlaced" };

describe("the JSON codec", () => {
  it("decodes what it encoded, a batch at a time and in its order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue()), async (values) => {
        const texts = await jsonCodec.encode(values.map((data) => ({ ...at, data })));
        const decoded = await jsonCodec.decode(texts.map((data) => ({ ...at, data })));
        expect(decoded).toEqual(values.map((value) => JSON.parse(JSON.stringify(value)) as unknown));
      }),
    );
  });

  it("writes an absent value as null", async () => {
    expect(await jsonCodec.encode([{ ...at, data: undefined }])).toEqual(["null"]);
  });

  it("names the event type whose data cannot be written", () => {
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    for (const data of [circle, 1n, { big: 1n }, () => 1, Symbol("s")]) {
      let caught: unknown;
      try {
        toJson(data, "OrderPlaced");
      } catch (error) {
        caught = error;
      }
      expect(caught).toMatchObject({ code: "UnserialisableData", retryable: false, details: { type: "OrderPlaced" } });
      expect((caught as Error).message).toContain("OrderPlaced");
    }
  });

  it("keeps lone surrogates as escapes, so that its text is always well-formed", () => {
    const text = toJson("\ud800", "T");
    expect(text.isWellFormed()).toBe(true);
    expect(JSON.parse(text)).toBe("\ud800");
  });
});
