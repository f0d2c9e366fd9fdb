/** A shop that nobody runs: orders of the past month on an empty store, then new ones that trickle in and move along. For demonstrations. */
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "../../../src/index.ts";
import { Order, type OrderCommand, type OrderStatus } from "../domain.ts";
import { statisticsOf } from "../read-models.ts";
import type { Shop } from "../shop.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const PAST_DAYS = 30;
const LEAST_PAUSE_MS = 400;
const MOST_PAUSE_MS = 1600;
/** Orders under way; above that the shop works them off first. */
const MAX_OPEN = 25;

const LIFE: readonly OrderCommand[] = ["approve", "invoice", "process", "ship", "deliver"];
/** Statuses by the number of those steps done. */
const STATUSES: readonly OrderStatus[] = ["placed", "approved", "invoiced", "processing", "shipped"];
const GOODS = [
  { sku: "tea-oolong", unitPriceCents: 1250 },
  { sku: "mug-blue", unitPriceCents: 990 },
  { sku: "kettle-1l", unitPriceCents: 4900 },
  { sku: "filter-100", unitPriceCents: 420 },
  { sku: "scale-2kg", unitPriceCents: 2450 },
] as const;

interface OpenOrder {
  readonly id: string;
  done: number;
}

const upTo = (most: number): number => Math.floor(Math.random() * most);
const oneOf = <T>(all: readonly T[]): T => all[upTo(all.length)] as T;

function newOrder(now: number, days: number): { customer: string; items: { sku: string; quantity: number; unitPriceCents: number }[]; promisedAt: string } {
  const items = Array.from({ length: 1 + upTo(3) }, () => ({ ...oneOf(GOODS), quantity: 1 + upTo(3) }));
  return { customer: `c-${1 + upTo(40)}`, items, promisedAt: new Date(now + days * DAY).toISOString() };
}

/** Runs until the signal aborts. */
export async function simulateShop(shop: Shop, logger: Logger, signal: AbortSignal): Promise<void> {
  const run = Date.now().toString(36);
  let serial = 0;
  const nextId = (): string => `shop-${run}-${(++serial).toString(36)}`;
  const open: OpenOrder[] = [];

  const send = async (id: string, command: string, input: object): Promise<void> => {
    const result = await shop.app.execute(Order, id, command, input, { signal });
    if (!result.ok) logger.debug({ id, command, code: result.code }, "the simulated shop was refused"); // someone was faster on the page
  };

  /** One order of the past, as far as it would have come by now. */
  async function pastOrder(placed: number, now: number): Promise<void> {
    const id = nextId();
    const at = (time: number): { at: string } => ({ at: new Date(time).toISOString() });
    await send(id, "place", { ...newOrder(placed, 6), ...at(placed) });
    const fate = Math.random();
    if (fate < 0.05) return send(id, fate < 0.03 ? "cancel" : "markUnavailable", at(Math.min(now, placed + 200 * MINUTE)));
    let time = placed;
    for (const [done, command] of LIFE.entries()) {
      time += (60 + upTo(60 * 40)) * MINUTE;
      if (time > now) {
        open.push({ id, done });
        return;
      }
      await send(id, command, at(time));
    }
    if (fate > 0.97) await send(id, "cancel", { ...at(Math.min(now, time + DAY)), asReturn: true, reason: "returned" });
  }

  /** What an earlier run has left under way; orders placed by hand are not the shop's. */
  async function takeUp(): Promise<void> {
    const rows = await shop.app.query(shop.models.orderList, (view) => view.find({ id: { gte: "shop-", lt: "shop." }, status: { in: STATUSES } }, { limit: MAX_OPEN }), { signal });
    open.push(...rows.map(({ id, status }) => ({ id, done: STATUSES.indexOf(status) })));
  }

  async function step(): Promise<void> {
    if (open.length === 0 || (open.length < MAX_OPEN && Math.random() < 0.3)) {
      const order = { id: nextId(), done: 0 };
      await send(order.id, "place", newOrder(Date.now(), 3));
      open.push(order);
      return;
    }
    const index = upTo(open.length);
    const order = open[index] as OpenOrder;
    const ends = order.done < 3 && Math.random() < 0.03;
    await send(order.id, ends ? oneOf(["cancel", "markUnavailable"]) : (LIFE[order.done] as string), {});
    order.done++;
    if (ends || order.done === LIFE.length) open.splice(index, 1);
  }

  try {
    const { byStatus } = await shop.app.query(shop.models.statistics, (view) => statisticsOf(view, { days: false }), { signal });
    await takeUp();
    const now = Date.now();
    for (let day = Object.keys(byStatus).length === 0 ? PAST_DAYS : 0; day > 0; day--) {
      const orders = Array.from({ length: 4 + upTo(9) }, () => pastOrder(Math.min(now, now - day * DAY + upTo(DAY)), now));
      await Promise.all(orders);
    }
    for (;;) {
      await pause(LEAST_PAUSE_MS + upTo(MOST_PAUSE_MS - LEAST_PAUSE_MS), undefined, { signal });
      await step();
    }
  } catch (error) {
    if (!signal.aborted) logger.error({ err: error }, "the simulated shop stopped");
  }
}
