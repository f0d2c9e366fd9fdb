/** What stands in the server, as its own tools see it; and what others have done there. */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binaryEvent, jsonEvent, type EventStoreDBClient } from "@eventstore/db-client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { NewEvent } from "../../../src/store/event-store.ts";
import { eventStoreDBBackend, eventStoreDBSnapshots, eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { openStore } from "../../../src/index.ts";
import { selfSigned } from "../../testing/eventstoredb-server/certificate.ts";
import { appendOf, until } from "../postgres/shared.ts";
import { append, bench, follow, idsOf, plainClient, type Bench } from "./support.ts";

describe("on EventStoreDB", () => {
  let it_: Bench;
  let raw: EventStoreDBClient;
  beforeEach(async () => {
    it_ = await bench();
    raw = it_.raw();
  });
  afterEach(() => it_.close());

  const id = (n: number): string => `00000000-0000-4000-9000-${String(n).padStart(12, "0")}`;
  const told = { correlationId: "cor", causationId: "cau", commandId: "com" };
  const recorded = async (stream: string) => {
    const events = [];
    for await (const { event } of raw.readStream(stream, { maxCount: 100 })) events.push(event!);
    return events;
  };
  const log = async (store: Awaited<ReturnType<Bench["open"]>>, categories?: readonly string[]) => {
    const events = [];
    for await (const page of store.readAll(categories === undefined ? {} : { categories })) events.push(...page.events);
    return events;
  };

  it("an event is JSON with the names that its tools look for", async () => {
    const store = await it_.open();
    const event: NewEvent = { id: id(1), type: "OrderPlaced", data: '{"customer":"c-7"}', metadata: { ...told, schemaVersion: 2, user: { tenant: "t" } }, recordedAt: 1_700_000_000_123 };
    await store.append([{ stream: "order-1", expected: 0, events: [event] }]);
    expect(await recorded("order-1")).toMatchObject([
      {
        streamId: "order-1",
        id: id(1),
        revision: 0n,
        type: "OrderPlaced",
        isJson: true,
        data: { customer: "c-7" },
        metadata: { $correlationId: "cor", $causationId: "cau", commandId: "com", schemaVersion: 2, user: { tenant: "t" }, recordedAt: 1_700_000_000_123 },
      },
    ]);
  });

  it("data that is no JSON is kept as it is, and says so; ids that are no UUIDs come back as they went in", async () => {
    const store = await it_.open();
    const events = ["not JSON", "", '{"b":1,"a":2}'].map((data, n): NewEvent => ({ id: ["ord-1/ÄÖ", "00000000-0000-0000-0000-000000000000", "ABCDEF00-0000-4000-8000-000000000000"][n]!, type: "Happened", data, metadata: told, recordedAt: 1 }));
    expect(await append(store, { stream: "order-1", expected: 0, events })).toMatchObject({ kind: "committed", version: 3 });
    expect((await recorded("order-1")).map((event) => event.isJson)).toEqual([false, false, true]);
    expect((await store.readStream("order-1")).events.map((event) => [event.id, event.data])).toEqual(events.map((event) => [event.id, event.data]));
    expect(await append(store, { stream: "order-1", expected: 0, events }), "and are known again").toMatchObject({ kind: "committed", version: 3 });
    expect(await idsOf(store, "order-1")).toHaveLength(3);
  });

  it("streams whose fronts are gone tell their first version, however they are read", async () => {
    const store = await it_.open();
    await append(store, appendOf("order-1", 0, Array.from({ length: 10 }, (_, n) => id(n))));
    for (const [metadata, first] of [
      [{ truncateBefore: 3 }, 4],
      [{ maxCount: 4 }, 7],
    ] as const) {
      await raw.setStreamMetadata("order-1", metadata);
      const versions = Array.from({ length: 11 - first }, (_, n) => first + n);
      const slices = { start: await store.readStream("order-1"), middle: await store.readStream("order-1", { from: 8 }), front: await store.readStream("order-1", { from: 2, limit: 3 }), back: await store.readStream("order-1", { direction: "backward", limit: 2 }) };
      for (const [how, slice] of Object.entries(slices)) expect({ how, version: slice.version, firstVersion: slice.firstVersion }).toEqual({ how, version: 10, firstVersion: first });
      expect(slices.start.events.map((event) => event.version)).toEqual(versions);
      expect(slices.front.events.map((event) => event.version)).toEqual(versions.slice(0, 3));
      const whole = [];
      for (let from: number | undefined = 10; from !== undefined; ) {
        const slice = await store.readStream("order-1", { direction: "backward", from, limit: 3 });
        whole.push(...slice.events.map((event) => event.version));
        from = slice.next;
      }
      expect(whole).toEqual(versions.toReversed());
    }
    await raw.setStreamMetadata("order-1", { truncateBefore: 10 });
    expect(await store.readStream("order-1")).toMatchObject({ events: [], version: 10, firstVersion: 11 });
    expect(await append(store, appendOf("order-1", 10, [id(10)]))).toMatchObject({ kind: "committed", version: 11 });
    expect(await store.readStream("order-1")).toMatchObject({ version: 11, firstVersion: 11, events: [{ version: 11 }] });
    expect((await log(store)).map((event) => event.version), "the log has kept them").toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it("deleted streams are named, in reads and in appends", async () => {
    const store = await it_.open();
    for (const stream of ["order-1", "order-2"]) await append(store, appendOf(stream, 0, [id(1), id(2)]));
    await raw.deleteStream("order-1");
    await raw.tombstoneStream("order-2");
    await raw.tombstoneStream("order-3");
    await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StreamDeleted", retryable: false, details: { stream: "order-1", how: "soft-deleted" } });
    await expect(store.readStream("order-1", { direction: "backward" })).rejects.toMatchObject({ code: "StreamDeleted" });
    expect(await append(store, appendOf("order-1", "exists", [id(3)]))).toMatchObject({ kind: "refused", code: "stream-deleted" });
    for (const stream of ["order-2", "order-3"]) {
      await expect(store.readStream(stream)).rejects.toMatchObject({ code: "StreamDeleted", details: { stream, how: "tombstoned" } });
      for (const expected of [0, "any", 2] as const) expect(await append(store, appendOf(stream, expected, [id(3)]))).toMatchObject({ kind: "refused", code: "stream-deleted", retryable: false });
    }
    expect(await append(store, appendOf("order-1", "none", [id(1), id(2)])), "what stood before the deletion is known, and covered").toMatchObject({ kind: "committed", version: 2 });
    expect(await append(store, appendOf("order-1", 2, [id(4)])), "an append brings it back").toMatchObject({ kind: "committed", version: 3 });
    expect(await store.readStream("order-1")).toMatchObject({ version: 3, firstVersion: 3 });
    await raw.tombstoneStream("order-4");
    const follower = follow(store, { categories: ["order"] });
    await until(() => follower.state.caughtUp, "the log is read over tombstones");
    expect(follower.events.map((event) => `${event.stream} ${event.version}`)).toEqual(["order-1 1", "order-1 2", "order-2 1", "order-2 2", "order-1 3"]);
    await follower.stop();
  });

  it("events of the system, links, snapshots and streams that cannot be named are left out of the log, and through moves over them", async () => {
    const store = await it_.open();
    await append(store, appendOf("order-1", 0, [id(1)]));
    await raw.setStreamMetadata("order-1", { maxAge: 1000 });
    for (const stream of ["nodash", "1order-1", "or der-1", "snapshot-order-1", "-x", "$ce-order", `order-${"i".repeat(257)}`]) await raw.appendToStream(stream, jsonEvent({ type: "Other", data: {} }));
    await raw.appendToStream("order-2", jsonEvent({ type: "$>", data: {} }));
    const { position } = await raw.appendToStream("$stats-1", jsonEvent({ type: "$stats", data: {} }));
    for (const categories of [undefined, ["order"], ["snapshot"], []]) {
      const events = await log(store, categories);
      expect(events.map((event) => event.stream)).toEqual(categories === undefined || categories[0] === "order" ? ["order-1"] : []);
    }
    const follower = follow(store);
    await until(() => follower.state.caughtUp, "it has caught up");
    expect(follower.state.through).toBe(Number(position?.commit));
    await follower.stop();
    await expect(store.readStream("snapshot-order-1")).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("snapshot") });
    expect(await append(store, appendOf("snapshot-order-1", "any", [id(5)]))).toMatchObject({ kind: "refused", code: "invalid" });
  });

  it("events of a writer that knows nothing of Tidemark are read with what they have", async () => {
    const store = await it_.open();
    await raw.appendToStream("order-1", [
      jsonEvent({ id: id(1), type: "Foreign", data: { a: 1 } }),
      jsonEvent({ id: id(2), type: "Foreign", data: "text", metadata: { $correlationId: "x", $causationId: "y", more: true } }),
      binaryEvent({ id: id(3), type: "Foreign", data: Buffer.from([0xff, 0xfe, 0x00]), metadata: Buffer.from([1, 2, 3]) }),
    ]);
    const { events } = await store.readStream("order-1");
    expect(events).toMatchObject([
      { id: id(1), version: 1, data: '{"a":1}', metadata: { correlationId: id(1), causationId: id(1), commandId: id(1) } },
      { id: id(2), version: 2, data: '"text"', metadata: { correlationId: "x", causationId: "y", commandId: "y", more: true } },
      { id: id(3), version: 3, metadata: { correlationId: id(3) } },
    ]);
    expect(Math.abs(events[0]!.recordedAt - Date.now())).toBeLessThan(60_000);
    expect(await log(store)).toEqual(events);
    expect(await append(store, appendOf("order-1", 2, [id(4)]))).toMatchObject({ kind: "conflict", actual: 3, missing: [{ id: id(3) }] });
  });

  it("a conflict brings the events that are missing, at most 100 of them", async () => {
    const store = await it_.open();
    await append(store, appendOf("order-1", 0, Array.from({ length: 150 }, (_, n) => id(n))));
    for (const [expected, from, count] of [[149, 149, 1], [100, 100, 50], [10, 10, 100], ["none", 0, 100]] as const) {
      const outcome = await append(store, appendOf("order-1", expected, [id(1000)]));
      expect(outcome).toMatchObject({ kind: "conflict", actual: 150 });
      const missing = outcome.kind === "conflict" ? outcome.missing : undefined;
      expect(missing?.map((event) => event.version)).toEqual(Array.from({ length: count }, (_, n) => from + 1 + n));
    }
    expect(await append(store, appendOf("order-1", 151, [id(1000)]))).toEqual({ kind: "conflict", actual: 150 });
  });

  it("an append that the server counts larger than it takes is refused before it is sent, and one that its configuration refuses is named", async () => {
    const store = await it_.open();
    const small = (n: number): NewEvent => ({ id: id(n), type: "T".repeat(200), data: "{}", metadata: told, recordedAt: 1_700_000_000_000 });
    const many = Array.from({ length: 3000 }, (_, n) => small(n));
    const outcome = await append(store, { stream: "order-1", expected: 0, events: many });
    expect(outcome).toMatchObject({ kind: "refused", code: "too-large", retryable: false });
    const most = store.capabilities.maxAppendBytes - JSON.stringify(told).length;
    expect(await append(store, { stream: "order-1", expected: 0, events: [{ ...small(0), data: JSON.stringify("x".repeat(most - 2)) }] })).toMatchObject({ kind: "committed" });
    const strict = await bench({ maxAppendBytes: 10_000 });
    try {
      expect(await append(await strict.open(), appendOf("order-1", 0, [id(1)], JSON.stringify("x".repeat(20_000))))).toMatchObject({ kind: "refused", code: "too-large", message: expect.stringContaining("10000") });
    } finally {
      await strict.close();
    }
  });

  it("a server that was set up anew under a running store is another log: subscriptions end with StoreRewound", async () => {
    const store = await it_.open();
    const { id: before } = await store.identity();
    const written = await append(store, appendOf("order-1", 0, [id(1), id(2)]));
    const place = written.kind === "committed" ? written.position["log"] : undefined;
    const all = follow(store);
    const none = follow(store, { categories: ["nothing"] });
    await until(() => all.state.caughtUp && none.state.caughtUp, "both have caught up");
    const { port } = it_.server;
    await it_.server.close();
    const anew = await bench({ port });
    try {
      // The same events in the same places, and more: nothing but its identity tells this log from the other.
      const other = await anew.open();
      expect(await append(other, appendOf("order-1", 0, [id(1), id(2)]))).toMatchObject({ position: { log: place } });
      for (let version = 2; version < 20; version++) await append(other, appendOf("order-1", version, [id(10 + version)]));
      await until(() => all.state.ended !== undefined && none.state.ended !== undefined, "both end", 15_000);
      expect([all.state.ended, none.state.ended]).toMatchObject([{ code: "StoreRewound" }, { code: "StoreRewound" }]);
      expect(all.events).toHaveLength(2);
      expect((await store.identity()).id).not.toBe(before);
    } finally {
      await store.close();
      await anew.close();
    }
  });

  it("so it is where no subscription can be had, and the log is read without one", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
    const file = join(folder, "other.log");
    const store = await it_.open();
    await append(store, appendOf("order-1", 0, [id(1), id(2)]));
    const all = follow(store);
    await until(() => all.state.caughtUp, "it has caught up");
    // The other log is longer from the start.
    const before = await bench({ file });
    const other = await before.open();
    for (let version = 0; version < 20; version += 2) await append(other, appendOf("order-1", version, [id(version + 1), id(version + 2)]));
    await before.close();
    const { port } = it_.server;
    await it_.server.close();
    const anew = await bench({ port, file });
    anew.server.faults.add({ on: "subscription", action: { kind: "refuse" } });
    try {
      await until(() => all.state.ended !== undefined, "it ends", 15_000);
      expect(all.state.ended).toMatchObject({ code: "StoreRewound" });
      expect(all.events).toHaveLength(2);
    } finally {
      await store.close();
      await anew.close();
      rmSync(folder, { recursive: true });
    }
  });

  describe("snapshots", () => {
    it("stand in a stream of their own, of which the server keeps one", async () => {
      const snapshots = eventStoreDBSnapshots({ connection: it_.server.connectionString });
      const of = (version: number) => ({ stream: "order-1", version, eventId: id(version), position: { log: 7 }, schemaVersion: 1, state: `{"n":${version}}`, window: "[]", checksum: "c", takenAt: 1 });
      for (const version of [1, 2, 3]) await snapshots.save([of(version)]);
      expect(await recorded("snapshot-order-1")).toMatchObject([{ revision: 2n, type: "tidemark-snapshot", data: { n: 3 } }]);
      expect((await raw.getStreamMetadata("snapshot-order-1")).metadata).toEqual({ maxCount: 1 });
      await snapshots.delete("order-1");
      expect(await snapshots.load("order-1")).toBeUndefined();
      await snapshots.save([of(2)]);
      await raw.deleteStream("snapshot-order-1");
      expect(await snapshots.load("order-1"), "an operator deleted it").toBeUndefined();
      await snapshots.save([of(1)]);
      expect(await snapshots.load("order-1")).toEqual(of(1));
      expect((await raw.getStreamMetadata("snapshot-order-1")).metadata).toMatchObject({ maxCount: 1 });
      await raw.appendToStream("snapshot-order-1", jsonEvent({ type: "tidemark-snapshot", data: {}, metadata: { version: "x" } }));
      expect(await snapshots.load("order-1"), "damaged").toBeUndefined();
      await snapshots.close();
    });

    it("of many writers at once end at the newest", async () => {
      const writers = Array.from({ length: 4 }, () => eventStoreDBSnapshots({ connection: it_.server.connectionString }));
      const late = it_.server.faults.add({ on: "batch-append", stream: "snapshot-order-1", times: 1, action: { kind: "delay", delayMs: 500 } });
      const of = (version: number) => ({ stream: "order-1", version, eventId: id(version), position: {}, schemaVersion: 1, state: "{}", window: "[]", checksum: "c", takenAt: 1 });
      const slow = writers[0]!.save([of(10)]);
      await until(() => late.met === 1, "the first one having read, and writing");
      await Promise.all(writers.map((writer, n) => (n === 0 ? slow : writer.save([of(10 + n)]))));
      expect((await writers[0]!.load("order-1"))?.version).toBe(13);
      await expect(writers[0]!.save([{ ...of(20), state: JSON.stringify("x".repeat(1_100_000)) }])).rejects.toMatchObject({ code: "AppendTooLarge" });
      await Promise.all(writers.map((writer) => writer.close()));
    });
  });

  it("opens with TLS and a password of any characters, with a client of one's own, and by discovery", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
    const tls = selfSigned();
    const ca = join(folder, "ca.pem");
    writeFileSync(ca, tls.cert);
    const secret = "a:b@c/d?e %1";
    const secured = await bench({ tls, users: [{ name: "ada", password: secret, groups: ["$admins"] }] });
    try {
      const at = `localhost:${secured.server.port}?tls=true&tlsCAFile=${encodeURIComponent(ca)}`;
      const open = async (url: string): Promise<void> => {
        const backend = await openStore(url);
        expect((await backend.events.readStream("order-1")).version).toBe(0);
        await backend.close();
      };
      await open(`esdb://ada:${encodeURIComponent(secret)}@${at}`);
      await open(`kurrentdb://ada:${encodeURIComponent(secret).replace("%3A", ":")}@${at}`);
      await expect(openStore(`esdb://ada:wrong@${at}`)).rejects.toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringContaining("knows no such user, or not with this password") as string });
      const [host] = at.split("?") as [string];
      const stranger = { code: "StoreUnavailable", retryable: false, message: expect.stringContaining("name its authority by ?tlsCAFile=FILE") as string };
      await expect(openStore(`esdb://${host}`)).rejects.toMatchObject(stranger);
      await expect(openStore(`esdb://${host}?tls=false`)).rejects.toMatchObject({ code: "StoreUnavailable", message: expect.stringContaining("one that wants TLS (then leave ?tls=false out)") as string });
      await expect(openStore(`esdb://${host}?tlsCAFile=nowhere.pem`)).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("tlsCAFile=nowhere.pem") as string });
      await expect(openStore(`esdb://${at}`)).rejects.toMatchObject({ code: "StoreUnavailable", retryable: false });
    } finally {
      await secured.close();
      rmSync(folder, { recursive: true });
    }
    for (const scheme of ["esdb+discover", "kurrentdb+discover"]) {
      const store = await eventStoreDBStore({ connection: `${scheme}://127.0.0.1:${it_.server.port}?tls=false` });
      expect(await append(store, appendOf("order-1", "any", [id(scheme.length)]))).toMatchObject({ kind: "committed" });
      await store.close();
    }
    const backend = await eventStoreDBBackend({ client: raw });
    expect((await backend.events.readStream("order-1")).version).toBe(2);
    await backend.close();
    expect(await recorded("order-1"), "the client goes on").toHaveLength(2);
  });

  it("that speaks no TLS, a client that wants it is told at once what to write", async () => {
    let connections = 0;
    // As the real server answers a handshake.
    const plain = createServer((socket) => {
      connections++;
      socket.on("error", () => undefined).once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
    });
    await once(plain.listen(0, "127.0.0.1"), "listening");
    const { port } = plain.address() as AddressInfo;
    try {
      const wanted = { code: "StoreUnavailable", retryable: false, message: expect.stringMatching(/^127\.0\.0\.1:\d+ does not speak TLS.* add \?tls=false/) as string };
      await expect(openStore(`esdb://127.0.0.1:${it_.server.port}`)).rejects.toMatchObject(wanted);
      await expect(openStore(`esdb://127.0.0.1:${port}`)).rejects.toMatchObject(wanted);
      expect(connections).toBe(1);
      const discovered = openStore(`esdb+discover://127.0.0.1:${port}?maxDiscoverAttempts=2&discoveryInterval=1`);
      await expect(discovered).rejects.toMatchObject({ code: "StoreUnavailable", message: expect.stringContaining("?tls=false") as string });
    } finally {
      plain.close();
    }
  });

  it("denies of the server are told as such", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
    const tls = selfSigned();
    writeFileSync(join(folder, "ca.pem"), tls.cert);
    const secured = await bench({ tls, users: [{ name: "root", password: "r", groups: ["$admins"] }, { name: "bob", password: "b" }] });
    const as = (user: string): string => `esdb://${user}@localhost:${secured.server.port}?tls=true&tlsCAFile=${encodeURIComponent(join(folder, "ca.pem"))}`;
    const admin = plainClient(as("root:r"), { username: "root", password: "r" });
    const store = await eventStoreDBStore({ connection: as("bob:b") });
    try {
      await admin.setStreamMetadata("order-1", { acl: { readRoles: "root", writeRoles: "root" } as never });
      expect(await append(store, appendOf("order-1", "any", [id(1)]))).toMatchObject({ kind: "refused", code: "unavailable", retryable: false, message: expect.stringContaining("denies") });
      await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StoreUnavailable", retryable: false });
    } finally {
      await store.close();
      await admin.dispose();
      await secured.close();
      rmSync(folder, { recursive: true });
    }
  });
});
