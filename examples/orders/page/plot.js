/** Orders by day and status as stacked bars: days are joined to weeks or months when there are more of them than there is room. */

import { byId, count, el, svg } from "./dom.js";
import { STACK } from "./lifecycle.js";

const HEIGHT = 165;
const LEFT = 38;
const BOTTOM = 22;
const TOP = 8;
const DAY = 86_400_000;

const shortDate = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
const monthDate = new Intl.DateTimeFormat("en", { month: "short", year: "2-digit", timeZone: "UTC" });

/** Start of the bin that the day falls into, as days since 1970; weeks start on Monday. */
function binOf(day, unit) {
  if (unit === "day") return day;
  if (unit === "week") return day - ((day + 3) % 7);
  const date = new Date(day * DAY);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / DAY;
}

function nextBin(start, unit) {
  if (unit === "day") return start + 1;
  if (unit === "week") return start + 7;
  const date = new Date(start * DAY);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1) / DAY;
}

/**
 * Joins `[{ day, status, count }]` into bins from the first to the last day of the span, empty ones included.
 * @returns {{ unit: "day" | "week" | "month", bins: { start: number, total: number, by: Map<string, number> }[] }}
 */
export function bin(byDay, spanDays, maxBins) {
  const known = byDay.map((entry) => ({ ...entry, at: Math.floor(Date.parse(`${entry.day}T00:00:00Z`) / DAY) })).filter((entry) => Number.isFinite(entry.at));
  if (known.length === 0) return { unit: "day", bins: [] };
  const last = known.reduce((max, entry) => Math.max(max, entry.at), -Infinity);
  const first = Number.isFinite(spanDays) ? last - spanDays + 1 : known.reduce((min, entry) => Math.min(min, entry.at), Infinity);
  const days = last - first + 1;
  const unit = days <= maxBins ? "day" : days <= maxBins * 7 ? "week" : "month";
  const bins = new Map();
  for (let start = binOf(first, unit); start <= last; start = nextBin(start, unit)) bins.set(start, { start, total: 0, by: new Map() });
  for (const entry of known) {
    const found = entry.at < first ? undefined : bins.get(binOf(entry.at, unit));
    if (found === undefined) continue;
    found.total += entry.count;
    found.by.set(entry.status, (found.by.get(entry.status) ?? 0) + entry.count);
  }
  return { unit, bins: [...bins.values()] };
}

/** A round step so that about four grid lines fit. */
function stepFor(max) {
  const rough = Math.max(1, max / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? rough;
}

const labelOf = (start, unit) => (unit === "month" ? monthDate : shortDate).format(new Date(start * DAY));

/** Draws into #plot; call again whenever the numbers or the width change. */
export function drawPlot(byDay, spanDays) {
  const box = byId("plot");
  const width = Math.max(280, box.clientWidth);
  const { unit, bins } = bin(byDay, spanDays, Math.floor((width - LEFT) / 9));
  if (bins.length === 0) {
    box.replaceChildren(el("p", { class: "empty" }, "The plot starts with the first order."));
    return;
  }
  const max = Math.max(1, ...bins.map((entry) => entry.total));
  const step = stepFor(max);
  const top = Math.ceil(max / step) * step;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const slot = (width - LEFT) / bins.length;
  const bar = Math.max(1.5, Math.min(34, slot * 0.74));
  const total = bins.reduce((sum, entry) => sum + entry.total, 0);
  const tip = el("div", { class: "tip", hidden: true });
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `Orders by ${unit}: ${count(total)} orders, at most ${count(max)} in one ${unit}, from ${labelOf(bins[0].start, unit)} to ${labelOf(bins.at(-1).start, unit)}` });

  for (let value = 0; value <= top; value += step) {
    drawing.append(svg("line", { class: "gridline", x1: LEFT, x2: width, y1: y(value), y2: y(value) }), svg("text", { class: "axis", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, count(value)));
  }
  const every = Math.ceil(62 / slot);
  for (const [index, entry] of bins.entries()) {
    const x = LEFT + index * slot + (slot - bar) / 2;
    const group = svg("g", { class: "bar" });
    let sum = 0;
    for (const status of STACK) {
      const n = entry.by.get(status) ?? 0;
      if (n === 0) continue;
      group.append(svg("rect", { "data-status": status, x, y: y(sum + n), width: bar, height: Math.max(0.5, y(sum) - y(sum + n)) }));
      sum += n;
    }
    const hit = svg("rect", { class: "hit", x: LEFT + index * slot, y: TOP, width: slot, height: HEIGHT - TOP - BOTTOM });
    hit.addEventListener("pointerenter", () => showTip(tip, entry, unit, LEFT + (index + 0.5) * slot, width));
    hit.addEventListener("pointerleave", () => (tip.hidden = true));
    drawing.append(group, hit);
    if (index % every === 0 && LEFT + (index + 0.5) * slot < width - 18) drawing.append(svg("text", { class: "axis", x: LEFT + (index + 0.5) * slot, y: HEIGHT - 5, "text-anchor": "middle" }, labelOf(entry.start, unit)));
  }
  box.replaceChildren(drawing, tip);
}

function showTip(tip, entry, unit, x, width) {
  const title = unit === "week" ? `week of ${labelOf(entry.start, unit)}` : labelOf(entry.start, unit);
  const lines = STACK.filter((status) => entry.by.has(status)).toReversed();
  tip.replaceChildren(
    el("b", {}, `${title}: ${count(entry.total)}`),
    ...lines.map((status) => el("span", { "data-status": status }, `${status} ${count(entry.by.get(status))}`)),
  );
  tip.hidden = false;
  tip.style.left = `${Math.max(0, Math.min(x + 10, width - tip.offsetWidth - 4))}px`;
}
