import { describe, expect, it } from "vitest";
import { parseConnectionString } from "../../../src/store/eventstoredb/connection-string.ts";

describe("a connection string", () => {
  it.each([
    ["esdb://localhost:2113", "esdb://localhost:2113", "localhost:2113"],
    ["esdb://localhost:2113/?tls=false", "esdb://localhost:2113?tls=false", "localhost:2113"],
    ["kurrentdb://a:1,b:2,c?nodePreference=leader", "esdb://a:1,b:2,c?nodePreference=leader", "a:1,b:2,c"],
    ["kurrentdb+discover://cluster.example.com", "esdb+discover://cluster.example.com", "cluster.example.com"],
    ["esdb+discover://ada:lace@c:2113?TLS=true", "esdb+discover://ada:lace@c:2113?tls=true", "c:2113"],
    // The client cuts a password at its second colon.
    ["esdb://ada:a:b@c:2113", "esdb://ada:a%3Ab@c:2113", "c:2113"],
    ["esdb://ada:a%3Ab%40c%2F%25@d", "esdb://ada:a%3Ab%40c%2F%25@d", "d"],
    ["esdb://ada:p@ss@d", "esdb://ada:p%40ss@d", "d"],
  ])("%s goes to the client as %s", (given, text, hosts) => {
    expect(parseConnectionString(given)).toEqual({ text, hosts });
  });

  it.each([
    ["", "is written esdb://"],
    ["localhost:2113", "is written esdb://"],
    ["http://localhost:2113", "is written esdb://"],
    ["esdb://ada:se/cret@host", "percent-encoded"],
    ["esdb://ada@host", "user:password"],
    ["esdb://ada:100%@host", "write % as %25"],
    ["esdb://host:99999", "host or host:port"],
    ["esdb://ho st", "host or host:port"],
    ["esdb://host?colour=red", "colour"],
    ["esdb://host?tls", "tls"],
    ["esdb://host?tlsVerifyCert=false", "tlsCAFile"],
    ["esdb://host?throwOnAppendFailure=false", "throwOnAppendFailure"],
  ])("%s is refused, and its message says why", (given, why) => {
    expect(() => parseConnectionString(given)).toThrow(expect.objectContaining({ code: "InvalidArgument", message: expect.stringContaining(why) }));
  });

  it("keeps its secrets out of every message", () => {
    for (const given of ["esdb://ada:s3cret/x@host", "esdb://ada:s3cret%@host", "esdb://ada:s3cret@host?colour=red", "esdb://ada:s3cret@ho st", "esdb:ada:s3cret@host"]) {
      let message = "";
      try {
        parseConnectionString(given);
      } catch (error) {
        message = `${String(error)} ${JSON.stringify(error)}`;
      }
      expect(message).not.toBe("");
      expect(message).not.toContain("s3cret");
    }
  });
});
