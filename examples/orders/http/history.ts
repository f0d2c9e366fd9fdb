/** GET /orders/{id}/history: the events themselves, and with `?at=VERSION` the state as it was. Read from the event store: never stale, no token needed. */
import { z } from "zod";
import { Order } from "../domain.ts";
import type { Shop } from "../shop.ts";
import { clientGone } from "./client-gone.ts";
import { HttpProblem } from "./problem.ts";
import { idParams, responses, type HttpServer } from "./schemas.ts";

const version = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const historyQuery = z.object({
  at: version.optional().meta({ description: "The state as it was at this version, instead of the events" }),
  from: version.default(1).meta({ description: "First version" }),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

const eventShape = z.object({ version: z.int(), type: z.string(), data: z.unknown(), recordedAt: z.string(), eventId: z.string(), metadata: z.looseObject({}) });
const historyShape = z.object({ id: z.string(), version: z.int(), events: z.array(eventShape), next: z.int().optional().meta({ description: "`from` of the next page" }) });
const stateShape = z.object({ id: z.string(), version: z.int(), state: z.looseObject({}) });

export function historyRoutes(server: HttpServer, { app }: Shop): void {
  server.get(
    "/orders/:id/history",
    { schema: { tags: ["reads"], operationId: "getHistory", params: idParams, querystring: historyQuery, response: responses({ 200: z.union([historyShape, stateShape]) }, [400, 404, 503]) } },
    async (request, reply) => {
      const { id } = request.params;
      const { at, from, limit } = request.query;
      const signal = clientGone(reply);
      const history = await app.history(Order, id, { from, limit: at === undefined ? limit : 1, signal });
      if (history.version === 0) throw new HttpProblem(404, "UnknownOrder", "nothing ever happened to this order");
      if (at === undefined) {
        const events = history.events.map(({ version, type, data, recordedAt, eventId, metadata }) => ({ version, type, data, recordedAt: recordedAt.toISOString(), eventId, metadata }));
        return reply.send({ id, version: history.version, events, ...(history.next === undefined ? {} : { next: history.next }) });
      }
      if (at > history.version) throw new HttpProblem(404, "UnknownVersion", `the order is at version ${history.version}`, { actual: history.version });
      const { state } = await app.stateAt(Order, id, at, { signal });
      return reply.send({ id, version: at, state });
    },
  );
}
