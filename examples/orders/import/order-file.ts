/**
 * The file of orders: CSV with a header line, one row an order, moments as `M/D/YYYY H:MM` (or `YYYY-MM-DD HH:MM[:SS]`), taken as UTC; empty = never came.
 * A row that cannot be taken is reported with its line number and skipped; the others are not harmed by it.
 */
import { createReadStream } from "node:fs";
import { parse } from "csv-parse";

export const fileStatuses = ["created", "approved", "invoiced", "processing", "shipped", "delivered", "canceled", "unavailable"] as const;
export type FileStatus = (typeof fileStatuses)[number];

/** One order as the file tells it; moments in milliseconds since the epoch. */
export interface OrderRecord {
  readonly line: number;
  readonly id: string;
  readonly customer: string;
  readonly status: FileStatus;
  readonly purchased: number;
  readonly approved: number | undefined;
  readonly shipped: number | undefined;
  readonly delivered: number | undefined;
  readonly promised: number | undefined;
}

export interface BadRow {
  readonly line: number;
  readonly reason: string;
}

export const columns = {
  id: "order_id",
  customer: "customer_id",
  status: "order_status",
  purchased: "order_purchase_timestamp",
  approved: "order_approved_at",
  shipped: "order_delivered_carrier_date",
  delivered: "order_delivered_customer_date",
  promised: "order_estimated_delivery_date",
} as const;

const MAX_RECORD_BYTES = 64 * 1024;
const MAX_ID = 128;
const US = /^(\d{1,2})\/(\d{1,2})\/(\d{4}) (\d{1,2}):(\d{2})(?::(\d{2}))?$/;
const ISO = /^(\d{4})-(\d{2})-(\d{2})[ T](\d{2}):(\d{2})(?::(\d{2}))?$/;

/** Milliseconds since the epoch, or undefined when the text is no moment of the calendar. */
export function parseMoment(text: string): number | undefined {
  const us = US.exec(text);
  const iso = us === null ? ISO.exec(text) : null;
  const parts = us === null ? iso?.slice(1) : [us[3], us[1], us[2], us[4], us[5], us[6]];
  if (parts === undefined) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.map((part) => Number(part ?? 0));
  if (hour > 23 || minute > 59 || second > 59) return undefined;
  const time = Date.UTC(year, month - 1, day, hour, minute, second);
  const date = new Date(time);
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day ? time : undefined;
}

/** `M/D/YYYY H:MM`, UTC. */
export function formatMoment(time: number): string {
  const date = new Date(time);
  const minutes = String(date.getUTCMinutes()).padStart(2, "0");
  return `${date.getUTCMonth() + 1}/${date.getUTCDate()}/${date.getUTCFullYear()} ${date.getUTCHours()}:${minutes}`;
}

class Refused extends Error {}

type Cells = Readonly<Record<string, string | undefined>>;

/** One row as an order, or why it cannot be one. */
export function orderRecord(cells: Cells, line: number): OrderRecord | BadRow {
  const cell = (column: string): string => (cells[column] ?? "").trim();
  const moment = (column: string): number | undefined => {
    const text = cell(column);
    if (text === "") return undefined;
    const time = parseMoment(text);
    if (time === undefined) throw new Refused(`${column} is no moment: ${JSON.stringify(text.slice(0, 40))}`);
    return time;
  };
  const name = (column: string): string => {
    const text = cell(column);
    if (text === "") throw new Refused(`${column} is empty`);
    if (text.length > MAX_ID || text.includes("\0") || !text.isWellFormed()) throw new Refused(`${column} must be text of at most ${MAX_ID} characters`);
    return text;
  };
  try {
    const status = cell(columns.status) as FileStatus;
    const id = name(columns.id);
    const customer = name(columns.customer);
    if (!fileStatuses.includes(status)) throw new Refused(`${columns.status} is unknown: ${JSON.stringify(status.slice(0, 40))}`);
    const purchased = moment(columns.purchased);
    if (purchased === undefined) throw new Refused(`${columns.purchased} is empty`);
    const record = {
      line,
      id,
      customer,
      status,
      purchased,
      approved: moment(columns.approved),
      shipped: moment(columns.shipped),
      delivered: moment(columns.delivered),
      promised: moment(columns.promised),
    };
    const contradiction = contradictionIn(record);
    if (contradiction !== undefined) throw new Refused(contradiction);
    return record;
  } catch (error) {
    if (error instanceof Refused) return { line, reason: error.message };
    throw error;
  }
}

/** A status that the row's own moments have passed already cannot be what the order ended with. */
function contradictionIn({ status, approved, shipped, delivered, promised }: OrderRecord): string | undefined {
  const says = (column: string): string => `${columns.status} is ${status}, but the row has ${column}`;
  if (status === "created" && approved !== undefined) return says(columns.approved);
  const open = status === "created" || status === "approved" || status === "invoiced" || status === "processing" || status === "unavailable";
  if (open && shipped !== undefined) return says(columns.shipped);
  if ((open || status === "shipped") && delivered !== undefined) return says(columns.delivered);
  if (status === "delivered" && delivered === undefined && promised === undefined) return `${columns.status} is delivered, but the row has neither ${columns.delivered} nor ${columns.promised}`;
  return undefined;
}

export interface OrderFile {
  readonly records: readonly OrderRecord[];
  readonly bad: readonly BadRow[];
}

/** Reads at most `limit` rows, bad ones included. Fails when the file cannot be read or lacks a column. */
export async function readOrderFile(path: string, limit = Number.POSITIVE_INFINITY): Promise<OrderFile> {
  const records: OrderRecord[] = [];
  const bad: BadRow[] = [];
  const lines = new Map<string, number>();
  const input = createReadStream(path);
  const parser = parse({
    bom: true,
    columns: (header: string[]) => checkedHeader(header),
    info: true,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: MAX_RECORD_BYTES,
    on_skip: (error, raw) => void bad.push({ line: lineOf(error, raw), reason: error?.message ?? "the row cannot be read" }),
  });
  input.on("error", (error) => parser.destroy(error));
  input.pipe(parser);
  try {
    for await (const row of parser as AsyncIterable<{ record: Cells; info: { lines: number; error?: { message: string } } }>) {
      const { record, info } = row;
      const taken = info.error === undefined ? orderRecord(record, info.lines) : { line: info.lines, reason: "the row has another number of fields than the header" };
      const twin = "reason" in taken ? undefined : lines.get(taken.id);
      if ("reason" in taken) bad.push(taken);
      else if (twin !== undefined) bad.push({ line: taken.line, reason: `order ${taken.id} stands in line ${twin} already` });
      else {
        lines.set(taken.id, taken.line);
        records.push(taken);
      }
      if (records.length + bad.length >= limit) break;
    }
  } finally {
    input.destroy();
  }
  return { records, bad: bad.toSorted((a, b) => a.line - b.line) };
}

function lineOf(error: unknown, _raw: unknown): number {
  const lines = (error as { lines?: unknown } | undefined)?.lines;
  return typeof lines === "number" ? lines : 0;
}

function checkedHeader(header: readonly string[]): string[] {
  const names = header.map((name) => name.trim());
  const missing = Object.values(columns).filter((column) => !names.includes(column));
  if (missing.length > 0) throw new Error(`the file's first line must name the columns: missing ${missing.join(", ")}`);
  return names;
}
