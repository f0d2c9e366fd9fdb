/** For the tests of the HTTP side: a service on a store in memory, and how to call it over a real socket. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { startService, type Service, type ServiceOptions } from "../service.ts";
import type { Shop } from "../shop.ts";

export type Headers = Readonly<Record<string, string>>;
export interface Reply {
  readonly status: number;
  readonly headers: globalThis.Headers;
  // oxlint-disable-next-line typescript/no-explicit-any -- parsed JSON that each test knows
  readonly body: any;
}

const logger = pino({ level: "silent" });
const open: Service[] = [];
let service: Service;
let serial = 0;

export async function start(options: Partial<ServiceOptions> = {}): Promise<Service> {
  const started = await startService({ store: "memory:", host: "127.0.0.1", port: 0, logger, ...options });
  open.push(started);
  return started;
}

/** Starts the service that a test file calls when it names no other one, and stops all of them at the end. */
export function useService(): void {
  beforeAll(async () => {
    service = await start();
  });
  afterEach(() => {
    service.shop.delay.ms = 0;
  });
  afterAll(() => Promise.all(open.map((one) => one.close())));
}

export const url = (): string => service.url;
export const shop = (): Shop => service.shop;
export const newId = (): string => `o-${++serial}`;
export const items = [{ sku: "tea", quantity: 2, unitPriceCents: 1250 }];

export async function call(path: string, init: RequestInit = {}, at = service.url): Promise<Reply> {
  const response = await fetch(`${at}${path}`, init);
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json") === true;
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

export const get = (path: string, headers: Headers = {}): Promise<Reply> => call(path, { headers });

export function post(path: string, body: unknown = {}, headers: Headers = {}, at?: string): Promise<Reply> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return call(path, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: text }, at);
}

/** A connection of its own on which `text` has been sent, for what no HTTP client would do. */
export async function rawConnection(at: string, text: string): Promise<Socket> {
  const socket = connect(Number(new URL(at).port), "127.0.0.1");
  await once(socket, "connect");
  await new Promise<unknown>((sent) => socket.write(text, sent));
  return socket;
}

/** All that comes on the connection until the service ends it. */
export async function untilEnd(socket: Socket): Promise<string> {
  let said = "";
  socket.on("data", (chunk: Buffer) => (said += chunk.toString()));
  socket.on("error", () => undefined); // a reset is an end as well
  await once(socket, "close");
  return said;
}

export async function place(customer = "c-1"): Promise<{ id: string; token: string; reply: Reply }> {
  const id = newId();
  const reply = await post(`/orders/${id}/place`, { customer, items });
  expect(reply.status).toBe(201);
  return { id, token: reply.body.token, reply };
}

export function expectProblem(reply: Reply, status: number, code: string): void {
  expect({ status: reply.status, body: reply.body }).toMatchObject({ status, body: { status, code, title: expect.any(String), detail: expect.any(String) } });
  expect(reply.headers.get("content-type")).toContain("application/problem+json");
}
