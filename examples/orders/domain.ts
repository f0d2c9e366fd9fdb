/**
 * The order: placed, approved, invoiced, processed, shipped (handed to the carrier), delivered, or canceled or unavailable.
 * It refuses nonsense with rejections; what really happened in an odd order (shipped before approval) it takes, and marks the event with the anomaly.
 * The status follows the furthest step, whatever order the steps came in: a late approval does not set a shipped order back.
 */
import { z } from "zod";
import { aggregate } from "../../src/index.ts";

export type OrderStatus = "placed" | "approved" | "invoiced" | "processing" | "shipped" | "delivered" | "canceled" | "unavailable";

export const orderStatuses = [
  "placed",
  "approved",
  "invoiced",
  "processing",
  "shipped",
  "delivered",
  "canceled",
  "unavailable",
] as const satisfies readonly OrderStatus[];

/** Something that really happened, in an order in which it should not have. */
export type Anomaly =
  | "invoiced-before-approval"
  | "invoiced-after-shipping"
  | "processed-before-approval"
  | "processed-after-shipping"
  | "shipped-before-placed"
  | "shipped-before-approval"
  | "delivered-before-placed"
  | "delivered-before-approval"
  | "delivered-before-shipped"
  | "canceled-after-delivery";

export interface Item {
  sku: string;
  quantity: number;
  unitPriceCents: number;
}

/** What every step after the placing records: when it happened (ISO 8601, UTC), and what was odd about it. */
export interface Step {
  at: string;
  anomalies?: Anomaly[];
}

export interface OrderState {
  status: "new" | OrderStatus;
  customer: string | null;
  items: Item[];
  totalCents: number;
  promisedAt: string | null;
  /** When each step happened, ISO 8601, UTC. */
  moments: { placed?: string; approved?: string; invoiced?: string; processed?: string; shipped?: string; delivered?: string; canceled?: string; unavailable?: string };
  anomalies: Anomaly[];
}

/** Text that every store, view and index can hold: JSON can carry a NUL and halves of surrogate pairs, keys cannot. */
export const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");
const text = (most: number): z.ZodString => z.string().trim().min(1).max(most).refine(isStorable, "must be well-formed text without NUL");
const moment = z.iso.datetime({ offset: true });
const item = z.strictObject({ sku: text(64), quantity: z.int().max(10_000), unitPriceCents: z.int().max(10_000_000) });
const place = z.strictObject({ customer: text(128), items: z.array(item).min(1).max(100), promisedAt: moment.optional() });
const cancel = z.strictObject({ reason: text(500).optional(), asReturn: z.boolean().optional() });
const nothing = z.strictObject({});

/** What callers from outside may send, by command. */
export const publicInputs = { place, approve: nothing, invoice: nothing, process: nothing, ship: nothing, deliver: nothing, cancel, markUnavailable: nothing };

/** `at` tells when it really happened (default: now), for history that is replayed. */
const happened = { at: moment.optional() };
const step = z.strictObject(happened);

type At = { readonly at?: string | undefined };
type Known = { readonly status: OrderState["status"]; readonly moments: Readonly<OrderState["moments"]> };

const when = (input: At, now: Date): string => (input.at === undefined ? now : new Date(input.at)).toISOString();
const marked = (at: string, anomalies: readonly (Anomaly | false)[]): Step => {
  const found = anomalies.filter((kind) => kind !== false);
  return found.length === 0 ? { at } : { at, anomalies: found };
};
const beforePlaced = (order: Known, at: string): boolean => order.moments.placed !== undefined && at < order.moments.placed;

/** Statuses that end an order, and the code with which it then refuses to go on. */
const ended = { canceled: "already-canceled", unavailable: "already-unavailable" } as const;
const endedCode = (order: Known): (typeof ended)[keyof typeof ended] | undefined =>
  order.status === "canceled" || order.status === "unavailable" ? ended[order.status] : undefined;

const rank: Readonly<Record<OrderState["status"], number>> = {
  new: 0,
  placed: 1,
  approved: 2,
  invoiced: 3,
  processing: 4,
  shipped: 5,
  delivered: 6,
  unavailable: 7,
  canceled: 8,
};

/** The status after a step that by itself leads to `next`. */
export function furthest<S extends OrderState["status"]>(status: S, next: OrderStatus): S | OrderStatus {
  return rank[next] > rank[status] ? next : status;
}

/** The status that each event leads to, when it comes in its usual order. */
export const leadsTo = {
  OrderPlaced: "placed",
  OrderApproved: "approved",
  OrderInvoiced: "invoiced",
  OrderProcessed: "processing",
  OrderShipped: "shipped",
  OrderDelivered: "delivered",
  OrderCanceled: "canceled",
  OrderMarkedUnavailable: "unavailable",
} as const satisfies Record<string, OrderStatus>;

function advance(order: OrderState, step: keyof OrderState["moments"], status: OrderStatus, data: Step): void {
  order.status = furthest(order.status, status);
  order.moments[step] = data.at;
  if (data.anomalies !== undefined) order.anomalies.push(...data.anomalies);
}

export const totalOf = (items: readonly Item[]): number => items.reduce((sum, { quantity, unitPriceCents }) => sum + quantity * unitPriceCents, 0);

export const Order = aggregate("order", {
  initial: (): OrderState => ({ status: "new", customer: null, items: [], totalCents: 0, promisedAt: null, moments: {}, anomalies: [] }),
  events: {
    /** `imported`: taken over from another system, which did not tell the items. */
    OrderPlaced: (order, data: { at: string; customer: string; items: Item[]; promisedAt?: string; imported?: boolean }) => {
      order.customer = data.customer;
      order.items = data.items;
      order.totalCents = totalOf(data.items);
      order.promisedAt = data.promisedAt ?? null;
      advance(order, "placed", "placed", { at: data.at });
    },
    OrderApproved: (order, data: Step) => advance(order, "approved", "approved", data),
    OrderInvoiced: (order, data: Step) => advance(order, "invoiced", "invoiced", data),
    OrderProcessed: (order, data: Step) => advance(order, "processed", "processing", data),
    OrderShipped: (order, data: Step) => advance(order, "shipped", "shipped", data),
    /** `late`: after the promised moment. */
    OrderDelivered: (order, data: Step & { late: boolean }) => advance(order, "delivered", "delivered", data),
    OrderCanceled: (order, data: Step & { reason?: string; asReturn: boolean }) => advance(order, "canceled", "canceled", data),
    OrderMarkedUnavailable: (order, data: Step) => advance(order, "unavailable", "unavailable", data),
  },
  inputs: {
    place: place.extend({ ...happened, items: z.array(item).max(100), imported: z.boolean().optional() }),
    approve: step,
    invoice: step,
    process: step,
    ship: step,
    deliver: step,
    cancel: cancel.extend(happened),
    markUnavailable: step,
  },
  commands: {
    place: (order, input, { emit, reject, now }) => {
      if (order.status !== "new") return reject("already-placed");
      if (input.items.length === 0 && input.imported !== true) return reject("no-items");
      const odd = input.items.find(({ quantity, unitPriceCents }) => quantity < 1 || unitPriceCents < 0);
      if (odd !== undefined) return odd.quantity < 1 ? reject("invalid-quantity", { ...odd }) : reject("invalid-price", { ...odd });
      return emit("OrderPlaced", {
        at: when(input, now),
        customer: input.customer,
        items: input.items,
        ...(input.promisedAt === undefined ? {} : { promisedAt: new Date(input.promisedAt).toISOString() }),
        ...(input.imported === true ? { imported: true } : {}),
      });
    },
    approve: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      const over = endedCode(order);
      if (over !== undefined) return reject(over);
      if (order.moments.approved !== undefined) return reject("already-approved");
      return emit("OrderApproved", { at: when(input, now) });
    },
    invoice: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      const over = endedCode(order);
      if (over !== undefined) return reject(over);
      if (order.moments.invoiced !== undefined) return reject("already-invoiced");
      const early = order.moments.approved === undefined && "invoiced-before-approval";
      const late = rank[order.status] >= rank.shipped && "invoiced-after-shipping";
      return emit("OrderInvoiced", marked(when(input, now), [early, late]));
    },
    process: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      const over = endedCode(order);
      if (over !== undefined) return reject(over);
      if (order.moments.processed !== undefined) return reject("already-processed");
      const early = order.moments.approved === undefined && "processed-before-approval";
      const late = rank[order.status] >= rank.shipped && "processed-after-shipping";
      return emit("OrderProcessed", marked(when(input, now), [early, late]));
    },
    ship: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      const over = endedCode(order);
      if (over !== undefined) return reject(over);
      if (order.moments.shipped !== undefined) return reject("already-shipped");
      const at = when(input, now);
      const unapproved = order.moments.approved === undefined && "shipped-before-approval";
      return emit("OrderShipped", marked(at, [beforePlaced(order, at) && "shipped-before-placed", unapproved]));
    },
    deliver: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      const over = endedCode(order);
      if (over !== undefined) return reject(over);
      if (order.moments.delivered !== undefined) return reject("already-delivered");
      const at = when(input, now);
      const unapproved = order.moments.approved === undefined && "delivered-before-approval";
      const unshipped = order.moments.shipped === undefined && "delivered-before-shipped";
      const late = order.promisedAt !== null && at > order.promisedAt;
      return emit("OrderDelivered", { ...marked(at, [beforePlaced(order, at) && "delivered-before-placed", unapproved, unshipped]), late });
    },
    cancel: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      if (order.status === "canceled") return reject("already-canceled");
      const delivered = order.moments.delivered !== undefined;
      const asReturn = input.asReturn === true;
      if (delivered && !asReturn) return reject("already-delivered");
      if (!delivered && asReturn) return reject("not-delivered");
      const reason = input.reason === undefined ? {} : { reason: input.reason };
      return emit("OrderCanceled", { ...marked(when(input, now), [delivered && "canceled-after-delivery"]), ...reason, asReturn });
    },
    markUnavailable: (order, input, { emit, reject, now }) => {
      if (order.status === "new") return reject("not-placed");
      const over = endedCode(order);
      if (over !== undefined) return reject(over);
      if (order.moments.delivered !== undefined) return reject("already-delivered");
      if (order.moments.shipped !== undefined) return reject("already-shipped");
      return emit("OrderMarkedUnavailable", { at: when(input, now) });
    },
  },
  snapshot: { everyEvents: 100, schemaVersion: 1 },
});

export type OrderCommand = keyof typeof publicInputs;
export const orderCommands = Object.keys(publicInputs) as readonly OrderCommand[];
