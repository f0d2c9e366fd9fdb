import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assertCommandId, derivedId, TIDEMARK_NAMESPACE, uuidV5 } from "../../src/actor/command-id.ts";

const DNS = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const field = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }).filter((text) => text.isWellFormed() && !text.includes("\0"));

describe("ids that a decision draws", () => {
  it("follow RFC 9562: the vector of its appendix", () => {
    expect(uuidV5(DNS, "www.example.com")).toBe("2ed6657d-e927-568b-95e1-2665a8aea6a2");
  });

  it("are version 5 UUIDs of the stream, the command id and the index in Tidemark's namespace", () => {
    fc.assert(
      fc.property(field, field, fc.nat(), (stream, commandId, index) => {
        expect(derivedId(stream, commandId, index)).toBe(uuidV5(TIDEMARK_NAMESPACE, `${stream}\0${commandId}\0id\0${index}`));
      }),
    );
  });

  it("never change: they stand in logs", () => {
    expect(TIDEMARK_NAMESPACE).toBe("74696465-6dc3-85c3-a965-76656e74732e");
    expect(derivedId("order-ord-42", "c-1", 0)).toBe("a1ffbe60-e051-5ea0-8d1a-682755922e9a");
  });

  it("differ whenever stream, command id or index differ", () => {
    const ids = new Set([
      derivedId("order-1", "c", 0),
      derivedId("order-1", "c", 1),
      derivedId("order-1c", "c", 0),
      derivedId("order-1", "cc", 0),
      derivedId("order-", "1c", 0),
    ]);
    expect(ids.size).toBe(5);
  });

  it("carry version and variant", () => {
    for (let i = 0; i < 200; i++) expect(derivedId("order-1", "c", i)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it.each([["", "empty"], ["a\0b", "with NUL"], ["\ud800", "ill-formed"], ["x".repeat(257), "too long"]])(
    "refuse the command id %j (%s), which could make two tuples one",
    (commandId) => {
      expect(() => assertCommandId(commandId)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    },
  );

  it("take any other command id", () => {
    for (const commandId of ["a", "import:42:place", "x".repeat(256), "größe 🙂", "-"]) expect(() => assertCommandId(commandId)).not.toThrow();
  });
});
