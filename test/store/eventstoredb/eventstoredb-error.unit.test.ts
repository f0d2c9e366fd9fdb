import { describe, expect, it } from "vitest";
import { isPassing } from "../../../src/store/eventstoredb/eventstoredb-error.ts";

describe("an error of gRPC", () => {
  it.each([
    ["a connection that broke", { code: 14, details: "No connection established" }, true],
    ["a call that was cut off on its connection", { code: 13, details: "Received RST_STREAM with code 2" }, true],
    ["a call that was reset to calm the client down", { code: 8, details: "Bandwidth exhausted or memory limit exceeded" }, true],
    ["a message that is too large", { code: 8, details: "Received message larger than max (5000 vs 4000)" }, false],
    ["an error inside of the server", { code: 13, details: "an error" }, false],
    ["a certificate of strangers", { code: 14, details: "No connection established. Last error: Error: self-signed certificate" }, false],
  ])("%s", (_what, error, passes) => {
    expect(isPassing(error)).toBe(passes);
  });
});
