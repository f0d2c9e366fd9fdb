/** One actor: what it decides, what it appends, and when it answers (A1 to A4, A6). */
import { afterEach, describe, expect, it } from "vitest";
import { Account, balances } from "./account.ts";
import { amountsOf, besides, eventOf, eventsOf, scene, stranger, watch, type Scene, type ScriptedOptions } from "./support.ts";
import type { TestAppOptions } from "../../src/testing/index.ts";
import { isTidemarkError, StoreUnavailable } from "../../src/index.ts";
import type { AppendOutcome, RefusalCode } from "../../src/store/event-store.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<TestAppOptions> = {}, scripted: ScriptedOptions = {}): Promise<Scene> {
  const { store: _, ...rest } = options;
  const test = await scene({ aggregates: [Account], ...rest }, scripted);
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

const errorOf = async (work: Promise<unknown>): Promise<{ code: string; retryable: boolean; details: Record<string, unknown>; cause: unknown }> =>
  work.then(
    () => Promise.reject(new Error("it did not fail")),
    (error: unknown) => (isTidemarkError(error) ? (error as unknown as Awaited<ReturnType<typeof errorOf>>) : Promise.reject(error as Error)),
  );

describe("A1 an actor decides one command after another", () => {
  it("each on the state that the ones before it left, in the order of the calls", async () => {
    const { app, run } = await begin();
    const account = app.at(Account, "a");
    const results = await run(Promise.all([account.deposit({ amount: 10 }), account.withdraw({ amount: 7 }), account.withdraw({ amount: 7 }), account.deposit({ amount: 4 }), account.withdraw({ amount: 7 })]));
    expect(results.map((result) => (result.ok ? result.version : [result.code, result.details, result.decidedAt.version]))).toEqual([1, 2, ["insufficient", { balance: 3 }, 2], 3, 4]);
  });

  it("also those that wait while an append is under way, on what it will leave", async () => {
    const { app, run, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    const first = watch(account.deposit({ amount: 10 }));
    await settle();
    const rest = [watch(account.withdraw({ amount: 4 })), watch(account.withdraw({ amount: 7 })), watch(account.withdraw({ amount: 6 }))];
    await settle();
    await store.release();
    await settle();
    expect(first.value).toMatchObject({ ok: true, version: 1 });
    expect(rest.map(({ value }) => value.ok)).toEqual([true, false, true]);
    expect(rest[1]?.value).toMatchObject({ code: "insufficient", details: { balance: 6 }, decidedAt: { version: 2 } });
    expect(await run(account.state())).toMatchObject({ version: 3, state: { balance: 0 } });
  });

  it("and has at most one append under way: what was decided meanwhile goes with the next", async () => {
    const { app, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    const answers = [watch(account.deposit({ amount: 1 }))];
    await settle();
    for (let amount = 2; amount <= 4; amount++) {
      answers.push(watch(account.deposit({ amount })));
      await settle();
    }
    expect(store.groups).toHaveLength(1);
    await store.release();
    await settle();
    expect(store.groups.map((appends) => appends.map(({ expected, events }) => [expected, events.length]))).toEqual([[[0, 1]], [[1, 3]]]);
    expect(answers.map(({ value }) => value.ok && value.version)).toEqual([1, 2, 3, 4]);
  });
});

describe("A2 an actor appends once for a whole mailbox", () => {
  it("what a hundred calls of one turn emit", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(Promise.all(Array.from({ length: 100 }, (_, n) => (n % 10 === 9 ? account.settle() : account.deposit({ amount: 1 })))));
    expect(store.groups).toHaveLength(1);
    expect(store.groups[0]?.[0]).toMatchObject({ stream: "account-a", expected: 0 });
    expect(await amountsOf(store.other, "account-a")).toHaveLength(90);
  });

  it("on exactly the version that it knows, never on any", async () => {
    const { app, run, store } = await begin();
    await stranger(store.other, "account-a", 1, 2);
    await run(app.at(Account, "a").deposit({ amount: 3 }));
    await run(app.at(Account, "a").deposit({ amount: 4 }));
    expect(store.groups.map(([append]) => append?.expected)).toEqual([2, 3]);
  });

  it("split where the store's limit is, between commands and in order", async () => {
    const { app, run, store } = await begin({}, { maxAppendBytes: 2000 });
    const account = app.at(Account, "a");
    const note = "n".repeat(400);
    const results = await run(Promise.all(Array.from({ length: 9 }, (_, n) => account.scatter({ times: 1, note: `${note}${n}` }))));
    expect(results.map((result) => result.ok && result.version)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(store.groups.length).toBeGreaterThan(2);
    expect(store.groups.every((appends) => appends.length === 1)).toBe(true);
    const stood = (await eventsOf(store.other, "account-a")).map(({ data }) => (JSON.parse(data) as { note: string }).note);
    expect(stood).toEqual(Array.from({ length: 9 }, (_, n) => `${note}${n}.0`));
  });

  it("and fails the one command that no append can hold, and no other", async () => {
    const { app, run } = await begin({}, { maxAppendBytes: 2000 });
    const account = app.at(Account, "a");
    const works = [account.deposit({ amount: 1 }), account.scatter({ times: 20, note: "n".repeat(300) }), account.deposit({ amount: 2 })];
    const [before, tooLarge, after] = await run(Promise.allSettled(works));
    expect(before).toMatchObject({ status: "fulfilled", value: { ok: true, version: 1 } });
    expect(tooLarge).toMatchObject({ status: "rejected", reason: { code: "AppendTooLarge", details: { maxAppendBytes: 2000 } } });
    expect(after).toMatchObject({ status: "fulfilled", value: { ok: true, version: 2 } });
  });
});

describe("A3 an actor answers only what is durable", () => {
  it("nobody in a round hears anything before its append stands: commits, no-ops, rejections and states alike", async () => {
    const { app, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    const answers = [account.deposit({ amount: 5 }), account.settle(), account.withdraw({ amount: 9 }), account.state(), account.withdraw({ amount: 9 }, { from: "cache" })].map((work) => watch<unknown>(work));
    await settle();
    expect(store.groups).toHaveLength(1);
    expect(answers.map(({ answered }) => answered)).toEqual([false, false, false, false, false]);
    await store.release();
    await settle();
    expect(answers.map(({ answered }) => answered)).toEqual([true, true, true, true, true]);
    expect(answers[2]?.value).toMatchObject({ ok: false, details: { balance: 5 }, decidedAt: { version: 1 } });
  });

  it("rejections, no-ops and states alone are confirmed by one read for all of them", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    store.reads.length = 0;
    const answers = await run(Promise.all([account.withdraw({ amount: 9 }), account.settle(), account.state(), account.withdraw({ amount: 8 })]));
    expect(answers).toMatchObject([{ ok: false, decidedAt: { version: 1 } }, { ok: true, version: 1, events: [] }, { version: 1, state: { balance: 5 } }, { ok: false }]);
    expect(store.reads).toHaveLength(1);
    expect(store.reads[0]?.from).toBeGreaterThanOrEqual(1); // from what is known on, never from the start
    expect(app.metrics().confirmations).toBe(1);
  });

  it("a rejection that another process has made untrue is decided again", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    await stranger(store.other, "account-a", 10);
    expect(await run(account.withdraw({ amount: 9 }))).toMatchObject({ ok: true, version: 3 });
    expect(await run(account.withdraw({ amount: 9 }))).toMatchObject({ ok: false, details: { balance: 6 }, decidedAt: { version: 3 } });
  });

  it("a no-op and a state that another process has overtaken are answered as of then", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    await stranger(store.other, "account-a", 10, 20);
    expect(await run(account.state())).toMatchObject({ version: 3, state: { balance: 35 } });
    await stranger(store.other, "account-a", 1);
    expect(await run(account.settle())).toMatchObject({ ok: true, version: 4 });
  });

  it("`from: \"cache\"` is answered without a read, from what this process knows", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    await stranger(store.other, "account-a", 10);
    store.reads.length = 0;
    expect(await run(account.withdraw({ amount: 9 }, { from: "cache" }))).toMatchObject({ ok: false, details: { balance: 5 }, decidedAt: { version: 1 } });
    expect(await run(account.state({ from: "cache" }))).toMatchObject({ version: 1, state: { balance: 5 } });
    expect(store.reads).toEqual([]);
  });

  it("`from: \"cache\"` still waits for what it rests on to be durable", async () => {
    const { app, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    const deposit = watch(account.deposit({ amount: 5 }));
    await settle();
    const state = watch(account.state({ from: "cache" }));
    const rejection = watch(account.withdraw({ amount: 9 }, { from: "cache" }));
    await settle();
    expect([deposit.answered, state.answered, rejection.answered]).toEqual([false, false, false]);
    await store.release();
    await settle();
    expect(state.value).toMatchObject({ version: 1, state: { balance: 5 } });
    expect(rejection.value).toMatchObject({ details: { balance: 5 }, decidedAt: { version: 1 } });
  });

  it("`atLeast` makes a cached answer wait for the version that the token names", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    const other = await besides(store.log, { aggregates: [Account] });
    const { token } = await other.run(other.app.at(Account, "a").deposit({ amount: 10 })).then((result) => (result.ok ? result : Promise.reject(new Error("rejected"))));
    expect(await run(account.state({ from: "cache", atLeast: token }))).toMatchObject({ version: 2, state: { balance: 15 } });
    await other.close();
  });

  it("`atLeast` with a token that names no stream does so by its position", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    const other = await besides(store.log, { aggregates: [Account], readModels: [balances] });
    open.push(other);
    await other.run(other.app.at(Account, "a").deposit({ amount: 10 }));
    await other.settle();
    const { token } = await other.run(other.app.answer(balances, (view) => view.get("a")));
    expect(await run(account.state({ from: "cache" }))).toMatchObject({ version: 1 });
    expect(await run(account.state({ from: "cache", atLeast: token }))).toMatchObject({ version: 2, state: { balance: 15 } });
  });

  it("a confirmation that cannot be read fails those who wait for it, and the next command works", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    store.readScripts.push(() => Promise.reject(new StoreUnavailable("the line is cut", { retryable: true })));
    const [rejection, state] = await run(Promise.allSettled([account.withdraw({ amount: 9 }), account.state()]));
    expect([rejection, state]).toMatchObject([
      { status: "rejected", reason: { code: "StoreUnavailable", retryable: true } },
      { status: "rejected", reason: { code: "StoreUnavailable" } },
    ]);
    expect(await run(account.withdraw({ amount: 9 }))).toMatchObject({ ok: false, details: { balance: 5 } });
  });

  it("a log that ends before what was acknowledged is StoreRewound, not a smaller state", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 5 }));
    store.readScripts.push(async () => ({ events: [], version: 0, firstVersion: 1, next: undefined }));
    expect(await errorOf(run(account.state()))).toMatchObject({ code: "StoreRewound", details: { stream: "account-a", version: 1, actual: 0 } });
  });
});

describe("A3 a log that was restored and went on differently", () => {
  it("is recognised by its last known event, though its version is the same or beyond", async () => {
    for (const more of [0, 2]) {
      const { app, run, store } = await begin();
      const account = app.at(Account, "a");
      await run(account.deposit({ amount: 5 }));
      for (let n = 0; n < more; n++) await stranger(store.other, "account-a", 1);
      store.readScripts.push(async (read) => {
        const slice = await read();
        return { ...slice, events: slice.events.map((event) => (event.version === 1 ? { ...event, id: "of-the-other-history" } : event)) };
      });
      expect(await errorOf(run(account.state()))).toMatchObject({ code: "StoreRewound", details: { stream: "account-a", version: 1 } });
      expect(await run(account.state())).toMatchObject({ version: 1 + more }); // begun anew
    }
  });
});

describe("A4 after a conflict", () => {
  it("only the missing events are read, and the command is decided again", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    for (let n = 0; n < 20; n++) await run(account.deposit({ amount: 1 }));
    await stranger(store.other, "account-a", 100);
    store.reads.length = 0;
    expect(await run(account.withdraw({ amount: 15 }))).toMatchObject({ ok: true, version: 22 });
    expect(store.reads.every(({ from }) => (from ?? 0) >= 20)).toBe(true); // the last known one may come along
    expect(app.metrics()).toMatchObject({ conflicts: 1, hydrations: 1, eventsReplayed: 0 });
    expect(await run(account.state())).toMatchObject({ state: { balance: 105 } });
  });

  it("also where the store does not hand the missing events back", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    for (let n = 0; n < 20; n++) await run(account.deposit({ amount: 1 }));
    await stranger(store.other, "account-a", 100, 200);
    store.appendScripts.push(async (appends, send) => (await send(appends)).map((outcome): AppendOutcome => (outcome.kind === "conflict" ? { kind: "conflict", actual: outcome.actual } : outcome)));
    store.reads.length = 0;
    expect(await run(account.withdraw({ amount: 250 }))).toMatchObject({ ok: true, version: 23 });
    expect(store.reads.length).toBeGreaterThan(0);
    expect(store.reads.every(({ from }) => (from ?? 0) >= 20)).toBe(true);
  });

  it("a command that was valid before may be rejected on what is true now", async () => {
    const { app, run, store } = await begin();
    const other = await besides(store.log, { aggregates: [Account] });
    open.push(other);
    await run(app.at(Account, "a").deposit({ amount: 10 }));
    await other.run(other.app.at(Account, "a").withdraw({ amount: 8 }));
    expect(await run(app.at(Account, "a").withdraw({ amount: 5 }))).toMatchObject({ ok: false, details: { balance: 2 }, decidedAt: { version: 2 } });
  });

  it("what was decided ahead is thrown away too, and keeps its order", async () => {
    const { app, run, settle, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 10 }));
    store.hold();
    const first = watch(account.withdraw({ amount: 10 }));
    await settle();
    const second = watch(account.withdraw({ amount: 3 }));
    await settle();
    await stranger(store.other, "account-a", 2);
    await store.release();
    await settle();
    expect(first.value).toMatchObject({ ok: true, version: 3 });
    expect(second.value).toMatchObject({ ok: false, details: { balance: 2 }, decidedAt: { version: 3 } });
  });

  it("attempts are bounded and jittered; then it is TooMuchContention, and nothing was changed", async () => {
    const { app, clock, settle, store } = await begin({ actors: { attempts: 4, retryPauseMs: 8 } });
    const account = app.at(Account, "a");
    for (let n = 0; n < 4; n++) {
      store.appendScripts.push(async (appends, send) => {
        await stranger(store.other, "account-a", 1);
        return send(appends);
      });
    }
    const command = watch(account.deposit({ amount: 1000 }));
    await settle();
    expect(store.groups).toHaveLength(2); // the first retry goes at once
    await clock.advance(8);
    expect(store.groups).toHaveLength(3);
    await clock.advance(16);
    expect(store.groups).toHaveLength(4);
    expect(command.error).toMatchObject({ code: "TooMuchContention", retryable: true, details: { stream: "account-a", attempts: 4, version: 4 } });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+1", "+1", "+1"]);
    const after = watch(account.deposit({ amount: 5 }));
    await clock.advance(1000);
    expect(after.value).toMatchObject({ ok: true, version: 5 });
  });

  it("a conflict that brings nothing is followed by a read: a log that was rewound is recognised", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    await run(account.deposit({ amount: 1 }));
    store.appendScripts.push(async () => [{ kind: "conflict", actual: 1, missing: [] }]);
    store.readScripts.push(async (read) => {
      const slice = await read();
      return { ...slice, version: 1, events: [], next: undefined };
    });
    expect(await errorOf(run(account.deposit({ amount: 1 })))).toMatchObject({ code: "StoreRewound" });
  });

  it("confirmations that are overtaken each time are bounded as well", async () => {
    const { app, run, store } = await begin({ actors: { attempts: 3 } });
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    store.reads.length = 0;
    const overtake = async (read: () => Promise<Awaited<ReturnType<typeof store.other.readStream>>>) => {
      await stranger(store.other, "account-a", 1);
      return read();
    };
    store.readScripts.push(overtake, overtake, overtake);
    expect(await errorOf(run(account.withdraw({ amount: 1000 })))).toMatchObject({ code: "TooMuchContention", details: { attempts: 3 } });
    expect(store.reads.length).toBe(3); // what a confirmation brought is folded, and not read again
  });
});

describe("expectedVersion", () => {
  it("lets a command through on the very version, and refuses any other with the actual one", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    expect(await run(account.deposit({ amount: 1 }, { expectedVersion: 0 }))).toMatchObject({ ok: true, version: 1 });
    expect(await errorOf(run(account.deposit({ amount: 1 }, { expectedVersion: 0 })))).toMatchObject({ code: "WrongExpectedVersion", retryable: false, details: { stream: "account-a", expected: 0, actual: 1 } });
    expect(await errorOf(run(account.deposit({ amount: 1 }, { expectedVersion: 7 })))).toMatchObject({ code: "WrongExpectedVersion", details: { expected: 7, actual: 1 } });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1"]);
  });

  it("is compared with the store, not with what this process remembers", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    await stranger(store.other, "account-a", 10);
    expect(await run(account.deposit({ amount: 2 }, { expectedVersion: 2 }))).toMatchObject({ ok: true, version: 3 });
  });

  it("is never retried over: a conflict makes it wrong", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    await stranger(store.other, "account-a", 10);
    expect(await errorOf(run(account.deposit({ amount: 2 }, { expectedVersion: 1 })))).toMatchObject({ code: "WrongExpectedVersion", details: { expected: 1, actual: 2 } });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+10"]);
  });

  it("counts the commands before it in the same round", async () => {
    const { app, run } = await begin();
    const account = app.at(Account, "a");
    const [first, second, third] = await run(
      Promise.allSettled([account.deposit({ amount: 1 }, { expectedVersion: 0 }), account.deposit({ amount: 2 }, { expectedVersion: 0 }), account.deposit({ amount: 3 }, { expectedVersion: 1 })]),
    );
    expect([first, second, third]).toMatchObject([{ value: { version: 1 } }, { reason: { code: "WrongExpectedVersion", details: { actual: 1 } } }, { value: { version: 2 } }]);
  });
});

describe("what a store refuses", () => {
  const refused = (code: RefusalCode, retryable = false): AppendOutcome => ({ kind: "refused", code, message: `the store says ${code}`, retryable, ...(code === "not-owner" ? { ownerHint: "http://b" } : {}) });

  it.each([
    ["too-large", "AppendTooLarge", false],
    ["invalid", "InvalidArgument", false],
    ["closed", "StoreClosed", false],
    ["busy", "StoreUnavailable", true],
    ["unavailable", "StoreUnavailable", true],
    ["disk-full", "StoreRefused", true],
    ["not-owner", "StoreRefused", true],
    ["a word of its own", "StoreRefused", false],
  ] as const)("%s becomes %s, and the actor goes on", async (reason, code, retryable) => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    store.appendScripts.push(async (appends) => appends.map(() => refused(reason, retryable)));
    const error = await errorOf(run(account.deposit({ amount: 1 })));
    expect(error).toMatchObject({ code, retryable, details: { stream: "account-a", reason } });
    if (reason === "not-owner") expect(error.details["ownerHint"]).toBe("http://b");
    expect(await run(account.deposit({ amount: 2 }))).toMatchObject({ ok: true, version: 1 });
  });

  it("for the fault of one command fails that one alone: its neighbours are decided one by one", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    const picky = async (...[appends, send]: Parameters<(typeof store.appendScripts)[number]>): Promise<readonly AppendOutcome[]> =>
      appends.some(({ events }) => events.some(({ data }) => data.includes("bad"))) ? appends.map(() => refused("invalid")) : send(appends);
    for (let n = 0; n < 8; n++) store.appendScripts.push(picky);
    const results = await run(
      Promise.allSettled([account.deposit({ amount: 1 }), account.deposit({ amount: 2, note: "bad" }), account.withdraw({ amount: 2 }), account.deposit({ amount: 4 }), account.withdraw({ amount: 4 })]),
    );
    expect(results).toMatchObject([
      { value: { ok: true, version: 1 } },
      { reason: { code: "InvalidArgument" } },
      { value: { ok: false, details: { balance: 1 } } },
      { value: { ok: true, version: 2 } },
      { value: { ok: true, version: 3 } },
    ]);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+4", "-4"]);
  });

  it("for reasons of its own fails all of the round, once, and nothing of it was written", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    store.appendScripts.push(async (appends) => appends.map(() => refused("disk-full", true)));
    const results = await run(Promise.allSettled([account.deposit({ amount: 1 }), account.settle(), account.deposit({ amount: 2 })]));
    expect(results.map((result) => result.status)).toEqual(["rejected", "rejected", "rejected"]);
    expect(store.groups).toHaveLength(1);
    expect(await amountsOf(store.other, "account-a")).toEqual([]);
  });

  it("takes what was decided ahead on it with it: that is decided again on what stands", async () => {
    const { app, run, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    store.appendScripts.push(async (appends) => appends.map(() => refused("busy", true)));
    const first = watch(account.deposit({ amount: 10 }));
    await settle();
    const second = watch(account.withdraw({ amount: 5 }));
    await settle();
    await store.release();
    await settle();
    expect(first.code).toBe("StoreUnavailable");
    expect(second.value).toMatchObject({ ok: false, details: { balance: 0 }, decidedAt: { version: 0 } });
    expect(await run(account.state())).toMatchObject({ version: 0 });
  });
});

describe("a domain that throws", () => {
  it("fails that command alone, and leaves the stream and its neighbours as they are", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    const results = await run(Promise.allSettled([account.deposit({ amount: 1 }), account.explode(), account.spoil(), account.deposit({ amount: 2 })]));
    expect(results).toMatchObject([
      { value: { ok: true, version: 1 } },
      { reason: { code: "DomainCodeFailed", cause: { message: "the command exploded" }, details: { stream: "account-a", command: "explode" } } },
      { reason: { code: "DomainCodeFailed", details: { stream: "account-a", command: "spoil", version: 1 } } },
      { value: { ok: true, version: 2 } },
    ]);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+2"]);
    expect(await run(account.state())).toMatchObject({ version: 2, state: { balance: 3 } });
  });

  it("cannot change the state that it decides on", async () => {
    const { app, run } = await begin();
    const { state } = await run(app.at(Account, "a").state());
    expect(Object.isFrozen(state)).toBe(true);
    expect(Object.isFrozen(state.notes)).toBe(true);
  });

  it("A6 an event that no code can fold fails every command of its stream by name, and no other stream", async () => {
    const { app, run, store, logger } = await begin();
    await store.other.append([{ stream: "account-a", expected: "any", events: [eventOf("Forgotten", {})] }]);
    const results = await run(Promise.allSettled([app.at(Account, "a").deposit({ amount: 1 }), app.at(Account, "a").state(), app.at(Account, "b").deposit({ amount: 1 })]));
    expect(results).toMatchObject([
      { reason: { code: "UnknownEventType", details: { stream: "account-a", version: 1 } } },
      { reason: { code: "UnknownEventType" } },
      { value: { ok: true } },
    ]);
    expect(app.metrics()).toMatchObject({ residentActors: 1, waitingCommands: 0 });
    expect(logger.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("A6 an event of a stranger that cannot be folded after a conflict ends the commands, and the next begin anew", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    await store.other.append([{ stream: "account-a", expected: "any", events: [eventOf("Forgotten", {})] }]);
    expect(await errorOf(run(account.deposit({ amount: 2 })))).toMatchObject({ code: "UnknownEventType", details: { version: 2 } });
    expect(await errorOf(run(account.deposit({ amount: 2 })))).toMatchObject({ code: "UnknownEventType" });
    expect(app.metrics()).toMatchObject({ hydrations: 2, waitingCommands: 0, residentActors: 0 });
  });
});
