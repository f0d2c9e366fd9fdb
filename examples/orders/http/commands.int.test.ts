/** Commands over HTTP, and what is refused at the door. */
import { describe, expect, test } from "vitest";
import type { Backend, EventStore } from "../../../src/index.ts";
import { memoryBackend } from "../../../src/store/memory/index.ts";
import { call, expectProblem, get, items, newId, place, post, start, useService } from "./test-service.ts";

useService();

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

  test("more than the service takes at once is 429 as well", async () => {
    const { promise: opened, resolve: openGate } = Promise.withResolvers<void>();
    const busy = await start({ store: appendsVia((append) => async (appends) => (await opened, append(appends))), actors: { maxPendingCommands: 1 } });
    const placing = ["o-1", "o-2"].map((id) => post(`/orders/${id}/place`, { customer: "c-1", items }, {}, busy.url));
    const refused = await Promise.race(placing); // the other one waits for the store
    expectProblem(refused, 429, "Overloaded");
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
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
    ["a name with a NUL", `{"customer":"a\\u0000b","items":${JSON.stringify(items)}}`, {}],
    ["a name with half a surrogate pair", `{"customer":"\\ud800","items":${JSON.stringify(items)}}`, {}],
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
