/** Starting, stopping, being killed, being found. */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventStoreDBClient, jsonEvent } from "@eventstore/db-client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { eventStoreDbServer } from "../../../src/testing/eventstoredb-server/index.ts";
import { killServers, runner, startServer } from "./own-process.ts";
import { idOf, readRequest, Wire, type WireEvent } from "./protocol.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

const event = (): WireEvent => ({ id: randomUUID() });

async function idsIn(wire: Wire, stream: string): Promise<(string | undefined)[]> {
  const { messages } = await wire.read(readRequest({ stream, count: 100_000 }));
  return messages.filter((message) => message.hasEvent()).map(idOf);
}

describe("the test server", () => {
  it("keeps its log on a file over a stop and a start, and serves one at a time", async () => {
    const file = join(folder, "log");
    const events = [event(), event()];
    {
      await using server = await eventStoreDbServer({ file });
      await expect(eventStoreDbServer({ file })).rejects.toMatchObject({ code: "StoreUnavailable" });
      const wire = new Wire(server.connectionString);
      await wire.append("BatchAppend", "s-1", "no_stream", events);
      await wire.dispose();
    }
    await using server = await eventStoreDbServer({ file });
    const wire = new Wire(server.connectionString);
    expect(await idsIn(wire, "s-1")).toEqual(events.map(({ id }) => id));
    await wire.dispose();
  });

  it.each([true, false])("keeps its port and its log over a restart, on a file: %s", async (onFile) => {
    await using server = await eventStoreDbServer(onFile ? { file: join(folder, "log") } : {});
    const wire = new Wire(server.connectionString);
    await wire.append("BatchAppend", "s-1", "no_stream", [event()]);
    const { port } = server;
    await server.restart({ downMs: 1 });
    expect(server.port).toBe(port);
    await wire.connected();
    expect(await idsIn(wire, "s-1")).toHaveLength(1);
    expect(await wire.append("BatchAppend", "s-1", 0n, [event()])).toMatchObject({ revision: 1n });
    await wire.dispose();
  });

  it("frees its port when it is closed, also in the middle of everything", async () => {
    const server = await eventStoreDbServer();
    const client = EventStoreDBClient.connectionString(server.connectionString);
    const subscription = client.subscribeToAll();
    const over = new Promise<void>((resolve) => subscription.once("error", () => resolve()).once("end", () => resolve()));
    await new Promise<void>((resolve) => subscription.once("caughtUp", () => resolve()));
    server.faults.add({ on: "batch-append", action: { kind: "stall" } });
    const append = client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }));
    append.catch(() => undefined);
    await server.close();
    await server.close();
    await over;
    await expect(append).rejects.toThrow("");
    await using next = await eventStoreDbServer({ port: server.port });
    expect(next.port).toBe(server.port);
    await expect(eventStoreDbServer({ port: server.port })).rejects.toMatchObject({ code: "StoreUnavailable" });
    await client.dispose();
  });

  it.each([
    [{ port: -1 }, "port"],
    [{ maxAppendBytes: 0 }, "maxAppendBytes"],
    [{ writeTimeoutMs: 1.5 }, "writeTimeoutMs"],
    [{ users: [{ name: "a:b", password: "" }] }, "users"],
  ])("refuses %j by the name of the option", async (options, name) => {
    await expect(eventStoreDbServer(options)).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining(name) });
  });

  it("is found by discovery, and by its seed among others that are down", async () => {
    await using server = await eventStoreDbServer();
    for (const url of [`esdb+discover://127.0.0.1:${server.port}?tls=false`, `esdb://127.0.0.1:1,127.0.0.1:${server.port}?tls=false&discoveryInterval=1`]) {
      const client = EventStoreDBClient.connectionString(url);
      expect(await client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }))).toMatchObject({ success: true });
      await client.dispose();
    }
  });

  it("can send clients elsewhere by gossip", async () => {
    await using elsewhere = await eventStoreDbServer();
    await using server = await eventStoreDbServer({ advertise: { host: elsewhere.host, port: elsewhere.port } });
    const client = EventStoreDBClient.connectionString(`esdb+discover://127.0.0.1:${server.port}?tls=false`);
    await client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }));
    await client.dispose();
    const wire = new Wire(elsewhere.connectionString);
    expect(await idsIn(wire, "s-1")).toHaveLength(1);
    await wire.dispose();
  });

  it("can be one from before batch appends", async () => {
    await using server = await eventStoreDbServer({ batchAppend: false });
    server.faults.add({ on: "batch-append", action: { kind: "refuse" } });
    const client = EventStoreDBClient.connectionString(server.connectionString);
    expect(await client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }))).toMatchObject({ nextExpectedRevision: 0n });
    await client.dispose();
  });
});

// Processes take their time to start on a busy machine.
describe("npm run eventstoredb", { timeout: 120_000 }, () => {
  afterEach(killServers);

  it("prints its addresses, serves, and ends well when it is told to", async () => {
    const server = await startServer("--port", "0", "--control", "0");
    expect(server.lines).toEqual([`esdb://127.0.0.1:${server.port}?tls=false`, expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/)]);
    const wire = new Wire(server.lines[0]!);
    expect(await wire.append("BatchAppend", "s-1", "no_stream", [event()])).toMatchObject({ revision: 0n });
    const faults = await fetch(`${server.lines[1]}/faults`);
    expect(await faults.json()).toEqual([]);
    expect(await server.kill("SIGTERM")).toBe(0);
    await wire.dispose();
  });

  it("says why it cannot start", async () => {
    const server = await startServer("--port", "0");
    await expect(startServer("--port", String(server.port))).rejects.toThrow(`cannot listen on 127.0.0.1:${server.port}`);
    await server.kill("SIGKILL");
  });

  it.each([
    [["--help"], 0, /--port <number>.*--file <path>.*--control <port>.*--user <name:password\[:group\]>.*--cert <path>.*--key <path>/s],
    [["--prot", "0"], 1, /unknown option '--prot'\n\(Did you mean --port\?\)/],
    [["--port", "web"], 1, /whole number from 0 to 65535/],
  ])("tells how it is used: %j", (args, code, said) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [runner, ...args], { encoding: "utf8" });
    expect([status, stdout + stderr]).toEqual([code, expect.stringMatching(said)]);
    expect(stdout + stderr).not.toContain("    at ");
  });

  it("loses no append that it answered when it is killed, and none is torn", async () => {
    const file = join(folder, "log");
    const answered = new Map<string, string[]>();
    let port = 0;
    for (let kill = 0; kill < 3; kill++) {
      const server = await startServer("--port", String(port), "--file", file);
      ({ port } = server);
      const wire = new Wire(server.lines[0]!);
      await wire.connected();
      const writers = [0, 1, 2, 3].map(async (writer) => {
        for (let append = 0; ; append++) {
          const stream = `writer${writer}-${kill}`;
          const pair = [event(), event()];
          const outcome = await wire.append("BatchAppend", stream, append === 0 ? "no_stream" : BigInt(2 * append - 1), pair).catch(() => undefined);
          if (outcome === undefined || !("revision" in outcome)) return;
          answered.set(stream, [...(answered.get(stream) ?? []), ...pair.map(({ id }) => id)]);
        }
      });
      await expect.poll(() => [...answered.values()].flat().length, { interval: 1, timeout: 60_000 }).toBeGreaterThan((kill + 1) * 40);
      await server.kill("SIGKILL");
      await Promise.all(writers);
      await wire.dispose();
    }
    const server = await startServer("--port", String(port), "--file", file);
    const wire = new Wire(server.lines[0]!);
    await wire.connected();
    for (const [stream, ids] of answered) {
      const found = await idsIn(wire, stream);
      expect(found.slice(0, ids.length)).toEqual(ids);
      // At most the append that was under way stands beyond, and then whole.
      expect([0, 2]).toContain(found.length - ids.length);
    }
    await wire.dispose();
    expect(await server.kill("SIGTERM")).toBe(0);
  });
});
