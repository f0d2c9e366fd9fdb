/**
 * The consistency token over HTTP. A caller names it in the header `Tidemark-Token` or as `?token=`; a browser gets a cookie that merges the tokens of all
 * its writes. A token that was named must be good; a cookie that this service cannot use (it is of another store, or damaged) is taken away.
 */
import { isTidemarkError, type App } from "../../../src/index.ts";
import type { AnyReply, AnyRequest } from "./schemas.ts";

export const TOKEN_HEADER = "tidemark-token";
const COOKIE = "tidemark-token";
/** Browsers drop a cookie of more than 4096 bytes, name and attributes included. */
const MAX_COOKIE_TOKEN = 3800;
const cookieOptions = { path: "/", httpOnly: true, sameSite: "strict" } as const;

export interface RequestToken {
  readonly text: string;
  /** It came as the session's cookie: nobody chose it for this request. */
  readonly fromCookie: boolean;
}

/** The token of a request: header, then query, then cookie. */
export function tokenOf(request: AnyRequest): RequestToken | undefined {
  const named = request.headers[TOKEN_HEADER] ?? (request.query as { token?: string } | undefined)?.token;
  if (typeof named === "string") return { text: named, fromCookie: false };
  const cookie = request.cookies[COOKIE];
  return cookie === undefined ? undefined : { text: cookie, fromCookie: true };
}

/** Adds the token of a write to the session's cookie. */
export function rememberToken(app: App, request: AnyRequest, reply: AnyReply, token: string): void {
  const before = request.cookies[COOKIE];
  const merged = before === undefined ? token : (tryMerge(app, before, token) ?? token);
  void reply.setCookie(COOKIE, merged.length <= MAX_COOKIE_TOKEN ? merged : token, cookieOptions);
}

export function forgetToken(reply: AnyReply): void {
  void reply.clearCookie(COOKIE, cookieOptions);
}

/** Undefined where the cookie cannot be used, or demands so much already that both do not fit in one token: then the newest write counts. */
function tryMerge(app: App, before: string, token: string): string | undefined {
  try {
    return app.mergeTokens(before, token);
  } catch (error) {
    if (["TokenMalformed", "TokenForged", "InvalidArgument"].some((code) => isTidemarkError(error, code))) return undefined;
    throw error;
  }
}
