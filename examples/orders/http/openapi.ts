/** GET /openapi.json. */
import { STATUS_CODES } from "node:http";
import swagger from "@fastify/swagger";
import type { z } from "zod";
import { jsonSchema, type HttpServer } from "./schemas.ts";

const INPUTS = ["body", "querystring", "params", "headers"];

function answerOf(status: number, shape: z.ZodType): object {
  const schema = jsonSchema(shape, "output");
  const mediaType = status < 400 ? "application/json" : "application/problem+json";
  return { description: STATUS_CODES[status], content: { [mediaType]: { schema } } };
}

/** Must be registered before the routes that it is to describe. */
export async function openApiRoutes(server: HttpServer): Promise<void> {
  await server.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Tidemark orders", version: "1.0.0", description: "Orders as commands and read models. A write answers with a token; a read that carries the token sees the write." },
    },
    transform({ schema, url }) {
      const described = Object.entries(schema ?? {}).map(([part, value]) => {
        if (INPUTS.includes(part)) return [part, jsonSchema(value as z.ZodType, "input")];
        if (part !== "response") return [part, value as unknown];
        return [part, Object.fromEntries(Object.entries(value as Record<string, z.ZodType>).map(([status, shape]) => [status, answerOf(Number(status), shape)])) as unknown];
      });
      return { schema: Object.fromEntries(described) as Record<string, unknown>, url };
    },
  });
  server.get("/openapi.json", { schema: { hide: true } }, () => server.swagger());
}
