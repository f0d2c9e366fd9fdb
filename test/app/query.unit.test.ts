/** Reads that are as fresh as the caller asks (I5, Q1, Q2). */
import { afterEach, describe, expect, it } from "vitest";
import { accepted, aggregate, ofType, readModel, table, tokens } from "../../src/index.ts";
import { memoryBackend, memoryLog, memoryViews } from "../../src/store/memory/index.ts";
import type { EventStore } from "../../src/store/event-store.ts";
import { testApp, type TestApp, type TestAppOptions } from "../../src/testing/index.ts";
import { Account, balances, type BalanceRow } from "../actor/account.ts";
import { stranger, watch } from "../actor/support.ts";
import { gate, gatedBalances } from "./support.ts";

const Note = aggregate("note", {
  initial: () => ({ text: "" }),
  events: {
    Written: (note, data: { text: string }) => {
      note.text = data.text;
    },
  },
  commands: { write: (_, input: { text: string }, { emit }) => emit("Written", input) },
});

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<TestAppOptions> = {}): Promise<TestApp> {
  const test = await testApp({ aggregates: [Account, Note], readModels: [balances], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

/** A read model that lags until its gate opens, caught up with three deposits before it was shut. */
async function lagging(options: Partial<TestAppOptions> = {}) {
  const door = gate();
  open.unshift({ close: async () => door.open() });
  const model = gatedBalances({ door, poison: 666 });
  const test = await begin({ readModels: [model], projections: { attempts: 1 }, ...options });
  const { app, run, settle } = test;
  for (let n = 0; n < 3; n++) await run(app.at(Account, "a").deposit({ amount: 1 }));
  await settle();
  door.shut();
  const deposit = async (amount: number): Promise<string> => accepted(await run(app.at(Account, "a").deposit({ amount }))).token;
  return { ...test, door, model, deposit, row: (view: { get(key: string): Promise<BalanceRow | undefined> }) => view.get("a") };
}

describe("a query", () => {
  it("without a token reads what is there, however old", async () => {
    const { app, run, model, deposit, row } = await lagging();
    await deposit(10);
    expect(await run(app.query(model, row))).toEqual({ id: "a", balance: 3, version: 3 });
  });

  it("I5 with a token sees its write, without anybody moving the time", async () => {
    const { app, run } = await begin();
    for (let n = 1; n <= 20; n++) {
      const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
      expect(await run(app.query(balances, (view) => view.get("a"), { atLeast: token }))).toMatchObject({ balance: n, version: n });
    }
  });

  describe("I5 Q3 with a token never takes rows of another log for the write, however far that log had come:", () => {
    const views = async () => {
      const kept = memoryViews();
      const before = await testApp({ aggregates: [Account], readModels: [balances], store: { ...memoryBackend({ log: memoryLog(named("the log")) }), views: kept } });
      for (let n = 0; n < 5; n++) await before.run(before.app.at(Account, "a").deposit({ amount: 100 }));
      await before.settle();
      await before.close();
      return kept;
    };
    const named = (name: string) => ({ random: { next: () => 0, uuid: () => `${name}, as it is called`.replaceAll(/[^a-z]/g, "-") } });
    const read = (view: { get(key: string): Promise<BalanceRow | undefined> }) => view.get("a");

    it.each([
      ["a new log", "another log"],
      ["the log itself, restored to an earlier state", "the log"],
    ])("%s", async (_what, name) => {
      const { app, run, settle } = await begin({ store: { ...memoryBackend({ log: memoryLog(named(name)) }), views: await views() } });
      const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
      await settle();
      await expect(run(app.query(balances, read, { atLeast: token }))).rejects.toMatchObject({ code: "ReadModelStopped", cause: { code: "StoreRewound" } });
      expect(await run(app.answer(balances, read, { atLeast: token, onStale: "serve" }))).toMatchObject({ position: {}, stale: { events: 1 } });
      await run(app.readModel(balances).rebuild());
      expect(await run(app.query(balances, read, { atLeast: token }))).toMatchObject({ balance: 1 });
    });

    it("before the read model has looked at its log", async () => {
      const backend = memoryBackend({ log: memoryLog(named("another log")) });
      let asked = 0;
      const events: EventStore = Object.assign(Object.create(backend.events) as EventStore, {
        capabilities: backend.events.capabilities,
        identity: () => (++asked === 1 ? backend.events.identity() : new Promise(() => undefined)),
        append: (appends: Parameters<EventStore["append"]>[0]) => backend.events.append(appends),
        readStream: (...parameters: Parameters<EventStore["readStream"]>) => backend.events.readStream(...parameters),
        close: () => backend.events.close(),
      });
      const { app, run } = await begin({ store: { ...backend, events, views: await views() } });
      const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
      await expect(run(app.query(balances, read, { atLeast: token, timeoutMs: 0 }))).rejects.toMatchObject({ code: "StaleRead" });
      expect(asked).toBe(2);
    });
  });

  it("Q2 waits until the view has seen the write, and wakes by itself", async () => {
    const { app, settle, model, deposit, door, row } = await lagging();
    const token = await deposit(10);
    const query = watch(app.query(model, row, { atLeast: token }));
    await settle();
    expect(query.answered).toBe(false);
    door.open();
    await settle();
    expect(query.value).toEqual({ id: "a", balance: 13, version: 4 });
  });

  it("I5 with the token of a state or of a rejection sees what that rested on", async () => {
    const { app, settle, run, model, deposit, door, row } = await lagging();
    const rejected = async (): Promise<{ token: string }> => {
      const result = await app.at(Account, "a").withdraw({ amount: 1000 });
      return result.ok ? Promise.reject(new Error("it was accepted")) : result.decidedAt;
    };
    for (const [version, ask] of [[4, () => app.at(Account, "a").state()], [5, rejected]] as const) {
      door.shut();
      await deposit(10);
      const { token } = await run<{ token: string }>(ask());
      const query = watch(app.query(model, row, { atLeast: token }));
      await settle();
      expect(query.answered).toBe(false);
      door.open();
      await settle();
      expect(query.value).toMatchObject({ version });
    }
  });

  it("fails with StaleRead when its time has passed, and says how far behind the view is", async () => {
    const { app, clock, model, deposit, row } = await lagging();
    await deposit(10);
    await clock.advance(700);
    const token = await deposit(20);
    const query = watch(app.query(model, row, { atLeast: token, timeoutMs: 400 }));
    await clock.advance(399);
    expect(query.answered).toBe(false);
    await clock.advance(1);
    expect(query.error).toMatchObject({ code: "StaleRead", retryable: true, details: { model: "gated", events: 2, ms: 1100, position: { log: 3 } } });
  });

  it("with no time to wait answers at once", async () => {
    const { app, run, model, deposit, row } = await lagging();
    const token = await deposit(10);
    await expect(run(app.query(model, row, { atLeast: token, timeoutMs: 0 }))).rejects.toMatchObject({ code: "StaleRead" });
  });

  it("serves what is there when asked to, and says that it is stale", async () => {
    const { app, clock, run, model, deposit, row } = await lagging();
    const token = await deposit(10);
    const answer = watch(app.answer(model, row, { atLeast: token, timeoutMs: 250, onStale: "serve" }));
    await clock.advance(250);
    expect(answer.value).toMatchObject({ value: { balance: 3 }, position: { log: 3 }, stale: { events: 1, ms: 250 } });
    expect((await run(app.answer(model, row))).stale).toBeUndefined();
  });

  it("ends when its signal aborts", async () => {
    const { app, clock, settle, model, deposit, row } = await lagging();
    const token = await deposit(10);
    const controller = new AbortController();
    const timers = clock.pendingTimers;
    const query = watch(app.query(model, row, { atLeast: token, signal: controller.signal }));
    await settle();
    controller.abort();
    await settle();
    expect(query.code).toBe("Aborted");
    expect(clock.pendingTimers).toBe(timers);
  });

  it("hands on what the reader throws", async () => {
    const { app, run } = await begin();
    await expect(run(app.query(balances, () => Promise.reject(new Error("my own"))))).rejects.toThrow("my own");
  });

  it("names what is wrong with it", async () => {
    const { app, run } = await begin();
    const other = gatedBalances({ name: "other" });
    const row = (view: { get(key: string): Promise<unknown> }) => view.get("a");
    await expect(run(app.query(other, row))).rejects.toMatchObject({ code: "InvalidArgument", details: { model: "other" } });
    await expect(run(app.query(balances, row, { timeoutMs: -1 }))).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(run(app.query(balances, row, { timeoutMs: Number.NaN }))).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(run(app.query(balances, row, { stream: "account" }))).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(() => app.readModel(other)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });
});

describe("a read model that does not go on", () => {
  it("fails a wait at once and says why, whether it stopped before or meanwhile", async () => {
    const { app, run, settle, model, deposit, door, row } = await lagging();
    const token = await deposit(666);
    const meanwhile = watch(app.query(model, row, { atLeast: token }));
    await settle();
    expect(meanwhile.answered).toBe(false);
    door.open();
    await settle();
    expect(meanwhile.error).toMatchObject({ code: "ReadModelStopped", message: expect.stringContaining("poison") as string, cause: { code: "ProjectionFailed" } });
    await expect(run(app.query(model, row, { atLeast: token }))).rejects.toMatchObject({ code: "ReadModelStopped" });
    expect(app.readModel(model).progress()).toMatchObject({ state: "failed" });
  });

  it("fails a wait at once when it is paused, and answers when it goes on", async () => {
    const { app, run, settle } = await begin();
    await run(app.readModel(balances).pause());
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    await expect(run(app.query(balances, (view) => view.get("a"), { atLeast: token }))).rejects.toMatchObject({ code: "ReadModelStopped", details: { state: "paused" } });
    app.readModel(balances).resume();
    await settle();
    expect(await run(app.query(balances, (view) => view.get("a"), { atLeast: token }))).toMatchObject({ balance: 1 });
  });

  it("is still read, and served when asked to, without waiting", async () => {
    const { app, run } = await begin();
    const before = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    await run(app.query(balances, (view) => view.get("a"), { atLeast: before.token }));
    await run(app.readModel(balances).pause());
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    expect(await run(app.query(balances, (view) => view.get("a"), { atLeast: before.token }))).toMatchObject({ balance: 1 }); // covered
    expect(await run(app.answer(balances, (view) => view.get("a"), { atLeast: token, onStale: "serve" }))).toMatchObject({ value: { balance: 1 }, stale: { events: 1 } });
  });
});

describe("a token", () => {
  const read = (view: { get(key: string): Promise<BalanceRow | undefined> }) => view.get("a");

  it("of a category that the read model does not read is no reason to wait, not even where it is paused", async () => {
    const { app, run } = await begin();
    await run(app.readModel(balances).pause());
    const { token } = accepted(await run(app.at(Note, "n").write({ text: "x" })));
    expect(await run(app.query(balances, read, { atLeast: token }))).toBeUndefined();
  });

  it("of events that the pipeline drops never waits for ever, on a log where nothing else happens", async () => {
    const withdrawals = readModel("withdrawals", {
      from: [Account],
      view: table<BalanceRow>("withdrawals", { key: "id" }),
      project: (events$) => events$.pipe(ofType("Withdrawn")),
    });
    const { app, run } = await begin({ readModels: [withdrawals] });
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    expect(await run(app.query(withdrawals, (view) => view.count(), { atLeast: token }))).toBe(0);
  });

  it("that is malformed is refused by name, and nothing is read", async () => {
    const { app, run } = await begin();
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    for (const broken of ["", "x", `${token}x`, token.slice(0, -1), token.replace("account", "accounts")]) {
      await expect(run(app.query(balances, read, { atLeast: broken }))).rejects.toMatchObject({ code: "TokenMalformed" });
      await expect(run(app.at(Account, "a").deposit({ amount: 1 }, { atLeast: broken }))).rejects.toMatchObject({ code: "TokenMalformed" });
    }
  });

  it("that is not signed by one of the app's keys is refused: forged, or of no key at all", async () => {
    const key = { id: "k1", secret: "a secret of sixteen bytes" };
    const rotated = { id: "k2", secret: "another secret of its own" };
    const { app, run } = await begin({ tokens: { keys: [rotated, key] } });
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    expect(await run(app.query(balances, read, { atLeast: token }))).toMatchObject({ balance: 1 });
    const entries = tokens({ keys: [rotated, key] }).decode(token);
    const older = tokens({ keys: [key] }).encode(entries);
    expect(await run(app.query(balances, read, { atLeast: older }))).toMatchObject({ balance: 1 });
    const forged = tokens({ keys: [{ id: "k1", secret: "a guess of sixteen bytes." }] }).encode(entries);
    for (const bad of [forged, tokens().encode(entries)]) {
      await expect(run(app.query(balances, read, { atLeast: bad }))).rejects.toMatchObject({ code: "TokenForged" });
      await expect(run(app.at(Account, "a").state({ atLeast: bad }))).rejects.toMatchObject({ code: "TokenForged" });
    }
  });

  it("of another store is refused alone, and ignored beside one of this store", async () => {
    const { app, run } = await begin();
    const elsewhere = await begin({ seed: 2 }); // the id of its log is drawn
    const foreign = accepted(await elsewhere.run(elsewhere.app.at(Account, "a").deposit({ amount: 1 }))).token;
    await expect(run(app.query(balances, read, { atLeast: foreign }))).rejects.toMatchObject({ code: "TokenForeign" });
    await expect(run(app.at(Account, "a").state({ atLeast: foreign }))).rejects.toMatchObject({ code: "TokenForeign" });
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    const session = app.mergeTokens(foreign, token);
    expect(await run(app.query(balances, read, { atLeast: session }))).toMatchObject({ balance: 1 });
    expect(await run(app.at(Account, "a").state({ atLeast: session }))).toMatchObject({ version: 1 });
  });

  it("merged of several writes demands all of them", async () => {
    const { app, run, settle, model, deposit, door } = await lagging();
    const first = await deposit(1);
    const other = accepted(await run(app.at(Account, "b").deposit({ amount: 5 }))).token;
    const query = watch(app.query(model, (view) => view.count(), { atLeast: app.mergeTokens(other, first) }));
    await settle();
    expect(query.answered).toBe(false);
    door.open();
    await settle();
    expect(query.value).toBe(2);
  });

  it("of an answer takes a later read no further back than that answer, through another app on the log", async () => {
    const log = memoryLog();
    const { app, run } = await begin({ store: memoryBackend({ log }) });
    accepted(await run(app.at(Account, "a").deposit({ amount: 7 })));
    await run(app.query(balances, read, { atLeast: accepted(await run(app.at(Account, "a").deposit({ amount: 1 }))).token }));
    const { token, value } = await run(app.answer(balances, read));
    expect(value).toMatchObject({ balance: 8 });
    const door = gate();
    door.shut();
    const behind = gatedBalances({ door });
    const other = await begin({ store: memoryBackend({ log }), readModels: [behind] });
    const query = watch(other.app.query(behind, read, { atLeast: token }));
    await other.settle();
    expect(query.answered).toBe(false);
    door.open();
    await other.settle();
    expect(query.value).toMatchObject({ balance: 8 });
  });

  it("that names a version which the stream has not reached tells a rewound store", async () => {
    const { app, run } = await begin();
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    const [entry] = tokens().decode(token);
    const ahead = tokens().encode([{ ...(entry as NonNullable<typeof entry>), version: 9 }]);
    await expect(run(app.at(Account, "a").state({ atLeast: ahead }))).rejects.toMatchObject({ code: "StoreRewound", details: { version: 1, expected: 9 } });
    await expect(run(app.at(Account, "a").withdraw({ amount: 50 }, { atLeast: ahead }))).rejects.toMatchObject({ code: "StoreRewound" });
  });
});

describe("lastProcessedVersion", () => {
  const read = (view: { get(key: string): Promise<BalanceRow | undefined> }) => view.get("a");

  it("is that of the stream's last event which the answer has seen: behind while the view is behind", async () => {
    const { app, run, settle, model, deposit, door } = await lagging();
    await deposit(1);
    await deposit(1);
    expect(await run(app.answer(model, read, { stream: "account-a" }))).toMatchObject({ lastProcessedVersion: 3, value: { version: 3 } });
    door.open();
    await settle();
    expect(await run(app.answer(model, read, { stream: "account-a" }))).toMatchObject({ lastProcessedVersion: 5, value: { version: 5 } });
  });

  it("is found however far behind the view is, among other streams", async () => {
    for (const seen of [1, 2, 3, 16, 17, 40, 99]) {
      const log = memoryLog();
      const views = memoryViews();
      const store = memoryBackend({ log });
      const first = await begin({ store, views });
      for (let n = 0; n < seen; n++) {
        await stranger(store.events, "account-b", 1);
        await stranger(store.events, "account-a", 1);
      }
      await first.settle();
      await first.run(first.app.readModel(balances).pause());
      for (let n = seen; n < 100; n++) await stranger(store.events, n % 2 === 0 ? "account-a" : "account-b", 1);
      expect(await first.run(first.app.answer(balances, read, { stream: "account-a" }))).toMatchObject({ lastProcessedVersion: seen, value: { version: seen } });
      for (let n = 0; n < 100; n++) await stranger(store.events, "account-a", 1);
      expect(await first.run(first.app.answer(balances, read, { stream: "account-a" }))).toMatchObject({ lastProcessedVersion: seen });
    }
  });

  it("is 0 for a stream of which nothing was seen, and undefined where none was asked for or the model does not read it", async () => {
    const { app, run, model, door } = await lagging();
    await run(app.at(Account, "new").deposit({ amount: 1 }));
    await run(app.at(Note, "n").write({ text: "x" }));
    const of = async (stream?: string) => (await run(app.answer(model, read, stream === undefined ? {} : { stream }))).lastProcessedVersion;
    expect([await of("account-new"), await of("account-none"), await of("note-n"), await of()]).toEqual([0, 0, undefined, undefined]);
    door.open();
  });

  it("Q1 is that of the build that answers: while a new version is built, the old one's", async () => {
    const log = memoryLog();
    const views = memoryViews();
    const store = memoryBackend({ log });
    const old = await testApp({ store, views, aggregates: [Account], readModels: [gatedBalances({ version: 1 })] });
    for (let n = 0; n < 3; n++) await old.run(old.app.at(Account, "a").deposit({ amount: 1 }));
    await old.settle();
    await old.close();
    await stranger(store.events, "account-a", 1, 1);

    const door = gate();
    door.shut();
    const model = gatedBalances({ version: 2, door });
    const { app, run, settle } = await begin({ store, views, readModels: [model] });
    const { token } = await run(app.at(Account, "a").state());
    expect(await run(app.answer(model, read, { stream: "account-a" }))).toMatchObject({ lastProcessedVersion: 3, value: { balance: 3, version: 3 } });
    const fresh = watch(app.answer(model, read, { stream: "account-a", atLeast: token }));
    await settle();
    expect(fresh.answered).toBe(false);
    door.open();
    await settle();
    expect(fresh.value).toMatchObject({ lastProcessedVersion: 5, value: { balance: 5, version: 5 } });
  });

  it("Q1 during a rebuild never goes back, and a token's write is never missed", async () => {
    const { app, run, settle, model, deposit, door } = await lagging();
    door.open();
    await settle();
    const rebuilt = watch(app.readModel(model).rebuild());
    let last = 3;
    for (let n = 0; n < 40; n++) {
      const token = await deposit(1);
      const answer = await run(app.answer(model, read, { stream: "account-a", ...(n % 2 === 0 ? { atLeast: token } : {}) }));
      expect(answer.lastProcessedVersion).toBeGreaterThanOrEqual(last);
      expect(answer.value?.version).toBe(answer.lastProcessedVersion);
      last = answer.lastProcessedVersion ?? 0;
    }
    await settle();
    expect(rebuilt.answered).toBe(true);
    expect(await run(app.answer(model, read, { stream: "account-a" }))).toMatchObject({ lastProcessedVersion: 43, value: { balance: 43 } });
  });
});

describe("a closed app", () => {
  it("answers no query any more, and ends those that wait", async () => {
    const { app, run, settle, model, deposit, row, door } = await lagging();
    const token = await deposit(1);
    const waiting = watch(app.query(model, row, { atLeast: token, timeoutMs: 1e6 }));
    await settle();
    const closing = watch(app.close());
    await settle();
    expect(waiting.error).toMatchObject({ code: "ReadModelStopped", details: { state: "stopped" } });
    expect(closing.answered).toBe(false); // the page under way is finished first
    door.open();
    await settle();
    expect(closing.answered).toBe(true);
    await expect(run(app.query(model, row))).rejects.toMatchObject({ code: "AppClosed" });
  });
});
