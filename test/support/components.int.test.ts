import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
      "tests that need kafka-server are skipped: no Kafka can be started: install java and mvn to have a broker started",
      "tests that need javac are skipped: no javac on the PATH (install a JDK)",
      "tests that need kcat are skipped: no kcat on the PATH (install the package kcat)",
      "tests that need eventstoredb are skipped: no EventStoreDB (start one, and set EVENTSTORE_CONNECTION_STRING)",
    ]);
  });

  it("that are missing and required fail the run", async () => {
    const found = await findComponents(nothing);
    expect(() => missingComponents(found, { TIDEMARK_REQUIRE: "postgres, browser" })).toThrow("TIDEMARK_REQUIRE names postgres, but it is missing");
  });

  it("that nobody knows cannot be required", async () => {
    const found = await findComponents(nothing);
    expect(() => missingComponents(found, { TIDEMARK_REQUIRE: "chromium" })).toThrow('TIDEMARK_REQUIRE names "chromium"; known: browser, postgres, pgbouncer, kafka, kafka-server, javac, kcat, eventstoredb');
  });

  it("that are there say where, and are not reported", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `postgres://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
    const folder = mkdtempSync(join(tmpdir(), "tidemark-path-"));
    for (const name of ["java", "mvn", "javac", "kcat"]) writeFileSync(join(folder, name), "");
    const found = await findComponents({ CHROMIUM: process.execPath, DATABASE_URL: url, PGBOUNCER: process.execPath, KAFKA_BROKERS: "localhost:9092", EVENTSTORE_CONNECTION_STRING: "esdb://localhost:2113", PATH: folder });
    rmSync(folder, { recursive: true });
    server.close();
    expect(found).toEqual({
      browser: { available: true, reason: process.execPath },
      postgres: { available: true, reason: url },
      pgbouncer: { available: true, reason: process.execPath },
      kafka: { available: true, reason: "localhost:9092" },
      "kafka-server": { available: true, reason: "java and mvn, which start a broker" },
      javac: { available: true, reason: "javac" },
      kcat: { available: true, reason: "kcat" },
      eventstoredb: { available: true, reason: "esdb://localhost:2113" },
    });
    expect(missingComponents(found, { TIDEMARK_REQUIRE: componentNames.join(",") })).toEqual([]);
  });

  it("are known to every test", async () => {
    expect(component("browser")).toEqual((await findComponents(process.env)).browser);
  });
});
