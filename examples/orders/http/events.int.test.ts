/** The stream of events over HTTP. */
import { describe, expect, test } from "vitest";
import { call, expectProblem, get, place, post, start, url, useService, type Headers } from "./test-service.ts";

useService();

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
