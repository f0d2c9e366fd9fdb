/** GET /customers/{id}. */
import { z } from "zod";
import { customerKey } from "../read-models.ts";
import type { Shop } from "../shop.ts";
import { freshRead, readHeaders, readQuery } from "./fresh-read.ts";
import { HttpProblem } from "./problem.ts";
import { idParams, responses, type HttpServer } from "./schemas.ts";

const customerShape = z.object({
  id: z.string(),
  orders: z.int(),
  byStatus: z.record(z.string(), z.int()),
  totalCents: z.int(),
  lateDeliveries: z.int(),
  firstOrderAt: z.string(),
  lastOrderAt: z.string(),
});

export function customerRoutes(server: HttpServer, shop: Shop): void {
  server.get(
    "/customers/:id",
    { schema: { tags: ["reads"], operationId: "getCustomer", params: idParams, headers: readHeaders, querystring: readQuery, response: responses({ 200: customerShape }, [400, 404, 503]) } },
    async (request, reply) => {
      const { id } = request.params;
      const row = await freshRead(shop, shop.models.customers, request, reply, (view) => view.get(customerKey(id)));
      if (row === undefined) throw new HttpProblem(404, "UnknownCustomer", "this customer has placed no order");
      const { orders, byStatus, totalCents, lateDeliveries, firstOrderAt, lastOrderAt } = row;
      return reply.send({ id, orders, byStatus, totalCents, lateDeliveries, firstOrderAt, lastOrderAt });
    },
  );
}
