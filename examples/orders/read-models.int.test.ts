/** The three read models, through an app in memory whose time stands still. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { aggregate, openStore, type Backend, type ReadModel, type ReadSide } from "../../src/index.ts";
import { testApp } from "../../src/testing/index.ts";
import { Order, type Item } from "./domain.ts";
import { generateLines } from "./import/generate.ts";
import { columns, orderRecord, type OrderRecord } from "./import/order-file.ts";
import { planOrders } from "./import/plan.ts";
import { customerKey, orderReadModels, statisticsOf, type OrderReadModels } from "./read-models.ts";

const items = [
  { sku: "tea", quantity: 2, unitPriceCents: 1250 },
  { sku: "mug", quantity: 1, unitPriceCents: 990 },
];
const day = (n: number): string => new Date(Date.UTC(2026, 0, n)).toISOString();

interface Shop extends AsyncDisposable {
  readonly models: OrderReadModels;
  /** Sends a command that must be accepted. */
  send(id: string, command: string, input?: object): Promise<void>;
  /** Reads a view once it has seen everything that was sent. */
  read<V, R>(model: ReadModel<V>, fn: (view: ReadSide<V>) => Promise<R>): Promise<R>;
  rebuild(): Promise<unknown>;
}

async function open(projections: { readonly pageSize?: number } = {}, store?: Backend): Promise<Shop> {
  const models = orderReadModels();
  const all = Object.values(models);
  const { app, run, close } = await testApp({ aggregates: [Order], readModels: all, projections, ...(store === undefined ? {} : { store }) });
  let token: string | undefined;
  return {
    models,
    async send(id, command, input = {}) {
      const result = await run(app.execute(Order, id, command, input));
      if (!result.ok) throw new Error(`${command} ${id} was refused: ${result.code}`);
      token = token === undefined ? result.token : app.mergeTokens(token, result.token);
    },
    read: (model, fn) => run(app.query(model, fn, token === undefined ? {} : { atLeast: token })),
    rebuild: () => run(Promise.all(all.map((model) => app.readModel(model).rebuild()))),
    [Symbol.asyncDispose]: close,
  };
}

test("the order list shows an order as it stands, with the moments of its steps", async () => {
  await using shop = await open();
  await shop.send("o-1", "place", { customer: "c-1", items, at: day(1), promisedAt: day(5) });
  await shop.send("o-1", "ship", { at: day(2) });
  await shop.send("o-1", "approve", { at: day(3) });
  await shop.send("o-1", "deliver", { at: day(6) });
  const row = await shop.read(shop.models.orderList, (view) => view.get("o-1"));
  expect(row).toEqual({
    id: "o-1",
    customer: "c-1",
    status: "delivered",
    items,
    totalCents: 3490,
    placedAt: day(1),
    promisedAt: day(5),
    moments: { placed: day(1), shipped: day(2), approved: day(3), delivered: day(6) },
    lateDelivery: true,
    anomalies: ["shipped-before-approval"],
    version: 4,
  });
});

test("a customer's sums follow the orders from status to status", async () => {
  await using shop = await open();
  await shop.send("o-1", "place", { customer: "c-1", items, at: day(3) });
  await shop.send("o-2", "place", { customer: "c-1", items, at: day(1), promisedAt: day(2) });
  await shop.send("o-3", "place", { customer: "c-2", items, at: day(2) });
  await shop.send("o-2", "deliver", { at: day(4) });
  await shop.send("o-1", "cancel", { at: day(4) });
  const read = (id: string) => shop.read(shop.models.customers, (view) => view.get(customerKey(id)));
  expect(await read("c-1")).toMatchObject({ orders: 2, byStatus: { delivered: 1, canceled: 1 }, totalCents: 6980, lateDeliveries: 1, firstOrderAt: day(1), lastOrderAt: day(3) });
  expect(await read("c-2")).toMatchObject({ orders: 1, byStatus: { placed: 1 }, lateDeliveries: 0 });
  expect(await read("c-3")).toBeUndefined();
});

test("the statistics count an order once, on the day it was placed and in the status it has", async () => {
  await using shop = await open();
  await shop.send("o-1", "place", { customer: "c-1", items, at: day(1), promisedAt: day(2) });
  await shop.send("o-2", "place", { customer: "c-1", items, at: day(1) });
  await shop.send("o-3", "place", { customer: "c-1", items, at: day(2) });
  await shop.send("o-1", "deliver", { at: day(3) });
  await shop.send("o-1", "cancel", { at: day(4), asReturn: true });
  const statistics = await shop.read(shop.models.statistics, (view) => statisticsOf(view, { days: true }));
  expect(statistics).toEqual({
    byStatus: { placed: 2, canceled: 1 },
    byDay: [
      { day: "2026-01-01", status: "canceled", count: 1 },
      { day: "2026-01-01", status: "placed", count: 1 },
      { day: "2026-01-02", status: "placed", count: 1 },
    ],
    lateDeliveries: 1,
    anomalies: { "delivered-before-approval": 1, "delivered-before-shipped": 1, "canceled-after-delivery": 1 },
  });
});

describe("what an earlier version let into the log", () => {
  const names = ["a\0b", "\ud800", "\udc00".repeat(128), "c".repeat(10_000), ""];
  /** The domain before it checked the text of names. */
  const Unchecked = aggregate("order", {
    initial: () => ({}),
    events: { OrderPlaced: (_order, _data: { at: string; customer: string; items: Item[] }) => undefined },
    commands: { place: (_order, input: { customer: string }, { emit }) => emit("OrderPlaced", { at: day(1), customer: input.customer, items }) },
  });

  test.each(["memory:", "sqlite:"])("names that cannot be keys have their sums, and stop no read model (%s)", async (scheme) => {
    const folder = await mkdtemp(join(tmpdir(), "orders-"));
    const backend = await openStore(scheme === "sqlite:" ? `sqlite:${join(folder, "orders.db")}` : scheme);
    onTestFinished(async () => {
      await backend.close();
      await rm(folder, { recursive: true });
    });
    const before = await testApp({ store: backend, aggregates: [Unchecked] });
    for (const [index, customer] of [...names, "c-1", names[0] ?? ""].entries()) await before.run(before.app.at(Unchecked, `o-${index}`).place({ customer }));
    await before.close();

    await using shop = await open({ pageSize: 3 }, backend);
    await shop.send("o-1", "approve", { at: day(2) });
    const orders = async (id: string): Promise<object | undefined> => (await shop.read(shop.models.customers, (view) => view.get(customerKey(id))))?.byStatus;
    expect(await Promise.all([...names, "c-1"].map(orders))).toEqual([{ placed: 2 }, { approved: 1 }, ...names.slice(2).map(() => ({ placed: 1 })), { placed: 1 }]);
    expect(await shop.read(shop.models.orderList, (view) => view.count())).toBe(names.length + 2);
    expect(await shop.read(shop.models.statistics, (view) => statisticsOf(view, { days: false }))).toMatchObject({ byStatus: { placed: names.length + 1, approved: 1 } });
  });
});

describe("for every size of page", () => {
  const names = Object.values(columns);
  const rows = [...generateLines(60, 5)].slice(1).map((line, index) => orderRecord(Object.fromEntries(line.split(",").map((cell, at) => [names[at], cell])), index + 2));
  const records = rows.filter((row): row is OrderRecord => !("reason" in row));
  const plan = planOrders(records);

  async function viewsAt(pageSize: number): Promise<object> {
    await using shop = await open({ pageSize });
    for (const { id, command, input } of plan) await shop.send(id, command, input);
    // Built once more from the start: now the pages are full.
    await shop.rebuild();
    return {
      orders: await shop.read(shop.models.orderList, (view) => view.find()),
      customers: await shop.read(shop.models.customers, (view) => view.find()),
      statistics: await shop.read(shop.models.statistics, (view) => statisticsOf(view, { days: true })),
    };
  }

  test("the views are the same, and the counts are those of the file", async () => {
    const all = await viewsAt(1000);
    for (const pageSize of [1, 2, 7]) expect(await viewsAt(pageSize)).toEqual(all);
    const byStatus: Record<string, number> = {};
    for (const { status } of records) byStatus[status] = (byStatus[status] ?? 0) + 1;
    expect(all).toMatchObject({ statistics: { byStatus } });
  });
});
