/** A switch for demonstrations: makes the order list late, so that one sees what tokens are for. */
import { z } from "zod";
import type { Shop } from "../shop.ts";
import { responses, type HttpServer } from "./schemas.ts";

const delayShape = z.strictObject({ ms: z.int().min(0).max(10_000) });

export function demoRoutes(server: HttpServer, { delay }: Shop): void {
  const tags = ["demonstration"];
  server.get("/demo/projection-delay", { schema: { tags, operationId: "getProjectionDelay", response: responses({ 200: delayShape }, []) } }, () => ({ ms: delay.ms }));
  server.post("/demo/projection-delay", { schema: { tags, operationId: "setProjectionDelay", body: delayShape, response: responses({ 200: delayShape }, [400]) } }, (request) => {
    delay.ms = request.body.ms;
    return { ms: delay.ms };
  });
}
