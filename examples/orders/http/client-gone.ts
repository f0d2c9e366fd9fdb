import type { AnyReply } from "./schemas.ts";

/** Aborts when the client goes away before it has its answer. (Fastify's `request.signal` aborts as soon as the body has been read.) */
export function clientGone(reply: AnyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}
