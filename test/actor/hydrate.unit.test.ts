/** How a stream comes into memory (H2, H3, I2, I3); what snapshots have to do with it stands in test/snapshot. */
import { afterEach, describe, expect, it } from "vitest";
import { tidemark } from "../../src/index.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import { Account } from "./account.ts";
import { besides, scene, stranger, type ReadScript, type Scene } from "./support.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(): Promise<Scene> {
  const test = await scene({ aggregates: [Account] });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});
const ones = (count: number): number[] => Array.from({ length: count }, () => 1);

describe("hydration", () => {
  it("I3 folds the whole stream, page by page, each event once", async () => {
    const { app, run, store } = await begin();
    for (let n = 0; n < 5; n++) await stranger(store.other, "account-a", ...ones(700));
    expect(await run(app.at(Account, "a").state())).toMatchObject({ version: 3500, state: { balance: 3500 } });
    expect(app.metrics()).toMatchObject({ hydrations: 1, eventsReplayed: 3500 });
    expect(store.reads.slice(0, 4).map(({ from }) => from)).toEqual([1, 1001, 2001, 3001]);
  });

  it("sees what is written while it reads", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", ...ones(1500));
    const writing: ReadScript = async (read) => {
      const slice = await read();
      await stranger(store.other, "account-a", 1);
      return slice;
    };
    store.readScripts.push(writing, writing);
    expect(await run(app.at(Account, "a").state())).toMatchObject({ version: 1502, state: { balance: 1502 } });
  });

  it("I2 refuses a stream with a gap by name, instead of folding it", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", 1, 2, 3);
    store.readScripts.push(async (read) => {
      const slice = await read();
      return { ...slice, events: slice.events.filter(({ version }) => version !== 2) };
    });
    await expect(run(app.at(Account, "a").state())).rejects.toMatchObject({ code: "StoreCorrupt", details: { stream: "account-a", version: 3, expected: 2 } });
  });

  it.each([
    ["at its front", 3],
    ["as a whole", 4],
  ])("refuses a stream that was truncated %s where no snapshot reaches that far", async (_what, firstVersion) => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", 1, 2, 3);
    store.readScripts.push(async (read) => {
      const slice = await read();
      return { ...slice, firstVersion, events: slice.events.slice(firstVersion - 1) };
    });
    await expect(run(app.at(Account, "a").state())).rejects.toMatchObject({
      code: "StoreCorrupt",
      message: expect.stringContaining(`truncated up to version ${firstVersion - 1}`) as string,
    });
  });

  it("is the same through another app, whatever the pages were", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", ...ones(50));
    for (let n = 0; n < 60; n++) store.readScripts.push(async (read) => (await read()).events.length > 7 ? shortened(await read()) : read());
    const here = await run(app.at(Account, "a").state());
    const other = await besides(store.log, { aggregates: [Account] });
    open.push(other);
    const there = await other.run(other.app.at(Account, "a").state());
    expect(here).toEqual(there);
    expect(here.version).toBe(50);
  });

  it("H3 of a long stream lets others run", async () => {
    const store = memoryBackend();
    for (let n = 0; n < 40; n++) await stranger(store.events, "account-long", ...ones(1000));
    await using app = await tidemark({ store, aggregates: [Account] });
    let turns = 0;
    let answered = false;
    const long = app
      .at(Account, "long")
      .state()
      .finally(() => (answered = true));
    const short: boolean[] = [];
    while (!answered && turns < 1e6) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
      if (turns === 2) void app.at(Account, "short").deposit({ amount: 1 }).then(() => short.push(answered));
    }
    expect(await long).toMatchObject({ version: 40_000 });
    expect(turns).toBeGreaterThan(2);
    expect(short).toEqual([false]); // it was answered meanwhile
  });
});

/** A store may return fewer events than it was asked for. */
function shortened(slice: Awaited<ReturnType<Parameters<ReadScript>[0]>>): Awaited<ReturnType<Parameters<ReadScript>[0]>> {
  const events = slice.events.slice(0, 7);
  return { ...slice, events, next: (events.at(-1)?.version ?? 0) + 1 };
}
