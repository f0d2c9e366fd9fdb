/**
 * The three read models of the shop: the list of orders, the customers, and the statistics.
 * Each one keeps all it remembers in its own view, so that a rebuild gives the same view for every size of page.
 */
import { createHash } from "node:crypto";
import { concatMap, defer, of, timer } from "rxjs";
import { readModel, table, type ReadTable, type Recorded, type Table } from "../../src/index.ts";
import { furthest, isStorable, leadsTo, Order, totalOf, type Anomaly, type Item, type OrderState, type OrderStatus } from "./domain.ts";

type OrderEvent = Recorded<typeof Order>;

export interface OrderRow {
  id: string;
  customer: string;
  status: OrderStatus;
  items: Item[];
  totalCents: number;
  /** ISO 8601, UTC; so are the moments. */
  placedAt: string;
  promisedAt: string | null;
  moments: OrderState["moments"];
  lateDelivery: boolean;
  anomalies: Anomaly[];
  /** Version of the stream that this row shows. */
  version: number;
}

const momentOf = {
  OrderPlaced: "placed",
  OrderApproved: "approved",
  OrderInvoiced: "invoiced",
  OrderProcessed: "processed",
  OrderShipped: "shipped",
  OrderDelivered: "delivered",
  OrderCanceled: "canceled",
  OrderMarkedUnavailable: "unavailable",
} as const satisfies Record<OrderEvent["type"], keyof OrderState["moments"]>;

const anomaliesOf = (event: OrderEvent): readonly Anomaly[] => (event.type === "OrderPlaced" ? [] : (event.data.anomalies ?? []));

/** The row of an order after one more of its events. */
export function orderRow(row: OrderRow | undefined, event: OrderEvent): OrderRow | undefined {
  if (event.type === "OrderPlaced") {
    const { customer, items, promisedAt, at } = event.data;
    return {
      id: event.id,
      customer,
      status: "placed",
      items: items.map((item) => ({ ...item })),
      totalCents: totalOf(items),
      placedAt: at,
      promisedAt: promisedAt ?? null,
      moments: { placed: at },
      lateDelivery: false,
      anomalies: [],
      version: event.version,
    };
  }
  if (row === undefined) return undefined;
  return {
    ...row,
    status: furthest(row.status, leadsTo[event.type]),
    moments: { ...row.moments, [momentOf[event.type]]: event.data.at },
    lateDelivery: row.lateDelivery || (event.type === "OrderDelivered" && event.data.late),
    anomalies: [...row.anomalies, ...anomaliesOf(event)],
    version: event.version,
  };
}

/** For demonstrations only: makes the order list wait before each page, in milliseconds. */
export interface ProjectionDelay {
  ms: number;
}

const orderListModel = (delay: ProjectionDelay) =>
  readModel("order-list", {
    from: [Order],
    view: table<OrderRow>("orders", { key: "id", indexes: ["status", "customer", "placedAt"] }),
    project: (events$, { view }) =>
      defer(() => (delay.ms > 0 ? timer(delay.ms) : of(0))).pipe(
        concatMap(() => events$),
        concatMap((event) => view.update(event.id, (row) => orderRow(row, event))),
      ),
  });

/** In UTF-16 units; a row's key takes 512. */
const MAX_PLAIN_NAME = 256;

/** A customer's sums (`kind` customer), and what is remembered of each order to keep them (`kind` order). */
export interface CustomerRow {
  key: string;
  kind: "customer" | "order";
  customer: string;
  status?: OrderStatus;
  orders: number;
  byStatus: Partial<Record<OrderStatus, number>>;
  totalCents: number;
  lateDeliveries: number;
  firstOrderAt: string;
  lastOrderAt: string;
}

/** A name is its own key, but for one that cannot be a key (the log may hold what an earlier version of the service let in): no event stops the read model. */
export function customerKey(id: string): string {
  if (id.length <= MAX_PLAIN_NAME && isStorable(id)) return `customer:${id}`;
  return `customer#${createHash("sha256").update(id, "utf16le").digest("base64url")}`;
}

async function projectCustomer(view: Table<CustomerRow>, event: OrderEvent): Promise<void> {
  const key = `order:${event.id}`;
  if (event.type === "OrderPlaced") {
    const { customer, items, at } = event.data;
    const one = { customer, orders: 1, byStatus: { placed: 1 }, totalCents: totalOf(items), lateDeliveries: 0, firstOrderAt: at, lastOrderAt: at };
    await view.upsert({ ...one, key, kind: "order", status: "placed" });
    await view.update(customerKey(customer), (row) =>
      row === undefined
        ? { ...one, key: customerKey(customer), kind: "customer" }
        : {
            ...row,
            orders: row.orders + 1,
            byStatus: moved(row.byStatus, undefined, "placed"),
            totalCents: row.totalCents + one.totalCents,
            firstOrderAt: at < row.firstOrderAt ? at : row.firstOrderAt,
            lastOrderAt: at > row.lastOrderAt ? at : row.lastOrderAt,
          },
    );
    return;
  }
  const order = await view.get(key);
  if (order?.status === undefined) return;
  const before = order.status;
  const after = furthest(before, leadsTo[event.type]);
  const late = event.type === "OrderDelivered" && event.data.late ? 1 : 0;
  if (after === before && late === 0) return;
  await view.upsert({ ...order, status: after });
  await view.update(customerKey(order.customer), (row) => row && { ...row, byStatus: moved(row.byStatus, before, after), lateDeliveries: row.lateDeliveries + late });
}

function moved(counts: CustomerRow["byStatus"], from: OrderStatus | undefined, to: OrderStatus): CustomerRow["byStatus"] {
  const next = { ...counts };
  if (from !== undefined) {
    const left = (next[from] ?? 0) - 1;
    if (left > 0) next[from] = left;
    else delete next[from];
  }
  next[to] = (next[to] ?? 0) + 1;
  return next;
}

const customersModel = () =>
  readModel("customers", {
    from: [Order],
    view: table<CustomerRow>("customers", { key: "key" }),
    project: (events$, { view }) => events$.pipe(concatMap((event) => projectCustomer(view, event))),
  });

/** A counter (`count` of `name`, for `day` too), or what is remembered of an order to keep the counters. */
export interface StatisticsRow {
  key: string;
  kind: "order" | "status" | "day" | "late" | "anomaly";
  name: string;
  /** The day on which the order was placed, UTC, YYYY-MM-DD. */
  day: string | null;
  count: number;
}

async function count(view: Table<StatisticsRow>, kind: StatisticsRow["kind"], name: string, day: string | null, by: 1 | -1): Promise<void> {
  const key = day === null ? `${kind}:${name}` : `${kind}:${day}:${name}`;
  await view.update(key, (row) => {
    const next = (row?.count ?? 0) + by;
    return next === 0 ? undefined : { key, kind, name, day, count: next };
  });
}

async function projectStatistics(view: Table<StatisticsRow>, event: OrderEvent): Promise<void> {
  const key = `order:${event.id}`;
  const order = event.type === "OrderPlaced" ? undefined : await view.get(key);
  const day = event.type === "OrderPlaced" ? event.data.at.slice(0, 10) : (order?.day ?? null);
  if (day === null) return;
  const before = order?.name as OrderStatus | undefined;
  const after = before === undefined ? leadsTo[event.type] : furthest(before, leadsTo[event.type]);
  if (after !== before) {
    await view.upsert({ key, kind: "order", name: after, day, count: 0 });
    if (before !== undefined) {
      await count(view, "status", before, null, -1);
      await count(view, "day", before, day, -1);
    }
    await count(view, "status", after, null, 1);
    await count(view, "day", after, day, 1);
  }
  if (event.type === "OrderDelivered" && event.data.late) await count(view, "late", "deliveries", null, 1);
  for (const kind of anomaliesOf(event)) await count(view, "anomaly", kind, null, 1);
}

const statisticsModel = () =>
  readModel("statistics", {
    from: [Order],
    view: table<StatisticsRow>("statistics", { key: "key", indexes: ["kind"] }),
    project: (events$, { view }) => events$.pipe(concatMap((event) => projectStatistics(view, event))),
  });

export interface Statistics {
  readonly byStatus: Readonly<Record<string, number>>;
  /** Orders by the day on which they were placed (UTC) and by their status now. */
  readonly byDay: readonly { readonly day: string; readonly status: string; readonly count: number }[];
  /** Deliveries after the promised moment. */
  readonly lateDeliveries: number;
  readonly anomalies: Readonly<Record<string, number>>;
}

const PAGE = 5000;

/** The statistics as they stand in the view; without the days when nobody needs them. */
export async function statisticsOf(view: ReadTable<StatisticsRow>, options: { readonly days: boolean }): Promise<Statistics> {
  const counters = await view.find({ kind: { in: ["status", "late", "anomaly"] } });
  const counts = (kind: StatisticsRow["kind"]): Record<string, number> =>
    Object.fromEntries(counters.filter((row) => row.kind === kind).map((row) => [row.name, row.count]));
  const byDay: { day: string; status: string; count: number }[] = [];
  for (let after = "", more = options.days; more; ) {
    const rows = await view.find({ kind: "day", key: { gt: after } }, { limit: PAGE });
    for (const row of rows) byDay.push({ day: row.day ?? "", status: row.name, count: row.count });
    after = rows.at(-1)?.key ?? after;
    more = rows.length === PAGE;
  }
  return { byStatus: counts("status"), byDay, lateDeliveries: counts("late")["deliveries"] ?? 0, anomalies: counts("anomaly") };
}

/** The read models of one service; `delay` belongs to this service alone. */
export function orderReadModels(delay: ProjectionDelay = { ms: 0 }) {
  return { orderList: orderListModel(delay), customers: customersModel(), statistics: statisticsModel() };
}

export type OrderReadModels = ReturnType<typeof orderReadModels>;
