/**
 * A clean end: requests under way are answered, streams are ended, and nobody is waited for who holds a connection open and asks nothing.
 * (Node's `server.close` waits for connections on which no request has come yet, as browsers open them ahead of need.)
 * A client that does not send the rest of its request, or does not read its answer, is waited for no longer than `closeGraceMs`.
 */
import type { HttpServer } from "./schemas.ts";

/** Prepares the end; the signal aborts when it comes, for what never ends by itself. Once it has come, Fastify answers new requests with 503. */
export function closingSignal(server: HttpServer, closeGraceMs: number): AbortSignal {
  const closing = new AbortController();
  let underWay = 0;
  let onLast: (() => void) | undefined;
  server.addHook("onRequest", (_request, reply, done) => {
    underWay++;
    reply.raw.once("close", () => {
      underWay--;
      if (underWay === 0) onLast?.();
    });
    done();
  });
  server.addHook("preClose", async () => {
    closing.abort();
    if (underWay > 0) {
      const { promise: over, resolve } = Promise.withResolvers<void>();
      onLast = resolve;
      const grace = setTimeout(resolve, closeGraceMs);
      await over;
      clearTimeout(grace);
      if (underWay > 0) server.log.warn({ requests: underWay }, "closing without answering requests whose clients do not go on");
    }
    server.server.closeAllConnections();
  });
  return closing.signal;
}
