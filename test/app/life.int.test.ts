/** How an app is opened and closed: what it opened itself it closes, what it was given stays open. */
import { existsSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { accepted, openStore, openViews, tidemark, type App, type AppOptions } from "../../src/index.ts";
import { sqliteBackend } from "../../src/store/sqlite/index.ts";
import { memoryBackend, memoryViews } from "../../src/store/memory/index.ts";
import type { ViewStore } from "../../src/readmodel/view-store.ts";
import { recordingLogger } from "../../src/testing/index.ts";
import { Account, balances } from "../actor/account.ts";
import { folder } from "../store/sqlite/support.ts";
import { patched } from "../readmodel/support.ts";
import { gate, gatedBalances } from "./support.ts";

let files: ReturnType<typeof folder>;
beforeEach(() => void (files = folder()));
afterEach(() => files.dispose());

/** SQLite keeps this file beside the database while anybody has it open. */
const isOpen = (name: string): boolean => existsSync(files.path(`${name}-wal`));
const url = (name: string): string => `sqlite:${files.path(name)}`;
const deposit = async (app: App, amount: number): Promise<string> => accepted(await app.at(Account, "a").deposit({ amount })).token;
/** Builds of the read model in a file of views. */
const buildsIn = async (name: string): Promise<number> => {
  const views = await openViews(url(name));
  const builds = await views.builds("balances");
  await views.close();
  return builds.length;
};
const row = (view: { get(key: string): Promise<unknown> }) => view.get("a");
const basics = { aggregates: [Account], readModels: [balances] } satisfies Partial<AppOptions>;

describe("an app", () => {
  it("closes the store and the views that it opened by URL", async () => {
    const app = await tidemark({ ...basics, store: url("log.db"), views: url("views.db") });
    await app.query(balances, row, { atLeast: await deposit(app, 1) });
    expect([isOpen("log.db"), isOpen("views.db")]).toEqual([true, true]);
    await app.close();
    expect([isOpen("log.db"), isOpen("views.db")]).toEqual([false, false]);
  });

  it("leaves a store and views that it was given open", async () => {
    const store = sqliteBackend({ file: files.path("log.db") });
    const views = await openViews(url("views.db"));
    for (let n = 1; n <= 2; n++) {
      await using app = await tidemark({ ...basics, store, views });
      expect(await app.query(balances, row, { atLeast: await deposit(app, 1) })).toMatchObject({ balance: n });
    }
    expect((await store.events.readStream("account-a")).version).toBe(2);
    expect(await views.builds("balances")).toHaveLength(1);
    await store.close();
    await views.close();
    expect([isOpen("log.db"), isOpen("views.db")]).toEqual([false, false]);
  });

  it("keeps read models where `views` says, and goes on there after a restart", async () => {
    const options = { ...basics, store: url("log.db"), views: url("elsewhere.db") };
    {
      await using app = await tidemark(options);
      await app.query(balances, row, { atLeast: await deposit(app, 5) });
    }
    expect([await buildsIn("elsewhere.db"), await buildsIn("log.views.db")]).toEqual([1, 0]);
    await using again = await tidemark(options);
    expect(again.readModel(balances).progress().events).toBe(1); // nothing was projected anew
    expect(await again.query(balances, row)).toMatchObject({ balance: 5 });
  });

  it("keeps read models beside the store where nothing else is said", async () => {
    {
      await using app = await tidemark({ ...basics, store: url("log.db") });
      await app.query(balances, row, { atLeast: await deposit(app, 5) });
    }
    await using again = await tidemark({ ...basics, store: url("log.db") });
    expect(again.readModel(balances).progress().events).toBe(1);
  });

  it("builds read models anew in memory where they are kept there", async () => {
    for (let n = 1; n <= 2; n++) {
      await using app = await tidemark({ ...basics, store: url("log.db"), views: "memory:" });
      expect(await app.query(balances, row, { atLeast: await deposit(app, 5) })).toMatchObject({ balance: 5 * n, version: n });
    }
    expect(await buildsIn("log.views.db")).toBe(0);
  });

  it("keeps them in memory where its store has no views, and does without snapshots where it has none", async () => {
    const { events, close } = memoryBackend();
    await using app = await tidemark({ ...basics, store: { events, close } });
    expect(await app.query(balances, row, { atLeast: await deposit(app, 5) })).toMatchObject({ balance: 5 });
  });

  it("is on the same log under the same store id, whenever it is opened", async () => {
    const ids = [];
    for (let n = 0; n < 2; n++) {
      await using app = await tidemark({ ...basics, store: url("log.db") });
      ids.push(app.storeId);
    }
    await using other = await tidemark({ ...basics, store: url("other.db") });
    expect(ids[0]).toBe(ids[1]);
    expect(other.storeId).not.toBe(ids[0]);
  });

  it("that cannot be opened leaves nothing open", async () => {
    await expect(tidemark({ ...basics, store: url("log.db"), views: "nowhere:" })).rejects.toMatchObject({ code: "UnknownScheme" });
    expect(isOpen("log.db")).toBe(false);
    const broken: ViewStore = patched(memoryViews(), { open: () => Promise.reject(new Error("no room for a table")) });
    await expect(tidemark({ ...basics, store: url("log.db"), views: broken })).rejects.toThrow("no room for a table");
    expect(isOpen("log.db")).toBe(false);
  });

  it.each([
    ["two aggregates of one name", { aggregates: [Account, Account] }],
    ["two read models of one name", { readModels: [balances, balances] }],
    ["no time to close", { closeTimeoutMs: 0 }],
    ["a bound of actors that is none", { actors: { maxActors: 0 } }],
    ["a bound of read models that is none", { projections: { pageSize: 0 } }],
    ["a key that is too short", { tokens: { keys: [{ id: "k", secret: "short" }] } }],
  ])("refuses %s by name, and opens nothing", async (_, options) => {
    await expect(tidemark({ ...basics, store: url("log.db"), ...options })).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(isOpen("log.db")).toBe(false);
  });

  it("finishes its work when it is closed: what was accepted stands, and the read model has seen what it was about to", async () => {
    const works = [];
    {
      await using app = await tidemark({ ...basics, store: url("log.db") });
      for (let n = 0; n < 50; n++) works.push(app.at(Account, "a").deposit({ amount: 1 }));
    }
    expect((await Promise.all(works)).every((result) => result.ok)).toBe(true);
    const backend = await openStore(url("log.db"));
    expect((await backend.events.readStream("account-a", { limit: 0 })).version).toBe(50);
    await backend.close();
  });

  it("is closed within its bound, though a read model never finishes its page, and closes its store all the same", async () => {
    const door = gate();
    door.shut();
    const model = gatedBalances({ door });
    const logger = recordingLogger();
    const app = await tidemark({ aggregates: [Account], readModels: [model], store: url("log.db"), closeTimeoutMs: 300, projections: { stopTimeoutMs: 60_000 }, environment: { logger } });
    await deposit(app, 1);
    while (door.waiting === 0) await new Promise((resolve) => setImmediate(resolve));
    const begun = performance.now();
    await app.close();
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(isOpen("log.db")).toBe(false);
    expect(logger.lines.some(({ level, message }) => level === "error" && message.includes("did not stop in time"))).toBe(true);
    door.open();
  });

  it("closes its store though its read models cannot save where they stand", async () => {
    const inner = memoryViews();
    let broken = false;
    const views: ViewStore = patched(inner, {
      async open(key, table) {
        const view = await inner.open(key, table);
        return patched(view, { commit: (...change) => (broken ? Promise.reject(new Error("the disk is gone")) : view.commit(...change)) });
      },
    });
    const app = await tidemark({ ...basics, store: url("log.db"), views });
    await app.query(balances, row, { atLeast: await deposit(app, 1) });
    broken = true;
    await deposit(app, 1);
    await app.close();
    expect(isOpen("log.db")).toBe(false);
    await app.close();
  });
});
