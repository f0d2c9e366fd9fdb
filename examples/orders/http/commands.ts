/** Commands: POST /orders/{id}/{command}. */
import { z } from "zod";
import { Order, orderCommands, publicInputs, type OrderCommand } from "../domain.ts";
import type { Shop } from "../shop.ts";
import { clientGone } from "./client-gone.ts";
import { HttpProblem } from "./problem.ts";
import { idParams, responses, type HttpServer } from "./schemas.ts";
import { rememberToken, TOKEN_HEADER } from "./token.ts";

const headers = z.object({
  "if-match": z
    .string()
    .regex(/^"\d{1,15}"$/, 'must be one version in quotes, such as "3"')
    .transform((etag) => Number(etag.slice(1, -1)))
    .optional()
    .meta({ description: "The version that the decision must rest on; another one: 412 with the actual version" }),
  "idempotency-key": z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, "must be 1 to 200 visible ASCII characters")
    .optional()
    .meta({ description: "The same key again changes the order once and answers the same; with another body: 422" }),
  traceparent: z
    .string()
    .regex(/^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/)
    .optional()
    .catch(undefined)
    .meta({ description: "W3C trace context, recorded with the events" }),
});

const answer = z.object({ id: z.string(), version: z.int(), token: z.string(), events: z.array(z.object({ type: z.string(), data: z.unknown() })) });

const pathOf = (command: OrderCommand): string => command.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
/** A command without a required member needs no body. */
const bodyOf = (command: OrderCommand): z.ZodType => {
  const body: z.ZodType = publicInputs[command];
  return command === "place" ? body : body.default({});
};

export function commandRoutes(server: HttpServer, { app }: Shop): void {
  for (const command of orderCommands) {
    const done = command === "place" ? 201 : 200;
    server.post(
      `/orders/:id/${pathOf(command)}`,
      { schema: { tags: ["commands"], operationId: command, params: idParams, headers, body: bodyOf(command), response: responses({ [done]: answer }, [400, 409, 412, 413, 415, 422, 429, 503]) } },
      async (request, reply) => {
        const { id } = request.params;
        const { "if-match": expectedVersion, "idempotency-key": commandId, traceparent } = request.headers;
        const result = await app.execute(Order, id, command, request.body, {
          signal: clientGone(reply),
          ...(expectedVersion === undefined ? {} : { expectedVersion }),
          ...(commandId === undefined ? {} : { commandId }),
          ...(traceparent === undefined ? {} : { traceparent }),
        });
        const { version, token } = result.ok ? result : result.decidedAt;
        rememberToken(app, request, reply, token);
        void reply.header(TOKEN_HEADER, token).header("etag", `"${version}"`);
        if (!result.ok) throw rejected(result.code, result.details, version);
        if (command === "place") void reply.header("location", `/orders/${encodeURIComponent(id)}`);
        return reply.code(done).send({ id, version, token, events: result.events.map(({ type, data }) => ({ type, data })) });
      },
    );
  }

  server.post("/orders/:id/:command", { schema: { hide: true } }, (request) => {
    const { command } = request.params as { command: string };
    throw new HttpProblem(404, "UnknownCommand", `there is no command ${command.slice(0, 64)}: there are ${orderCommands.map(pathOf).join(", ")}`);
  });
}

function rejected(code: string, details: unknown, version: number): HttpProblem {
  return new HttpProblem(409, code, `The order refuses: ${code.replaceAll("-", " ")}.`, { ...(details === undefined ? {} : { details }), version });
}
