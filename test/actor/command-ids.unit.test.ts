/** The same command id changes the stream once and answers the same (D4, W1 to W3). */
import { afterEach, describe, expect, it } from "vitest";
import fc from "fast-check";
import { hydrate } from "../../src/actor/hydrate.ts";
import { actorOptions } from "../../src/actor/actor-options.ts";
import { Beginnings } from "../../src/actor/beginnings.ts";
import { Committer } from "../../src/actor/committer.ts";
import { newCounters } from "../../src/actor/metrics.ts";
import type { StreamState } from "../../src/actor/stream-state.ts";
import { aggregate, behaviourOf } from "../../src/aggregate/aggregate.ts";
import { Snapshotter } from "../../src/snapshot/snapshotter.ts";
import type { SnapshotStore, StoredSnapshot } from "../../src/snapshot/snapshot-store.ts";
import { jsonCodec } from "../../src/store/codec.ts";
import { memoryBackend, memorySnapshots } from "../../src/store/memory/index.ts";
import { manualEnvironment, testApp, type TestAppOptions } from "../../src/testing/index.ts";
import { Account, accountWith } from "./account.ts";
import { amountsOf, besides, eventOf, scene, watch, type Scene } from "./support.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<Omit<TestAppOptions, "store">> = {}): Promise<Scene> {
  const test = await scene({ aggregates: [Account], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

describe("the same command id again", () => {
  it("is answered the same: version, events and token, however often and whatever came between", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    const first = await run(account.scatter({ times: 3, note: "n" }, { commandId: "c" }));
    await run(account.deposit({ amount: 50 }));
    for (let n = 0; n < 3; n++) expect(await run(account.scatter({ times: 3, note: "n" }, { commandId: "c" }))).toEqual(first);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+1", "+1", "+50"]);
    expect(app.metrics().duplicates).toBe(3);
  });

  it("is answered the same after passivation", async () => {
    const { app, clock, run } = await begin({ actors: { idleTimeoutMs: 100 } });
    const account = app.at(Account, "a");
    const first = await run(account.deposit({ amount: 5 }, { commandId: "c" }));
    await clock.advance(5000);
    expect(app.metrics().residentActors).toBe(0);
    expect(await run(account.deposit({ amount: 5 }, { commandId: "c" }))).toEqual(first);
  });

  it("is answered the same by another app on the log, whether it has known the stream before or not", async () => {
    const { app, run, store } = await begin();
    const knowing = await besides(store.log, { aggregates: [Account] });
    const fresh = await besides(store.log, { aggregates: [Account], seed: 3 });
    open.push(knowing, fresh);
    await knowing.run(knowing.app.at(Account, "a").state()); // resident there, at version 0
    const first = await run(app.at(Account, "a").deposit({ amount: 5 }, { commandId: "c" }));
    // The one that knows too little decides it anew, meets the conflict, and finds it in what it missed.
    expect(await knowing.run(knowing.app.at(Account, "a").deposit({ amount: 5 }, { commandId: "c" }))).toEqual(first);
    expect(await fresh.run(fresh.app.at(Account, "a").deposit({ amount: 5 }, { commandId: "c" }))).toEqual(first);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });

  it("is not decided again: an expected version that held then still does", async () => {
    const { app, run } = await begin();
    const account = app.at(Account, "a");
    const first = await run(account.deposit({ amount: 5 }, { commandId: "c", expectedVersion: 0 }));
    await run(account.deposit({ amount: 1 }));
    expect(await run(account.deposit({ amount: 5 }, { commandId: "c", expectedVersion: 0 }))).toEqual(first);
  });

  it("with another input or another command is CommandIdReused, and changes nothing", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }, { commandId: "c" }));
    for (const again of [() => account.deposit({ amount: 6 }, { commandId: "c" }), () => account.withdraw({ amount: 5 }, { commandId: "c" })]) {
      await expect(run(again())).rejects.toMatchObject({ code: "CommandIdReused", retryable: false, details: { stream: "account-a", commandId: "c", version: 1 } });
    }
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });

  it("whose input has its keys in another order is the same", async () => {
    const { app, run } = await begin();
    const account = app.at(Account, "a");
    const first = await run(account.deposit({ amount: 5, note: "n" }, { commandId: "c" }));
    expect(await run(account.deposit({ note: "n", amount: 5 }, { commandId: "c" }))).toEqual(first);
  });

  it("on another stream is another command", async () => {
    const { app, run } = await begin();
    await run(app.at(Account, "a").deposit({ amount: 5 }, { commandId: "c" }));
    expect(await run(app.at(Account, "b").deposit({ amount: 7 }, { commandId: "c" }))).toMatchObject({ ok: true, version: 1 });
  });

  it("of a rejection is decided anew: rejections are not remembered", async () => {
    const { app, run } = await begin();
    const account = app.at(Account, "a");
    expect(await run(account.withdraw({ amount: 5 }, { commandId: "c" }))).toMatchObject({ ok: false });
    await run(account.deposit({ amount: 5 }));
    expect(await run(account.withdraw({ amount: 5 }, { commandId: "c" }))).toMatchObject({ ok: true, version: 2 });
  });

  it("draws the same ids when a conflict makes it decide again", async () => {
    const ids: string[] = [];
    const Drawing = aggregate("drawing", {
      initial: () => ({}),
      events: { Drawn: (_, __: { id: string }) => undefined },
      commands: {
        draw: (_, _input: undefined, { emit, id }) => {
          const drawn = id();
          ids.push(drawn);
          return emit("Drawn", { id: drawn });
        },
      },
    });
    const { app, run, store } = await begin({ aggregates: [Drawing] });
    await run(app.at(Drawing, "a").state());
    await store.other.append([{ stream: "drawing-a", expected: "any", events: [eventOf("Drawn", { id: "x" })] }]);
    await run(app.at(Drawing, "a").draw(undefined, { commandId: "c" }));
    expect(ids).toHaveLength(2);
    expect(ids[0]).toBe(ids[1]);
  });
});

describe("D4 twins: one id twice at the same time", () => {
  it("in one round become one command, and both are answered the same", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    const results = await run(Promise.all([account.deposit({ amount: 5 }, { commandId: "c" }), account.deposit({ amount: 1 }), account.deposit({ amount: 5 }, { commandId: "c" })]));
    expect(results[2]).toMatchObject({ ok: true, version: 1, events: [{ type: "Deposited", data: { amount: 5 } }] });
    expect(results[0]).toMatchObject({ ok: true, version: 1, events: [{ type: "Deposited", data: { amount: 5 } }] });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5", "+1"]);
  });

  it("one under way and one decided ahead become one command, answered only when it is durable", async () => {
    const { app, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    const first = watch(account.deposit({ amount: 5 }, { commandId: "c" }));
    await settle();
    const second = watch(account.deposit({ amount: 5 }, { commandId: "c" }));
    await settle();
    expect(second.answered).toBe(false);
    await store.release();
    await settle();
    expect([first.value, second.value]).toMatchObject([{ version: 1 }, { version: 1 }]);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });

  it("the twin of a command that the store refuses is decided itself", async () => {
    const { app, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    store.appendScripts.push(async (appends) => appends.map(() => ({ kind: "refused", code: "busy", message: "busy", retryable: true })));
    const first = watch(account.deposit({ amount: 5 }, { commandId: "c" }));
    await settle();
    const second = watch(account.deposit({ amount: 5 }, { commandId: "c" }));
    await settle();
    await store.release();
    await settle();
    expect(first.code).toBe("StoreUnavailable");
    expect(second.value).toMatchObject({ ok: true, version: 1 });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });

  it("with different inputs: the first stands, the second is CommandIdReused", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    const [first, second] = await run(Promise.allSettled([account.deposit({ amount: 5 }, { commandId: "c" }), account.deposit({ amount: 6 }, { commandId: "c" })]));
    expect(first).toMatchObject({ value: { ok: true, version: 1 } });
    expect(second).toMatchObject({ reason: { code: "CommandIdReused" } });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });

  it("in two apps at the same time become one command", async () => {
    const { app, settle, store } = await begin();
    const other = await besides(store.log, { aggregates: [Account] });
    open.push(other);
    store.hold();
    const here = watch(app.at(Account, "a").deposit({ amount: 5 }, { commandId: "c" }));
    await settle();
    const there = watch(other.app.at(Account, "a").deposit({ amount: 5 }, { commandId: "c" }));
    await other.settle();
    await store.release();
    await settle();
    expect(here.value).toEqual(there.value);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });
});

describe("the window", () => {
  it("W1 remembers the newest commands of a stream and no more; after that an id is free again", async () => {
    const { app, run } = await begin({ actors: { commandWindow: { capacity: 3, windowMs: 1e9 } } });
    const account = app.at(Account, "a");
    for (let n = 1; n <= 4; n++) await run(account.deposit({ amount: n }, { commandId: `c${n}` }));
    expect(await run(account.deposit({ amount: 2 }, { commandId: "c2" }))).toMatchObject({ version: 2 });
    expect(await run(account.deposit({ amount: 1 }, { commandId: "c1" }))).toMatchObject({ version: 5 });
  });

  it("W1 W2 remembers by the stream's own time, not by the clock", async () => {
    const { app, clock, run } = await begin({ actors: { commandWindow: { capacity: 100, windowMs: 10_000 } } });
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }, { commandId: "c" }));
    await clock.advance(60_000);
    expect(await run(account.deposit({ amount: 1 }, { commandId: "c" }))).toMatchObject({ version: 1 }); // nothing has happened in the stream since
    await run(account.deposit({ amount: 2 }));
    expect(await run(account.deposit({ amount: 1 }, { commandId: "c" }))).toMatchObject({ version: 3 });
  });
});

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("call" as const), id: fc.integer({ min: 0, max: 7 }), amount: fc.integer({ min: 1, max: 3 }), chosen: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("scatter" as const), id: fc.integer({ min: 0, max: 7 }), times: fc.integer({ min: 2, max: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("stranger" as const), back: fc.integer({ min: -400, max: 400 }), commandId: fc.option(fc.integer({ min: 0, max: 7 })) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.integer({ min: 1, max: 300 }) }) },
);
const window_ = fc.record({ capacity: fc.integer({ min: 1, max: 6 }), windowMs: fc.integer({ min: 50, max: 800 }) });

const partsOf = ({ version, state, position, lastEventId }: StreamState) => ({ version, state, position, lastEventId });

describe("W2 I3 window and state", () => {
  it("are identical live, after every snapshot, after passivation, and replayed from nothing, for drawn histories", async () => {
    const Snapping = accountWith({ everyEvents: 1 });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), window_, fc.boolean(), async (steps, commandWindow, passivates) => {
        const taken = new Map<number, StoredSnapshot>();
        const inner = memorySnapshots();
        const snapshots: SnapshotStore = {
          load: (stream) => inner.load(stream),
          save(saved) {
            for (const one of saved) taken.set(one.version, one);
            return inner.save(saved);
          },
          delete: (stream) => inner.delete(stream),
          close: () => inner.close(),
        };
        const backend = { ...memoryBackend(), snapshots };
        const actors = { commandWindow, idleTimeoutMs: passivates ? 100 : 1e9 };
        const test = await testApp({ store: backend, aggregates: [Snapping], actors });
        const account = test.app.at(Snapping, "a");
        for (const one of steps) {
          if (one.kind === "advance") await test.clock.advance(one.ms);
          else if (one.kind === "stranger") {
            const id = `s${one.commandId ?? "none"}`;
            const metadata = { correlationId: id, causationId: id, commandId: id, ...(one.commandId === null ? {} : { fingerprint: "f" }) };
            await backend.events.append([{ stream: "account-a", expected: "any", events: [eventOf("Deposited", { amount: 1 }, { metadata, recordedAt: test.clock.now() + one.back })] }]);
          } else {
            const options = one.kind === "scatter" || one.chosen ? { commandId: `c${one.id}` } : {};
            // The input follows from the id, or does not: then the id may be one that was used for another.
            const work = one.kind === "scatter" ? account.scatter({ times: one.times, note: "n" }, options) : account.deposit({ amount: one.amount }, options);
            await test.run(work.catch((error: { code: string }) => expect(error.code).toBe("CommandIdReused")));
          }
        }
        await test.run(account.deposit({ amount: 1 })); // the last snapshot is that of the end
        await test.close();

        const environment = manualEnvironment();
        const counters = newCounters();
        const ports = (snapshotter: Snapshotter | undefined) => ({
          behaviour: behaviourOf(Snapping),
          store: backend.events,
          committer: new Committer(backend.events, environment.clock, counters),
          snapshotter,
          codec: jsonCodec,
          environment,
          options: actorOptions(actors),
          beginnings: new Beginnings(0),
          counters,
          ending: new AbortController().signal,
        });
        const { state: replayed } = await hydrate("account-a", ports(undefined));
        const live = taken.get(replayed.version);
        expect(live?.window).toBe(replayed.window.toJSON());
        expect(live?.state).toBe(JSON.stringify(replayed.state));
        expect(live?.eventId).toBe(replayed.lastEventId);
        expect(live?.position).toEqual(replayed.position);
        for (const snapshot of taken.values()) {
          const { state: restored } = await hydrate("account-a", ports(new Snapshotter({ ...snapshots, load: async () => snapshot }, environment, counters)));
          expect(restored.window.toJSON()).toBe(replayed.window.toJSON());
          expect(partsOf(restored)).toEqual(partsOf(replayed));
        }
        expect(counters).toMatchObject({ snapshotsUsed: taken.size, snapshotsIgnored: 0 });
      }),
      { numRuns: 60 },
    );
  });
});
