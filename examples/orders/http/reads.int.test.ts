/** Reads over HTTP: as fresh as their token asks for. */
import { describe, expect, test } from "vitest";
import { tokens } from "../../../src/consistency/token-codec.ts";
import { Order } from "../domain.ts";
import { call, expectProblem, get, items, newId, place, post, shop, start, useService, type Reply } from "./test-service.ts";

useService();

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
    shop().delay.ms = 300;
    const { id, token } = await place();
    const without = await get(`/orders/${id}`);
    expectProblem(without, 404, "UnknownOrder");
    expect(without.headers.get("last-processed-version")).toBe("0");
    expect((await get(`/orders/${id}`, { "tidemark-token": token, prefer: "wait=10" })).status).toBe(200);
  });

  test("that may not wait are 503 with Retry-After, or served and marked, as the caller chooses", async () => {
    shop().delay.ms = 2000;
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
    shop().delay.ms = 0;
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
      const id = `${customer}-${name}`;
      const result = await shop().app.execute(Order, id, "place", { customer, items, at });
      return { id, token: result.ok ? result.token : "" };
    }));
    const token = shop().app.mergeTokens(...tied.map((one) => one.token));
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
    shop().delay.ms = 100;
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

  test("that is full of other stores does not make a command that was done look refused; the newest write counts", async () => {
    const entries = Array.from({ length: 98 }, (_, index) => ({ store: `store-abcdef-${index.toString(36)}`, category: "z".repeat(20), version: 0, position: { log: 1 } }));
    const full = tokens().encode(entries);
    const { status, headers, body } = await post(`/orders/${newId()}/place`, { customer: "c-1", items }, { cookie: `tidemark-token=${full}` });
    expect({ status, cookie: cookieOf({ status, headers, body }) }).toEqual({ status: 201, cookie: body.token });
    expect(() => shop().app.mergeTokens(full, body.token)).toThrow(/does not fit/);
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
