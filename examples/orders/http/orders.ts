/** GET /orders and GET /orders/{id}, from the order list. */
import { z } from "zod";
import { Order, orderStatuses } from "../domain.ts";
import type { OrderRow } from "../read-models.ts";
import type { ReadTable } from "../../../src/index.ts";
import type { Shop } from "../shop.ts";
import { freshRead, readHeaders, readQuery } from "./fresh-read.ts";
import { HttpProblem } from "./problem.ts";
import { idParams, responses, type HttpServer } from "./schemas.ts";

const MAX_LIMIT = 100;

/** Where a page ended: the row's place in the order of the list. */
interface Cursor {
  readonly placedAt: string;
  readonly id: string;
}

const cursorShape = z.object({ placedAt: z.string().max(64), id: z.string().max(128) });
const writeCursor = ({ placedAt, id }: Cursor): string => Buffer.from(JSON.stringify({ placedAt, id })).toString("base64url");
const cursor = z
  .string()
  .max(1024)
  .transform((text, context): Cursor => {
    const parsed = cursorShape.safeParse(parseJson(Buffer.from(text, "base64url").toString()));
    if (parsed.success) return parsed.data;
    context.addIssue("is not a cursor of this service");
    return z.NEVER;
  });

const listQuery = readQuery.extend({
  status: z.enum(orderStatuses).optional(),
  customer: z.string().min(1).max(128).optional(),
  cursor: cursor.optional().meta({ description: "`next` of the page before" }),
  limit: z.coerce.number().int().min(1).max(MAX_LIMIT).default(25),
});

const orderShape = z.looseObject({ id: z.string(), customer: z.string(), status: z.enum(orderStatuses), totalCents: z.int(), placedAt: z.string(), version: z.int() });
const listShape = z.object({ orders: z.array(orderShape), next: z.string().optional() });

export function orderRoutes(server: HttpServer, shop: Shop): void {
  const { app, models } = shop;

  server.get(
    "/orders",
    { schema: { tags: ["reads"], operationId: "listOrders", description: "Newest first", headers: readHeaders, querystring: listQuery, response: responses({ 200: listShape }, [400, 503]) } },
    async (request, reply) => {
      const { status, customer, cursor: after, limit } = request.query;
      const where = { ...(status === undefined ? {} : { status }), ...(customer === undefined ? {} : { customer }) };
      // One row more than asked for tells whether there is a next page.
      const rows = await freshRead(shop, models.orderList, request, reply, (view) => newestFirst(view, where, after, limit + 1));
      const orders = rows.slice(0, limit);
      const last = rows.length > limit ? orders.at(-1) : undefined;
      return reply.send({ orders, ...(last === undefined ? {} : { next: writeCursor(last) }) });
    },
  );

  server.get(
    "/orders/:id",
    { schema: { tags: ["reads"], operationId: "getOrder", params: idParams, headers: readHeaders, querystring: readQuery, response: responses({ 200: orderShape }, [400, 404, 503]) } },
    async (request, reply) => {
      const { id } = request.params;
      const row = await freshRead(shop, models.orderList, request, reply, (view) => view.get(id), app.at(Order, id).stream);
      if (row === undefined) throw new HttpProblem(404, "UnknownOrder", "the list of orders does not hold this order");
      return reply.header("etag", `"${row.version}"`).send(row);
    },
  );
}

/** By the moment of placing, downwards; those of one moment by id. A page goes on after the cursor, whatever was placed meanwhile. */
async function newestFirst(view: ReadTable<OrderRow>, where: Partial<Pick<OrderRow, "status" | "customer">>, after: Cursor | undefined, limit: number): Promise<readonly OrderRow[]> {
  const orderBy = [{ field: "placedAt", direction: "desc" }] as const;
  if (after === undefined) return view.find(where, { orderBy, limit });
  const sameMoment = await view.find({ ...where, placedAt: after.placedAt, id: { gt: after.id } }, { limit });
  if (sameMoment.length === limit) return sameMoment;
  const older = await view.find({ ...where, placedAt: { lt: after.placedAt } }, { orderBy, limit: limit - sameMoment.length });
  return [...sameMoment, ...older];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
