import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { metadataOf, metadataText } from "../../src/store/metadata-text.ts";

const id = fc.constantFrom("c-1", "c-2", "größe 🙂", '"quoted"');
const metadata = fc.record(
  { correlationId: id, causationId: id, commandId: id, fingerprint: fc.string(), schemaVersion: fc.integer(), traceparent: fc.string(), user: fc.dictionary(fc.string(), fc.jsonValue()) },
  { requiredKeys: ["correlationId", "causationId", "commandId"] },
);

describe("metadata as text", () => {
  it("comes back as it was, whichever ids are equal", () => {
    fc.assert(
      fc.property(metadata, (given) => {
        expect(metadataOf(metadataText(given))).toEqual(JSON.parse(JSON.stringify(given)));
      }),
    );
  });

  it("names the command once where correlation and causation are the command itself", () => {
    expect(metadataText({ correlationId: "c-1", causationId: "c-1", commandId: "c-1" })).toBe('{"commandId":"c-1"}');
    expect(JSON.parse(metadataText({ correlationId: "other", causationId: "c-1", commandId: "c-1", fingerprint: "f" }))).toEqual({ correlationId: "other", commandId: "c-1", fingerprint: "f" });
  });
});
