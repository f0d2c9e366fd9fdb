/** Opens the shop, serves it over HTTP, and closes both in the right order. */
import type { AddressInfo } from "node:net";
import type { FastifyBaseLogger } from "fastify";
import { simulateShop } from "./demo/simulated-shop.ts";
import { createServer, type ServerOptions } from "./http/server.ts";
import { openShop, type Shop, type ShopOptions } from "./shop.ts";

export interface ServiceOptions extends Omit<ShopOptions, "environment"> {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Lets a simulated shop trickle orders in. */
  readonly demo?: boolean;
  readonly http?: ServerOptions;
  readonly logger: FastifyBaseLogger;
}

export interface Service {
  readonly url: string;
  readonly shop: Shop;
  /** Ends streams, answers what is under way, then closes the app. Idempotent. */
  close(): Promise<void>;
}

export async function startService({ host, port, demo = false, logger, http, ...options }: ServiceOptions): Promise<Service> {
  const shop = await openShop({ ...options, environment: { logger } });
  const server = await createServer(shop, logger, http).catch(closing(shop));
  await server.listen({ host, port }).catch(closing(shop));
  const ended = new AbortController();
  const simulation = demo ? simulateShop(shop, logger, ended.signal) : undefined;
  const close = async (): Promise<void> => {
    ended.abort();
    try {
      await simulation;
      await server.close();
    } finally {
      await shop.app.close();
    }
  };
  let closed: Promise<void> | undefined;
  return { url: urlOf(server.server.address() as AddressInfo), shop, close: () => (closed ??= close()) };
}

/** Leaves nothing open when a later step of the start fails. */
const closing =
  (shop: Shop) =>
  async (error: unknown): Promise<never> => {
    await shop.app.close();
    throw error;
  };

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
}
