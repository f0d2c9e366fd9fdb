/** The app on EventStoreDB: read models elsewhere, command ids over processes, snapshots, and the orders service. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { concatMap } from "rxjs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { accepted, aggregate, readModel, table, tidemark, type App } from "../../../src/index.ts";
import { until } from "../postgres/shared.ts";
import { bench, type Bench } from "./support.ts";

const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: {
    Added: (state, { by }: { by: number }) => {
      state.count += by;
    },
  },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
  snapshot: { everyEvents: 10, schemaVersion: 1 },
});

interface Shown {
  id: string;
  count: number;
  version: number;
  /** How often an event took effect: as often as there are versions, or the read model is not exactly once. */
  applied: number;
}

const shown = readModel("shown", {
  from: [Counter],
  view: table<Shown>("shown", { key: "id" }),
  project: (events$, { view }) =>
    events$.pipe(concatMap(({ id, version, data }) => view.update(id, (row) => ({ id, count: (row?.count ?? 0) + data.by, version, applied: (row?.applied ?? 0) + 1 })))),
});

const cli = resolve(import.meta.dirname, "../../../examples/orders/cli.ts");
const run = promisify(execFile);

describe("an app on EventStoreDB", () => {
  let it_: Bench;
  let folder: string;
  const apps: App[] = [];
  const open = async (views: string): Promise<App> => {
    const app = await tidemark({ store: `${it_.server.connectionString}&timeoutMs=2000`, views, aggregates: [Counter], readModels: [shown] });
    apps.push(app);
    return app;
  };
  beforeEach(async () => {
    it_ = await bench();
    folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
  });
  afterEach(async () => {
    it_.server.faults.clear();
    await Promise.all(apps.splice(0).map((app) => app.close()));
    await it_.close();
    rmSync(folder, { recursive: true });
  });

  it.each(["memory", "sqlite"])("shows its writes with the token, exactly once, with views in %s, over restarts of everything", { timeout: 30_000 }, async (kind) => {
    const views = kind === "memory" ? "memory:" : `sqlite:${join(folder, "views.db")}`;
    const total = 3 * 10;
    for (let round = 1; round <= 3; round++) {
      const app = await open(views);
      let token: string | undefined;
      for (let n = 0; n < 10; n++) token = accepted(await app.at(Counter, "a").add(n)).token;
      const row = await app.query(shown, (view) => view.get("a"), { atLeast: token as string, timeoutMs: 10_000 });
      expect(row).toMatchObject({ version: 10 * round, applied: 10 * round, count: 45 * round });
      if (round === 1) it_.server.cutConnections();
      if (round === 2) await it_.server.restart();
      expect(accepted(await app.at(Counter, `b${round}`).add(1)).version).toBe(1);
      await app.close();
    }
    expect((await (await open(views)).at(Counter, "a").state()).version).toBe(total);
  });

  it("answers a command whose outcome was unknown the same in another process, and carries it out once", { timeout: 30_000 }, async () => {
    const [one, two] = [await open("memory:"), await open("memory:")];
    await Promise.all([one, two].map((app) => app.at(Counter, "a").state()));
    const dropped = it_.server.faults.add({ on: "batch-append", action: { kind: "drop-reply" } });
    const first = one.at(Counter, "a").add(5, { commandId: "pay-1", deadlineMs: 1500 }).then(
      (result) => accepted(result),
      (error: unknown) => error,
    );
    await until(() => dropped.met > 0, "the append being carried out");
    expect(await first).toMatchObject({ code: "OutcomeUnknown" });
    dropped.remove();
    const again = accepted(await two.at(Counter, "a").add(5, { commandId: "pay-1" }));
    expect(again).toMatchObject({ version: 1 });
    expect(accepted(await one.at(Counter, "a").add(5, { commandId: "pay-1" }))).toMatchObject({ version: 1 });
    expect((await two.at(Counter, "a").state()).version).toBe(1);
    await expect(two.at(Counter, "a").add(6, { commandId: "pay-1" })).rejects.toMatchObject({ code: "CommandIdReused" });
  });

  it("hydrates from the snapshot in the store", async () => {
    const app = await open("memory:");
    for (let n = 0; n < 25; n++) accepted(await app.at(Counter, "a").add(1));
    await app.close();
    const again = await open("memory:");
    expect(await again.at(Counter, "a").state()).toMatchObject({ version: 25, state: { count: 25 } });
    expect(again.metrics()).toMatchObject({ snapshotsUsed: 1 });
  });

  it("two apps that write the same streams as fast as they can lose nothing and count nothing twice", { timeout: 60_000 }, async () => {
    const both = [await open("memory:"), await open("memory:")];
    const wanted = new Map<string, number>();
    await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const id = `s${n % 5}`;
        wanted.set(id, (wanted.get(id) ?? 0) + n);
        await until(async () => (both[n % 2] as App).at(Counter, id).add(n, { commandId: `c${n}` }).then((result) => result.ok, () => false), "the command standing", 40_000);
      }),
    );
    for (const [id, count] of wanted) expect(await both[0]!.at(Counter, id).state()).toMatchObject({ version: 12, state: { count } });
  });

  it("imports a file of orders with the result that it has on SQLite, and doubles nothing when it is run twice", { timeout: 90_000 }, async () => {
    const file = join(folder, "orders.csv");
    await run(process.execPath, [cli, "generate", "40", "--seed", "7", "--out", file]);
    const imported = async (...store: readonly string[]): Promise<Record<string, unknown>> => {
      const { stdout } = await run(process.execPath, [cli, "import", file, ...store]).catch((error: unknown) => error as { stdout: string });
      return JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown>;
    };
    const onServer = ["--store", it_.server.connectionString, "--views", `sqlite:${join(folder, "views.db")}`];
    const [onSqlite, first] = await Promise.all([imported("--store", `sqlite:${join(folder, "orders.db")}`), imported(...onServer)]);
    expect(first["readModel"]).toEqual(onSqlite["readModel"]);
    expect(first["events"]).toBe(onSqlite["events"]);
    expect(first["events"]).toBeGreaterThan(40);
    expect(await imported(...onServer)).toMatchObject({ duplicates: first["commands"], readModel: first["readModel"] });
  });
});
