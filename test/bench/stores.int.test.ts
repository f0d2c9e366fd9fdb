import { join } from "node:path";
import { expect, it } from "vitest";
import { emmettAccounts } from "../../bench/emmett-account.ts";
import { fill } from "../../bench/fill.ts";
import { inTempFolder, load } from "../../bench/harness.ts";
import { readRaw, writeRaw } from "../../bench/raw-sqlite.ts";
import { memoryStore } from "../../src/store/memory/index.ts";
import { sqliteStore } from "../../src/store/sqlite/index.ts";

it("filling a store goes round its streams and gives each all of its events", async () => {
  const store = memoryStore();
  await fill(store, { streams: ["account-a", "account-b"], perStream: 5, perAppend: 2 });
  const log: string[] = [];
  for await (const page of store.readAll()) log.push(...page.events.map(({ stream, version }) => `${stream.slice(-1)}${version}`));
  expect(log.join(" ")).toBe("a1 a2 b1 b2 a3 a4 b3 b4 a5 b5");
  const { events } = await store.readStream("account-a");
  expect(events.every(({ recordedAt }, index) => index === 0 || recordedAt > (events[index - 1]?.recordedAt ?? Infinity))).toBe(true);
  expect(events.some(({ metadata }) => "fingerprint" in metadata)).toBe(false);
});

it("the raw reference writes the very rows that it was given, in transactions that end with the last row", () =>
  inTempFolder(async (folder) => {
    const store = sqliteStore({ file: join(folder, "log.db") });
    await fill(store, { streams: Array.from({ length: 30 }, (_, index) => `account-a${index}`), perStream: 7 });
    await store.close();
    const log = readRaw(join(folder, "log.db"));
    expect(log.rows).toHaveLength(210);
    expect(writeRaw(join(folder, "raw.db"), log)).toBeGreaterThan(0);
    expect(readRaw(join(folder, "raw.db"))).toEqual(log);
  }));

it("Emmett's contended commands all succeed", async () => {
  const accounts = emmettAccounts();
  await load(40, 20, (index) => accounts.deposit(`a${index % 2}`, { amount: 1 + index, reference: "r" }));
  expect(await accounts.state("a1")).toEqual({ balance: 420, movements: 20, largest: 40 });
});
