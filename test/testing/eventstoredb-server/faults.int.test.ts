/** Each fault as a client sees it, and what stands in the log afterwards. */
import { randomUUID } from "node:crypto";
import { EventStoreDBClient, jsonEvent, NotLeaderError } from "@eventstore/db-client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { eventStoreDbControl, eventStoreDbServer, type EventStoreDbServer, type Fault, type FaultAction } from "../../../src/testing/eventstoredb-server/index.ts";
import { manualClock, type ManualClock } from "../../../src/testing/manual-environment.ts";
import { readRequest, Wire, type WireName } from "./protocol.ts";

let server: EventStoreDbServer;
let clock: ManualClock;
let wire: Wire;

beforeEach(async () => {
  clock = manualClock({ now: Date.now() });
  // Immediates run by themselves: time alone stands still.
  server = await eventStoreDbServer({ environment: { clock: { ...clock, now: clock.now, immediate: setImmediate } } });
  wire = new Wire(server.connectionString);
});

afterEach(async () => {
  await wire.dispose();
  await server.close();
});

const event = () => ({ id: randomUUID() });
const written = (revision: number) => ({ revision: BigInt(revision), position: expect.any(BigInt) });

async function count(stream: string): Promise<number> {
  const { messages } = await wire.read(readRequest({ stream, count: 1000 }));
  return messages.filter((message) => message.hasEvent()).length;
}

/** Whether a promise is settled once everything that is under way has gone its way. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  const note = (): void => void (done = true);
  void promise.then(note, note);
  // Two calls there and back: an answer to the first one would have come before theirs.
  for (let turn = 0; turn < 2; turn++) await count("bystander-1");
  return done;
}

describe.each(["Append", "BatchAppend"] as const)("a fault of %s", (name: WireName) => {
  const on = name === "Append" ? "append" : "batch-append";
  const append = (stream = "s-1") => wire.append(name, stream, "any", [event()]);
  const meet = (action: FaultAction, rest: Omit<Fault, "action"> = {}) => server.faults.add({ on, action, ...rest });

  it("delay: the append is handled later, and answered", async () => {
    meet({ kind: "delay", delayMs: 500 }, { times: 1 });
    const late = append();
    expect(await settled(late)).toBe(false);
    expect(await count("s-1")).toBe(0);
    expect(await append()).toEqual(written(0));
    await clock.advance(500);
    expect(await late).toEqual(written(1));
  });

  it("stall: nothing is answered until it is removed; then all is handled", async () => {
    const stall = meet({ kind: "stall" });
    const waiting = [append(), append("s-2")];
    expect(await settled(Promise.race(waiting))).toBe(false);
    stall.remove();
    expect(await Promise.all(waiting)).toEqual([written(0), written(0)]);
  });

  it("refuse: the call fails with the status that was chosen, and nothing is written", async () => {
    meet({ kind: "refuse" }, { times: 1 });
    expect(await append()).toEqual({ status: "14 Server Is Not Ready" });
    meet({ kind: "refuse", code: 8, message: "too much" }, { times: 1 });
    expect(await append()).toEqual({ status: "8 too much" });
    meet({ kind: "refuse", leader: { host: "elsewhere", port: 1 } }, { times: 1 });
    expect(await append()).toEqual({ status: "5 not-leader" });
    expect(await count("s-1")).toBe(0);
    expect(await append()).toEqual(written(0));
  });

  it.each([true, false])("time-out: the server ran out of time; carried out: %s", async (carriedOut) => {
    meet({ kind: "time-out", carriedOut }, { times: 1 });
    expect(await append()).toEqual({ status: name === "Append" ? "10 Operation timed out: Commit phase timeout." : "event_store.client.Timeout" });
    expect(await count("s-1")).toBe(carriedOut ? 1 : 0);
  });

  it.each([true, false])("cut: the connection is reset; carried out: %s", async (carriedOut) => {
    meet({ kind: "cut", carriedOut }, { times: 1 });
    expect(await append()).toEqual({ status: expect.stringMatching(/^14 /) });
    await wire.connected();
    expect(await count("s-1")).toBe(carriedOut ? 1 : 0);
  });

  it("slow: the answer comes later, what it tells is done", async () => {
    meet({ kind: "slow", betweenMs: 100 }, { times: 1 });
    const slow = append();
    await expect.poll(() => count("s-1"), { interval: 1, timeout: 15_000 }).toBe(1);
    expect(await settled(slow)).toBe(false);
    await clock.advance(100);
    expect(await slow).toEqual(written(0));
  });

  it("is met by the calls it names: by stream, after some, so many times", async () => {
    const fault = meet({ kind: "refuse" }, { stream: "s-1", skip: 1, times: 2 });
    const outcomes: unknown[] = [];
    for (const stream of ["s-2", "s-1", "s-1", "s-2", "s-1", "s-1"]) outcomes.push(await append(stream));
    const refused = { status: "14 Server Is Not Ready" };
    expect(outcomes).toEqual([written(0), written(0), refused, written(1), refused, written(1)]);
    expect(fault.met).toBe(2);
  });
});

describe("a reply that is dropped", () => {
  it("of a batch append: it stands, nobody hears, the others are answered", async () => {
    server.faults.add({ on: "batch-append", stream: "s-1", action: { kind: "drop-reply" } });
    const client = EventStoreDBClient.connectionString(server.connectionString);
    const lost = client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }));
    lost.catch(() => undefined);
    await client.appendToStream("s-2", jsonEvent({ type: "Tested", data: {} }));
    expect(await settled(lost)).toBe(false);
    expect(await count("s-1")).toBe(1);
    await client.dispose();
    await expect(lost).rejects.toThrow("");
  });

  it("of an append and of a delete: both are done", async () => {
    server.faults.add({ action: { kind: "drop-reply" }, on: ["append", "delete", "tombstone"] });
    const unheard = [wire.append("Append", "s-1", "any", [event()])];
    await expect.poll(() => count("s-1"), { interval: 1, timeout: 15_000 }).toBe(1);
    const removed = wire.remove("delete", "s-1", "any");
    await expect.poll(() => count("s-1"), { interval: 1, timeout: 15_000 }).toBe(0);
    expect(await settled(Promise.race([...unheard, removed]))).toBe(false);
  });
});

describe("the stream of batch appends", () => {
  it.each([true, false])("is ended as if all were well; carried out: %s", async (carriedOut) => {
    server.faults.add({ on: "batch-append", action: { kind: "end", carriedOut }, times: 1 });
    const stub = await wire.stub();
    const call = stub.batchAppend();
    const { batchRequest } = await import("./protocol.ts");
    const status = new Promise<{ code: number }>((resolve) => call.once("status", resolve));
    const answers: unknown[] = [];
    call.on("data", (answer) => answers.push(answer));
    call.write(batchRequest("s-1", "any", [event()]));
    expect((await status).code).toBe(0);
    expect(answers).toEqual([]);
    expect(await count("s-1")).toBe(carriedOut ? 1 : 0);
  });
});

describe("reads and subscriptions", () => {
  beforeEach(async () => {
    await wire.append("BatchAppend", "s-1", "any", [event(), event(), event()]);
  });

  it("end, fail or are cut after so many messages", async () => {
    const read = () => wire.read(readRequest({ stream: "s-1", count: 10 }));
    server.faults.add({ on: "read", action: { kind: "end", afterMessages: 2 }, times: 1 });
    const ended = await read();
    expect([ended.messages.length, ended.error]).toEqual([2, undefined]);
    server.faults.add({ on: "read", action: { kind: "refuse", code: 14, afterMessages: 1 }, times: 1 });
    const refused = await read();
    expect([refused.messages.length, refused.error?.code]).toEqual([1, 14]);
    server.faults.add({ on: "read", action: { kind: "cut" }, times: 1 });
    const cut = await read();
    expect([cut.messages.length, cut.error !== undefined]).toEqual([0, true]);
    await wire.connected();
    expect((await read()).messages.length).toBe(3);
  });

  it("that run stop at a stall, and go on after it", async () => {
    const client = EventStoreDBClient.connectionString(server.connectionString);
    const subscription = client.subscribeToStream("s-1");
    let got = 0;
    subscription.on("data", () => got++);
    await new Promise<void>((resolve) => subscription.once("caughtUp", () => resolve()));
    const stall = server.faults.add({ on: "subscription", action: { kind: "stall" } });
    await wire.append("BatchAppend", "s-1", "any", [event()]);
    await settled(Promise.resolve());
    expect(got).toBe(3);
    stall.remove();
    await expect.poll(() => got, { interval: 1, timeout: 15_000 }).toBe(4);
    await client.dispose();
  });

  it("that run are ended without an error, or cut off with one", async () => {
    const client = EventStoreDBClient.connectionString(server.connectionString);
    const follow = async () => {
      const subscription = client.subscribeToAll();
      const last = new Promise<string>((resolve) => subscription.once("end", () => resolve("end")).once("error", (error: Error & { type?: string }) => resolve(`error ${error.type}`)));
      subscription.on("data", () => undefined);
      await new Promise<void>((resolve) => subscription.once("caughtUp", () => resolve()));
      return { last };
    };
    const ended = await follow();
    expect(server.endStreams("subscription")).toBe(1);
    expect(await ended.last).toBe("end");
    const cut = await follow();
    server.cutConnections();
    expect(await cut.last).toMatch(/^error (cancelled|unavailable)/);
    await client.dispose();
  });

  it("slow: a pause after each message", async () => {
    server.faults.add({ on: "read", action: { kind: "slow", betweenMs: 10 }, stream: "s-1", times: 1 });
    const call = await wire.open(readRequest({ stream: "s-1", count: 10 }));
    let got = 0;
    call.on("data", () => got++).on("error", () => undefined);
    await expect.poll(() => got, { interval: 1, timeout: 15_000 }).toBe(1);
    await settled(Promise.resolve());
    expect(got).toBe(1);
    await clock.advance(10);
    await expect.poll(() => got, { interval: 1, timeout: 15_000 }).toBe(2);
    call.cancel();
  });
});

describe("other calls", () => {
  it("a follower sends the client to the leader", async () => {
    const leader = await eventStoreDbServer();
    server.faults.add({ on: "batch-append", action: { kind: "refuse", leader: { host: leader.host, port: leader.port } } });
    const client = EventStoreDBClient.connectionString(server.connectionString);
    const append = () => client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }));
    await expect(append()).rejects.toBeInstanceOf(NotLeaderError);
    // The client goes to the leader with its next call.
    await append();
    expect(await count("s-1")).toBe(0);
    await client.dispose();
    await leader.close();
  });

  it("the first call of a client can be refused", async () => {
    server.faults.add({ on: "server-features", action: { kind: "refuse" }, times: 1 });
    const client = EventStoreDBClient.connectionString(server.connectionString);
    const append = () => client.appendToStream("s-1", jsonEvent({ type: "Tested", data: {} }));
    await expect(append()).rejects.toMatchObject({ code: 14 });
    await client.dispose();
  });
});

describe("the control channel", () => {
  it("does over HTTP what code does in the process", async () => {
    await using control = await eventStoreDbControl(server);
    const call = async (method: string, path: string, body?: unknown): Promise<[number, unknown]> => {
      const response = await fetch(control.url + path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
      const text = await response.text();
      return [response.status, text === "" ? undefined : (JSON.parse(text) as unknown)];
    };
    const fault: Fault = { on: "batch-append", action: { kind: "refuse" } };
    expect(await call("POST", "/faults", fault)).toEqual([200, { id: 1 }]);
    expect(await wire.append("BatchAppend", "s-1", "any", [event()])).toEqual({ status: "14 Server Is Not Ready" });
    expect(await call("GET", "/faults")).toEqual([200, [{ id: 1, met: 1, fault }]]);
    expect(await call("DELETE", "/faults/1")).toEqual([204, undefined]);
    await call("POST", "/faults", { action: { kind: "stall" } });
    expect(await call("DELETE", "/faults")).toEqual([204, undefined]);
    expect(await call("GET", "/faults")).toEqual([200, []]);
    expect(await call("POST", "/end-streams", { target: "subscription" })).toEqual([200, { ended: 0 }]);
    expect(await wire.append("BatchAppend", "s-1", "any", [event()])).toEqual(written(0));
    expect(await call("POST", "/cut-connections")).toEqual([204, undefined]);
    expect(await call("POST", "/restart", {})).toEqual([204, undefined]);
    await wire.connected();
    expect(await count("s-1")).toBe(1);
  });

  it("says what it does not understand", async () => {
    await using control = await eventStoreDbControl(server);
    const post = async (path: string, body: string): Promise<[number, unknown]> => {
      const response = await fetch(control.url + path, { method: "POST", body });
      return [response.status, await response.json()];
    };
    expect(await post("/faults", "{")).toEqual([400, { error: "the body is no JSON" }]);
    expect(await post("/faults", '{"action":{"kind":"explode"}}')).toEqual([400, { error: expect.stringContaining("one of delay, stall") }]);
    expect(await post("/faults", '{"on":"everything","action":{"kind":"stall"}}')).toEqual([400, { error: expect.stringContaining("not on \"everything\"") }]);
    expect(await post("/end-streams", '{"target":"x"}')).toEqual([400, { error: expect.stringContaining("target is one of") }]);
    expect(await post("/elsewhere", "")).toEqual([400, { error: expect.stringContaining("knows no POST /elsewhere") }]);
    expect(await post("/faults", " ".repeat(70_000))).toEqual([400, { error: "the body is too large" }]);
  });
});

describe("a fault that makes no sense", () => {
  it.each([
    [{ action: { kind: "delay", delayMs: -1 } }, "milliseconds"],
    [{ action: { kind: "slow", betweenMs: Number.NaN } }, "milliseconds"],
    [{ action: { kind: "refuse" }, times: 0 }, "times"],
    [{ action: { kind: "refuse" }, skip: 0.5 }, "skip"],
    [{ action: { kind: "stall" }, times: 1 }, "until it is removed"],
    [{}, "action"],
  ])("%j is refused, and the message says %s", (fault, word) => {
    expect(() => server.faults.add(fault as Fault)).toThrow(word);
  });
});
