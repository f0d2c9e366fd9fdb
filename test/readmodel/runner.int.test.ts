import { concatMap, defer, EMPTY, finalize, mergeMap, tap } from "rxjs";
import { describe, expect, it } from "vitest";
import { StoreUnavailable } from "../../src/errors.ts";
import { ofType } from "../../src/readmodel/operators.ts";
import { readModel, table, type ReadModel } from "../../src/readmodel/read-model.ts";
import type { Table } from "../../src/readmodel/staged-table.ts";
import type { OpenView, ViewStore } from "../../src/readmodel/view-store.ts";
import { covers } from "../../src/store/position.ts";
import { memoryLog } from "../../src/store/memory/memory-log.ts";
import { memoryStore } from "../../src/store/memory/memory-store.ts";
import { memoryViewData, memoryViews } from "../../src/store/memory/memory-views.ts";
import { advancedUntil, append, Customer, eventually, failed, history, Order, patched, placed, reached, recording, runnerOf } from "./support.ts";

interface Count {
  id: string;
  n: number;
  by?: string | undefined;
}

/** Counts events for each order: what is applied twice or never shows. */
function counting(options: { version?: number; by?: string; name?: string; before?: (id: string) => void; gate?: (id: string) => Promise<void> } = {}): ReadModel<Table<Count>> {
  return readModel(options.name ?? "counts", {
    from: [Order],
    view: table<Count>("counts", { key: "id" }),
    version: options.version ?? 1,
    project: (events$, { view }) =>
      events$.pipe(
        concatMap((event) =>
          defer(() => {
            options.before?.(event.id);
            const write = (): Promise<unknown> => view.update(event.id, (row) => ({ id: event.id, n: (row?.n ?? 0) + 1, ...(options.by !== undefined && { by: options.by }) }));
            return options.gate === undefined ? write() : options.gate(event.id).then(write);
          }),
        ),
      ),
  });
}

/** Lets the first run over an order pass (the build that is there), and holds the second (the one that is made) until it is opened. */
function gatesFor(ids: readonly string[]) {
  const gates = new Map(ids.map((id) => [id, { runs: 0, ...Promise.withResolvers<void>() }]));
  return {
    async pass(this: void, id: string): Promise<void> {
      const gate = gates.get(id);
      if (gate !== undefined && ++gate.runs === 2) await gate.promise;
    },
    waiting: (id: string): boolean => gates.get(id)?.runs === 2,
    open: (id: string): void => gates.get(id)?.resolve(),
  };
}

/** Two processes on one log and one view store; `patch` changes what the second one sees of the views, and of each view that it opens. */
function twoProcesses(patch: { views?: (views: ViewStore) => Partial<ViewStore>; view?: (view: OpenView, build: number) => Partial<OpenView> } = {}) {
  const log = memoryLog();
  const store = memoryStore({ log });
  const views = memoryViews({ data: memoryViewData() });
  const seen = patched(views, {
    open: async (key, definition, options) => {
      const view = await views.open(key, definition, options);
      return patched(view, patch.view?.(view, key.build) ?? {});
    },
    ...patch.views?.(views),
  });
  const first = runnerOf(counting({ by: "first" }), { store: memoryStore({ log }), views });
  const second = runnerOf(counting({ by: "second" }), { store, views: seen });
  return {
    store,
    views,
    first,
    second,
    stop: () => Promise.all([first.stop(), second.stop()]),
    /** Both follow, and have seen one order. */
    async start(): Promise<void> {
      await Promise.all([first.start(), second.start()]);
      const position = await placed(store, "a");
      await Promise.all([reached(first, position), reached(second, position)]);
    },
  };
}

const total = (rows: readonly Count[]): number => rows.reduce((sum, row) => sum + row.n, 0);

/** Wraps the views so that every commit of every build goes through `commit`. */
function committing(views: ViewStore, commit: (view: OpenView, ...args: Parameters<OpenView["commit"]>) => ReturnType<OpenView["commit"]>): ViewStore {
  return patched(views, {
    open: async (key, definition) => {
      const view = await views.open(key, definition);
      return patched(view, { commit: (...args) => commit(view, ...args) });
    },
  });
}

describe("a poison event", () => {
  it("is named, with its place, after all retries; what came before it stands, and nothing after it", async () => {
    const store = memoryStore();
    for (const id of ["a", "b", "bad", "c"]) await placed(store, id);
    let runs = 0;
    const { lines, environment } = recording();
    const runner = runnerOf(counting({ before: (id) => { if (id === "bad") { runs++; throw new Error("cannot take it"); } } }), { store, environment, options: { attempts: 3 } });
    await runner.start();
    await failed(runner);
    expect(runner.error).toMatchObject({
      code: "ProjectionFailed",
      details: { model: "counts", stream: "order-bad", version: 1, type: "Placed", eventId: expect.stringMatching(/^event-/), position: { log: 3 } },
      cause: { message: "cannot take it" },
    });
    expect(runs).toBe(1 + 3);
    expect((await runner.reader().find()).map((row) => row.id)).toEqual(["a", "b"]);
    expect(runner.position()).toEqual({ log: 2 });
    expect(runner.failure()).toMatchObject({ code: "ReadModelStopped", cause: { code: "ProjectionFailed" } });
    expect(lines.some((line) => line.level === "error" && line.fields["error"] === runner.error)).toBe(true);
    await runner.stop();
  });

  it("that works at a later attempt stops nothing and is applied once", async () => {
    const store = memoryStore();
    for (const id of ["a", "bad", "c"]) await placed(store, id);
    let runs = 0;
    const runner = runnerOf(counting({ before: (id) => { if (id === "bad" && ++runs < 4) throw new Error("not yet"); } }), { store });
    await runner.start();
    await reached(runner, { log: 3 });
    expect(await runner.reader().find()).toEqual([{ id: "a", n: 1 }, { id: "bad", n: 1 }, { id: "c", n: 1 }]);
    await runner.stop();
  });

  it("stops its own read model and no other", async () => {
    const store = memoryStore();
    const views = memoryViews();
    await placed(store, "a");
    const broken = runnerOf(counting({ name: "broken", before: () => { throw new Error("always"); } }), { store, views, options: { attempts: 2 } });
    const sound = runnerOf(counting({ name: "sound" }), { store, views });
    await Promise.all([broken.start(), sound.start()]);
    await failed(broken);
    await reached(sound, await placed(store, "b"));
    expect(await sound.reader().count()).toBe(2);
    expect(await broken.reader().count()).toBe(0);
    await Promise.all([broken.stop(), sound.stop()]);
  });

  it("can be tried again by resume() once the cause is gone", async () => {
    const store = memoryStore();
    await placed(store, "a");
    let sound = false;
    const runner = runnerOf(counting({ before: () => { if (!sound) throw new Error("not yet"); } }), { store, options: { attempts: 2 } });
    await runner.start();
    await failed(runner);
    sound = true;
    runner.resume();
    expect(runner.failure()).toBe(undefined);
    await reached(runner, { log: 1 });
    expect(runner.progress()).toMatchObject({ error: undefined, events: 1 });
    await runner.stop();
  });

  it("may be of a type that nobody knows, or not be readable at all", async () => {
    for (const [type, data, code] of [["Melted", "{}", "UnknownEventType"], ["Placed", "{oops", "EventUnreadable"]] as const) {
      const store = memoryStore();
      await placed(store, "a");
      await store.append([{ stream: "order-x", expected: "none", events: [{ id: "poison", type, data, metadata: { correlationId: "c", causationId: "c", commandId: "c" }, recordedAt: 1 }] }]);
      const runner = runnerOf(counting(), { store, options: { attempts: 2 } });
      await runner.start();
      await failed(runner);
      expect(runner.error).toMatchObject({ code: "ProjectionFailed", cause: { code }, details: { stream: "order-x", version: 1, eventId: "poison", type } });
      expect(await runner.reader().find()).toEqual([{ id: "a", n: 1 }]);
      await runner.stop();
    }
  });
});

describe("the checkpoint", () => {
  it("is saved on a log whose events all belong to others, and seldom", async () => {
    const store = memoryStore();
    let commits = 0;
    const views = committing(memoryViews(), (view, ...args) => {
      commits++;
      return view.commit(...args);
    });
    const runner = runnerOf(counting(), { store, views });
    await runner.start();
    const begun = performance.now();
    let position = {};
    for (let i = 0; i < 200; i++) {
      position = await append(store, `customer-${i}`, "Registered", { name: "n" });
      await new Promise((resolve) => setImmediate(resolve));
    }
    await reached(runner, position);
    expect(commits).toBeLessThanOrEqual(2 + Math.ceil((performance.now() - begun) / 45));
    expect(runner.progress()).toMatchObject({ state: "live", events: 0 });
    expect(runner.checkpoint().last).toBe(undefined);
    await runner.stop();
  });

  it("moves when the pipeline drops every event", async () => {
    const store = memoryStore();
    const model = readModel("none", { from: [Order, Customer], view: table<Count>("none", { key: "id" }), project: (events$) => events$.pipe(ofType("Cancelled"), mergeMap(() => EMPTY)) });
    const runner = runnerOf(model, { store });
    await runner.start();
    await placed(store, "a");
    await reached(runner, await append(store, "customer-1", "Registered", { name: "n" }));
    expect(runner.checkpoint().last).toMatchObject({ stream: "customer-1", version: 1 });
    await runner.stop();
  });

  it("is saved by stop(), so that the next start reads nothing twice", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const first = runnerOf(counting(), { store, views, options: { idleSaveMs: 60_000 } });
    await first.start();
    await reached(first, await placed(store, "a"));
    const position = await append(store, "customer-1", "Registered", { name: "n" });
    await eventually(() => first.progress().state === "live");
    await new Promise((resolve) => setImmediate(resolve));
    await first.stop();
    expect(covers(first.position(), position)).toBe(true);
    expect(first.progress().state).toBe("stopped");
  });

  it("of another store is refused with the way out", async () => {
    const views = memoryViews();
    const old = memoryStore();
    const first = runnerOf(counting(), { store: old, views });
    await first.start();
    await reached(first, await placed(old, "a"));
    await first.stop();
    const fresh = memoryStore();
    await placed(fresh, "b");
    const second = runnerOf(counting(), { store: fresh, views });
    await second.start();
    await failed(second);
    expect(second.error).toMatchObject({ code: "StoreRewound", message: expect.stringContaining("rebuild") });
    expect(await second.reader().find()).toEqual([{ id: "a", n: 1 }]);
    await second.rebuild();
    await reached(second, { log: 1 });
    expect(second.progress().state).toBe("live");
    expect(await second.reader().find()).toEqual([{ id: "b", n: 1 }]);
    await second.stop();
  });

  it("of another store is refused even where both hold the same events", async () => {
    const views = memoryViews();
    const store = memoryStore();
    const first = runnerOf(counting(), { store, views });
    await first.start();
    await reached(first, await placed(store, "a"));
    await first.stop();
    const copy = patched(store, { identity: async () => ({ id: "the-copy-of-a-log" }) });
    const second = runnerOf(counting(), { store: copy, views });
    await second.start();
    await failed(second);
    expect(second.error).toMatchObject({ code: "StoreRewound", details: { found: "the-copy-of-a-log" } });
    await second.stop();
  });

  it("is refused when the log does not hold its last event any more, whatever its positions say", async () => {
    const views = memoryViews();
    const store = memoryStore();
    const first = runnerOf(counting(), { store, views });
    await first.start();
    await placed(store, "a");
    await reached(first, await placed(store, "b"));
    await first.stop();
    // Restored from an older state and written on: same identity, same length, other events.
    const restored = memoryStore();
    await placed(restored, "a");
    await placed(restored, "z");
    const { id } = await store.identity();
    const second = runnerOf(counting(), { store: patched(restored, { identity: async () => ({ id }) }), views });
    await second.start();
    await failed(second);
    expect(second.error).toMatchObject({ code: "StoreRewound", details: { stream: "order-b", version: 1 } });
    await second.stop();
  });
});

describe("exactly once", () => {
  it("two processes on one view store share a read model", async () => {
    const log = memoryLog();
    const data = memoryViewData();
    const writer = memoryStore({ log });
    const first = runnerOf(counting(), { store: memoryStore({ log }), views: memoryViews({ data }), options: { pageSize: 3 } });
    const second = runnerOf(counting(), { store: memoryStore({ log }), views: memoryViews({ data }), options: { pageSize: 2 } });
    await Promise.all([first.start(), second.start()]);
    let position = {};
    for (let i = 0; i < 300; i++) {
      position = await placed(writer, `o${i % 10}`);
      if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all([reached(first, position), reached(second, position)]);
    for (const runner of [first, second]) expect(total(await runner.reader().find())).toBe(300);
    // The one takes over when the other is gone.
    await first.stop();
    position = await placed(writer, "last");
    await reached(second, position);
    expect(await second.reader().get("last")).toEqual({ id: "last", n: 1 });
    expect(second.checkpoint().events).toBe(301);
    await second.stop();
  });

  it("two processes do not both run every page: the one that lost stands by", async () => {
    const log = memoryLog();
    const data = memoryViewData();
    const writer = memoryStore({ log });
    const outcomes: string[] = [];
    const runners = [1, 2].map(() => {
      const views = committing(memoryViews({ data }), async (view, ...args) => {
        const outcome = await view.commit(...args);
        outcomes.push(outcome);
        return outcome;
      });
      return runnerOf(counting(), { store: memoryStore({ log }), views, options: { firstPauseMs: 50, maxPauseMs: 1000 } });
    });
    await Promise.all(runners.map((runner) => runner.start()));
    let position = {};
    for (let i = 0; i < 200; i++) {
      position = await placed(writer, "a");
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(runners.map((runner) => reached(runner, position)));
    await Promise.all(runners.map((runner) => runner.stop()));
    expect(outcomes.filter((outcome) => outcome === "committed").length).toBeGreaterThan(100);
    expect(outcomes.filter((outcome) => outcome === "lost").length).toBeLessThan(30);
  });

  it("a process that dies between or within pages is followed by one that goes on where it stood", async () => {
    const log = memoryLog();
    const data = memoryViewData();
    const store = memoryStore({ log });
    const position = await history(store, 20);
    let started = 0;
    for (let life = 0; life < 12; life++) {
      const doomed = memoryStore({ log });
      let left = 2 + (life % 3);
      const dying = committing(memoryViews({ data }), async (view, ...args) => {
        left--;
        if (left < 0) return new Promise(() => undefined); // the process is gone: its commit never comes
        const outcome = await view.commit(...args);
        if (left === 0 && life % 2 === 0) return new Promise(() => undefined); // it stands, but nobody heard of it
        return outcome;
      });
      const runner = runnerOf(counting(), { store: doomed, views: dying, options: { pageSize: 1 + (life % 3), stopTimeoutMs: 1 } });
      await runner.start();
      await eventually(() => left <= 0 || covers(runner.position(), position));
      started++;
    }
    const survivor = runnerOf(counting(), { store, views: memoryViews({ data }) });
    await survivor.start();
    await reached(survivor, position);
    expect(started).toBe(12);
    expect(total(await survivor.reader().find())).toBe(position["log"]);
    await survivor.stop();
  });

  it("a commit that stands although it was answered with an outage is not applied again", async () => {
    const store = memoryStore();
    let outages = 0;
    const views = committing(memoryViews(), async (view, ...args) => {
      const outcome = await view.commit(...args);
      if (outages++ % 2 === 0) throw new StoreUnavailable("the connection was lost after the commit", { retryable: true });
      return outcome;
    });
    const position = await history(store, 10);
    const runner = runnerOf(counting(), { store, views, options: { pageSize: 3 } });
    await runner.start();
    await reached(runner, position);
    expect(total(await runner.reader().find())).toBe(position["log"]);
    expect(outages).toBeGreaterThan(2);
    await runner.stop();
  });

  /** The proof that these tests can turn red: a view store that breaks V1 or V2 of its port is found out by the count. */
  describe("would be lost", () => {
    /** A process dies in the middle of its second commit; another one goes on. */
    async function afterACrash(commit: (view: OpenView, dies: boolean, ...args: Parameters<OpenView["commit"]>) => ReturnType<OpenView["commit"]>): Promise<boolean> {
      const log = memoryLog();
      const data = memoryViewData();
      const store = memoryStore({ log });
      const position = await history(store, 10);
      let commits = 0;
      let dead = false;
      const views = committing(memoryViews({ data }), async (view, ...args) => {
        commits++;
        if (commits < 2) return commit(view, false, ...args);
        void commit(view, true, ...args).then(() => (dead = true));
        return new Promise(() => undefined);
      });
      const first = runnerOf(counting(), { store: memoryStore({ log }), views, options: { pageSize: 3 } });
      await first.start();
      await eventually(() => dead);
      const second = runnerOf(counting(), { store, views: memoryViews({ data }) });
      await second.start();
      await advancedUntil(second, () => second.progress().state === "live");
      const exact = total(await second.reader().find()) === position["log"];
      await second.stop();
      return exact;
    }

    it("if the checkpoint were saved apart from the rows", async () => {
      expect(await afterACrash((view, _dies, ...args) => view.commit(...args))).toBe(true);
      const apart = await afterACrash(async (view, dies, changes, next) => {
        const before = await view.checkpoint();
        const outcome = await view.commit(changes, before, before.revision);
        return dies ? outcome : view.commit(new Map(), next, before.revision + 1);
      });
      expect(apart).toBe(false);
    });

    /** Two processes follow one log at the same time. */
    async function withTwoProcesses(views: (data: ReturnType<typeof memoryViewData>) => ViewStore): Promise<boolean> {
      const log = memoryLog();
      const data = memoryViewData();
      const writer = memoryStore({ log });
      const runners = [1, 2].map(() => runnerOf(counting(), { store: memoryStore({ log }), views: views(data) }));
      await Promise.all(runners.map((runner) => runner.start()));
      let position = {};
      for (let i = 0; i < 100; i++) {
        position = await placed(writer, "a");
        await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(runners.map((runner) => reached(runner, position)));
      await Promise.all(runners.map((runner) => runner.stop()));
      const view = await memoryViews({ data }).open({ model: "counts", version: 1, build: 1 }, counting().view.definition);
      return (await view.reader.get("a"))?.["n"] === 100;
    }

    it("if a commit did not look at the revision it builds on", async () => {
      /** The second process has read the first event when the first one commits it, and reads the row after that. */
      const overtaken = (how: typeof committing): Parameters<typeof withTwoProcesses>[0] => {
        let committed: () => void = () => undefined;
        const firstCommit = new Promise<void>((resolve) => (committed = resolve));
        let processes = 0;
        return (data) => {
          const views = memoryViews({ data });
          processes++;
          if (processes === 1) {
            return committing(views, async (view, ...args) => {
              const outcome = await view.commit(...args);
              committed();
              return outcome;
            });
          }
          const late = patched(views, {
            async open(...args) {
              const view = await views.open(...args);
              return patched(view, {
                reader: patched(view.reader, {
                  async get(key) {
                    await firstCommit;
                    return view.reader.get(key);
                  },
                }),
              });
            },
          });
          return how(late, (view, changes, next, revision) => view.commit(changes, next, revision));
        };
      };
      expect(await withTwoProcesses(overtaken(committing))).toBe(true);
      const unchecked = await withTwoProcesses(
        overtaken((views) => committing(views, async (view, changes, next) => view.commit(changes, next, (await view.checkpoint()).revision))),
      );
      expect(unchecked).toBe(false);
    });
  });

  it("holds when another process commits while this one's page is under way", async () => {
    const log = memoryLog();
    const data = memoryViewData();
    const store = memoryStore({ log });
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let waiting = false;
    const slow = readModel("counts", {
      from: [Order],
      view: table<Count>("counts", { key: "id" }),
      project: (events$, { view }) =>
        events$.pipe(
          concatMap(async (event) => {
            const row = await view.get(event.id);
            if (!waiting) {
              waiting = true;
              await held;
            }
            await view.upsert({ id: event.id, n: (row?.n ?? 0) + 1 });
          }),
        ),
    });
    const first = runnerOf(slow, { store, views: memoryViews({ data }) });
    await first.start();
    await placed(store, "a");
    await eventually(() => waiting);
    const second = runnerOf(counting(), { store: memoryStore({ log }), views: memoryViews({ data }) });
    await second.start();
    let position = await placed(store, "b");
    await reached(second, position);
    await second.stop();
    // The first hears of the foreign commit before it ends its own page.
    await advancedUntil(first, () => covers(first.position(), position));
    release();
    position = await placed(store, "a");
    await reached(first, position);
    expect(await first.reader().find()).toEqual([{ id: "a", n: 2 }, { id: "b", n: 1 }]);
    await first.stop();
  });
});

describe("a store or view store that cannot be reached", () => {
  it("is tried again for as long as it takes", async () => {
    const store = memoryStore();
    let down = 12;
    const { lines, environment } = recording();
    const flaky = patched(store, {
      subscribe: (options) => {
        if (down-- > 0) throw new StoreUnavailable("no connection", { retryable: true });
        return store.subscribe(options);
      },
    });
    const runner = runnerOf(counting(), { store: flaky, environment });
    await runner.start();
    await reached(runner, await placed(store, "a"));
    expect(await runner.reader().get("a")).toEqual({ id: "a", n: 1 });
    expect(lines.filter((line) => line.level === "warn").length).toBe(12);
    await runner.stop();
  });

  it("that was closed ends the read model with its name", async () => {
    const store = memoryStore();
    const runner = runnerOf(counting(), { store });
    await runner.start();
    await advancedUntil(runner, () => runner.progress().state === "live");
    await store.close();
    await failed(runner);
    expect(runner.error?.code).toBe("StoreClosed");
    await runner.stop();
  });

  it("without a total order is refused to a model that needs one", () => {
    const store = memoryStore();
    const model = readModel("m", { from: [Order], needs: "totalOrder", view: table<Count>("m", { key: "id" }), project: (events$) => events$ });
    const lanes = patched(store, { capabilities: { ...store.capabilities, totalOrder: false } });
    expect(() => runnerOf(model, { store: lanes })).toThrow(expect.objectContaining({ code: "UnsupportedByStore" }));
    expect(runnerOf(model, { store }).progress().state).toBe("stopped");
  });
});

describe("pause, resume and stop", () => {
  it("a paused model keeps answering, a resumed one goes on where it stood", async () => {
    const store = memoryStore();
    const runner = runnerOf(counting(), { store });
    await runner.start();
    await reached(runner, await placed(store, "a"));
    await runner.pause();
    expect(runner.progress().state).toBe("paused");
    const position = await placed(store, "a");
    expect(await runner.reader().get("a")).toEqual({ id: "a", n: 1 });
    expect(runner.failure()).toMatchObject({ code: "ReadModelStopped" });
    runner.resume();
    await reached(runner, position);
    expect(await runner.reader().get("a")).toEqual({ id: "a", n: 2 });
    expect(runner.failure()).toBe(undefined);
    await runner.stop();
  });

  it("pausing and resuming under traffic neither loses nor repeats", async () => {
    const store = memoryStore();
    const runner = runnerOf(counting(), { store, options: { pageSize: 4 } });
    await runner.start();
    let position = {};
    for (let i = 0; i < 200; i++) {
      position = await placed(store, `o${i % 5}`);
      if (i % 20 === 0) void runner.pause();
      if (i % 20 === 7) runner.resume();
      if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    runner.resume();
    await reached(runner, position);
    expect(total(await runner.reader().find())).toBe(200);
    await runner.stop();
  });

  it("stop() lets the page under way finish", async () => {
    const store = memoryStore();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let begun = false;
    const model = readModel("slow", {
      from: [Order],
      view: table<Count>("slow", { key: "id" }),
      project: (events$, { view }) => events$.pipe(tap(() => (begun = true)), concatMap((event) => held.then(() => view.upsert({ id: event.id, n: 1 })))),
    });
    const runner = runnerOf(model, { store });
    await runner.start();
    await placed(store, "a");
    await eventually(() => begun);
    const stopped = runner.stop();
    release();
    await stopped;
    expect(await runner.reader().get("a")).toEqual({ id: "a", n: 1 });
    expect(runner.position()).toEqual({ log: 1 });
  });

  it("stop() gives a page up that takes longer than its bound, and nothing of it stays", async () => {
    const store = memoryStore();
    let begun = false;
    let unsubscribed = false;
    const model = readModel("slow", {
      from: [Order],
      view: table<Count>("slow", { key: "id" }),
      project: (events$, { view }) =>
        events$.pipe(concatMap((event) => view.upsert({ id: event.id, n: 1 })), tap(() => (begun = true)), concatMap(() => new Promise(() => undefined)), finalize(() => (unsubscribed = true))),
    });
    const runner = runnerOf(model, { store, options: { stopTimeoutMs: 5 } });
    await runner.start();
    await placed(store, "a");
    await eventually(() => begun);
    await runner.stop();
    expect(unsubscribed).toBe(true);
    expect(await runner.reader().count()).toBe(0);
    expect(runner.checkpoint().events).toBe(0);
  });

  it("stop() ends within a bound even when the view store never answers", async () => {
    const store = memoryStore();
    let asked = false;
    const views = committing(memoryViews(), () => {
      asked = true;
      return new Promise(() => undefined);
    });
    const { lines, environment } = recording();
    const runner = runnerOf(counting(), { store, views, environment, options: { stopTimeoutMs: 5 } });
    await runner.start();
    await placed(store, "a");
    await eventually(() => asked);
    await runner.stop();
    expect(lines.some((line) => line.level === "error" && line.message.includes("did not answer"))).toBe(true);
  });

  it("stops before it started, and twice", async () => {
    const runner = runnerOf(counting());
    await runner.stop();
    await runner.stop();
    expect(runner.progress().state).toBe("stopped");
    expect(() => runner.reader()).toThrow(expect.objectContaining({ code: "ReadModelStopped" }));
  });

  it("a listener that throws disturbs nobody", async () => {
    const store = memoryStore();
    const { lines, environment } = recording();
    const runner = runnerOf(counting(), { store, environment });
    const end = runner.onAdvance(() => {
      throw new Error("listener");
    });
    await runner.start();
    await reached(runner, await placed(store, "a"));
    end();
    expect(lines.some((line) => line.level === "error")).toBe(true);
    await runner.stop();
  });
});

describe("rebuild", () => {
  it("makes the view anew beside live traffic, swaps it in, and drops the old one", async () => {
    const store = memoryStore();
    const views = memoryViews();
    await history(store, 30);
    let by = "first";
    const model = readModel("counts", {
      from: [Order],
      view: table<Count>("counts", { key: "id" }),
      project: (events$, { view }) => events$.pipe(concatMap((event) => view.update(event.id, (row) => ({ id: event.id, n: (row?.n ?? 0) + 1, by })))),
    });
    const runner = runnerOf(model, { store, views, options: { pageSize: 3 } });
    await runner.start();
    await advancedUntil(runner, () => runner.progress().state === "live");
    by = "second";
    const positions = new Set<number>();
    let highest = 0;
    const end = runner.onAdvance(() => {
      const offset = runner.position()["log"] ?? 0;
      expect(offset).toBeGreaterThanOrEqual(highest);
      highest = offset;
      positions.add(offset);
    });
    const rebuilt = runner.rebuild();
    expect(runner.rebuild()).toBe(rebuilt);
    let position = {};
    let done = false;
    void rebuilt.then(() => (done = true));
    let written = 0;
    while (!done || written < 50) {
      position = await placed(store, `n${written % 7}`);
      written++;
      if (!done) expect(["rebuilding", "live"]).toContain(runner.progress().state);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await rebuilt;
    await reached(runner, position);
    end();
    const rows = await runner.reader().find();
    expect(total(rows)).toBe((position as { log: number }).log);
    expect(new Set(rows.map((row) => row.by))).toEqual(new Set(["second"]));
    expect(await views.builds("counts")).toEqual([{ model: "counts", version: 1, build: 2, active: true }]);
    expect(runner.progress().state).toBe("live");
    await runner.stop();
  });

  it("does not answer before it has passed what the old build has answered", async () => {
    const store = memoryStore();
    const gates = gatesFor(["a", "b"]);
    const runner = runnerOf(counting({ gate: gates.pass }), { store });
    await runner.start();
    await reached(runner, await placed(store, "a"));
    const rebuilt = runner.rebuild();
    // The new build holds the first order when the old one takes the second.
    await eventually(() => gates.waiting("a"));
    await reached(runner, await placed(store, "b"));
    gates.open("a");
    await eventually(() => gates.waiting("b"));
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(runner.position()).toEqual({ log: 2 });
    expect(runner.progress().state).toBe("rebuilding");
    gates.open("b");
    await rebuilt;
    expect(runner.position()).toEqual({ log: 2 });
    expect(await runner.reader().count()).toBe(2);
    await runner.stop();
  });

  it("that fails leaves the live build as it is, and takes itself away", async () => {
    const store = memoryStore();
    const views = memoryViews();
    let broken = false;
    const runner = runnerOf(counting({ before: (id) => { if (broken && id === "a") throw new Error("no more"); } }), { store, views, options: { attempts: 2 } });
    await runner.start();
    await reached(runner, await placed(store, "a"));
    broken = true;
    await expect(runner.rebuild()).rejects.toMatchObject({ code: "ProjectionFailed" });
    expect(runner.progress()).toMatchObject({ state: "live", error: undefined });
    await reached(runner, await placed(store, "b"));
    expect(await runner.reader().find()).toEqual([{ id: "a", n: 1 }, { id: "b", n: 1 }]);
    expect(await views.builds("counts")).toEqual([{ model: "counts", version: 1, build: 1, active: true }]);
    await runner.stop();
  });

  it("is given up by stop() with a name", async () => {
    const store = memoryStore();
    await history(store, 5);
    const runner = runnerOf(counting(), { store });
    await runner.start();
    await advancedUntil(runner, () => runner.progress().state === "live");
    const rebuilt = runner.rebuild();
    const outcome = expect(rebuilt).rejects.toMatchObject({ code: "ReadModelStopped" });
    await runner.stop();
    await outcome;
  });

  it("by one process takes the other one along", async () => {
    const { store, first, second, start, stop } = twoProcesses();
    await start();
    await first.rebuild();
    // A read on the dropped build finds the new one.
    expect(await second.reader().get("a")).toMatchObject({ n: 1 });
    let position = {};
    for (let i = 0; i < 20; i++) position = await placed(store, "a");
    await Promise.all([reached(first, position), reached(second, position)]);
    expect(await second.reader().get("a")).toMatchObject({ n: 21 });
    expect(await first.reader().get("a")).toMatchObject({ n: 21 });
    await stop();
  });

  it("under a query takes it along, as often as it happens", async () => {
    let again = false;
    const { views, first, second, start, stop } = twoProcesses({
      view: ({ reader }, build) => ({
        reader: patched(reader, {
          get: async (row) => {
            if (build === 2 && !again) {
              again = true;
              await first.rebuild();
            }
            return reader.get(row);
          },
        }),
      }),
    });
    await start();
    await first.rebuild();
    expect(await second.reader().get("a")).toMatchObject({ n: 1 });
    expect(again).toBe(true);
    expect((await views.builds("counts")).map(({ build }) => build)).toEqual([3]);
    await stop();
  });

  it("is found by a query although a look at the builds was under way from before", async () => {
    const told = Promise.withResolvers<void>();
    let [losing, looks] = [false, 0];
    const { store, first, second, start, stop } = twoProcesses({
      // A lost race has the builds looked at.
      view: (view) => ({ commit: async (...args) => (losing ? "lost" : view.commit(...args)) }),
      views: (views) => ({
        builds: async (model) => {
          const found = await views.builds(model);
          if (losing && ++looks === 1) await told.promise;
          return found;
        },
      }),
    });
    await start();
    await first.pause();
    losing = true;
    const position = await placed(store, "a");
    await eventually(() => looks === 1);
    first.resume();
    await reached(first, position);
    await first.rebuild();
    const answer = second.reader().get("a");
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    told.resolve();
    expect(await answer).toMatchObject({ n: 2 });
    await stop();
  });

  it("is waited for by a query whose build is dropped while the new one is just taking over", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const told = Promise.withResolvers<void>();
    let activated = 0;
    const runner = runnerOf(counting(), {
      store,
      views: patched(views, {
        activate: async (key) => {
          await views.activate(key);
          if (key.build === 2 && ++activated > 0) await told.promise;
        },
      }),
    });
    await runner.start();
    await reached(runner, await placed(store, "a"));
    const rebuilt = runner.rebuild();
    await eventually(() => activated > 0);
    await views.drop({ model: "counts", version: 1, build: 1 });
    const answer = runner.reader().get("a");
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    told.resolve();
    expect(await answer).toMatchObject({ n: 1 });
    await rebuilt;
    await runner.stop();
  });

  it("that another process has overtaken at its hand-over leaves the read model following", async () => {
    const overtaken = Promise.withResolvers<void>();
    let asks = 0;
    const { store, first, second, start } = twoProcesses({
      view: (view, build) => ({
        // Once the build is stopped for the hand-over its place is asked for, and the answer comes late.
        checkpoint: async () => {
          if (build === 1 && second.progress().state === "rebuilding" && ++asks > 0) await overtaken.promise;
          return view.checkpoint();
        },
      }),
    });
    await start();
    const rebuilt = second.rebuild();
    await eventually(() => asks > 0);
    await first.rebuild();
    overtaken.resolve();
    await rebuilt;
    await first.stop();
    await reached(second, await placed(store, "a"));
    expect(second.progress().state).toBe("live");
    expect(await second.reader().get("a")).toMatchObject({ n: 2 });
    await second.stop();
  });
});

describe("a new version", () => {
  it("is built beside the old one, which answers until the new one has caught up", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const old = runnerOf(counting({ by: "old" }), { store, views });
    await old.start();
    await placed(store, "a");
    await reached(old, await placed(store, "b"));
    await old.stop();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const model = readModel("counts", {
      from: [Order],
      version: 2,
      view: table<Count>("counts", { key: "id" }),
      project: (events$, { view }) => events$.pipe(concatMap((event) => held.then(() => view.upsert({ id: event.id, n: 1, by: "new" })))),
    });
    const runner = runnerOf(model, { store, views });
    await runner.start();
    expect(runner.progress().state).toBe("catching-up");
    expect((await runner.reader().get("a"))?.by).toBe("old");
    release();
    await advancedUntil(runner, () => runner.progress().state === "live");
    expect((await runner.reader().get("a"))?.by).toBe("new");
    expect((await views.builds("counts")).map((build) => [build.version, build.active])).toEqual([[1, false], [2, true]]);
    expect(await runner.dropInactive()).toBe(1);
    expect(await views.builds("counts")).toEqual([{ model: "counts", version: 2, build: 1, active: true }]);
    await runner.stop();
  });

  it("that fails leaves the old one answering, and says so", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const old = runnerOf(counting({ by: "old" }), { store, views });
    await old.start();
    await reached(old, await placed(store, "a"));
    await old.stop();
    let broken = true;
    const runner = runnerOf(counting({ version: 2, by: "new", before: () => { if (broken) throw new Error("bug"); } }), { store, views, options: { attempts: 2 } });
    await runner.start();
    await failed(runner);
    expect(runner.error?.code).toBe("ProjectionFailed");
    expect((await runner.reader().get("a"))?.by).toBe("old");
    broken = false;
    runner.resume();
    await advancedUntil(runner, () => runner.progress().state === "live");
    expect((await runner.reader().get("a"))?.by).toBe("new");
    await runner.stop();
  });

  it("waits out an outage of the view store at the take-over: the old one answers on, and nothing has failed", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const old = runnerOf(counting({ by: "old" }), { store, views });
    await old.start();
    await reached(old, await placed(store, "a"));
    await old.stop();
    let refusals = 0;
    const states = new Set<string>();
    const runner = runnerOf(counting({ version: 2, by: "new" }), {
      store,
      views: patched(views, {
        activate: async (key) => {
          if (++refusals <= 3) throw new StoreUnavailable("the view store is away", { retryable: true });
          return views.activate(key);
        },
      }),
    });
    runner.onAdvance(() => states.add(runner.progress().state));
    await runner.start();
    await eventually(() => refusals > 0);
    expect((await runner.reader().get("a"))?.by).toBe("old");
    await advancedUntil(runner, () => runner.progress().state === "live");
    expect((await runner.reader().get("a"))?.by).toBe("new");
    expect(states).not.toContain("failed");
    await runner.stop();
  });

  it("does not take over before it has passed what the old one has answered", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const gates = gatesFor(["a", "b"]);
    const old = runnerOf(counting({ by: "old", gate: gates.pass }), { store, views });
    await old.start();
    await reached(old, await placed(store, "a"));
    const runner = runnerOf(counting({ version: 2, by: "new", gate: gates.pass }), { store, views });
    await runner.start();
    await eventually(() => gates.waiting("a"));
    await reached(old, await placed(store, "b"));
    await reached(runner, { log: 2 });
    gates.open("a");
    await eventually(() => gates.waiting("b"));
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(runner.position()).toEqual({ log: 2 });
    expect((await runner.reader().get("b"))?.by).toBe("old");
    gates.open("b");
    await advancedUntil(runner, () => runner.progress().state === "live");
    expect((await runner.reader().get("b"))?.by).toBe("new");
    await Promise.all([old.stop(), runner.stop()]);
  });

  it("leaves a process of the old version with its own build, and that one does not take it back", async () => {
    const store = memoryStore();
    const views = memoryViews();
    const newer = runnerOf(counting({ version: 2, by: "new" }), { store, views });
    await newer.start();
    await reached(newer, await placed(store, "a"));
    const older = runnerOf(counting({ version: 1, by: "old" }), { store, views });
    await older.start();
    await reached(older, await placed(store, "b"));
    expect((await older.reader().get("a"))?.by).toBe("old");
    expect((await newer.reader().get("a"))?.by).toBe("new");
    const active = async (): Promise<number[]> => (await views.builds("counts")).filter((build) => build.active).map((build) => build.version);
    expect(await active()).toEqual([2]);
    await older.rebuild();
    expect(await active()).toEqual([2]);
    await Promise.all([newer.stop(), older.stop()]);
  });
});

describe("progress", () => {
  it("tells position, lag and rate", async () => {
    const store = memoryStore();
    const end = await history(store, 50);
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let pages = 0;
    const model = readModel("slow", {
      from: [Order],
      view: table<Count>("slow", { key: "id" }),
      project: (events$, { view }) => (++pages === 2 ? events$.pipe(concatMap((event) => held.then(() => view.upsert({ id: event.id, n: 1 })))) : events$),
    });
    const runner = runnerOf(model, { store, options: { pageSize: 10 } });
    await runner.start();
    await eventually(() => pages === 2);
    expect(runner.progress()).toMatchObject({ state: "catching-up", position: { log: 10 }, events: 10, error: undefined });
    expect(runner.progress().lagMs).toBeGreaterThan(1000);
    expect(runner.progress().lagEvents).toBe((end["log"] as number) - 10);
    release();
    await advancedUntil(runner, () => runner.progress().state === "live");
    expect(runner.progress()).toMatchObject({ state: "live", lagEvents: 0, lagMs: 0 });
    expect(runner.progress().eventsPerSecond).toBeGreaterThan(0);
    await runner.stop();
  });
});
