/** Live statistics: tiles that filter the list by status, the plot, and a line on lateness and anomalies. */

import * as api from "./api.js";
import { byId, count, el } from "./dom.js";
import { STATUSES } from "./lifecycle.js";
import { drawPlot } from "./plot.js";

const SPANS = [["30 days", 30], ["90 days", 90], ["All", Infinity]];

/** @param {{ withToken: () => boolean, onStatus: (status: string) => void }} hooks */
export function createStats(hooks) {
  let stats = { byStatus: {}, byDay: [] };
  let span = 30;
  let reading = false;
  let again = false;
  let selected = "";

  const tiles = new Map(
    ["", ...STATUSES].map((status) => {
      const number = el("b", {}, "0");
      const tile = el("button", { type: "button", class: "tile", "data-status": status, "aria-pressed": status === selected, onclick: () => hooks.onStatus(status === selected ? "" : status) }, number, el("span", {}, status === "" ? "all" : status));
      byId("tiles").append(tile);
      return [status, { tile, number }];
    }),
  );
  for (const [label, days] of SPANS) {
    const input = el("input", { type: "radio", name: "span", value: String(days), checked: days === span, onchange: () => ((span = days), drawPlot(stats.byDay, span)) });
    byId("span").append(el("label", {}, input, el("span", {}, label)));
  }
  new ResizeObserver(() => drawPlot(stats.byDay, span)).observe(byId("plot"));

  function draw() {
    const total = Object.values(stats.byStatus).reduce((sum, n) => sum + n, 0);
    for (const [status, { tile, number }] of tiles) {
      const n = status === "" ? total : (stats.byStatus[status] ?? 0);
      number.textContent = count(n);
      tile.classList.toggle("none", n === 0);
    }
    const anomalies = Object.entries(stats.anomalies ?? {});
    const late = stats.lateDeliveries ?? 0;
    byId("notes").replaceChildren(
      el("span", {}, late === 1 ? "1 late delivery" : `${count(late)} late deliveries`),
      ...(anomalies.length === 0 ? [el("span", {}, "no anomalies")] : anomalies.map(([kind, n]) => el("span", {}, `${count(n)} ${kind.replaceAll("-", " ")}`))),
    );
    drawPlot(stats.byDay, span);
  }

  /** Reads the statistics; one read at a time, one more when asked meanwhile. */
  async function refresh() {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    do {
      again = false;
      const answer = await api.read("/stats", { token: hooks.withToken() });
      if (!answer.ok) continue;
      stats = { ...answer.body, byStatus: answer.body.byStatus ?? {}, byDay: answer.body.byDay ?? [] };
      draw();
    } while (again);
    reading = false;
  }

  function select(status) {
    selected = status;
    for (const [key, { tile }] of tiles) tile.setAttribute("aria-pressed", String(key === status));
  }

  drawPlot([], span);
  return { refresh, select };
}
