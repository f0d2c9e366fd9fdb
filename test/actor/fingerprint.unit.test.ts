import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalJson, fingerprint } from "../../src/actor/fingerprint.ts";

/** The same JSON with the keys of every object in another order. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, inner]) => [key, reversed(inner)]),
  );
}

describe("the fingerprint of a command", () => {
  it("never changes: it stands in logs", () => {
    expect(fingerprint("place", { customer: "c-7", lines: [{ sku: "a", quantity: 2 }] })).toBe("5roETLsjEab7Ry4kSlbQd_");
    expect(fingerprint("ship", undefined)).toBe("wtDJ4k2sti_hIlcrGuZKSo");
  });

  it("does not depend on the order of keys", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (input) => {
        expect(fingerprint("place", reversed(input))).toBe(fingerprint("place", input));
      }),
    );
  });

  it("differs when the JSON of the input differs", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        const same = canonicalJson(JSON.parse(JSON.stringify(a)), "x") === canonicalJson(JSON.parse(JSON.stringify(b)), "x");
        expect(fingerprint("place", a) === fingerprint("place", b)).toBe(same);
      }),
    );
    expect(fingerprint("place", { a: 1, b: [2, 3] })).not.toBe(fingerprint("place", { a: 1, b: [3, 2] }));
    expect(fingerprint("place", { a: 1 })).not.toBe(fingerprint("place", { a: "1" }));
  });

  it("differs for another command, and for no input against null", () => {
    expect(fingerprint("ship", {})).not.toBe(fingerprint("place", {}));
    expect(fingerprint("place", undefined)).not.toBe(fingerprint("place", null));
  });

  it("sees an input as JSON does: dates as text, undefined fields as absent", () => {
    expect(fingerprint("place", { at: new Date(0), note: undefined })).toBe(fingerprint("place", { at: "1970-01-01T00:00:00.000Z" }));
  });

  it("keeps a key named __proto__", () => {
    expect(canonicalJson(JSON.parse('{"b":1,"__proto__":{"z":2}}'), "x")).toBe('{"__proto__":{"z":2},"b":1}');
  });

  it("names the command of an input that JSON cannot hold", () => {
    const cycle: Record<string, unknown> = {};
    cycle["self"] = cycle;
    for (const input of [cycle, { n: 1n }]) {
      expect(() => fingerprint("place", input)).toThrow(expect.objectContaining({ code: "UnserialisableData", message: expect.stringContaining("place") as string }));
    }
  });
});
