import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../src/environment.ts";
import { LOG_FILE } from "../../../src/store/sqlite/log-schema.ts";
import { sqliteStore } from "../../../src/store/sqlite/index.ts";
import { eventsOn } from "../../../src/store/sqlite/sqlite-events.ts";
import { SqliteFile } from "../../../src/store/sqlite/sqlite-file.ts";
import { environmentOf } from "../../../src/environment.ts";
import { start, type Child } from "../../support/processes.ts";
import { appendOf, folder, STREAMS, until } from "./support.ts";

describe("several processes on one file", () => {
  let files: ReturnType<typeof folder>;
  const children: Child[] = [];
  const child = (...args: readonly string[]): Child => {
    const started = start(join(import.meta.dirname, "child.ts"), ...args);
    children.push(started);
    return started;
  };
  beforeEach(() => void (files = folder()));
  afterEach(async () => {
    for (const { process, exited } of children.splice(0)) {
      process.kill("SIGKILL");
      await exited;
    }
    files.dispose();
  });

  it("make a new file together and agree on its identity", async () => {
    const opening = Array.from({ length: 6 }, () => child("open", files.path("new/deep/log.db")));
    for (const { exited } of opening) expect(await exited).toBe(0);
    expect(new Set(opening.map(({ lines }) => lines[0])).size).toBe(1);
    expect(opening[0]?.lines[0]).toMatch(/^[A-Za-z0-9-]{12,36}$/);
  });

  it("race on the same streams: every acknowledged event stands once, versions are contiguous, losers learn the truth", async () => {
    const file = files.path("log.db");
    const rivals = ["a", "b"].map((name) => child("race", file, name));
    await until(() => rivals.every(({ lines }) => lines.length > 0), "both being ready");
    for (const rival of rivals) rival.send("go");
    await Promise.all(rivals.map(({ exited }) => exited));
    const reports = rivals.map(({ lines }) => JSON.parse(lines[1] ?? "{}") as { acknowledged: string[]; conflicts: number });
    expect(reports.reduce((sum, { conflicts }) => sum + conflicts, 0)).toBeGreaterThan(0);
    const store = sqliteStore({ file });
    const standing: string[] = [];
    for (const stream of STREAMS) {
      const { events } = await store.readStream(stream);
      expect(events.map(({ version }) => version)).toEqual(events.map((_, index) => index + 1));
      standing.push(...events.map(({ id }) => id));
    }
    await store.close();
    expect(standing.toSorted()).toEqual(reports.flatMap(({ acknowledged }) => acknowledged).toSorted());
    expect(standing).toHaveLength(600);
  });

  it("wake each other's subscriptions within 100 ms", async () => {
    const file = files.path("log.db");
    const store = sqliteStore({ file });
    const writer = child("append", file);
    await until(() => writer.lines.length > 0, "the writer being ready");
    const delays: number[] = [];
    for await (const page of store.subscribe()) {
      for (const event of page.events) delays.push(Date.now() - Number(event.data));
      if (delays.length === 15) break;
      if (page.caughtUp) writer.send(`e-${delays.length}`);
    }
    await store.close();
    // The median, so that a pause of the machine in one round does not count.
    expect(delays.toSorted((a, b) => a - b)[7]).toBeLessThan(100);
  });

  it("wake by polling alone where the file system tells nothing, and by the file system where no timer fires", async () => {
    const file = files.path("log.db");
    const delays: number[] = [];
    const timersOff = { ...systemClock, setTimer: () => ({ cancel: () => undefined }) };
    const store = sqliteStore({ file, environment: { clock: timersOff } });
    const other = sqliteStore({ file });
    for await (const page of store.subscribe()) {
      delays.push(page.events.length);
      if (delays.length === 4) break;
      await other.append([appendOf("wake-1", delays.length - 1, [`e-${delays.length}`])]);
    }
    expect(delays).toEqual([0, 1, 1, 1]);
    await store.close();
    await other.close();
  });

  it("wait for a lock without blocking the event loop, and go on when it is free", async () => {
    const file = files.path("log.db");
    const store = sqliteStore({ file });
    const blocker = new DatabaseSync(file);
    blocker.exec("BEGIN IMMEDIATE");
    let answered = false;
    const appending = store.append([appendOf("order-1", 0, ["e-1"])]).then((outcomes) => {
      answered = true;
      return outcomes;
    });
    let turns = 0;
    let longestMs = 0;
    for (let last = performance.now(); turns < 20; turns++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      longestMs = Math.max(longestMs, performance.now() - last);
      last = performance.now();
    }
    expect(answered).toBe(false);
    expect(longestMs).toBeLessThan(1000);
    blocker.exec("COMMIT");
    expect(await appending).toEqual([{ kind: "committed", version: 1, position: { log: 1 } }]);
    blocker.close();
    await store.close();
  });

  it("are refused as busy when the lock is held beyond the bound, and nothing of it appears later", async () => {
    const clock = { ...systemClock, setTimer: (_: number, task: () => void) => (setImmediate(task), { cancel: () => undefined }) };
    const file = new SqliteFile(files.path("log.db"), LOG_FILE, "full", environmentOf({ clock }));
    file.db.exec("PRAGMA busy_timeout = 0");
    const store = eventsOn(file);
    const blocker = new DatabaseSync(file.path);
    blocker.exec("BEGIN IMMEDIATE");
    const [outcome] = await store.append([appendOf("order-1", 0, ["e-1"])]);
    expect(outcome).toMatchObject({ kind: "refused", code: "busy", retryable: true });
    blocker.exec("COMMIT");
    blocker.close();
    expect((await store.readStream("order-1")).version).toBe(0);
    await store.close();
  });

  it("never believe a version that they remember when another process has written since", async () => {
    const file = files.path("log.db");
    const [mine, theirs] = [sqliteStore({ file }), sqliteStore({ file })];
    for (let version = 0; version < 20; version += 2) {
      expect((await mine.append([appendOf("order-1", version, [`m-${version}`])]))[0]).toMatchObject({ kind: "committed", version: version + 1 });
      expect((await theirs.append([appendOf("order-1", version + 1, [`t-${version}`])]))[0]).toMatchObject({ kind: "committed", version: version + 2 });
    }
    const [late] = await mine.append([appendOf("order-1", 5, ["late"])]);
    expect(late).toMatchObject({ kind: "conflict", actual: 20 });
    expect(late?.kind === "conflict" && late.missing?.map(({ version }) => version)).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    await mine.close();
    await theirs.close();
  });
});
