/**
 * Turns the rows of a file into commands, in the order of time across all orders.
 *
 * N1 Each moment that the row holds is one command that says when it happened (`at`).
 * N2 A status whose moment the file does not hold (approved, invoiced, processing, shipped, canceled, unavailable) happens one second after the last moment
 *    that the row knows; a delivered row without its date is delivered on the promised date.
 * N3 An order is placed before anything else happens to it: a moment that the file dates before the purchase follows the placing, with its own `at`.
 * N4 What happened at the same time happens in the order of an order's life, then in the order of the file: the plan is the same in every run.
 */
import type { FileStatus, OrderRecord } from "./order-file.ts";

export type PlannedCommand = "place" | "approve" | "invoice" | "process" | "ship" | "deliver" | "cancel" | "markUnavailable";

export interface Planned {
  readonly id: string;
  readonly command: PlannedCommand;
  readonly input: Readonly<Record<string, unknown>>;
  /** Where it stands in the order of time, milliseconds since the epoch. */
  readonly time: number;
}

const life: readonly PlannedCommand[] = ["place", "approve", "invoice", "process", "ship", "deliver", "cancel", "markUnavailable"];

const commandOf: Readonly<Record<FileStatus, PlannedCommand>> = {
  created: "place",
  approved: "approve",
  invoiced: "invoice",
  processing: "process",
  shipped: "ship",
  delivered: "deliver",
  canceled: "cancel",
  unavailable: "markUnavailable",
};

/** The commands of one order, in the order in which they are to be replayed. */
export function planOrder(row: OrderRecord): readonly Planned[] {
  const moments = new Map<PlannedCommand, number>([["place", row.purchased]]);
  if (row.approved !== undefined) moments.set("approve", row.approved);
  if (row.shipped !== undefined) moments.set("ship", row.shipped);
  if (row.delivered !== undefined) moments.set("deliver", row.delivered);
  const last = commandOf[row.status];
  if (!moments.has(last)) {
    const promised = row.status === "delivered" ? row.promised : undefined; // N2
    moments.set(last, promised ?? Math.max(...moments.values()) + 1000);
  }
  return [...moments]
    .map(([command, at]) => ({ id: row.id, command, time: Math.max(at, row.purchased), input: { at: new Date(at).toISOString(), ...extras(row, command) } })) // N1, N3
    .toSorted(inTime); // N4
}

function extras(row: OrderRecord, command: PlannedCommand): Readonly<Record<string, unknown>> {
  if (command === "place") {
    const promised = row.promised === undefined ? {} : { promisedAt: new Date(row.promised).toISOString() };
    return { customer: row.customer, items: [], imported: true, ...promised };
  }
  return command === "cancel" && row.delivered !== undefined ? { asReturn: true } : {};
}

function inTime(a: Planned, b: Planned): number {
  return a.time - b.time || life.indexOf(a.command) - life.indexOf(b.command);
}

/** The commands of all orders in the order of time. */
export function planOrders(rows: readonly OrderRecord[]): readonly Planned[] {
  return rows.flatMap(planOrder).toSorted(inTime);
}
