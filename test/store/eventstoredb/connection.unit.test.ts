import { EventStoreDBClient } from "@eventstore/db-client";
import { describe, expect, it } from "vitest";
import { environmentOf } from "../../../src/environment.ts";
import { openStore, openViews } from "../../../src/index.ts";
import { Connection } from "../../../src/store/eventstoredb/connection.ts";
import { eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";

const options = { name: "nowhere", owned: true, timeoutMs: 100, environment: environmentOf() };

describe("a connection", () => {
  it("asks for the leader in every call, and lets gRPC set no deadline of its own", () => {
    const connection = new Connection(EventStoreDBClient.connectionString("esdb://127.0.0.1:1?tls=false"), options);
    const [metadata, { deadline }] = connection.callArguments();
    expect(metadata.getMap()["requires-leader"]).toBe("true");
    expect(deadline).toBe(Infinity);
  });

  it("refuses a client that is not made of what it needs, and options that make no sense", async () => {
    expect(() => new Connection({} as EventStoreDBClient, options)).toThrow(expect.objectContaining({ code: "InvalidArgument", message: expect.stringContaining("6.2") }));
    for (const given of [{}, { connection: "esdb://h", client: {} as EventStoreDBClient }, { connection: "esdb://h", timeoutMs: 0 }]) {
      await expect(eventStoreDBStore(given)).rejects.toMatchObject({ code: "InvalidArgument" });
    }
  });

  it("gives up what has no answer, and is closed for good when the last one leaves", async () => {
    const connection = new Connection(EventStoreDBClient.connectionString("esdb://127.0.0.1:1?tls=false"), options).retain();
    await expect(connection.open("never", () => new Promise<never>(() => undefined))).rejects.toThrow("within 100 ms");
    await connection.release();
    await expect(connection.open("never", () => new Promise<never>(() => undefined))).rejects.toMatchObject({ code: "StoreClosed" });
  });
});

describe("a store's URL", () => {
  it.each(["esdb", "esdb+discover", "kurrentdb", "kurrentdb+discover"])("with the scheme %s is checked before anything is connected, and keeps its secrets", async (scheme) => {
    for (const [url, why] of [
      [`${scheme}:host`, "names a server"],
      [`${scheme}://ada:s3cret@host?colour=red`, "colour"],
      [`${scheme}://ada:s3cret/@host`, "percent-encoded"],
      [`${scheme}://host?tlsVerifyCert=false`, "tlsCAFile"],
      [`${scheme}://host?timeoutMs=soon`, "timeoutMs"],
    ] as const) {
      const error: unknown = await openStore(url).catch((caught: unknown) => caught);
      expect(error, url).toMatchObject({ code: "InvalidArgument", message: expect.stringContaining(why) });
      expect(String(error)).not.toContain("s3cret");
    }
    await expect(openViews(`${scheme}://host`)).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("read models live elsewhere") });
  });
});
