import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { component, componentNames, findComponents, missingComponents } from "./components.ts";

const nothing = { CHROMIUM: "/nowhere/chromium", DATABASE_URL: "postgres://127.0.0.1:1/x", PGBOUNCER: "/nowhere/pgbouncer", PATH: "/nowhere" };

describe("components of the machine", () => {
  it("that are missing say what would bring them", async () => {
    const found = await findComponents(nothing);
    expect(missingComponents(found, nothing)).toEqual([
      "tests that need browser are skipped: no Chromium at /nowhere/chromium (set CHROMIUM, or install the package chromium)",
      "tests that need postgres are skipped: no PostgreSQL at 127.0.0.1:1 (start one, or set DATABASE_URL)",
      "tests that need pgbouncer are skipped: no PgBouncer at /nowhere/pgbouncer (set PGBOUNCER, or install the package pgbouncer)",
      "tests that need kafka are skipped: no Kafka: set KAFKA_BROKERS, or install java and mvn to have a broker started",
    ]);
  });

  it("that are missing and required fail the run", async () => {
    const found = await findComponents(nothing);
    expect(() => missingComponents(found, { TIDEMARK_REQUIRE: "postgres, browser" })).toThrow("TIDEMARK_REQUIRE names postgres, but it is missing");
  });

  it("that nobody knows cannot be required", async () => {
    const found = await findComponents(nothing);
    expect(() => missingComponents(found, { TIDEMARK_REQUIRE: "chromium" })).toThrow('TIDEMARK_REQUIRE names "chromium"; known: browser, postgres, pgbouncer, kafka');
  });

  it("that are there say where, and are not reported", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `postgres://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
    const found = await findComponents({ CHROMIUM: process.execPath, DATABASE_URL: url, PGBOUNCER: process.execPath, KAFKA_BROKERS: "localhost:9092" });
    server.close();
    expect(found).toEqual({
      browser: { available: true, reason: process.execPath },
      postgres: { available: true, reason: url },
      pgbouncer: { available: true, reason: process.execPath },
      kafka: { available: true, reason: "localhost:9092" },
    });
    expect(missingComponents(found, { TIDEMARK_REQUIRE: componentNames.join(",") })).toEqual([]);
  });

  it("are known to every test", async () => {
    expect(component("browser")).toEqual((await findComponents(process.env)).browser);
  });
});
