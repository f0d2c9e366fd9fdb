/**
 * The HTTP side. Commands carry an Idempotency-Key, so that sending one again after a lost answer changes nothing twice,
 * and If-Match with the version that the user saw. The session's token is the service's cookie (it merges the tokens of all
 * writes): a read "with token" sends it, a read without leaves it out.
 */

import { pause, randomId } from "./dom.js";

const ATTEMPTS = 4;
const RETRYABLE = new Set([429, 502, 503, 504]);
/** Seconds that a read with token may wait for the projection. */
const WAIT_SECONDS = 10;

async function json(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

function retryAfterMs(response, attempt) {
  const seconds = Number(response?.headers.get("retry-after"));
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 5) * 1000 : 250 * 2 ** attempt;
}

/** What went wrong, from problem+json; `code` is the domain's own where the domain refused. */
function problem(response, body) {
  return {
    ok: false,
    status: response.status,
    code: String(body.code ?? `http-${response.status}`),
    text: String(body.detail ?? body.title ?? `The service answered ${response.status}.`),
    actual: body.actual,
  };
}

const UNREACHABLE = { ok: false, status: 0, code: "unreachable", text: "The service does not answer." };

/** POST /orders/{id}/{command}; answers `{ ok: true, version, token }` or a problem. Never throws. */
export async function command(id, name, body, version) {
  const key = randomId(20);
  for (let attempt = 0; ; attempt += 1) {
    let response;
    try {
      response = await fetch(`/orders/${encodeURIComponent(id)}/${name}`, {
        method: "POST",
        credentials: "same-origin",
        headers: {
          "content-type": "application/json",
          "idempotency-key": key,
          ...(version === undefined ? {} : { "if-match": `"${version}"` }),
        },
        body: JSON.stringify(body),
      });
    } catch {
      if (attempt + 1 >= ATTEMPTS) return UNREACHABLE;
    }
    if (response !== undefined) {
      const answer = await json(response);
      if (response.ok) {
        return { ok: true, version: answer.version, token: response.headers.get("tidemark-token") ?? answer.token };
      }
      if (!RETRYABLE.has(response.status) || attempt + 1 >= ATTEMPTS) return problem(response, answer);
    }
    await pause(retryAfterMs(response, attempt));
  }
}

/** GET; with token it waits until the read model has seen this session's writes. Throws only when aborted. */
export async function read(path, { token, signal }) {
  const started = performance.now();
  let response;
  try {
    response = await fetch(path, {
      credentials: token ? "same-origin" : "omit",
      cache: "no-store",
      headers: token ? { accept: "application/json", prefer: `wait=${WAIT_SECONDS}` } : { accept: "application/json" },
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    return { ...UNREACHABLE, ms: performance.now() - started };
  }
  const body = await json(response);
  const ms = performance.now() - started;
  if (!response.ok) return { ...problem(response, body), ms };
  const last = response.headers.get("last-processed-version");
  return { ok: true, body, ms, stale: response.headers.get("tidemark-stale") ?? undefined, lastProcessedVersion: last === null ? undefined : Number(last) };
}

/** How far the read model is behind this session's writes, without waiting: the Tidemark-Stale of a read that is served anyway. */
export async function howStale(signal) {
  try {
    const response = await fetch("/orders?limit=1", { credentials: "same-origin", cache: "no-store", headers: { "x-on-stale": "serve", prefer: "wait=0" }, signal });
    await response.arrayBuffer();
    return response.headers.get("tidemark-stale") ?? undefined;
  } catch {
    return undefined;
  }
}

/** The demonstration's delay of the order list in ms, or undefined where the service has no such route. */
export async function projectionDelay(ms) {
  try {
    const response = await fetch("/demo/projection-delay", ms === undefined ? { cache: "no-store" } : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ms }) });
    return response.ok ? Number((await json(response)).ms ?? ms ?? 0) : undefined;
  } catch {
    return undefined;
  }
}

export const ordersPath = ({ status, customer, cursor, limit }) => {
  const query = new URLSearchParams({ limit: String(limit) });
  if (status) query.set("status", status);
  if (customer) query.set("customer", customer);
  if (cursor) query.set("cursor", cursor);
  return `/orders?${query}`;
};
export const orderPath = (id) => `/orders/${encodeURIComponent(id)}`;
export const historyPath = (id, at) => `${orderPath(id)}/history${at === undefined ? "" : `?at=${at}`}`;
