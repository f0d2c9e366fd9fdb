/** Draws latencies over time as an SVG: the 99th percentile of each tenth of a second. */
import { percentile } from "./figures.ts";

export interface LatencyPoint {
  readonly atMs: number;
  readonly latencyMs: number;
}

const WIDTH = 840;
const HEIGHT = 320;
const LEFT = 72;
const TOP = 44;
const RIGHT = 16;
const BOTTOM = 36;
const BUCKET_MS = 100;

/** One line of the plot. */
export interface LatencySeries {
  readonly name: string;
  readonly points: readonly LatencyPoint[];
}

const COLOURS = ["#1d7a80", "#c8553d"] as const;

export function latencyPlot(title: string, series: readonly LatencySeries[]): string {
  const lines = series.map(({ name, points }) => ({
    name,
    places: [...Map.groupBy(points, ({ atMs }) => Math.floor(atMs / BUCKET_MS))]
      .toSorted(([a], [b]) => a - b)
      .map(([bucket, list]) => ({ seconds: (bucket * BUCKET_MS) / 1000, ms: percentile(list.map(({ latencyMs }) => latencyMs), 0.99) })),
  }));
  const places = lines.flatMap((line) => line.places);
  const end = Math.max(1, ...places.map(({ seconds }) => seconds));
  const most = Math.max(1, ...places.map(({ ms }) => ms));
  const step = niceStep(most / 5);
  const top = step * Math.ceil(most / step);
  const x = (seconds: number): number => LEFT + (seconds / end) * (WIDTH - LEFT - RIGHT);
  const y = (ms: number): number => HEIGHT - BOTTOM - (ms / top) * (HEIGHT - TOP - BOTTOM);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="${LEFT}" y="22" font-size="14" font-weight="600" fill="#1b2a2f">${title}</text>`,
    ...Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step).map(
      (ms) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(ms)}" y2="${y(ms)}" stroke="#dfe6e8"/><text x="${LEFT - 8}" y="${y(ms) + 4}" text-anchor="end" fill="#52656b">${ms} ms</text>`,
    ),
    ...Array.from({ length: Math.floor(end) + 1 }, (_, seconds) => `<text x="${x(seconds)}" y="${HEIGHT - 14}" text-anchor="middle" fill="#52656b">${seconds} s</text>`),
    ...lines.map((line, index) => {
      const colour = COLOURS[index % COLOURS.length] as string;
      const path = line.places.map(({ seconds, ms }) => `${x(seconds).toFixed(1)},${y(ms).toFixed(1)}`).join(" ");
      return `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${path}"/><text x="${LEFT + 12}" y="${TOP + 14 + 18 * index}" fill="${colour}">${line.name}</text>`;
    }),
    `</svg>`,
    "",
  ].join("\n");
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? power * 10;
}
