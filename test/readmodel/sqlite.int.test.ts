import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatMap } from "rxjs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readModel, table } from "../../src/readmodel/read-model.ts";
import type { Backend } from "../../src/store/backend.ts";
import { sqliteBackend } from "../../src/store/sqlite/index.ts";
import { advancedUntil, history, Order, placed, reached, runnerOf } from "./support.ts";

interface Count {
  id: string;
  n: number;
}

const counts = readModel("counts", {
  from: [Order],
  view: table<Count>("counts", { key: "id", columns: ["n"] }),
  project: (events$, { view }) => events$.pipe(concatMap((event) => view.update(event.id, (row) => ({ id: event.id, n: (row?.n ?? 0) + 1 })))),
});

let folder = "";
const opened: Backend[] = [];
const open = (): Backend => {
  const backend = sqliteBackend({ file: join(folder, "orders.db") });
  opened.push(backend);
  return backend;
};
const on = (backend: Backend, pageSize = 1000) => runnerOf(counts, { store: backend.events, ...(backend.views && { views: backend.views }), options: { pageSize } });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidemark-readmodel-"));
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((backend) => backend.close()));
  await rm(folder, { recursive: true, force: true });
});

describe("a read model in SQLite", () => {
  it("is applied exactly once by two processes that share it, and goes on after a restart", async () => {
    const [first, second] = [open(), open()];
    const runners = [on(first, 3), on(second, 2)];
    await Promise.all(runners.map((runner) => runner.start()));
    let position = {};
    for (let i = 0; i < 150; i++) position = await placed(i % 2 === 0 ? first.events : second.events, `o${i % 10}`);
    await Promise.all(runners.map((runner) => reached(runner, position)));
    for (const runner of runners) expect(await runner.reader().sql("select sum(n) as n from {table}")).toEqual([{ n: 150 }]);
    await Promise.all(runners.map((runner) => runner.stop()));
    await Promise.all([first.close(), second.close()]);

    const again = open();
    const restarted = on(again);
    await restarted.start();
    await reached(restarted, await placed(again.events, "o0"));
    expect(restarted.checkpoint().events).toBe(151);
    expect(await restarted.reader().get("o0")).toEqual({ id: "o0", n: 16 });
    await restarted.stop();
  });

  it("hears of another process's commits while it is paused itself", async () => {
    const [first, second] = [open(), open()];
    const [working, paused] = [on(first), on(second)];
    await Promise.all([working.start(), paused.start()]);
    await paused.pause();
    const position = await placed(first.events, "a");
    await reached(working, position);
    await reached(paused, position);
    expect(await paused.reader().get("a")).toEqual({ id: "a", n: 1 });
    await Promise.all([working.stop(), paused.stop()]);
  });

  it("is rebuilt beside live traffic, and the other process goes along", async () => {
    const [first, second] = [open(), open()];
    await history(first.events, 20);
    const runners = [on(first, 7), on(second, 7)] as const;
    await Promise.all(runners.map((runner) => runner.start()));
    await advancedUntil(runners[0], () => runners[0].progress().state === "live");
    let done = false;
    const rebuilt = runners[0].rebuild().then(() => (done = true));
    let position = {};
    for (let i = 0; i < 40 || !done; i++) {
      position = await placed(second.events, `n${i % 7}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await rebuilt;
    await Promise.all(runners.map((runner) => reached(runner, position)));
    const { log } = position as { log: number };
    for (const runner of runners) expect(await runner.reader().sql("select sum(n) as n from {table}")).toEqual([{ n: log }]);
    expect(await first.views?.builds("counts")).toEqual([{ model: "counts", version: 1, build: 2, active: true }]);
    await Promise.all(runners.map((runner) => runner.stop()));
  });
});
