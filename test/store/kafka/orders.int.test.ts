/** The orders service on Kafka: instances with views of their own, and the import. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import pino from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startService, type Service } from "../../../examples/orders/service.ts";
import { kafkaAvailable, newTopicPrefix, sharedKafka } from "../../support/kafka.ts";
import { deleteTopics } from "./kafka-stores.ts";

const START_MS = 120_000;
const cli = resolve(import.meta.dirname, "../../../examples/orders/cli.ts");
const run = promisify(execFile);

describe.skipIf(!kafkaAvailable)("the orders service on Kafka", () => {
  let brokers: readonly string[];
  const prefix = newTopicPrefix();
  const services: Service[] = [];
  const folder = mkdtempSync(join(tmpdir(), "tidemark-orders-"));
  const storeOf = (name: string): string => `kafka://${brokers.join(",")}/?topicPrefix=${prefix}.${name}&partitions=3&replicationFactor=1&minHoldMs=0`;

  beforeAll(async () => {
    brokers = await sharedKafka();
  }, START_MS);
  afterEach(async () => void (await Promise.all(services.splice(0).map((service) => service.close()))));
  afterAll(async () => {
    rmSync(folder, { recursive: true });
    if (brokers !== undefined) await deleteTopics(brokers, prefix);
  });

  it("in two instances shows each order to both, at once with the token, and takes the same key once", { timeout: START_MS }, async () => {
    for (const views of ["memory:", `sqlite:${join(folder, "views.db")}`]) {
      services.push(await startService({ store: storeOf("shop"), views, host: "127.0.0.1", port: 0, logger: pino({ level: "silent" }) }));
    }
    const url = (n: number): string => (services[n % 2] as Service).url;
    const place = (n: number, id: string): Promise<Response> =>
      fetch(`${url(n)}/orders/${id}/place`, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": id },
        body: JSON.stringify({ customer: "c-1", items: [{ sku: "tea", quantity: 1, unitPriceCents: 100 }] }),
      });
    for (let n = 0; n < 12; n++) {
      const answer = await place(n, `o-${n}`);
      const placed = (await answer.json()) as { readonly token: string };
      expect(answer.status, JSON.stringify(placed)).toBeLessThan(300);
      const read = await fetch(`${url(n + 1)}/orders/o-${n}`, { headers: { "tidemark-token": placed.token } });
      expect(await read.json()).toMatchObject({ id: `o-${n}`, status: "placed", version: 1 });
      // On the other instance, which finds it in the log.
      expect(await (await place(n + 1, `o-${n}`)).json()).toEqual(placed);
    }
    const { token } = (await (await fetch(`${url(1)}/orders/o-0/approve`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" })).json()) as { readonly token: string };
    for (const n of [0, 1]) {
      const list = await fetch(`${url(n)}/orders?status=placed&limit=100`, { headers: { "tidemark-token": token } });
      // The token is of one order: those of others come by themselves.
      expect(((await list.json()) as { readonly orders: readonly { readonly id: string }[] }).orders.map(({ id }) => id)).not.toContain("o-0");
    }
  });

  it("imports a file of orders with the result that it has on SQLite, and doubles nothing when it is run twice", { timeout: START_MS }, async () => {
    const file = join(folder, "orders.csv");
    await run(process.execPath, [cli, "generate", "200", "--seed", "7", "--out", file]);
    const imported = async (store: string, views: string): Promise<Record<string, unknown>> => {
      const { stdout } = await run(process.execPath, [cli, "import", file, "--store", store, "--views", views]).catch((error: unknown) => error as { stdout: string });
      return JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>;
    };
    const onSqlite = await imported(`sqlite:${join(folder, "orders.db")}`, "memory:");
    const store = `${storeOf("import")}&index=${join(folder, "index.db")}`;
    const first = await imported(store, `sqlite:${join(folder, "import.db")}`);
    expect(first["readModel"]).toEqual(onSqlite["readModel"]);
    expect(first).toMatchObject({ events: onSqlite["events"], commands: onSqlite["commands"], duplicates: 0 });
    expect(onSqlite["commands"]).toBeGreaterThan(200);
    // From the index and the views that the first one left.
    expect(await imported(store, `sqlite:${join(folder, "import.db")}`)).toMatchObject({ duplicates: first["commands"], events: 0, readModel: first["readModel"] });
    // From the log alone.
    expect(await imported(storeOf("import"), "memory:")).toMatchObject({ duplicates: first["commands"], events: 0, readModel: first["readModel"] });
  });
});
