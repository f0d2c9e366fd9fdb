/** Read models and tokens on a log of many lanes: checkpoints are vectors, and nothing of the framework minds. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatMap } from "rxjs";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { accepted, tidemark, type App } from "../../../src/index.ts";
import { readModel, table } from "../../../src/readmodel/read-model.ts";
import type { ViewStore } from "../../../src/readmodel/view-store.ts";
import { merge, type Position } from "../../../src/store/position.ts";
import { memoryViews } from "../../../src/store/memory/index.ts";
import { sqliteViews } from "../../../src/store/sqlite/index.ts";
import { Account, balances } from "../../actor/account.ts";
import { history, Order, placed, reached, runnerOf } from "../../readmodel/support.ts";
import { kafkaAvailable, sharedKafka } from "../../support/kafka.ts";
import { kafkaStores, type KafkaStores } from "./kafka-stores.ts";

interface Count {
  id: string;
  n: number;
}

const counts = readModel("counts", {
  from: [Order],
  view: table<Count>("counts", { key: "id", columns: ["n"] }),
  project: (events$, { view }) => events$.pipe(concatMap((event) => view.update(event.id, (row) => ({ id: event.id, n: (row?.n ?? 0) + 1 })))),
});

let brokers: readonly string[];
let stores: KafkaStores;
let folder: string;
const opened: { close(): Promise<void> }[] = [];

function kept<T extends { close(): Promise<void> }>(part: T): T {
  opened.push(part);
  return part;
}

const VIEWS: readonly (readonly [string, () => ViewStore])[] = [
  ["memory", () => kept(memoryViews())],
  ["SQLite", () => kept(sqliteViews({ file: join(folder, "views.db") }))],
];

describe.skipIf(!kafkaAvailable)("on a log of many lanes", () => {
  beforeAll(async () => {
    brokers = await sharedKafka();
  }, 60_000);

  beforeEach(() => {
    stores = kafkaStores(brokers, { partitions: 4 });
    folder = mkdtempSync(join(tmpdir(), "tidemark-kafka-"));
  });

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((part) => part.close()));
    await stores.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(VIEWS)("a read model in %s gives the same for every page size, and its checkpoint covers all lanes", async (_, open) => {
    const store = stores.open();
    const position = await history(store, 30);
    const found: unknown[] = [];
    for (const [index, pageSize] of [1, 2, 7, 1000].entries()) {
      const views = index === 0 ? open() : kept(memoryViews());
      const runner = runnerOf(counts, { store, views, options: { pageSize } });
      await runner.start();
      await reached(runner, position);
      const head = (await store.head?.(undefined, ["order"])) as Position;
      await reached(runner, head);
      expect(Object.keys(runner.position()).filter((lane) => lane.startsWith("order/")).length).toBe(4);
      found.push((await runner.reader().find({})).toSorted((a, b) => (a.id < b.id ? -1 : 1)));
      await runner.stop();
    }
    for (const rows of found) expect(rows).toEqual(found[0]);
    expect(found[0]).toHaveLength(30);
  });

  it("a read model that two processes share is applied exactly once, and goes on after a restart", async () => {
    const processes = [stores.open(), stores.open()] as const;
    const [one, two] = processes.map(() => kept(sqliteViews({ file: join(folder, "shared.db") })));
    const runners = [runnerOf(counts, { store: processes[0], views: one as ViewStore, options: { pageSize: 3 } }), runnerOf(counts, { store: processes[1], views: two as ViewStore, options: { pageSize: 2 } })];
    await Promise.all(runners.map((runner) => runner.start()));
    let position: Position = {};
    for (let i = 0; i < 60; i++) position = merge(position, await placed(processes[(i % 2) as 0 | 1], `o${i % 10}`));
    for (const runner of runners) await reached(runner, position);
    for (const runner of runners) expect(await runner.reader().sql("select sum(n) as n from {table}")).toEqual([{ n: 60 }]);
    await Promise.all(runners.map((runner) => runner.stop()));

    const again = stores.open();
    const restarted = runnerOf(counts, { store: again, views: kept(sqliteViews({ file: join(folder, "shared.db") })) });
    await restarted.start();
    await reached(restarted, await placed(again, "o0"));
    expect(restarted.checkpoint().events).toBe(61);
    await restarted.stop();
  });

  it("an app reads its own writes by token, in this process and in another, also by the token of a whole session", async () => {
    const views = (): ViewStore => sqliteViews({ file: join(folder, "app.db") });
    const open = async (): Promise<App> => kept(await tidemark({ store: { events: stores.open(), views: views(), close: async () => undefined }, aggregates: [Account], readModels: [balances] }));
    const [app, other] = [await open(), await open()];
    let session: string | undefined;
    for (let i = 0; i < 12; i++) {
      const writer = i % 3 === 0 ? other : app;
      const deposited = accepted(await writer.at(Account, `acc-${i}`).deposit({ amount: i + 1 }));
      session = session === undefined ? deposited.token : app.mergeTokens(session, deposited.token);
      for (const reader of [app, other]) {
        const row = await reader.query(balances, (view) => view.get(`acc-${i}`), { atLeast: deposited.token, timeoutMs: 5000 });
        expect(row).toMatchObject({ balance: i + 1 });
      }
    }
    for (const reader of [app, other]) {
      const rows = await reader.query(balances, (view) => view.find({}), { atLeast: session as string, timeoutMs: 5000 });
      expect(rows).toHaveLength(12);
    }
  });

  it("a subscription goes on from its page's token, and from now", async () => {
    const app = kept(await tidemark({ store: { events: stores.open(), close: async () => undefined }, aggregates: [Account] }));
    for (let i = 0; i < 8; i++) accepted(await app.at(Account, `acc-${i}`).deposit({ amount: 1 }));
    let seen = 0;
    let token: string | undefined;
    for await (const page of app.subscribe([Account], { pageSize: 3 })) {
      seen += page.events.length;
      token = page.token;
      if (seen >= 5) break;
    }
    for await (const page of app.subscribe([Account], { after: token as string })) {
      seen += page.events.length;
      if (page.caughtUp) break;
    }
    expect(seen).toBe(8);
    const live = app.subscribe([Account], { after: "now" })[Symbol.asyncIterator]();
    const first = await live.next();
    expect(first.done === true ? -1 : first.value.events.length).toBe(0);
    accepted(await app.at(Account, "acc-9").deposit({ amount: 1 }));
    const second = await live.next();
    expect(second.done === true ? [] : second.value.events.map(({ id }) => id)).toEqual(["acc-9"]);
    await live.return?.();
  });
});
