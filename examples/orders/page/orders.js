/**
 * The model behind the list: what the service last told us, and on top of it what this session did and the projection has not
 * confirmed yet.
 *
 * Invariants:
 * 1. A guess is never shown as a fact: from the click until its end an order is in `mine`, with the phase "sending" or "pending".
 * 2. A guess ends in two ways only: the projection confirms it (Last-Processed-Version >= the version answered), or the service
 *    definitely refused it; then the page shows again what the service says.
 * 3. The commands of one order go out one at a time, in the order of the clicks; after a refusal those behind it are dropped,
 *    because they were clicked on a state that never came.
 * 4. One read of the list is in flight at a time; whatever asks for another meanwhile gets one more read afterwards.
 * 5. A read is judged by the versions that were answered before it started: it is stale when it misses one of them.
 */

import * as api from "./api.js";
import { pause } from "./dom.js";
import { COMMANDS } from "./lifecycle.js";

const PAGE = 25;
const MAX_ROWS = 100;
const SETTLED_MS = 1600;

/** @param {{ onChange: () => void, onRead: (read: object) => void, onRefused: (refusal: object) => void, onSettled: (mine: object) => void, onToken: (token: string) => void }} hooks */
export function createOrders(hooks) {
  const rows = new Map();
  const mine = new Map();
  let filter = { status: "", customer: "" };
  let withToken = true;
  let limit = PAGE;
  let next;
  let loaded = false;
  let reading;
  let readAgain = false;
  let controller = new AbortController();
  let reads = 0;

  // ---- reading

  /** Reads the list; a call during a read makes one more read afterwards (4). */
  function refresh() {
    if (reading !== undefined) {
      readAgain = true;
      return reading;
    }
    reading = (async () => {
      try {
        do {
          readAgain = false;
          await readOnce();
        } while (readAgain);
      } finally {
        reading = undefined; // in the same turn as the check above, so that no call falls between
      }
    })();
    return reading;
  }

  async function readOnce() {
    const token = withToken;
    const asked = { ...filter, limit };
    const { signal } = controller;
    const due = new Map([...mine.values()].filter((entry) => entry.version !== undefined).map((entry) => [entry.id, entry.version])); // (5)
    const entry = { number: (reads += 1), token, state: "reading" };
    hooks.onRead(entry);
    try {
      const [answer, behind] = await Promise.all([api.read(api.ordersPath(asked), { token, signal }), token || due.size === 0 ? undefined : api.howStale(signal)]);
      if (!answer.ok) {
        hooks.onRead({ ...entry, state: "failed", ms: answer.ms, text: answer.code });
        if (answer.status === 503 || answer.status === 0) void pause(1000).then(refresh);
        return;
      }
      const got = new Map(answer.body.orders.map((row) => [row.id, row]));
      const missed = [...due].filter(([id, version]) => misses(got, id, version));
      hooks.onRead({ ...entry, state: answer.stale !== undefined || missed.length > 0 ? "stale" : "fresh", ms: answer.ms, missed: missed.length, text: answer.stale ?? (missed.length > 0 ? behind : undefined) });
      rows.clear();
      for (const [id, row] of got) rows.set(id, row);
      next = answer.body.next;
      loaded = true;
      hooks.onChange();
    } catch {
      hooks.onRead({ ...entry, state: "dropped" });
    }
  }

  /** An order that the filter or the page's end may hide proves nothing by its absence; a new one tops the unfiltered list. */
  function misses(got, id, version) {
    const row = got.get(id);
    if (row !== undefined) return row.version < version;
    return mine.get(id)?.placed === true && filter.status === "" && filter.customer === "";
  }

  // ---- writing

  function place(id, body) {
    const totalCents = body.items.reduce((sum, item) => sum + item.quantity * item.unitPriceCents, 0);
    const draft = { id, customer: body.customer, totalCents, placedAt: new Date().toISOString(), promisedAt: body.promisedAt };
    return send(id, "place", body, "placed", draft);
  }

  function act(id, action) {
    const { to, command = action, body = {} } = COMMANDS[action];
    return send(id, command, body, to, rows.get(id) ?? mine.get(id)?.draft ?? { id });
  }

  function send(id, command, body, to, draft) {
    let entry = mine.get(id);
    if (entry === undefined || entry.phase === "settled") {
      entry = { id, draft, queue: Promise.resolve(), waiting: 0, run: 0, placed: command === "place", version: undefined, tookMs: undefined };
      mine.set(id, entry);
    }
    Object.assign(entry, { phase: "sending", status: to });
    entry.waiting += 1;
    const run = entry.run;
    entry.queue = entry.queue.then(() => deliver(entry, run, command, body)); // (3)
    hooks.onChange();
    return entry.queue;
  }

  async function deliver(entry, run, command, body) {
    entry.waiting -= 1;
    if (run !== entry.run) return;
    const seen = entry.version ?? rows.get(entry.id)?.version;
    const answer = await api.command(entry.id, command, body, command === "place" ? undefined : seen);
    if (!answer.ok) {
      entry.run += 1; // (3)
      if (entry.version === undefined) mine.delete(entry.id);
      else Object.assign(entry, { phase: "pending", status: undefined }); // an earlier command of it still waits for the projection
      hooks.onRefused({ id: entry.id, command, ...answer });
      hooks.onChange();
      void refresh();
      return;
    }
    entry.version = answer.version;
    if (answer.token) hooks.onToken(answer.token);
    if (entry.waiting > 0) return;
    Object.assign(entry, { phase: "pending", since: performance.now() });
    hooks.onChange();
    void confirm(entry, answer.version);
  }

  /** Waits until the projection says that it has processed `version` of the order (2). */
  async function confirm(entry, version) {
    const current = () => mine.get(entry.id) === entry && entry.phase === "pending" && entry.version === version;
    for (let attempt = 0; current(); attempt += 1) {
      const { signal } = controller;
      const token = withToken;
      if (token) void refresh();
      else await refresh();
      const listed = rows.get(entry.id)?.version ?? 0;
      if (token || listed >= version || (attempt > 3 && !entry.placed)) {
        const answer = await api.read(api.orderPath(entry.id), { token, signal }).catch(() => undefined);
        if (!current()) return;
        if (answer?.ok && (answer.lastProcessedVersion ?? 0) >= version) {
          settle(entry, answer.body);
          return;
        }
      }
      await pause(Math.min(150 * 1.5 ** attempt, 1200), signal);
    }
  }

  function settle(entry, row) {
    Object.assign(entry, { phase: "settled", status: undefined, draft: row, tookMs: performance.now() - entry.since });
    if (rows.has(entry.id)) rows.set(entry.id, row);
    hooks.onSettled(entry);
    hooks.onChange();
    setTimeout(() => {
      if (mine.get(entry.id) !== entry || entry.phase !== "settled") return;
      mine.delete(entry.id);
      hooks.onChange();
    }, SETTLED_MS);
  }

  // ---- what the list shows

  /** Rows in the order of the list: the service's, with this session's unconfirmed changes laid over them; new ones come first. */
  function visible() {
    const shown = [];
    for (const entry of [...mine.values()].toReversed()) if (!rows.has(entry.id)) shown.push(over(entry.draft, entry));
    for (const row of rows.values()) shown.push(over(row, mine.get(row.id)));
    return shown;
  }

  function over(row, entry) {
    if (entry === undefined) return { ...row, phase: "read" };
    return {
      ...row,
      status: entry.status ?? row.status ?? "placed",
      phase: entry.phase,
      readVersion: rows.get(row.id)?.version ?? 0,
      writtenVersion: entry.version,
      tookMs: entry.tookMs,
    };
  }

  function restart() {
    controller.abort();
    controller = new AbortController();
    return refresh();
  }

  return {
    refresh,
    place,
    act,
    visible,
    has: (id) => rows.has(id) || mine.has(id),
    get loaded() {
      return loaded;
    },
    get hasMore() {
      return next !== undefined && next !== null && limit < MAX_ROWS;
    },
    get withToken() {
      return withToken;
    },
    get filter() {
      return filter;
    },
    showMore() {
      limit = Math.min(limit + PAGE, MAX_ROWS);
      return refresh();
    },
    setFilter(changes) {
      filter = { ...filter, ...changes };
      limit = PAGE;
      return restart();
    },
    setWithToken(on) {
      withToken = on;
      return restart();
    },
  };
}
