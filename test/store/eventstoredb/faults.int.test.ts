/** The defects of the client that the store guards against (their numbers are those of docs/eventstoredb.md), and answers that are lost. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EventStore } from "../../../src/store/event-store.ts";
import { recordingLogger } from "../../../src/testing/manual-environment.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { appendOf, readChecked, until } from "../postgres/shared.ts";
import { streamResets } from "./stream-resets.ts";
import { append, bench, follow, idsOf, type Bench } from "./support.ts";

describe("EventStoreDB that fails", () => {
  let it_: Bench;
  beforeEach(async () => void (it_ = await bench()));
  afterEach(() => it_.close());

  const fault = (action: Parameters<Bench["server"]["faults"]["add"]>[0]) => it_.server.faults.add(action);
  const id = (n: number): string => `00000000-0000-4000-9000-${String(n).padStart(12, "0")}`;

  describe("whose answer to an append is lost", () => {
    it("is asked again with the same ids, and the append stands once", async () => {
      const store = await it_.open();
      for (const [n, action] of ([{ kind: "drop-reply" }, { kind: "end", carriedOut: true }, { kind: "cut", carriedOut: true }, { kind: "time-out", carriedOut: true }, { kind: "cut" }, { kind: "end" }, { kind: "time-out", carriedOut: false }, { kind: "refuse" }] as const).entries()) {
        fault({ on: "batch-append", times: 1, action });
        expect(await append(store, appendOf("order-1", 2 * n, [id(2 * n), id(2 * n + 1)])), action.kind).toMatchObject({ kind: "committed", version: 2 * n + 2 });
      }
      expect((await readChecked(store, {}, { gaps: true })).size).toBe(16);
    });

    it("leaves an append without an exact expectation unknown, and nothing is sent again by itself", async () => {
      const store = await it_.open({ timeoutMs: 600 });
      for (const [n, expected] of (["any", "exists"] as const).entries()) {
        const dropped = fault({ on: "batch-append", times: 1, action: { kind: "drop-reply" } });
        expect((await append(store, appendOf("order-1", expected, [id(n)]))).kind).toBe("unknown");
        expect(dropped.met).toBe(1);
        expect(await idsOf(store, "order-1")).toEqual([id(0), id(1)].slice(0, n + 1));
      }
    });

    it("does not double ids that are sent on, with any expectation: the stream is read first", async () => {
      const store = await it_.open({ timeoutMs: 600 });
      await append(store, appendOf("order-1", 0, [id(0)]));
      fault({ on: "batch-append", times: 1, action: { kind: "drop-reply" } });
      expect((await append(store, appendOf("order-1", "any", [id(1), id(2)]))).kind).toBe("unknown");
      // The server forgets what it knew of ids; the caller has read that the stream is at 3, and expects that.
      await it_.server.restart();
      const first = await append(store, appendOf("order-1", 3, [id(1), id(2)]));
      expect(first).toMatchObject({ kind: "committed", version: 3 });
      expect(await idsOf(store, "order-1")).toEqual([id(0), id(1), id(2)]);

      const stalled = fault({ on: "batch-append", stream: "order-2", action: { kind: "drop-reply" } });
      expect((await append(store, appendOf("order-2", 0, [id(3)]))).kind).toBe("unknown");
      stalled.remove();
      expect(await append(store, appendOf("order-2", 1, [id(3)]))).toMatchObject({ kind: "committed", version: 1 });
      expect(await append(store, appendOf("order-2", "any", [id(4)]))).toMatchObject({ kind: "committed", version: 2 });
      expect(await idsOf(store, "order-2")).toEqual([id(3), id(4)]);
    });

    it("does not make an append definite whose expectation the stream has yet to reach", async () => {
      const store = await it_.open({ timeoutMs: 900 });
      // Lost on the first try; the second one learns that the stream is behind, which the first may yet find otherwise.
      fault({ on: "batch-append", times: 1, action: { kind: "time-out", carriedOut: false } });
      expect((await append(store, appendOf("order-1", 3, [id(0)]))).kind).toBe("unknown");
      expect(await append(store, appendOf("order-1", 3, [id(1)]))).toMatchObject({ kind: "conflict", actual: 0 });
    });

    it("makes a conflict definite where another writer's event has taken the place", async () => {
      const logger = recordingLogger();
      const store = await it_.open({ timeoutMs: 900, environment: { logger } });
      const other = await it_.open();
      const late = fault({ on: "batch-append", times: 1, action: { kind: "delay", delayMs: 600 } });
      const writing = append(store, appendOf("order-1", 0, [id(0)]));
      await until(() => late.met === 1, "the append being on its way");
      expect(await append(other, appendOf("order-1", 0, [id(1)]))).toMatchObject({ kind: "committed", version: 1 });
      expect(await writing).toMatchObject({ kind: "conflict", actual: 1, missing: [{ id: id(1) }] });
      await until(() => logger.lines.some(({ message }) => message.includes("nobody waits for")), "the late append being handled");
      expect(await idsOf(store, "order-1")).toEqual([id(1)]);
    });
  });

  it("1: a server that is silent leaves an append unknown within its bound, and holds up no close", async () => {
    const store = await it_.open({ timeoutMs: 600 });
    fault({ on: "batch-append", action: { kind: "stall" } });
    const begun = performance.now();
    expect((await append(store, appendOf("order-1", 0, [id(0)]))).kind).toBe("unknown");
    expect(performance.now() - begun).toBeLessThan(5000);
    const left = append(store, appendOf("order-2", 0, [id(1)]));
    await store.close();
    expect((await left).kind).toBe("unknown");
  });

  it("2: a connection that fails leaves the appends of another one alone", async () => {
    const elsewhere = await bench();
    try {
      const [here, there] = [await it_.open(), await elsewhere.open()];
      const late = fault({ on: "batch-append", times: 1, action: { kind: "delay", delayMs: 300 } });
      const writing = append(here, appendOf("order-1", "any", [id(0)]));
      await until(() => late.met === 1, "the append being on its way");
      elsewhere.server.faults.add({ on: "batch-append", times: 1, action: { kind: "cut" } });
      expect((await append(there, appendOf("order-1", "any", [id(1)]))).kind).toBe("unknown");
      expect(await writing).toMatchObject({ kind: "committed", version: 1 });
    } finally {
      await elsewhere.close();
    }
  });

  it("3: an answer that nobody waits for any more is told to the logger, and ends no process", async () => {
    const logger = recordingLogger();
    const store = await it_.open({ timeoutMs: 450, environment: { logger } });
    fault({ on: "batch-append", times: 1, action: { kind: "delay", delayMs: 300 } });
    expect(await append(store, appendOf("order-1", 0, [id(0)]))).toMatchObject({ kind: "committed", version: 1 });
    await until(() => logger.lines.some(({ message }) => message.includes("nobody waits for")), "the late answer");
    expect(await append(store, appendOf("order-1", 1, [id(1)]))).toMatchObject({ kind: "committed", version: 2 });
    expect(await idsOf(store, "order-1")).toEqual([id(0), id(1)]);
  });

  it("4: a call of appends that the server ends as if all were well is made anew, again and again", async () => {
    const store = await it_.open();
    for (let version = 0; version < 5; version++) {
      expect(await append(store, appendOf("order-1", version, [id(version)]))).toMatchObject({ kind: "committed", version: version + 1 });
      expect(it_.server.endStreams("batch-append")).toBe(1);
    }
    expect(await idsOf(store, "order-1")).toHaveLength(5);
  });

  it("5: what cannot be written as JSON is refused before anything is sent, and leaves its neighbours alone", async () => {
    const store = await it_.open();
    const [good] = appendOf("order-1", 0, [id(0)]).events;
    const bad = { ...good!, id: id(1), metadata: { ...good!.metadata, user: { amount: 5n } } };
    const data = { ...good!, id: id(2), data: { amount: 5n } as unknown as string };
    expect(
      await store.append([
        { stream: "order-1", expected: 0, events: [good!] },
        { stream: "order-2", expected: 0, events: [bad] },
        { stream: "order-3", expected: 0, events: [data] },
      ]),
    ).toMatchObject([{ kind: "committed" }, { kind: "refused", code: "invalid" }, { kind: "refused", code: "invalid" }]);
    expect(await append(store, appendOf("order-2", 0, [id(3)]))).toMatchObject({ kind: "committed", version: 1 });
  });

  it("7: reads of a server that is silent fail within their bound, of streams and of the log", async () => {
    const store = await it_.open({ timeoutMs: 300 });
    await append(store, appendOf("order-1", 0, [id(0)]));
    const stall = fault({ on: "read", action: { kind: "stall" } });
    await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StoreUnavailable", retryable: true });
    await expect(store.readAll()[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "StoreUnavailable" });
    await expect(store.identity()).rejects.toMatchObject({ code: "StoreUnavailable" });
    stall.remove();
    expect(await idsOf(store, "order-1")).toEqual([id(0)]);
  });

  it("7: a subscription that is silent is not waited for: what stands is read", async () => {
    const store = await it_.open();
    fault({ on: "subscription", action: { kind: "stall" } });
    const follower = follow(store);
    await until(() => follower.state.caughtUp, "it has caught up");
    await append(store, appendOf("order-1", 0, [id(0), id(1)]));
    await until(() => follower.events.length === 2, "the events come");
    await follower.stop();
  });

  it("a read that is ended early as if all were well is not believed", { timeout: 30_000 }, async () => {
    const store = await it_.open();
    await append(store, appendOf("order-1", 0, Array.from({ length: 20 }, (_, n) => id(n))));
    await append(store, appendOf("cart-1", 0, [id(100)]));
    const early = (afterMessages: number) => fault({ on: "read", times: 1, action: { kind: "end", afterMessages } });
    for (const messages of [0, 1, 7, 20]) {
      early(messages);
      expect(await store.readStream("order-1")).toMatchObject({ version: 20, events: { length: 20 } });
      early(messages);
      expect((await store.readStream("order-1", { direction: "backward" })).events).toHaveLength(20);
      early(messages);
      expect((await store.readStream("order-9")).version).toBe(0);
      for (const skip of [0, 1]) {
        fault({ on: "read", skip, times: 1, action: { kind: "end", afterMessages: messages } });
        expect((await readChecked(store, {}, { gaps: true })).size).toBe(21);
        it_.server.faults.clear();
      }
    }
    for (const skip of [0, 1, 2, 3]) {
      fault({ on: "read", skip, times: 1, action: { kind: "end", afterMessages: 3 } });
      fault({ on: "subscription", times: 1, action: { kind: "end", afterMessages: 3 } });
      const follower = follow(store, { categories: ["order"] });
      await until(() => follower.state.caughtUp, "it has caught up");
      expect(follower.events.map((event) => event.version)).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
      await follower.stop();
      it_.server.faults.clear();
    }
  });

  it("8: what could not be reached is told as such, and reached once it is there", async () => {
    const { port } = it_.server;
    const store = await it_.open({ timeoutMs: 900 });
    await it_.server.close();
    const outcome = await append(store, appendOf("order-1", 0, [id(0)]));
    expect(["refused", "unknown"]).toContain(outcome.kind);
    expect(await append(store, appendOf("order-1", 0, [id(0)]))).toMatchObject({ kind: "refused", code: "unavailable", retryable: true });
    await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StoreUnavailable", retryable: true });
    const again = await bench({ port });
    try {
      await until(async () => (await append(store, appendOf("order-1", 0, [id(0)]))).kind === "committed", "the append standing", 15_000);
      expect(await idsOf(store, "order-1")).toEqual([id(0)]);
    } finally {
      await store.close();
      await again.close();
    }
  });

  it("8: opening fails with the reason where nothing listens, and works when something does", async () => {
    const { connectionString, port } = it_.server;
    await it_.server.close();
    await expect(it_.open({ connection: connectionString, timeoutMs: 500 })).rejects.toMatchObject({ code: "StoreUnavailable", retryable: true });
    const again = await bench({ port });
    try {
      await until(async () => it_.open({ connection: connectionString, timeoutMs: 500 }).then(() => true, () => false), "it opens", 15_000);
    } finally {
      await it_.close();
      await again.close();
    }
  });

  it("9: a read that has enough, and one that is given up, leave no call behind", async () => {
    const store = await it_.open();
    const large = "x".repeat(400_000);
    for (let version = 0; version < 24; version++) await append(store, appendOf("order-1", version, [id(version)], JSON.stringify(large)));
    const slice = await store.readStream("order-1");
    expect(slice.events.length).toBeLessThan(24);
    expect(slice.next).toBe(slice.events.length + 1);
    // What is sent after a cancellation arrives after it.
    const left = async (target: "read" | "subscription"): Promise<number> => (await store.readStream("order-2"), it_.server.endStreams(target));
    const slow = fault({ on: "read", stream: "order-1", action: { kind: "slow", betweenMs: 5000 } });
    const abort = new AbortController();
    const reading = store.readStream("order-1", { signal: abort.signal });
    await until(() => slow.met > 0, "the read being under way");
    abort.abort();
    await expect(reading).rejects.toMatchObject({ code: "Aborted" });
    expect(await left("read")).toBe(0);
    slow.remove();
    for await (const page of store.readAll({ pageSize: 2 })) if (page.events.length > 0) break;
    expect(await left("read")).toBe(0);
    expect(await left("subscription")).toBe(0);
    const follower = follow(store);
    await until(() => follower.events.length === 24, "the subscription gets everything");
    await follower.stop();
    await until(async () => (await left("subscription")) === 0, "no subscription running");
  });

  it("far from the end, the subscription that brings the log is made anew where it stood", { timeout: 30_000 }, async () => {
    const store = await it_.open();
    const large = JSON.stringify("x".repeat(200_000));
    for (let version = 0; version < 12; version++) await append(store, appendOf(version % 3 === 2 ? "cart-1" : "order-1", "any", [id(version)], large));
    for (const action of [{ kind: "cut", afterMessages: 3 }, { kind: "end", afterMessages: 4 }, { kind: "refuse", afterMessages: 2 }] as const) {
      const broken = fault({ on: "subscription", times: 2, action });
      const events = [];
      for await (const page of store.readAll({ categories: ["order"], pageSize: 3 })) events.push(...page.events);
      expect(events.map((event) => event.version), action.kind).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(broken.met).toBeGreaterThan(0);
      broken.remove();
    }
  });

  it("a connection that the server closes, as after too many cancelled calls, costs a read of the log a second look", { timeout: 20_000 }, async () => {
    const logger = recordingLogger();
    const store = await it_.open({ timeoutMs: 10_000, environment: { logger } });
    await append(store, appendOf("order-1", 0, Array.from({ length: 20 }, (_, n) => id(n))));
    const stalled = fault({ on: "read", stream: "cart-1", action: { kind: "drop-reply" } });
    const abort = new AbortController();
    // Node's HTTP/2 server takes 1,000 resets at once, and 33 more a second.
    const cancelled = Array.from({ length: 1200 }, () => store.readStream("cart-1", { signal: abort.signal }).catch((error: unknown) => error));
    await until(() => stalled.met === cancelled.length, "the reads being under way");
    const slow = fault({ on: "read", stream: "$all", times: 1, action: { kind: "drop-reply" } });
    const reading = readChecked(store, {}, { gaps: true });
    await until(() => slow.met === 1, "the log being read");
    abort.abort();
    expect((await reading).size).toBe(20);
    expect(logger.lines).toMatchObject([{ level: "warn", fields: { error: { details: { status: 13 } } } }]);
    await Promise.all(cancelled);
  });

  it("11: an append of nothing is refused", async () => {
    const store = await it_.open();
    expect(await append(store, { stream: "order-1", expected: "any", events: [] })).toMatchObject({ kind: "refused", code: "invalid" });
  });

  it("a server that does not know batches of appends is named", async () => {
    const old = await bench({ batchAppend: false });
    try {
      await expect(old.open()).rejects.toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringContaining("21.10") });
    } finally {
      await old.close();
    }
  });

  it("a node that is not the leader is left for the one that is", async () => {
    const leader = await bench();
    try {
      const store = await it_.open();
      fault({ on: ["batch-append", "read"], action: { kind: "refuse", leader: { host: "127.0.0.1", port: leader.server.port } } });
      expect(await append(store, appendOf("order-1", 0, [id(0)]))).toMatchObject({ kind: "committed", version: 1 });
      expect(await idsOf(store, "order-1")).toEqual([id(0)]);
      expect(await idsOf(await leader.open(), "order-1")).toEqual([id(0)]);
    } finally {
      await leader.close();
    }
  });

  it("a subscription outlives whatever ends it, and neither skips nor repeats", { timeout: 30_000 }, async () => {
    const store = await it_.open();
    const all = follow(store, { pageSize: 3 });
    const orders = follow(store, { categories: ["order"] });
    let version = 0;
    const write = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n++, version++) {
        for (const stream of ["order-1", "cart-1"]) {
          await until(async () => (await append(store, appendOf(stream, version, [id(1000 * (stream === "cart-1" ? 1 : 0) + version)]))).kind === "committed", "the append standing");
        }
      }
    };
    await write(10);
    for (const round of ["subscription", "cut", "restart", "faults"] as const) {
      if (round === "subscription") it_.server.endStreams("subscription");
      if (round === "cut") it_.server.cutConnections();
      if (round === "restart") await it_.server.restart();
      if (round === "faults") {
        it_.server.endStreams("subscription");
        fault({ on: "subscription", times: 2, action: { kind: "refuse" } });
        fault({ on: "subscription", times: 2, action: { kind: "cut", afterMessages: 7 } });
        fault({ on: "read", times: 5, action: { kind: "cut", afterMessages: 1 } });
      }
      await write(10);
    }
    await until(() => all.events.length >= 100 && orders.events.length >= 50, "all events come", 15_000);
    expect(all.events.map((event) => `${event.stream} ${event.version}`)).toEqual(Array.from({ length: 50 }, (_, n) => [`order-1 ${n + 1}`, `cart-1 ${n + 1}`]).flat());
    expect(orders.events.map((event) => event.version)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
    await all.stop();
    await orders.stop();
  });

  it("an event loop that stalls past every bound costs a second sending, and nothing else", async () => {
    const store = await it_.open({ timeoutMs: 900 });
    const writing = [0, 1, 2].map((n) => append(store, appendOf(`order-${n}`, 0, [id(n)])));
    await new Promise((resolve) => setImmediate(resolve));
    const until_ = performance.now() + 1000;
    while (performance.now() < until_);
    for (const outcome of await Promise.all(writing)) expect(["committed", "unknown"]).toContain(outcome.kind);
    for (const n of [0, 1, 2]) expect(await append(store, appendOf(`order-${n}`, 0, [id(n)]))).toMatchObject({ kind: "committed", version: 1 });
    expect((await readChecked(store, {}, { gaps: true })).size).toBe(3);
  });

  it("at most 100 appends are under way, and one of each stream", async () => {
    const store = await it_.open({ timeoutMs: 10_000 });
    const hold = fault({ on: "batch-append", action: { kind: "delay", delayMs: 700 } });
    const writing = Array.from({ length: 150 }, (_, n) => append(store, appendOf(`order-${n}`, 0, [id(n)])));
    await until(() => hold.met >= 100, "100 appends being under way");
    for (let n = 0; n < 3; n++) await store.readStream("order-0");
    expect(hold.met).toBe(100);
    hold.remove();
    for (const outcome of await Promise.all(writing)) expect(outcome.kind).toBe("committed");
    const one = fault({ on: "batch-append", action: { kind: "delay", delayMs: 200 } });
    const three = [0, 1, 2].map((n) => append(store, appendOf("cart-1", n, [id(1000 + n)])));
    await until(() => one.met >= 1, "the first one being under way");
    for (let n = 0; n < 3; n++) await store.readStream("cart-1");
    expect(one.met).toBe(1);
    expect(await Promise.all(three)).toMatchObject([{ version: 1 }, { version: 2 }, { version: 3 }]);
  });

  describe("behind a network that fails", () => {
    let proxy: Proxy;
    let direct: EventStore;
    beforeEach(async () => {
      proxy = await proxyTo(it_.server.connectionString);
      direct = await it_.open();
    });
    afterEach(() => proxy.close());

    it("an append that is delayed past its bound and then let through is unknown, and stands once", { timeout: 20_000 }, async () => {
      const store = await it_.open({ connection: proxy.url, timeoutMs: 900 });
      await append(store, appendOf("order-1", 0, [id(0)]));
      proxy.delayMs = 1200;
      expect((await append(store, appendOf("order-1", 1, [id(1)]))).kind).toBe("unknown");
      proxy.delayMs = 0;
      await until(async () => (await direct.readStream("order-1")).version === 2, "the late append standing");
      await until(async () => (await append(store, appendOf("order-1", 1, [id(1)]))).kind === "committed", "the connection being of use again");
      expect(await idsOf(direct, "order-1")).toEqual([id(0), id(1)]);
    });

    it("an append whose reply is dropped is unknown or settled, and stands once", { timeout: 20_000 }, async () => {
      const store = await it_.open({ connection: proxy.url, timeoutMs: 600 });
      await append(store, appendOf("order-1", 0, [id(0)]));
      proxy.dropReplies = true;
      expect((await append(store, appendOf("order-1", 1, [id(1)]))).kind).toBe("unknown");
      expect(await idsOf(direct, "order-1")).toEqual([id(0), id(1)]);
      proxy.dropReplies = false;
      proxy.reset();
      await until(async () => (await append(store, appendOf("order-1", 1, [id(1)]))).kind === "committed", "the connection being made anew");
      expect(await idsOf(direct, "order-1")).toEqual([id(0), id(1)]);
    });

    it("connections that are reset in the middle of reads and subscriptions cost a second look", { timeout: 20_000 }, async () => {
      const store = await it_.open({ connection: proxy.url });
      const follower = follow(store, { pageSize: 2 });
      for (let version = 0; version < 40; version++) {
        expect(await append(direct, appendOf("order-1", version, [id(version)]))).toMatchObject({ kind: "committed" });
        if (version % 8 === 4) proxy.reset();
        const { events } = await store.readStream("order-1").catch(() => ({ events: [] }));
        expect(events.map((event) => event.version)).toEqual(events.map((_, index) => index + 1));
      }
      await until(() => follower.events.length >= 40, "all events come");
      expect(follower.events.map((event) => event.version)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
      await follower.stop();
    });

    it("reads and subscriptions of the log that are not given up reset no stream", async () => {
      const resets = streamResets();
      proxy.cutAfter = (bytes) => (resets.read(bytes), false);
      const store = await it_.open({ connection: proxy.url });
      const follower = follow(store);
      // With the category, the log's last event is one of another; without, it is one that is read.
      for (let n = 0; n < 15; n++) await append(store, appendOf(n % 5 === 4 ? "cart-1" : "order-1", "any", [id(n)]));
      for (const categories of [["order"], ["order", "cart"]]) {
        const events = [];
        for await (const page of store.readAll({ categories, pageSize: 4 })) events.push(...page.events);
        expect(events).toHaveLength(categories.length === 1 ? 12 : 15);
      }
      await until(() => follower.events.length === 15, "all events come");
      expect([proxy.accepted, resets.count]).toEqual([1, 0]);
      await follower.stop();
      await until(() => resets.count === 1, "the subscription that is given up is cancelled");
    });

    it("a network that swallows everything for a while costs the bound of each call, and is of use again", { timeout: 30_000 }, async () => {
      const store = await it_.open({ connection: proxy.url, timeoutMs: 400 });
      await append(store, appendOf("order-1", 0, [id(0)]));
      proxy.swallow = true;
      expect((await append(store, appendOf("order-1", 1, [id(1)]))).kind).toBe("unknown");
      await expect(store.readStream("order-1")).rejects.toMatchObject({ code: "StoreUnavailable" });
      proxy.swallow = false;
      proxy.reset();
      await until(async () => (await append(store, appendOf("order-1", 1, [id(1)]))).kind === "committed", "the connection being of use again");
      expect(await idsOf(direct, "order-1")).toEqual([id(0), id(1)]);
    });
  });
});
