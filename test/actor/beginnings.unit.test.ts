/** Streams that are taken for new without a look (A7, N1): what that saves, and that nobody hears of it before the store has confirmed it. */
import { afterEach, describe, expect, it } from "vitest";
import { aggregate, jsonCodec, StoreUnavailable, type Codec } from "../../src/index.ts";
import type { AppendOutcome } from "../../src/store/event-store.ts";
import type { TestAppOptions } from "../../src/testing/index.ts";
import { Account, accountWith } from "./account.ts";
import { amountsOf, besides, scene, stranger, watch, type Scene, type ScriptedOptions } from "./support.ts";

/** To open twice is to open once. */
const Opening = aggregate("opening", {
  initial: () => ({ isOpen: false }),
  events: {
    Opened: (opening) => {
      opening.isOpen = true;
    },
  },
  commands: { open: (opening, _: void, { emit }) => (opening.isOpen ? [] : emit("Opened")) },
});

const open: { close(): Promise<void> }[] = [];
/** Every stream that is not resident is taken for new, unless the options say otherwise. */
async function begin({ actors, ...options }: Partial<Omit<TestAppOptions, "store">> = {}, scripted: ScriptedOptions = {}): Promise<Scene> {
  const test = await scene({ aggregates: [Account], ...options, actors: { assumeNewAfter: 0, ...actors } }, scripted);
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

describe("N1 a stream is taken for new", () => {
  it("once so many commands of that name in a row have found nothing, until one of them finds something", async () => {
    const { app, run, store } = await begin({ actors: { assumeNewAfter: 2 } });
    const readsOf = async (work: () => Promise<unknown>): Promise<number> => {
      const before = store.reads.length;
      await run(work());
      return store.reads.length - before;
    };
    const deposit = (id: string) => () => app.at(Account, id).deposit({ amount: 1 });
    expect([await readsOf(deposit("a")), await readsOf(deposit("b")), await readsOf(deposit("c")), await readsOf(deposit("d"))]).toEqual([1, 1, 0, 0]);
    // From the commit on it is known.
    expect(await readsOf(() => app.at(Account, "d").state({ from: "cache" }))).toBe(0);
    // Another command has its own experience.
    expect(await readsOf(() => app.at(Account, "e").scatter({ times: 2, note: "n" }))).toBe(1);
    await stranger(store.other, "account-f", 10, 20);
    // What the conflict brought was all there is: it is not read again.
    expect(await readsOf(deposit("f"))).toBe(0);
    expect(await amountsOf(store.other, "account-f")).toEqual(["+10", "+20", "+1"]);
    expect([await readsOf(deposit("g")), await readsOf(deposit("h")), await readsOf(deposit("i"))]).toEqual([1, 1, 0]);
    expect(store.groups.map(([append]) => append?.expected)).toEqual([0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
  });

  it("not for a caller who knows better: by the version that it expects, or by its token", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", 1);
    const other = await besides(store.log, { aggregates: [Account] });
    open.push(other);
    const { token } = await other.run(other.app.at(Account, "b").deposit({ amount: 2 })).then((result) => (result.ok ? result : Promise.reject(new Error("it was rejected"))));
    await run(app.at(Account, "a").deposit({ amount: 3 }, { expectedVersion: 1 }));
    await run(app.at(Account, "b").deposit({ amount: 4 }, { atLeast: token }));
    await run(app.at(Account, "c").state());
    expect(store.groups.map(([append]) => append?.expected)).toEqual([1, 1]);
  });

  it("not where the store would forget that a stream has been", async () => {
    const { app, run, store } = await begin({}, { remembersStreams: false });
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    expect(store.reads).toHaveLength(1);
  });
});

describe("A7 nothing is answered on what was only assumed", () => {
  it("a rejection, an error of the command, a no-op and a state are decided again on what stands", async () => {
    const { app, run, store } = await begin();
    for (const id of ["a", "b", "c"]) await stranger(store.other, `account-${id}`, 10);
    expect(await run(app.at(Account, "a").withdraw({ amount: 4 }))).toMatchObject({ ok: true, version: 2 });
    await expect(run(app.at(Account, "b").explode())).rejects.toMatchObject({ code: "DomainCodeFailed", details: { version: 1 } });
    expect(await run(Promise.all([app.at(Account, "c").settle(), app.at(Account, "c").state()]))).toMatchObject([{ ok: true, version: 1 }, { version: 1, state: { balance: 10 } }]);
    expect(await run(app.at(Account, "new").withdraw({ amount: 4 }))).toMatchObject({ ok: false, code: "insufficient", details: { balance: 0 }, decidedAt: { version: 0 } });
  });

  it("nor is what the cache would answer, alone or beside a command that appends", async () => {
    const { app, run, store } = await begin();
    for (const id of ["a", "b"]) await stranger(store.other, `account-${id}`, 10);
    expect(await run(app.at(Account, "a").withdraw({ amount: 4 }, { from: "cache" }))).toMatchObject({ ok: true, version: 2 });
    const both = [app.at(Account, "b").withdraw({ amount: 99 }, { from: "cache" }), app.at(Account, "b").deposit({ amount: 1 })];
    expect(await run(Promise.all(both))).toMatchObject([{ ok: false, details: { balance: 10 } }, { ok: true, version: 2 }]);
  });

  it("a version that was expected is compared with what stands", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", 10);
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }, { expectedVersion: 0 }))).rejects.toMatchObject({ code: "WrongExpectedVersion", details: { actual: 1 } });
    expect(await run(app.at(Account, "b").deposit({ amount: 1 }, { expectedVersion: 0 }))).toMatchObject({ ok: true, version: 1 });
  });

  it("a command id that stands in the stream is found", async () => {
    const { app, run, store } = await begin();
    const other = await besides(store.log, { aggregates: [Account] });
    open.push(other);
    const first = await other.run(other.app.at(Account, "a").deposit({ amount: 5 }, { commandId: "once" }));
    expect(await run(app.at(Account, "a").deposit({ amount: 5 }, { commandId: "once" }))).toEqual(first);
    await expect(run(app.at(Account, "a").deposit({ amount: 6 }, { commandId: "once" }))).rejects.toMatchObject({ code: "CommandIdReused" });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+5"]);
  });

  it("also not what was decided ahead on it", async () => {
    const { app, settle, store } = await begin();
    await stranger(store.other, "account-a", 10);
    store.hold();
    const first = watch(app.at(Account, "a").deposit({ amount: 1 }));
    await settle();
    const ahead = [watch(app.at(Account, "a").withdraw({ amount: 12 })), watch(app.at(Account, "a").withdraw({ amount: 4 }, { from: "cache" }))];
    await settle();
    expect([first, ...ahead].map(({ answered }) => answered)).toEqual([false, false, false]);
    await store.release();
    await settle();
    expect(first.value).toMatchObject({ ok: true, version: 2 });
    expect(ahead.map(({ value }) => value)).toMatchObject([{ ok: false, details: { balance: 11 } }, { ok: true, version: 3 }]);
  });

  it("nor is a refusal: the stream is read first, and what needs no append is answered all the same", async () => {
    const { app, run, store } = await begin({ aggregates: [Opening] });
    const refuse = async (): Promise<AppendOutcome[]> => [{ kind: "refused", code: "disk-full", message: "there is no room", retryable: false }];
    const other = await besides(store.log, { aggregates: [Opening] });
    open.push(other);
    await other.run(other.app.at(Opening, "a").open());
    store.appendScripts.push(refuse);
    expect(await run(app.at(Opening, "a").open())).toMatchObject({ ok: true, version: 1, events: [] });
    expect(store.groups).toHaveLength(1);
    store.appendScripts.push(refuse, refuse);
    await expect(run(app.at(Opening, "b").open())).rejects.toMatchObject({ code: "StoreRefused" });
    expect(await run(app.at(Opening, "b").open())).toMatchObject({ ok: true, version: 1 });
  });

  it("nor is an unknown outcome whose place another writer took", async () => {
    const { app, run, store } = await begin();
    store.appendScripts.push(async () => {
      await stranger(store.other, "account-a", 10);
      return [{ kind: "unknown", cause: new Error("the reply was lost") }];
    });
    expect(await run(app.at(Account, "a").withdraw({ amount: 0 }))).toMatchObject({ ok: true, version: 2 });
    expect(await run(app.at(Account, "a").state())).toMatchObject({ state: { balance: 10 } });
  });

  it("with an asynchronous codec too", async () => {
    const late: Codec = { encode: async (batch) => jsonCodec.encode(batch), decode: async (batch) => jsonCodec.decode(batch) };
    const { app, run, store } = await begin({ codec: late });
    await stranger(store.other, "account-a", 10);
    const account = app.at(Account, "a");
    expect(await run(Promise.all([account.withdraw({ amount: 4 }, { from: "cache" }), account.deposit({ amount: 1 })]))).toMatchObject([{ ok: true, version: 2 }, { ok: true, version: 3 }]);
    expect(await run(app.at(Account, "b").deposit({ amount: 1 }))).toMatchObject({ ok: true, version: 1 });
  });
});

describe("A7 an assumption that was wrong", () => {
  it("is none of the attempts of its commands", async () => {
    const { app, run, store } = await begin({ actors: { attempts: 1 } });
    await stranger(store.other, "account-a", 10);
    expect(await run(app.at(Account, "a").deposit({ amount: 1 }))).toMatchObject({ ok: true, version: 2 });
    expect(app.metrics()).toMatchObject({ conflicts: 1, hydrations: 1, eventsReplayed: 1 });
  });

  it("leaves the stream to its snapshot where the conflict does not bring all of it", async () => {
    const Snapping = accountWith({ everyEvents: 4 });
    const { app, run, store, clock } = await begin({ aggregates: [Snapping], actors: { idleTimeoutMs: 1000 } });
    for (let n = 0; n < 6; n++) await run(app.at(Snapping, "a").deposit({ amount: 1 }));
    await clock.advance(5000);
    expect(app.metrics()).toMatchObject({ residentActors: 0, snapshotsSaved: 1 });
    store.appendScripts.push(async (appends, send) => (await send(appends)).map((outcome) => (outcome.kind === "conflict" ? { ...outcome, missing: outcome.missing?.slice(0, 3) ?? [] } : outcome)));
    expect(await run(app.at(Snapping, "a").deposit({ amount: 1 }))).toMatchObject({ ok: true, version: 7 });
    expect(app.metrics()).toMatchObject({ snapshotsUsed: 1, eventsReplayed: 2 });
  });

  it("ends in an error of the store: the commands fail, nothing was written, and the next one begins anew", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", 10);
    store.readScripts.push(() => Promise.reject(new StoreUnavailable("gone", { retryable: true })));
    await expect(run(app.at(Account, "a").withdraw({ amount: 4 }))).rejects.toMatchObject({ code: "StoreUnavailable" });
    expect(await run(app.at(Account, "a").withdraw({ amount: 4 }))).toMatchObject({ ok: true, version: 2 });
  });
});
