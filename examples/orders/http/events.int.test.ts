/** The stream of events over HTTP. */
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import type { Backend, EventStore } from "../../../src/index.ts";
import { tokens } from "../../../src/consistency/token-codec.ts";
import { memoryBackend } from "../../../src/store/memory/index.ts";
import { Order } from "../domain.ts";
import { call, expectProblem, get, place, post, rawConnection, start, untilEnd, url, useService, type Headers } from "./test-service.ts";

useService();

/** A store in memory whose subscriptions go another way. */
function subscriptionsVia(change: (subscription: ReturnType<EventStore["subscribe"]>) => ReturnType<EventStore["subscribe"]>): Backend {
  const backend = memoryBackend();
  const { events } = backend;
  const subscribe: EventStore["subscribe"] = (options) => change(events.subscribe(options));
  const changed = new Proxy(events, {
    get(store, name) {
      if (name === "subscribe") return subscribe;
      const value: unknown = Reflect.get(store, name, store);
      return typeof value === "function" ? (value.bind(store) as unknown) : value;
    },
  });
  return { ...backend, events: changed, close: () => backend.close() };
}

describe("the stream of events", () => {
  interface Message {
    readonly id?: string;
    readonly data?: { id: string; type: string; version: number };
  }

  /** Opens the stream, and reads messages as they come. */
  async function follow(headers: Headers = {}, path = "/events", at = url()): Promise<{ next(): Promise<Message>; close(): void }> {
    const controller = new AbortController();
    const response = await fetch(`${at}${path}`, { headers, signal: controller.signal });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const chunks = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    async function next(): Promise<Message> {
      for (;;) {
        const end = buffer.indexOf("\n\n");
        if (end >= 0) {
          const fields = buffer.slice(0, end).split("\n");
          buffer = buffer.slice(end + 2);
          const field = (name: string): string | undefined => fields.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
          const data = field("data");
          if (data === undefined) continue;
          const id = field("id");
          return { ...(id === undefined ? {} : { id }), data: JSON.parse(data) };
        }
        const { value, done } = await chunks.read();
        if (done) throw new Error("the stream ended");
        buffer += value;
      }
    }
    return { next, close: () => controller.abort() };
  }

  test("tells what happens from now on", async () => {
    await get("/stats", { "tidemark-token": (await place()).token });
    const stream = await follow();
    const { id } = await place();
    await post(`/orders/${id}/approve`);
    expect(await stream.next()).toMatchObject({ id: expect.any(String), data: { id, type: "OrderPlaced", version: 1 } });
    expect(await stream.next()).toMatchObject({ data: { id, type: "OrderApproved", version: 2 } });
    stream.close();
  });

  test("goes on after the last id that a client has seen, and misses nothing", async () => {
    await get("/stats", { "tidemark-token": (await place()).token });
    const stream = await follow();
    const first = await place();
    const seen = await stream.next();
    stream.close();
    const meanwhile = [await place(), await place()];
    const again = await follow({ "last-event-id": seen.id ?? "" });
    for (const { id } of meanwhile) expect((await again.next()).data?.id).toBe(id);
    again.close();
    const byQuery = await follow({}, `/events?after=${first.token}`);
    const page = [await byQuery.next(), await byQuery.next()];
    expect(page.map(({ id, data }) => [id !== undefined, data?.id])).toEqual([[false, meanwhile[0]!.id], [true, meanwhile[1]!.id]]); // one page has one id
    byQuery.close();
  });

  test("refuses an id that is no token", async () => {
    expectProblem(await get("/events", { "last-event-id": "nonsense" }), 400, "TokenMalformed");
  });

  test("refuses a token of a place that the log has not reached, and the log does not call that a failure", async () => {
    const errors: string[] = [];
    const logger = pino({ level: "error" }, { write: (line: string) => void errors.push(line) });
    const own = await start({ logger });
    const ahead = tokens().encode([{ store: own.shop.app.storeId, category: "order", version: 0, position: { log: 1_000_000 } }]);
    expectProblem(await call(`/events?after=${ahead}`, {}, own.url), 400, "StoreRewound");
    expect(errors).toEqual([]);
  });

  test("has no HEAD, which would leave a stream open that nobody reads", async () => {
    const own = await start();
    const heads = await Promise.all(Array.from({ length: 201 }, () => fetch(`${own.url}/events`, { method: "HEAD" })));
    for (const { status, headers } of heads) expect([status, headers.get("allow")]).toEqual([405, "GET"]);
    (await follow({}, "/events", own.url)).close();
  });

  test("holds for a client that does not read no more than it has begun to send, whatever happens meanwhile", async () => {
    /** Pages with events in them that the store has handed out, by subscription in the order in which they began. */
    const pages: number[] = [];
    const own = await start({ store: subscriptionsVia(async function* (subscription) {
      const index = pages.push(0) - 1;
      for await (const page of subscription) {
        if (page.events.length > 0) pages[index] = (pages[index] ?? 0) + 1;
        yield page;
      }
    }), http: { closeGraceMs: 50 } });
    await expect.poll(async () => (await call("/readyz", {}, own.url)).status).toBe(200);
    const readModels = pages.length;
    const idle = await rawConnection(own.url, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); // no listener: nothing is ever read
    await expect.poll(() => pages.length).toBe(readModels + 1);
    const reader = await follow({}, "/events", own.url);
    const many = Array.from({ length: 100 }, (_, index) => ({ sku: `${index}-${"s".repeat(60)}`, quantity: 1, unitPriceCents: 1 }));
    const orders = 2000; // 20 MB as text, several times of what the kernel takes for a client that does not read
    const placed = Array.from({ length: orders }, (_, index) => own.shop.app.at(Order, `o-${index}`).place({ customer: "c-1", items: many }));
    await Promise.all(placed);
    for (let seen = 0; seen < orders; seen++) await reader.next();
    const [handedToIdle = 0, handedToReader = 0] = pages.slice(readModels);
    expect(handedToIdle).toBeLessThan(handedToReader);
    const ended = untilEnd(idle);
    await own.close(); // which does not wait for it either
    await ended;
  });

  test("is bounded in number, and a client that has gone makes room", async () => {
    const own = await start();
    const streams = await Promise.all(Array.from({ length: 200 }, () => follow({}, "/events", own.url)));
    expectProblem(await call("/events", {}, own.url), 503, "TooManyStreams");
    streams[0]?.close();
    await expect.poll(async () => {
      const controller = new AbortController();
      const { status } = await fetch(`${own.url}/events`, { signal: controller.signal });
      controller.abort();
      return status;
    }).toBe(200);
    await own.close();
  });

  test("ends when the service closes, though a client has gone before", async () => {
    const own = await start();
    const gone = await follow({}, "/events", own.url);
    gone.close();
    const stream = await follow({}, "/events", own.url);
    const ended = expect(stream.next()).rejects.toThrow();
    await own.close();
    await ended;
  });
});
