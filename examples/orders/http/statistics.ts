/** GET /stats. */
import { z } from "zod";
import { statisticsOf } from "../read-models.ts";
import type { Shop } from "../shop.ts";
import { freshRead, readHeaders, readQuery } from "./fresh-read.ts";
import { responses, type HttpServer } from "./schemas.ts";

const counts = z.record(z.string(), z.int());
const statisticsShape = z.object({
  byStatus: counts,
  byDay: z.array(z.object({ day: z.string(), status: z.string(), count: z.int() })),
  lateDeliveries: z.int(),
  anomalies: counts,
});

export function statisticsRoutes(server: HttpServer, shop: Shop): void {
  server.get(
    "/stats",
    { schema: { tags: ["reads"], operationId: "getStatistics", headers: readHeaders, querystring: readQuery, response: responses({ 200: statisticsShape }, [400, 503]) } },
    async (request, reply) => reply.send(await freshRead(shop, shop.models.statistics, request, reply, (view) => statisticsOf(view, { days: true }))),
  );
}
