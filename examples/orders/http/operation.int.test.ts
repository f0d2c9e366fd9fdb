/** What a service needs to be run: health, metrics, documents, bounds, and a clean end. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { Order } from "../domain.ts";
import { startService } from "../service.ts";
import type { HttpServer } from "./schemas.ts";
import { call, expectProblem, get, items, place, post, rawConnection, start, untilEnd, url, useService } from "./test-service.ts";

useService();

/** The beginning of a command; the rest of its body never comes. */
const halfSent = "POST /orders/o-1/place HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";

function expectRawProblem(response: string, status: number, code: string): void {
  const [head = "", body = ""] = response.split("\r\n\r\n");
  expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*content-type: application/problem\\+json`));
  expect(JSON.parse(body)).toEqual({ status, code, title: expect.any(String), detail: expect.any(String) });
}

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

  test("a request that does not arrive in time is told so, whether its headers or its body are late", async () => {
    const own = await start({ http: { requestTimeoutMs: 300 } });
    for (const text of ["POST /orders/o-1/place HTTP/1.1\r\nHost: x\r\n", halfSent]) {
      expectRawProblem(await untilEnd(await rawConnection(own.url, text)), 408, "RequestTimeout");
    }
  });

  test.each([
    ["what is no HTTP", "GARBAGE\r\n\r\n", 400, "MalformedRequest"],
    ["two lengths", "POST /orders/o-1/place HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "MalformedRequest"],
    ["headers without end", `GET /orders HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(20_000)}\r\n\r\n`, 431, "HeadersTooLarge"],
  ])("refuses %s with a problem as well", async (_what, text, status, code) => {
    expectRawProblem(await untilEnd(await rawConnection(url(), text)), status, code);
  });

  test("what is no HTTP does not stand in the middle of an answer that has begun", async () => {
    const socket = await rawConnection(url(), "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    const said = untilEnd(socket);
    await once(socket, "data");
    socket.write("GARBAGE\r\n\r\n");
    expect((await said).match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200"]);
  });

  test("the delay switch is bounded", async () => {
    expect((await post("/demo/projection-delay", { ms: 20 })).body).toEqual({ ms: 20 });
    expect((await get("/demo/projection-delay")).body).toEqual({ ms: 20 });
    expectProblem(await post("/demo/projection-delay", { ms: 10_001 }), 400, "InvalidInput");
  });

  test("closing does not wait for a client that has connected and asks nothing", async () => {
    const own = await start();
    const socket = connect(Number(new URL(own.url).port), "127.0.0.1");
    await once(socket, "connect");
    await call("/healthz", {}, own.url); // by now the service has taken the connection before it
    const ended = once(socket, "close");
    await own.close();
    await ended;
  });

  test("closing does not wait for ever for a client that does not send the rest of its request", async () => {
    const own = await start({ http: { closeGraceMs: 50 } });
    const socket = await rawConnection(own.url, halfSent);
    await call("/healthz", {}, own.url); // by now the service has begun with the request before it
    const ended = untilEnd(socket);
    await own.close();
    await ended;
  });

  test("the app is closed although the server cannot close", async () => {
    const breakClose = (message: unknown): void => {
      const { fastify: server } = message as { fastify: HttpServer };
      server.addHook("onClose", () => Promise.reject(new Error("a part does not end")));
    };
    subscribe("fastify.initialization", breakClose);
    const own = await startService({ store: "memory:", host: "127.0.0.1", port: 0, logger: pino({ level: "silent" }) });
    unsubscribe("fastify.initialization", breakClose);
    await expect(own.close()).rejects.toThrow("a part does not end");
    await expect(own.shop.app.at(Order, "o-1").place({ customer: "c-1", items })).rejects.toMatchObject({ code: "AppClosed" });
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
