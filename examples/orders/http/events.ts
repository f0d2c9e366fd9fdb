/**
 * GET /events: what happens to orders, as server-sent events.
 *
 * E1 The stream starts after what `Last-Event-ID` (or `?after=`) names, else after what the statistics have seen: whoever follows first and reads then misses nothing.
 * E2 Only the last event of a page carries an id, the token of the page: a client that was cut off in the middle gets the page again and misses nothing.
 * E3 A client that reads slowly slows down its own stream and nobody else's: no page is read for it before it has taken the one before, and one that has gone ends it.
 */
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { z } from "zod";
import type { EventPage } from "../../../src/index.ts";
import { Order } from "../domain.ts";
import type { Shop } from "../shop.ts";
import { HttpProblem } from "./problem.ts";
import { responses, type HttpServer } from "./schemas.ts";

const MAX_STREAMS = 200;
const PAGE_SIZE = 100;
const HEARTBEAT_MS = 15_000;
const RECONNECT_MS = 1000;

const token = z.string().min(1).max(4096);
const headers = z.object({ "last-event-id": token.optional() });
const querystring = z.object({ after: token.optional().meta({ description: "A token: go on after what it names" }) });

export function eventRoutes(server: HttpServer, { app, models }: Shop, closing: AbortSignal): void {
  let streams = 0;
  const here = async (): Promise<string> => (await app.answer(models.statistics, () => Promise.resolve())).token;

  const schema = { tags: ["reads"], operationId: "streamEvents", produces: ["text/event-stream"], headers, querystring, response: responses({}, [400, 503]) };
  // HEAD would begin a stream that nobody reads.
  server.get("/events", { exposeHeadRoute: false, schema }, async (request, reply) => {
    if (streams >= MAX_STREAMS) throw new HttpProblem(503, "TooManyStreams", `no more than ${MAX_STREAMS} clients can follow at once`);
    streams++;
    const ended = new AbortController();
    reply.raw.once("close", () => ended.abort()); // however it came to its end
    const signal = AbortSignal.any([ended.signal, closing]);
    let pages: AsyncIterator<EventPage<typeof Order>>;
    let first: IteratorResult<EventPage<typeof Order>>;
    try {
      const after = request.headers["last-event-id"] ?? request.query.after ?? (await here());
      pages = app.subscribe([Order], { after, pageSize: PAGE_SIZE, signal })[Symbol.asyncIterator]();
      first = await pages.next(); // E1; a bad token fails here, where it still can be a problem
    } catch (error) {
      streams--;
      throw error;
    }
    const out = new PassThrough();
    const heartbeat = setInterval(() => out.writableNeedDrain || out.write(":\n\n"), HEARTBEAT_MS);
    const follow = async (): Promise<void> => {
      out.write(`retry: ${RECONNECT_MS}\n\n`);
      for (let page = first; page.done !== true; page = await pages.next()) {
        if (page.value.events.length > 0 && !out.write(textOf(page.value))) await once(out, "drain", { signal }); // E3
      }
    };
    void follow()
      .catch((error: unknown) => {
        if (!signal.aborted) request.log.error({ err: error }, "a stream of events failed");
      })
      .finally(() => {
        clearInterval(heartbeat);
        out.end();
        streams--;
      });
    return reply.type("text/event-stream; charset=utf-8").header("x-accel-buffering", "no").send(out);
  });
}

function textOf({ events, token: pageToken }: EventPage<typeof Order>): string {
  return events
    .map(({ id, type, version, data, recordedAt }, index) => {
      const name = index === events.length - 1 ? `id: ${pageToken}\n` : ""; // E2
      return `${name}data: ${JSON.stringify({ id, type, version, data, recordedAt })}\n\n`;
    })
    .join("");
}
