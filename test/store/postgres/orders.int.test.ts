/** The orders service on PostgreSQL: several instances with the same data, and the import. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import pino from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startService, type Service } from "../../../examples/orders/service.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

const cli = resolve(import.meta.dirname, "../../../examples/orders/cli.ts");
const run = promisify(execFile);

describe.skipIf(!available)("the orders service on PostgreSQL", () => {
  let database: TestDatabase;
  const services: Service[] = [];
  beforeAll(async () => void (database = await testDatabase()));
  afterEach(async () => void (await Promise.all(services.splice(0).map((service) => service.close()))));
  afterAll(() => database.drop());

  it("in three instances shows each order to all, at once with the token, and takes the same key once", { timeout: 30_000 }, async () => {
    const schema = newSchema();
    const store = `${database.url}?schema=${schema}&viewsSchema=${schema}_views`;
    for (let n = 0; n < 3; n++) services.push(await startService({ store, host: "127.0.0.1", port: 0, logger: pino({ level: "silent" }) }));
    const url = (n: number): string => (services[n % 3] as Service).url;
    const place = (n: number, id: string): Promise<Response> =>
      fetch(`${url(n)}/orders/${id}/place`, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": id },
        body: JSON.stringify({ customer: "c-1", items: [{ sku: "tea", quantity: 1, unitPriceCents: 100 }] }),
      });
    for (let n = 0; n < 30; n++) {
      const placed = (await (await place(n, `o-${n}`)).json()) as { readonly token: string };
      const read = await fetch(`${url(n + 1)}/orders/o-${n}`, { headers: { "tidemark-token": placed.token } });
      expect(await read.json()).toMatchObject({ id: `o-${n}`, status: "placed", version: 1 });
      expect(await (await place(n + 2, `o-${n}`)).json()).toEqual(placed);
    }
    const { token } = (await (await fetch(`${url(0)}/orders/o-0/approve`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" })).json()) as { readonly token: string };
    const list = await fetch(`${url(2)}/orders?status=placed&limit=100`, { headers: { "tidemark-token": token } });
    expect(((await list.json()) as { readonly orders: readonly unknown[] }).orders).toHaveLength(29);
  });

  it("imports a file of orders with the result that it has in memory, and doubles nothing when it is run twice", { timeout: 60_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-orders-"));
    try {
      const file = join(folder, "orders.csv");
      await run(process.execPath, [cli, "generate", "300", "--seed", "7", "--out", file]);
      const schema = newSchema();
      const imported = async (store: string): Promise<Record<string, unknown>> => {
        const { stdout } = await run(process.execPath, [cli, "import", file, "--store", store]).catch((error: unknown) => error as { stdout: string });
        return JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>;
      };
      const store = `${database.url}?schema=${schema}&viewsSchema=${schema}_views`;
      const [inMemory, first] = [await imported("memory:"), await imported(store)];
      expect(first["readModel"]).toEqual(inMemory["readModel"]);
      expect(first["events"]).toBe(inMemory["events"]);
      const again = await imported(store);
      expect(again).toMatchObject({ duplicates: first["commands"], readModel: first["readModel"] });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
