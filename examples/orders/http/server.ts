/** The HTTP server of a shop. */
import cookie from "@fastify/cookie";
import { fastify, LogController, type FastifyBaseLogger } from "fastify";
import type { Shop } from "../shop.ts";
import { clientErrors } from "./client-errors.ts";
import { closingSignal } from "./closing.ts";
import { commandRoutes } from "./commands.ts";
import { customerRoutes } from "./customers.ts";
import { demoRoutes } from "./demo.ts";
import { eventRoutes } from "./events.ts";
import { healthRoutes } from "./health.ts";
import { historyRoutes } from "./history.ts";
import { metricsRoutes } from "./metrics.ts";
import { notFoundHandler } from "./not-found.ts";
import { openApiRoutes } from "./openapi.ts";
import { orderRoutes } from "./orders.ts";
import { pageRoutes } from "./page.ts";
import { problemOf, sendProblem } from "./problem.ts";
import { validate, type AnyReply, type HttpServer } from "./schemas.ts";
import { statisticsRoutes } from "./statistics.ts";

/** Bounds of what comes from outside. */
const limits = {
  bodyLimit: 64 * 1024,
  /** An id of 128 characters, percent-encoded. */
  routerOptions: { maxParamLength: 128 * 12 },
};

export interface ServerOptions {
  /** For a request to arrive, its headers and body, in milliseconds; default 30,000. */
  readonly requestTimeoutMs?: number;
  /** How long a close waits for requests under way, in milliseconds; default 5000, and below the 10,000 after which Fastify gives its close up. */
  readonly closeGraceMs?: number;
}

/** Node looks for late requests at intervals of its own, 30 s by default. */
const TIMEOUT_CHECKS = 6;

/** Makes the server; it listens when `listen` is called. */
export async function createServer(shop: Shop, logger: FastifyBaseLogger, options: ServerOptions = {}): Promise<HttpServer> {
  const { requestTimeoutMs = 30_000, closeGraceMs = 5000 } = options;
  const fail = (error: unknown, reply: AnyReply): void => {
    const problem = problemOf(error);
    if (problem.status === 500) reply.log.error({ err: error }, problem.code);
    else reply.log.debug({ code: problem.code, status: problem.status }, problem.message);
    sendProblem(reply, problem);
  };
  const refusals = clientErrors();
  const server: HttpServer = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    ...limits,
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: requestTimeoutMs, connectionsCheckingInterval: requestTimeoutMs / TIMEOUT_CHECKS },
    clientErrorHandler: refusals.handle,
    frameworkErrors: (error, _request, reply) => fail(error, reply),
  });
  server.setValidatorCompiler(validate);
  server.setSerializerCompiler(() => (data) => JSON.stringify(data));
  server.setErrorHandler((error, _request, reply) => fail(error, reply));
  const closing = closingSignal(server, closeGraceMs);
  refusals.watch(server);
  server.addHook("onSend", (_request, reply, _payload, done) => {
    if (!reply.hasHeader("cache-control")) void reply.header("cache-control", "no-store");
    done();
  });

  notFoundHandler(server);
  await server.register(cookie);
  await openApiRoutes(server);
  await pageRoutes(server);
  commandRoutes(server, shop);
  orderRoutes(server, shop);
  historyRoutes(server, shop);
  customerRoutes(server, shop);
  statisticsRoutes(server, shop);
  eventRoutes(server, shop, closing);
  healthRoutes(server, shop, closing);
  metricsRoutes(server, shop);
  demoRoutes(server, shop);
  return server;
}
