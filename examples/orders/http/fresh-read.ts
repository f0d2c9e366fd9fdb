/** Reads of read models over HTTP: how fresh the caller wants the answer, and how fresh it is. */
import { z } from "zod";
import { isTidemarkError, type Answer, type Position, type QueryOptions, type ReadModel, type ReadSide } from "../../../src/index.ts";
import type { Shop } from "../shop.ts";
import { clientGone } from "./client-gone.ts";
import type { AnyReply, AnyRequest } from "./schemas.ts";
import { forgetToken, tokenOf } from "./token.ts";

const MAX_WAIT_SECONDS = 30;

/** Headers that every read takes. */
export const readHeaders = z.object({
  "tidemark-token": z.string().max(4096).optional().meta({ description: "The answer has seen what this token names; also as ?token= or as the cookie of the same name" }),
  prefer: z.string().max(256).optional().meta({ description: `wait=SECONDS: how long to wait for that, at most ${MAX_WAIT_SECONDS}, default 5 (RFC 7240)` }),
  "x-on-stale": z.enum(["fail", "serve"]).optional().meta({ description: "When the time has passed: fail with 503 (default), or serve what is there, marked by Tidemark-Stale" }),
});

export const readQuery = z.object({ token: z.string().max(4096).optional() });

/** SECONDS of `Prefer: wait=SECONDS`, or undefined; other preferences are not for us. */
export function waitOf(prefer: unknown): number | undefined {
  const wait = typeof prefer === "string" ? /(?:^|[,;\s])wait\s*=\s*"?(\d{1,6})"?\s*(?:[,;]|$)/i.exec(prefer)?.[1] : undefined;
  return wait === undefined ? undefined : Math.min(Number(wait), MAX_WAIT_SECONDS);
}

/** Reads as fresh as the request asks for, and tells in headers how fresh that is. `stream`: tell the version of this one that the answer has seen. */
export async function freshRead<V, R>(
  shop: Shop,
  model: ReadModel<V>,
  request: AnyRequest,
  reply: AnyReply,
  read: (view: ReadSide<V>) => Promise<R>,
  stream?: string,
): Promise<R> {
  const token = tokenOf(request);
  const seconds = waitOf(request.headers["prefer"]);
  const options: QueryOptions = {
    onStale: request.headers["x-on-stale"] === "serve" ? "serve" : "fail",
    signal: clientGone(reply),
    ...(seconds === undefined ? {} : { timeoutMs: seconds * 1000 }),
    ...(stream === undefined ? {} : { stream }),
  };
  const ask = (atLeast?: string): Promise<Answer<R>> => shop.app.answer(model, read, atLeast === undefined ? options : { ...options, atLeast });
  const answer = token?.fromCookie === true ? await withCookie(ask, token.text, reply) : await ask(token?.text);
  if (seconds !== undefined) void reply.header("preference-applied", `wait=${seconds}`);
  tellFreshness(reply, answer);
  return answer.value;
}

/** A session that began on another store has nothing to demand here; a damaged cookie is refused once, and gone. */
async function withCookie<R>(ask: (atLeast?: string) => Promise<R>, cookie: string, reply: AnyReply): Promise<R> {
  try {
    return await ask(cookie);
  } catch (error) {
    const foreign = isTidemarkError(error, "TokenForeign");
    if (foreign || isTidemarkError(error, "TokenMalformed") || isTidemarkError(error, "TokenForged")) forgetToken(reply);
    if (foreign) return ask();
    throw error;
  }
}

function tellFreshness(reply: AnyReply, { position, lastProcessedVersion, stale }: Answer<unknown>): void {
  void reply.header("tidemark-position", positionText(position));
  if (lastProcessedVersion !== undefined) void reply.header("last-processed-version", lastProcessedVersion);
  if (stale !== undefined) void reply.header("tidemark-stale", `events=${stale.events}; ms=${stale.ms}`);
}

export const positionText = (position: Position): string =>
  Object.entries(position)
    .map(([lane, offset]) => `${lane}=${offset}`)
    .join(", ");
