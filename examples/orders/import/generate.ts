/**
 * Makes a file of orders of the same form as the real one, the same for the same seed: for those without the data, and for CI.
 * The first rows hold one of each oddity, so that small files have them all; further ones come at about the rates of real life.
 */
import { columns, formatMoment, type FileStatus } from "./order-file.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const START = Date.UTC(2017, 0, 5);

type Kind =
  | "usual"
  | "late"
  | "shipped-before-approval"
  | "shipped-before-placed"
  | "delivered-before-shipped"
  | "delivered-undated"
  | "canceled-after-delivery"
  | "canceled-early"
  | Exclude<FileStatus, "delivered" | "created">;

const FIRST: readonly Kind[] = [
  "usual",
  "shipped-before-approval",
  "delivered-before-shipped",
  "canceled-after-delivery",
  "delivered-undated",
  "late",
  "shipped",
  "invoiced",
  "processing",
  "canceled",
  "unavailable",
  "shipped-before-placed",
  "canceled-early",
];

/** Kinds by their share, in orders of 10,000; the rest is usual. */
const SHARES: readonly (readonly [Kind, number])[] = [
  ["late", 750],
  ["shipped-before-approval", 140],
  ["shipped", 120],
  ["unavailable", 60],
  ["processing", 50],
  ["invoiced", 40],
  ["canceled", 40],
  ["canceled-early", 20],
  ["shipped-before-placed", 15],
  ["delivered-before-shipped", 10],
  ["delivered-undated", 5],
  ["canceled-after-delivery", 5],
];

/** Mulberry32: small and the same everywhere; no secret depends on it. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The lines of the file, header first, without line ends. */
export function* generateLines(rows: number, seed: number): Generator<string> {
  const random = randomOf(seed);
  const between = (least: number, most: number): number => least + Math.floor(random() * (most - least + 1));
  const name = (): string => Array.from({ length: 4 }, () => Math.floor(random() * 2 ** 32).toString(16).padStart(8, "0")).join("");
  const customers: string[] = [];
  const customer = (): string => {
    if (customers.length > 0 && random() < 0.1) return customers[between(0, customers.length - 1)] ?? name();
    const fresh = name();
    if (customers.length < 1000) customers.push(fresh);
    return fresh;
  };

  yield Object.values(columns).join(",");
  for (let row = 0; row < rows; row++) {
    const kind = FIRST[row] ?? pick(between(0, 9999));
    const placed = START + between(0, 600 * 24 * 60) * MINUTE;
    const promised = Math.floor(placed / DAY) * DAY + between(15, 40) * DAY;
    let approved: number | undefined = placed + between(0, 600) * MINUTE;
    let shipped: number | undefined = approved + between(60, 4 * 24 * 60) * MINUTE;
    let delivered: number | undefined = Math.min(shipped + between(60, 9 * 24 * 60) * MINUTE, promised);
    let status: FileStatus = "delivered";
    if (kind === "late") delivered = promised + between(1, 10 * 24 * 60) * MINUTE;
    else if (kind === "shipped-before-approval") approved = shipped + between(1, 60) * MINUTE;
    else if (kind === "shipped-before-placed") shipped = placed - between(60, 3000) * MINUTE;
    else if (kind === "delivered-before-shipped") delivered = shipped - between(1, 50) * MINUTE;
    else if (kind === "delivered-undated") delivered = undefined;
    else if (kind === "canceled-after-delivery") status = "canceled";
    else if (kind === "shipped") [status, delivered] = [kind, undefined];
    else if (kind === "canceled-early") [status, approved, shipped, delivered] = ["canceled", undefined, undefined, undefined];
    else if (kind !== "usual") [status, shipped, delivered] = [kind, undefined, undefined];
    const moments = [placed, approved, shipped, delivered, promised].map((time) => (time === undefined ? "" : formatMoment(time)));
    yield [name(), customer(), status, ...moments].join(",");
  }
}

function pick(share: number): Kind {
  let left = share;
  for (const [kind, size] of SHARES) {
    if (left < size) return kind;
    left -= size;
  }
  return "usual";
}
