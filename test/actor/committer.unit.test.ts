/** Group commit, seen through the actors that share it (G1 to G4); its algorithm against a model stands in test/simulator. */
import { afterEach, describe, expect, it } from "vitest";
import type { AppendOutcome } from "../../src/index.ts";
import { Account } from "./account.ts";
import { scene, stranger, watch, type Scene, type ScriptedOptions } from "./support.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(scripted: ScriptedOptions = {}): Promise<Scene> {
  const test = await scene({ aggregates: [Account] }, scripted);
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

describe("group commit", () => {
  it("joins the appends of all actors of one turn into one round trip", async () => {
    const { app, run, store } = await begin();
    await run(Promise.all(Array.from({ length: 50 }, (_, n) => app.at(Account, `a${n}`).deposit({ amount: 1 }))));
    expect(store.groups.map((appends) => appends.length)).toEqual([50]);
    expect(new Set(store.groups[0]?.map(({ stream }) => stream)).size).toBe(50);
    expect(app.metrics()).toMatchObject({ groups: 1, appends: 50, eventsAppended: 50 });
  });

  it("joins what comes while a group is under way where the store takes one at a time, in the order it came", async () => {
    const { app, settle, store } = await begin({ groupsInFlight: 1 });
    store.hold();
    const answers = [];
    for (let n = 0; n < 5; n++) {
      answers.push(watch(app.at(Account, `a${n}`).deposit({ amount: 1 })));
      await settle();
    }
    expect(store.groups.map((appends) => appends.map(({ stream }) => stream))).toEqual([["account-a0"]]);
    await store.release();
    await settle();
    expect(store.groups.map((appends) => appends.map(({ stream }) => stream))).toEqual([["account-a0"], ["account-a1", "account-a2", "account-a3", "account-a4"]]);
    expect(answers.every(({ value }) => value.ok)).toBe(true);
  });

  it("has as many groups under way as the store takes, and no more", async () => {
    const { app, settle, store } = await begin({ groupsInFlight: 2 });
    store.hold();
    for (let n = 0; n < 4; n++) {
      watch(app.at(Account, `a${n}`).deposit({ amount: 1 }));
      await settle();
    }
    expect(store.groups).toHaveLength(2);
    await store.release();
    await settle();
    expect(store.groups.map((appends) => appends.length)).toEqual([1, 1, 2]);
  });

  it("has no more under way either where one turn fills several groups", async () => {
    const { app, settle, store } = await begin({ groupsInFlight: 1, maxAppendsInBatch: 4 });
    store.hold();
    const answers = Array.from({ length: 10 }, (_, n) => watch(app.at(Account, `a${n}`).deposit({ amount: 1 })));
    await settle();
    expect(store.groups.map((appends) => appends.length)).toEqual([4]);
    await store.release();
    await settle();
    expect(store.groups.map((appends) => appends.length)).toEqual([4, 4, 2]);
    expect(answers.every(({ value }) => value.ok)).toBe(true);
  });

  it("splits a group at the store's number of appends", async () => {
    const { app, run, store } = await begin({ maxAppendsInBatch: 4 });
    await run(Promise.all(Array.from({ length: 10 }, (_, n) => app.at(Account, `a${n}`).deposit({ amount: 1 }))));
    expect(store.groups.map((appends) => appends.length)).toEqual([4, 4, 2]);
  });

  it("G6 gives a store that takes several groups at once equal shares of what is open, so that it is never idle while callers are answered", async () => {
    const { app, settle, store } = await begin({ groupsInFlight: 2 });
    store.hold();
    const all = (): unknown[] => Array.from({ length: 200 }, (_, n) => watch(app.at(Account, `a${n}`).deposit({ amount: 1 })));
    all();
    await settle();
    expect(store.groups.map((appends) => appends.length)).toEqual([100, 100]);
    await store.release();
    await settle();
    store.hold();
    watch(app.at(Account, "first").deposit({ amount: 1 }));
    await settle();
    all();
    await settle();
    // Beside a small group the rest is halved too: the other half goes when the small one is answered.
    expect(store.groups.slice(2).map((appends) => appends.length)).toEqual([1, 101]);
    await store.release();
    await settle();
    expect(store.groups.slice(4).map((appends) => appends.length)).toEqual([99]);
  });

  it("G6 splits nothing where shares would be small", async () => {
    const { app, run, store } = await begin({ groupsInFlight: 16 });
    await run(Promise.all(Array.from({ length: 127 }, (_, n) => app.at(Account, `a${n}`).deposit({ amount: 1 }))));
    expect(store.groups.map((appends) => appends.length)).toEqual([127]);
  });

  it("G4 never has two appends of one stream under way, whatever is in flight", async () => {
    const { app, settle, store } = await begin({ groupsInFlight: 16 });
    store.hold();
    for (let n = 0; n < 12; n++) {
      watch(app.at(Account, `a${n % 3}`).deposit({ amount: 1 }));
      await settle();
    }
    const underWay = store.groups.flat().map(({ stream }) => stream);
    expect(underWay.toSorted()).toEqual(["account-a0", "account-a1", "account-a2"]);
    await store.release();
    await settle();
    expect(app.metrics()).toMatchObject({ conflicts: 0, eventsAppended: 12 });
  });

  it("gives each append its own outcome: a refused and a conflicting one leave their neighbours alone", async () => {
    const { app, run, store } = await begin();
    await run(app.at(Account, "b").deposit({ amount: 1 }));
    await stranger(store.other, "account-b", 7);
    store.appendScripts.push(async (appends, send) => {
      const busy: AppendOutcome = { kind: "refused", code: "busy", message: "busy", retryable: true };
      const outcomes = await Promise.all(appends.map(async (append) => (append.stream === "account-c" ? [busy] : send([append]))));
      return outcomes.flat();
    });
    const [a, b, c] = await run(Promise.allSettled(["a", "b", "c"].map((id) => app.at(Account, id).deposit({ amount: 2 }))));
    expect(a).toMatchObject({ value: { ok: true, version: 1 } });
    expect(b).toMatchObject({ value: { ok: true, version: 3 } });
    expect(c).toMatchObject({ reason: { code: "StoreUnavailable" } });
    expect(store.groups[1]).toHaveLength(3);
  });

  it("G3 a store that throws makes every outcome of the group unknown; each stream settles its own", async () => {
    const { app, run, store } = await begin();
    store.appendScripts.push(async (appends, send) => {
      await send(appends.slice(0, 1)); // the first one stands, the others were never written
      throw new Error("the store broke its promise");
    });
    const results = await run(Promise.all(["a", "b", "c"].map((id) => app.at(Account, id).deposit({ amount: 2 }))));
    expect(results.map((result) => result.ok && result.version)).toEqual([1, 1, 1]);
    expect(app.metrics()).toMatchObject({ unknownOutcomes: 3, commandsFailed: 0 });
    expect(store.groups.slice(1).flat().map(({ stream }) => stream).toSorted()).toEqual(["account-b", "account-c"]);
  });

  it("G5 an append whose outcome is told early is answered and its stream goes on, while its neighbours wait; nobody is told twice", async () => {
    const { app, settle, run, store } = await begin({ groupsInFlight: 4 });
    let answer: (() => void) | undefined;
    store.appendScripts.push(async (appends, send, tell) => {
      const [first] = await send(appends.slice(0, 1));
      tell(0, first as AppendOutcome);
      await new Promise<void>((resolve) => (answer = resolve));
      return [first as AppendOutcome, ...(await send(appends.slice(1)))];
    });
    const [quick, slow] = ["quick", "slow"].map((id) => watch(app.at(Account, id).deposit({ amount: 1 })));
    await settle();
    expect(quick?.value).toMatchObject({ ok: true, version: 1 });
    expect(slow?.answered).toBe(false);
    store.hold();
    const next = watch(app.at(Account, "quick").deposit({ amount: 2 }));
    await settle();
    answer?.();
    await settle();
    expect(slow?.value).toMatchObject({ ok: true, version: 1 });
    expect(next.answered).toBe(false); // its own append is under way
    await store.release();
    await settle();
    expect(next.value).toMatchObject({ ok: true, version: 2 });
    expect((await run(app.at(Account, "quick").state())).state).toMatchObject({ balance: 3 });
    expect(app.metrics()).toMatchObject({ eventsAppended: 3, commandsAccepted: 3, conflicts: 0 });
  });

  it("G5 what a store tells after its answer is nobody's: it answers no later command", async () => {
    const { app, settle, run, store } = await begin();
    let late: (() => void) | undefined;
    store.appendScripts.push(async (appends, send, tell) => {
      late = () => tell(0, { kind: "committed", version: 9, position: { log: 9 } });
      return send(appends);
    });
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    store.hold();
    const next = watch(app.at(Account, "a").deposit({ amount: 2 }));
    await settle();
    late?.();
    await settle();
    expect(next.answered).toBe(false);
    await store.release();
    await settle();
    expect(next.value).toMatchObject({ ok: true, version: 2 });
  });
});
