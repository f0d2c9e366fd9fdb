/** The service over a real socket, on a store in memory. */
import { request as httpRequest } from "node:http";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Backend, EventStore } from "../../../src/index.ts";
import { memoryBackend } from "../../../src/store/memory/index.ts";
import { Order } from "../domain.ts";
import { startService, type Service, type ServiceOptions } from "../service.ts";

const logger = pino({ level: "silent" });
const open: Service[] = [];

async function start(options: Partial<ServiceOptions> = {}): Promise<Service> {
  const service = await startService({ store: "memory:", host: "127.0.0.1", port: 0, logger, ...options });
  open.push(service);
  return service;
}

let service: Service;
beforeAll(async () => {
  service = await start();
});
afterEach(() => {
  service.shop.delay.ms = 0;
});
afterAll(() => Promise.all(open.map((one) => one.close())));

type Headers = Readonly<Record<string, string>>;
interface Reply {
  readonly status: number;
  readonly headers: globalThis.Headers;
  // oxlint-disable-next-line typescript/no-explicit-any -- parsed JSON that each test knows
  readonly body: any;
}

async function call(path: string, init: RequestInit = {}, url = service.url): Promise<Reply> {
  const response = await fetch(`${url}${path}`, init);
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json") === true;
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}
const get = (path: string, headers: Headers = {}): Promise<Reply> => call(path, { headers });
const post = (path: string, body: unknown = {}, headers: Headers = {}, url?: string): Promise<Reply> =>
  call(path, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: typeof body === "string" ? body : JSON.stringify(body) }, url);

const items = [{ sku: "tea", quantity: 2, unitPriceCents: 1250 }];
let serial = 0;
const newId = (): string => `o-${++serial}`;

async function place(customer = "c-1"): Promise<{ id: string; token: string; reply: Reply }> {
  const id = newId();
  const reply = await post(`/orders/${id}/place`, { customer, items });
  expect(reply.status).toBe(201);
  return { id, token: reply.body.token, reply };
}

/** A store in memory whose appends go another way. */
function appendsVia(change: (append: EventStore["append"]) => EventStore["append"]): Backend {
  const backend = memoryBackend();
  const events = new Proxy(backend.events, {
    get(store, name) {
      const value: unknown = Reflect.get(store, name, store);
      if (typeof value !== "function") return value;
      return name === "append" ? change(store.append.bind(store)) : (value.bind(store) as unknown);
    },
  });
  return { ...backend, events, close: () => backend.close() };
}

function expectProblem(reply: Reply, status: number, code: string): void {
  expect({ status: reply.status, body: reply.body }).toMatchObject({ status, body: { status, code, title: expect.any(String), detail: expect.any(String) } });
  expect(reply.headers.get("content-type")).toContain("application/problem+json");
}

describe("commands", () => {
  test("placing answers 201 with version, token and events, in body and headers", async () => {
    const { id, reply } = await place("c-7");
    expect(reply.body).toEqual({ id, version: 1, token: expect.any(String), events: [{ type: "OrderPlaced", data: { at: expect.any(String), customer: "c-7", items } }] });
    expect(reply.headers.get("tidemark-token")).toBe(reply.body.token);
    expect(reply.headers.get("etag")).toBe('"1"');
    expect(reply.headers.get("location")).toBe(`/orders/${id}`);
    expect(reply.headers.get("cache-control")).toBe("no-store");
  });

  test("the others answer 200, each with its event", async () => {
    const { id } = await place();
    const steps = [["approve", "OrderApproved"], ["invoice", "OrderInvoiced"], ["process", "OrderProcessed"], ["ship", "OrderShipped"], ["deliver", "OrderDelivered"]] as const;
    for (const [index, [command, type]] of steps.entries()) {
      const reply = await post(`/orders/${id}/${command}`);
      expect(reply).toMatchObject({ status: 200, body: { version: index + 2, events: [{ type }] } });
    }
    expect(await post(`/orders/${id}/cancel`, { reason: "broken", asReturn: true })).toMatchObject({ status: 200, body: { events: [{ type: "OrderCanceled", data: { reason: "broken", asReturn: true } }] } });
    const other = await place();
    expect(await post(`/orders/${other.id}/mark-unavailable`)).toMatchObject({ status: 200, body: { events: [{ type: "OrderMarkedUnavailable" }] } });
  });

  test("a command that needs nothing needs no body", async () => {
    const { id } = await place();
    expect((await call(`/orders/${id}/approve`, { method: "POST" })).status).toBe(200);
  });

  test("a refusal of the domain is 409 with the domain's code, and says what it rests on", async () => {
    const refused = await post(`/orders/${newId()}/ship`);
    expectProblem(refused, 409, "not-placed");
    expect(refused.body.version).toBe(0);
    const { id } = await place();
    const twice = await post(`/orders/${id}/place`, { customer: "c-1", items });
    expectProblem(twice, 409, "already-placed");
    expect(twice.headers.get("etag")).toBe('"1"');
    expect(twice.headers.get("tidemark-token")).toMatch(/./);
    const negative = await post(`/orders/${newId()}/place`, { customer: "c-1", items: [{ sku: "tea", quantity: -1, unitPriceCents: 1 }] });
    expectProblem(negative, 409, "invalid-quantity");
    expect(negative.body.details).toMatchObject({ sku: "tea", quantity: -1 });
  });

  test("If-Match that fits is taken, one that does not is 412 with the actual version, and nothing happens", async () => {
    const { id } = await place();
    expect((await post(`/orders/${id}/approve`, {}, { "if-match": '"1"' })).status).toBe(200);
    const late = await post(`/orders/${id}/cancel`, {}, { "if-match": '"1"' });
    expectProblem(late, 412, "WrongExpectedVersion");
    expect(late.body).toMatchObject({ expected: 1, actual: 2 });
    expect(late.headers.get("etag")).toBe('"2"');
    expect((await get(`/orders/${id}/history`)).body.version).toBe(2);
    expectProblem(await post(`/orders/${newId()}/place`, { customer: "c-1", items }, { "if-match": '"4"' }), 412, "WrongExpectedVersion");
  });

  test.each(["3", 'W/"3"', '"1", "2"', "*", '"x"'])("If-Match: %s is no version", async (etag) => {
    expectProblem(await post(`/orders/${newId()}/place`, { customer: "c-1", items }, { "if-match": etag }), 400, "InvalidInput");
  });

  test("the same Idempotency-Key again answers the same and changes nothing, with another body it is 422", async () => {
    const id = newId();
    const key = { "idempotency-key": "key-1", "if-match": '"0"' };
    const first = await post(`/orders/${id}/place`, { customer: "c-1", items }, key);
    const again = await post(`/orders/${id}/place`, { customer: "c-1", items }, key);
    expect(again.status).toBe(201);
    expect(again.body).toEqual(first.body);
    expect((await get(`/orders/${id}/history`)).body.version).toBe(1);
    expectProblem(await post(`/orders/${id}/place`, { customer: "c-2", items }, key), 422, "CommandIdReused");
  });

  test("many at once for one order are decided one after the other", async () => {
    const { id } = await place();
    const replies = await Promise.all(Array.from({ length: 20 }, () => post(`/orders/${id}/approve`)));
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const reply of replies) if (reply.status !== 200) expectProblem(reply, 409, "already-approved");
  });

  test("more than the mailbox holds is 429, with when to come again", async () => {
    const { promise: opened, resolve: openGate } = Promise.withResolvers<void>();
    const narrow = await start({ store: appendsVia((append) => async (appends) => (await opened, append(appends))), actors: { mailboxCapacity: 1 } });
    const placing = Array.from({ length: 6 }, () => post("/orders/o-1/place", { customer: "c-1", items }, {}, narrow.url));
    const full = await Promise.race(placing); // the others wait for the store
    expectProblem(full, 429, "MailboxFull");
    expect(Number(full.headers.get("retry-after"))).toBeGreaterThan(0);
    openGate();
    expect((await Promise.all(placing)).filter(({ status }) => status === 201)).toHaveLength(1);
  });

  test("a store that is out of order is 503, with when to come again", async () => {
    const refused = { kind: "refused", code: "unavailable", message: "the disk is away", retryable: true } as const;
    const broken = await start({ store: appendsVia(() => (appends) => Promise.resolve(appends.map(() => refused))) });
    const reply = await post("/orders/o-1/place", { customer: "c-1", items }, {}, broken.url);
    expect(reply.status).toBe(503);
    expect(Number(reply.headers.get("retry-after"))).toBeGreaterThan(0);
  });

  test("traceparent is recorded with the events, a bad one is not", async () => {
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    const id = newId();
    await post(`/orders/${id}/place`, { customer: "c-1", items }, { traceparent });
    await post(`/orders/${id}/approve`, {}, { traceparent: "nonsense" });
    const { events } = (await get(`/orders/${id}/history`)).body;
    expect(events[0].metadata.traceparent).toBe(traceparent);
    expect(events[1].metadata.traceparent).toBeUndefined();
  });
});

describe("bad input", () => {
  test.each([
    ["no JSON", "{", {}],
    ["no object", "[]", {}],
    ["an empty body", "", {}],
    ["a missing member", { items }, {}],
    ["no items", { customer: "c-1", items: [] }, {}],
    ["an unknown member", { customer: "c-1", items, imported: true }, {}],
    ["a fraction of a cent", { customer: "c-1", items: [{ sku: "a", quantity: 1, unitPriceCents: 0.5 }] }, {}],
    ["text for a number", { customer: "c-1", items: [{ sku: "a", quantity: "1", unitPriceCents: 1 }] }, {}],
    ["a moment that is none", { customer: "c-1", items, promisedAt: "tomorrow" }, {}],
    ["a long name", { customer: "c".repeat(129), items }, {}],
    ["too many items", { customer: "c-1", items: Array.from({ length: 101 }, () => items[0]) }, {}],
    ["an odd key", { customer: "c-1", items }, { "idempotency-key": "k".repeat(201) }],
  ])("%s is 400", async (_what, body, headers) => {
    expectProblem(await post(`/orders/${newId()}/place`, body, headers), 400, "InvalidInput");
  });

  test("says where it is bad", async () => {
    const reply = await post(`/orders/${newId()}/place`, { customer: "c-1", items: [{ sku: "a", quantity: "1", unitPriceCents: 1 }] });
    expect(reply.body.issues).toEqual([{ path: "items.0.quantity", message: expect.any(String) }]);
  });

  test("too large is 413, another media type 415", async () => {
    expectProblem(await post(`/orders/${newId()}/place`, { customer: "c".repeat(70_000) }), 413, "TooLarge");
    expectProblem(await post(`/orders/${newId()}/place`, "customer=c-1", { "content-type": "application/x-www-form-urlencoded" }), 415, "UnsupportedMediaType");
  });

  test("ids are bounded, and may hold any text", async () => {
    const odd = encodeURIComponent("ü/😀 %");
    expect((await post(`/orders/${odd}/place`, { customer: "c-1", items })).body.id).toBe("ü/😀 %");
    expect((await get(`/orders/${odd}`, { "tidemark-token": (await place()).token })).body.id).toBe("ü/😀 %");
    expectProblem(await post(`/orders/${"x".repeat(129)}/place`, { customer: "c-1", items }), 400, "InvalidInput");
    expectProblem(await post("/orders/a%00b/place", { customer: "c-1", items }), 400, "InvalidInput");
    expectProblem(await get("/orders/%zz"), 400, "InvalidInput");
  });

  test("unknown commands, paths and methods are told apart", async () => {
    const unknown = await post("/orders/o-1/frobnicate");
    expectProblem(unknown, 404, "UnknownCommand");
    expect(unknown.body.detail).toContain("mark-unavailable");
    expectProblem(await get("/nothing"), 404, "NotFound");
    const method = await call("/orders/o-1/place", { method: "DELETE" });
    expectProblem(method, 405, "MethodNotAllowed");
    expect(method.headers.get("allow")).toBe("POST");
    expectProblem(await call("/stats", { method: "POST" }), 405, "MethodNotAllowed");
  });
});

describe("reads", () => {
  test("with the token of a write see it, and say where they stand", async () => {
    const { id, token } = await place("c-fresh");
    for (const reply of [await get(`/orders/${id}`, { "tidemark-token": token }), await get(`/orders/${id}?token=${token}`), await get(`/orders/${id}`, { cookie: `tidemark-token=${token}` })]) {
      expect(reply).toMatchObject({ status: 200, body: { id, customer: "c-fresh", status: "placed", totalCents: 2500, version: 1 } });
      expect(reply.headers.get("tidemark-position")).toMatch(/^log=\d+$/);
      expect(reply.headers.get("last-processed-version")).toBe("1");
      expect(reply.headers.get("etag")).toBe('"1"');
      expect(reply.headers.get("tidemark-stale")).toBeNull();
    }
  });

  test("are stale without it while the projection is late, and never with it", async () => {
    service.shop.delay.ms = 300;
    const { id, token } = await place();
    const without = await get(`/orders/${id}`);
    expectProblem(without, 404, "UnknownOrder");
    expect(without.headers.get("last-processed-version")).toBe("0");
    expect((await get(`/orders/${id}`, { "tidemark-token": token, prefer: "wait=10" })).status).toBe(200);
  });

  test("that may not wait are 503 with Retry-After, or served and marked, as the caller chooses", async () => {
    service.shop.delay.ms = 2000;
    const { id, token } = await place();
    const failed = await get(`/orders/${id}`, { "tidemark-token": token, prefer: "wait=0" });
    expectProblem(failed, 503, "StaleRead");
    expect(Number(failed.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(failed.body.behind.events).toBeGreaterThan(0);
    const served = await get("/orders", { "tidemark-token": token, prefer: "respond-async, wait=0", "x-on-stale": "serve" });
    expect(served.status).toBe(200);
    expect(served.headers.get("tidemark-stale")).toMatch(/^events=[1-9]\d*; ms=\d+$/);
    expect(served.headers.get("preference-applied")).toBe("wait=0");
    expectProblem(await get("/orders", { "x-on-stale": "maybe" }), 400, "InvalidInput");
    service.shop.delay.ms = 0;
    expect((await get(`/orders/${id}`, { "tidemark-token": token, prefer: "wait=20" })).status).toBe(200);
  });

  test("with a bad token are 400", async () => {
    expectProblem(await get("/stats", { "tidemark-token": "nonsense" }), 400, "TokenMalformed");
    expectProblem(await get("/stats?token=t1.x.y"), 400, "TokenMalformed");
    const elsewhere = await start();
    const foreign = (await post("/orders/o-1/place", { customer: "c-1", items }, {}, elsewhere.url)).body.token;
    expectProblem(await get("/stats", { "tidemark-token": foreign }), 400, "TokenForeign");
  });

  test("with a signed token refuse one that was tampered with", async () => {
    const signed = await start({ tokens: { keys: [{ id: "k1", secret: "a secret of 16 bytes and more" }] } });
    const token: string = (await post("/orders/o-1/place", { customer: "c-1", items }, {}, signed.url)).body.token;
    const forged = token.slice(0, -2) + (token.endsWith("AA") ? "BB" : "AA");
    expect((await call("/stats", { headers: { "tidemark-token": token } }, signed.url)).status).toBe(200);
    expectProblem(await call("/stats", { headers: { "tidemark-token": forged } }, signed.url), 400, "TokenForged");
  });

  test("the list goes newest first, page by page, by status and by customer", async () => {
    const customer = `c-list-${newId()}`;
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) ids.unshift((await place(customer)).id);
    const approved = await post(`/orders/${ids[2]}/approve`);
    const token = { "tidemark-token": approved.body.token };
    const seen: string[] = [];
    for (let cursor = "", pages = 0; pages < 10; pages++) {
      const page = await get(`/orders?customer=${customer}&limit=3${cursor}`, token);
      seen.push(...page.body.orders.map(({ id }: { id: string }) => id));
      if (page.body.next === undefined) break;
      cursor = `&cursor=${page.body.next}`;
    }
    expect(seen.toSorted()).toEqual(ids.toSorted());
    const { orders } = (await get(`/orders?customer=${customer}`, token)).body;
    const moments = orders.map(({ placedAt }: { placedAt: string }) => placedAt);
    expect(moments).toEqual(moments.toSorted().toReversed());
    expect((await get(`/orders?customer=${customer}&status=approved`, token)).body.orders).toMatchObject([{ id: ids[2], status: "approved", version: 2 }]);
  });

  test("pages go on where the one before ended, also among orders of the same moment", async () => {
    const customer = `c-tie-${newId()}`;
    const at = "2020-01-01T00:00:00.000Z";
    const tied = await Promise.all(["b", "a", "d", "c", "e"].map(async (name) => {
      const id = `tie-${name}-${serial}`;
      const result = await service.shop.app.execute(Order, id, "place", { customer, items, at });
      return { id, token: result.ok ? result.token : "" };
    }));
    const token = service.shop.app.mergeTokens(...tied.map((one) => one.token));
    const first = await get(`/orders?customer=${customer}&limit=2`, { "tidemark-token": token });
    const second = await get(`/orders?customer=${customer}&limit=2&cursor=${first.body.next}`, { "tidemark-token": token });
    const third = await get(`/orders?customer=${customer}&limit=2&cursor=${second.body.next}`, { "tidemark-token": token });
    const seen = [first, second, third].flatMap(({ body }) => body.orders.map(({ id }: { id: string }) => id));
    expect(seen).toEqual(tied.map(({ id }) => id).toSorted());
    expect(third.body.next).toBeUndefined();
  });

  test.each(["limit=0", "limit=101", "limit=x", "status=lost", "cursor=zzz", `cursor=${"A".repeat(2000)}`])("GET /orders?%s is 400", async (query) => {
    expectProblem(await get(`/orders?${query}`), 400, "InvalidInput");
  });

  test("customers have their sums", async () => {
    const customer = `c-sum-${newId()}`;
    await place(customer);
    const { id } = await place(customer);
    const { token } = (await post(`/orders/${id}/cancel`)).body;
    const reply = await get(`/customers/${customer}`, { "tidemark-token": token });
    expect(reply).toMatchObject({ status: 200, body: { id: customer, orders: 2, totalCents: 5000, byStatus: { placed: 1, canceled: 1 }, lateDeliveries: 0 } });
    expectProblem(await get("/customers/nobody"), 404, "UnknownCustomer");
  });

  test("statistics count by status, by day, lateness and anomalies", async () => {
    const { url } = await start();
    await post("/orders/a/place", { customer: "c-1", items, promisedAt: "2020-01-01T00:00:00Z" }, {}, url);
    await post("/orders/b/place", { customer: "c-1", items }, {}, url);
    const { token } = (await post("/orders/a/deliver", {}, {}, url)).body;
    const reply = await call("/stats", { headers: { "tidemark-token": token } }, url);
    const day = new Date().toISOString().slice(0, 10);
    expect(reply.body).toMatchObject({ byStatus: { placed: 1, delivered: 1 }, lateDeliveries: 1, anomalies: { "delivered-before-approval": 1, "delivered-before-shipped": 1 } });
    expect(reply.body.byDay.map((entry: { status: string; count: number }) => [entry.status, entry.count]).toSorted()).toEqual([["delivered", 1], ["placed", 1]]);
    expect(reply.body.byDay[0].day <= day).toBe(true);
  });
});

describe("the session's cookie", () => {
  const cookieOf = (reply: Reply): string => /^tidemark-token=([^;]*)/.exec(reply.headers.getSetCookie()[0] ?? "")?.[1] ?? "";

  test("merges the tokens of all writes, and no script can read it", async () => {
    service.shop.delay.ms = 100;
    const first = await place();
    expect(first.reply.headers.getSetCookie()[0]).toMatch(/; Path=\/; HttpOnly; SameSite=Strict$/);
    const second = await post(`/orders/${newId()}/place`, { customer: "c-1", items }, { cookie: `tidemark-token=${cookieOf(first.reply)}` });
    expect((await get(`/orders/${first.id}`, { cookie: `tidemark-token=${cookieOf(second)}`, prefer: "wait=10" })).status).toBe(200);
  });

  test("of another store demands nothing here, and is taken away", async () => {
    const elsewhere = await start();
    const foreign = cookieOf(await post("/orders/o-1/place", { customer: "c-1", items }, {}, elsewhere.url));
    const read = await get("/stats", { cookie: `tidemark-token=${foreign}` });
    expect(read.status).toBe(200);
    expect(read.headers.getSetCookie()[0]).toMatch(/^tidemark-token=;/);
    const write = await post(`/orders/${newId()}/place`, { customer: "c-1", items }, { cookie: `tidemark-token=${foreign}` });
    expect(write.status).toBe(201);
    expect((await get("/stats", { cookie: `tidemark-token=${cookieOf(write)}` })).status).toBe(200);
  });

  test("that is damaged is refused once, and gone; a write replaces it", async () => {
    const read = await get("/stats", { cookie: "tidemark-token=nonsense" });
    expectProblem(read, 400, "TokenMalformed");
    expect(read.headers.getSetCookie()[0]).toMatch(/^tidemark-token=;/);
    const { status, headers, body } = await post(`/orders/${newId()}/place`, { customer: "c-1", items }, { cookie: "tidemark-token=nonsense" });
    expect({ status, cookie: cookieOf({ status, headers, body }) }).toEqual({ status: 201, cookie: body.token });
  });
});

describe("history", () => {
  test("tells the events, page by page", async () => {
    const { id } = await place();
    await post(`/orders/${id}/approve`);
    await post(`/orders/${id}/cancel`, { reason: "no" });
    const all = await get(`/orders/${id}/history`);
    expect(all.body).toMatchObject({ id, version: 3, events: [{ version: 1, type: "OrderPlaced" }, { version: 2, type: "OrderApproved" }, { version: 3, type: "OrderCanceled", data: { reason: "no" } }] });
    expect(Date.parse(all.body.events[0].recordedAt)).toBeGreaterThan(0);
    const page = await get(`/orders/${id}/history?limit=2`);
    expect(page.body.events).toHaveLength(2);
    expect((await get(`/orders/${id}/history?from=${page.body.next}`)).body.events).toMatchObject([{ version: 3 }]);
  });

  test("tells the state as it was", async () => {
    const { id } = await place();
    await post(`/orders/${id}/approve`);
    await post(`/orders/${id}/ship`);
    for (const [at, status] of [[1, "placed"], [2, "approved"], [3, "shipped"]] as const) {
      expect(await get(`/orders/${id}/history?at=${at}`)).toMatchObject({ status: 200, body: { id, version: at, state: { status, customer: "c-1" } } });
    }
    expectProblem(await get(`/orders/${id}/history?at=4`), 404, "UnknownVersion");
    expectProblem(await get(`/orders/${id}/history?at=0`), 400, "InvalidInput");
    expectProblem(await get("/orders/never/history"), 404, "UnknownOrder");
    expectProblem(await get("/orders/never/history?at=1"), 404, "UnknownOrder");
  });
});

describe("the stream of events", () => {
  interface Message {
    readonly id?: string;
    readonly data?: { id: string; type: string; version: number };
  }

  /** Opens the stream, and reads messages as they come. */
  async function follow(headers: Headers = {}, path = "/events", url = service.url): Promise<{ next(): Promise<Message>; close(): void }> {
    const controller = new AbortController();
    const response = await fetch(`${url}${path}`, { headers, signal: controller.signal });
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

describe("operation", () => {
  test("is alive, ready once the read models have caught up, and says how it is doing", async () => {
    expect(await get("/healthz")).toMatchObject({ status: 200, body: { status: "ok" } });
    const { token } = await place();
    await get("/stats", { "tidemark-token": token });
    await expect.poll(async () => (await get("/readyz")).status, { timeout: 10_000 }).toBe(200);
    expect((await get("/readyz")).body.readModels).toMatchObject({ "order-list": "live", customers: "live", statistics: "live" });
    const metrics = await get("/metrics");
    expect(metrics.headers.get("content-type")).toContain("text/plain");
    expect(metrics.body).toMatch(/^tidemark_commands_total\{outcome="accepted"\} [1-9]\d*$/m);
    expect(metrics.body).toMatch(/^tidemark_events_appended_total [1-9]\d*$/m);
    expect(metrics.body).toMatch(/^tidemark_read_model_events_total\{read_model="order-list"\} [1-9]\d*$/m);
    expect(metrics.body).toMatch(/^tidemark_read_model_up\{read_model="statistics"\} 1$/m);
    expect(metrics.body).toMatch(/^http_request_duration_seconds_count\{method="POST",route="\/orders\/:id\/place",status="201"\} [1-9]\d*$/m);
  });

  test("is not ready while a read model stands still", async () => {
    const own = await start();
    const { orderList } = own.shop.models;
    await expect.poll(async () => (await call("/readyz", {}, own.url)).status, { timeout: 10_000 }).toBe(200);
    await own.shop.app.readModel(orderList).pause();
    const reply = await call("/readyz", {}, own.url);
    expectProblem(reply, 503, "NotReady");
    expect(reply.body.detail).toContain("order-list is paused");
    const { token } = (await post("/orders/o-1/place", { customer: "c-1", items }, {}, own.url)).body;
    expectProblem(await call("/orders", { headers: { "tidemark-token": token } }, own.url), 503, "ReadModelStopped");
  });

  test("the OpenAPI document describes every route", async () => {
    const { body } = await get("/openapi.json");
    expect(body.openapi).toBe("3.1.0");
    expect(Object.keys(body.paths)).toEqual(expect.arrayContaining(["/orders/{id}/place", "/orders/{id}/mark-unavailable", "/orders", "/orders/{id}", "/orders/{id}/history", "/customers/{id}", "/stats", "/events", "/healthz", "/readyz", "/metrics"]));
    expect(Object.keys(body.paths)).not.toEqual(expect.arrayContaining([expect.stringContaining(".js")]));
    const { post: placing } = body.paths["/orders/{id}/place"];
    expect(placing.requestBody.content["application/json"].schema).toMatchObject({ required: ["customer", "items"], additionalProperties: false });
    expect(placing.parameters.map(({ name }: { name: string }) => name)).toEqual(expect.arrayContaining(["id", "if-match", "idempotency-key"]));
    expect(Object.keys(placing.responses)).toEqual(expect.arrayContaining(["201", "400", "409", "412", "413", "422", "429"]));
    expect(placing.responses["409"].content).toHaveProperty("application/problem+json");
    expect(body.paths["/orders"].get.parameters.map(({ name }: { name: string }) => name)).toEqual(expect.arrayContaining(["status", "customer", "cursor", "limit", "token", "tidemark-token", "prefer", "x-on-stale"]));
  });

  test("the page runs under a strict policy, and its files are revalidated", async () => {
    const page = await get("/");
    expect(page.headers.get("content-type")).toContain("text/html");
    const policy = page.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain("unsafe");
    expect(page.headers.get("x-content-type-options")).toBe("nosniff");
    expect((await get("/app.js")).headers.get("cache-control")).not.toContain("no-store");
    expectProblem(await get("/../main.ts"), 404, "NotFound");
    expectProblem(await get("/%2e%2e/main.ts"), 404, "NotFound");
  });

  test("a failure of the service is told without its inside", async () => {
    const own = await start();
    await own.shop.app.close();
    const reply = await post("/orders/o-1/place", { customer: "c-1", items }, {}, own.url);
    expectProblem(reply, 503, "AppClosed");
    expect(reply.body).not.toHaveProperty("stack");
  });

  test("the delay switch is bounded", async () => {
    expect((await post("/demo/projection-delay", { ms: 20 })).body).toEqual({ ms: 20 });
    expect((await get("/demo/projection-delay")).body).toEqual({ ms: 20 });
    expectProblem(await post("/demo/projection-delay", { ms: 10_001 }), 400, "InvalidInput");
  });

  test("closing answers what is under way", async () => {
    const own = await start();
    own.shop.delay.ms = 200;
    const { token } = (await post("/orders/o-1/place", { customer: "c-1", items }, {}, own.url)).body;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const request = httpRequest(`${own.url}/orders/o-1`, { headers: { "tidemark-token": token } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on("error", reject).end();
    await new Promise((sent) => request.on("finish", () => sent(undefined)));
    await expect.poll(async () => (await call("/metrics", {}, own.url)).status).toBe(200); // the read before it has arrived
    await own.close();
    expect(await promise).toBe(200);
  });
});
