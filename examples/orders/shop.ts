/** The parts of a running shop that its HTTP routes, its demonstration and its command line share. */
import { tidemark, type App, type AppOptions } from "../../src/index.ts";
import { Order } from "./domain.ts";
import { orderReadModels, type OrderReadModels, type ProjectionDelay } from "./read-models.ts";

export interface Shop {
  readonly app: App;
  readonly models: OrderReadModels;
  /** Slows the order list down, for demonstrations. */
  readonly delay: ProjectionDelay;
}

export type ShopOptions = Omit<AppOptions, "aggregates" | "readModels">;

/** Opens the app with the domain and all read models. */
export async function openShop(options: ShopOptions): Promise<Shop> {
  const delay = { ms: 0 };
  const models = orderReadModels(delay);
  const app = await tidemark({ ...options, aggregates: [Order], readModels: [models.orderList, models.customers, models.statistics] });
  return { app, models, delay };
}
