/** A codec of the app's own, also one that takes its time (D3, D6). */
import { afterEach, describe, expect, it } from "vitest";
import { delay } from "../../src/environment.ts";
import type { Codec, CommandResult } from "../../src/index.ts";
import type { ManualClock, TestAppOptions } from "../../src/testing/index.ts";
import { Account } from "./account.ts";
import { besides, eventsOf, scene, stranger, watch, type Scene } from "./support.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<Omit<TestAppOptions, "store">> = {}): Promise<Scene> {
  const test = await scene({ aggregates: [Account], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

const hide = (text: string): string => Buffer.from(text).toString("base64");
const show = (text: string): string => Buffer.from(text, "base64").toString();

/** Unreadable for others, and gone for good once the stream's key is forgotten. */
const hiding = (wait: () => Promise<void>, forgotten = new Set<string>()): Codec => ({
  async encode(batch) {
    await wait();
    return batch.map(({ data }) => hide(JSON.stringify(data)));
  },
  async decode(batch) {
    await wait();
    return batch.map(({ stream, data }) => {
      if (forgotten.has(stream)) throw new Error(`the key of ${stream} was forgotten`);
      return JSON.parse(show(data)) as unknown;
    });
  },
});
const noWait = (): Promise<void> => Promise.resolve();

describe("an asynchronous codec", () => {
  it("stands between the domain and the store: the log holds what it encoded, everybody reads what it decoded", async () => {
    const codec = hiding(noWait);
    const { app, run, store } = await begin({ codec });
    expect(await run(app.at(Account, "a").deposit({ amount: 5, note: "secret" }))).toMatchObject({ ok: true, events: [{ data: { amount: 5, note: "secret" } }] });
    const [event] = await eventsOf(store.other, "account-a");
    expect(event?.data).toBe(hide('{"amount":5,"note":"secret"}'));
    expect(await run(app.at(Account, "a").state())).toMatchObject({ state: { balance: 5, notes: ["secret"] } });
    expect((await run(app.history(Account, "a"))).events).toMatchObject([{ data: { note: "secret" } }]);
    expect(await run(app.stateAt(Account, "a", 1))).toMatchObject({ state: { balance: 5 } });
    const other = await besides(store.log, { aggregates: [Account], codec });
    open.push(other);
    expect(await other.run(other.app.at(Account, "a").withdraw({ amount: 5 }))).toMatchObject({ ok: true, version: 2 });
  });

  it("keeps the order of commands, though it takes its time and an append settles meanwhile", async () => {
    const clocks: ManualClock[] = [];
    const { app, clock, settle, store } = await begin({ codec: hiding(() => delay(clocks[0] as ManualClock, 10)) });
    clocks.push(clock);
    const account = app.at(Account, "a");
    store.hold();
    const works = [watch<CommandResult<typeof Account, "withdraw">>(account.deposit({ amount: 10 }))];
    await clock.advance(100);
    expect(store.groups).toHaveLength(1);
    works.push(watch(account.withdraw({ amount: 7 })), watch(account.withdraw({ amount: 7 })), watch(account.deposit({ amount: 4 })));
    await clock.advance(5); // in the middle of encoding what is decided ahead
    await store.release();
    await settle();
    works.push(watch(account.withdraw({ amount: 7 })));
    await clock.advance(1000);
    expect(works.map(({ value }) => (value.ok ? value.version : value.details))).toEqual([1, 2, { balance: 3 }, 3, 4]);
    expect(store.groups.map(([append]) => append?.expected)).toEqual([0, 1]); // the last one was in time for the round that was still being encoded
  });

  it("decides again after a conflict, also where that comes in the middle of encoding", async () => {
    const clocks: ManualClock[] = [];
    const { app, clock, settle, store } = await begin({ codec: hiding(() => delay(clocks[0] as ManualClock, 10)) });
    clocks.push(clock);
    const account = app.at(Account, "a");
    store.hold();
    const first = watch(account.deposit({ amount: 10 }));
    await clock.advance(100);
    const ahead = watch(account.withdraw({ amount: 8 }));
    await clock.advance(5);
    const other = await besides(store.log, { aggregates: [Account], codec: hiding(noWait) });
    open.push(other);
    await other.run(other.app.at(Account, "a").deposit({ amount: 1 }));
    await store.release();
    await settle();
    await clock.advance(2000);
    expect([first.value, ahead.value]).toMatchObject([{ ok: true, version: 2 }, { ok: true, version: 3 }]);
  });

  it("that fails to encode fails that command alone; nothing of it is written", async () => {
    const plain = hiding(noWait);
    const encode: Codec["encode"] = async (batch) => (batch.some(({ data }) => (data as { amount: number }).amount === 13) ? Promise.reject(new Error("no key")) : plain.encode(batch));
    const { app, run } = await begin({ codec: { ...plain, encode } });
    const account = app.at(Account, "a");
    const results = await run(Promise.allSettled([account.deposit({ amount: 1 }), account.deposit({ amount: 13 }), account.deposit({ amount: 2 })]));
    expect(results).toMatchObject([{ value: { version: 1 } }, { reason: { code: "DomainCodeFailed", cause: { message: "no key" } } }, { value: { version: 2 } }]);
  });

  it("that throws at once, while an append is under way, fails that command alone", async () => {
    const codec: Codec = {
      encode(batch) {
        if (batch.some(({ data }) => (data as { amount: number }).amount === 13)) throw new Error("no key");
        return batch.map(({ data }) => hide(JSON.stringify(data)));
      },
      decode: (batch) => batch.map(({ data }) => JSON.parse(show(data)) as unknown),
    };
    const { app, settle, store } = await begin({ codec });
    const account = app.at(Account, "a");
    store.hold();
    const works = [watch(account.deposit({ amount: 1 }))];
    await settle();
    works.push(watch(account.deposit({ amount: 13 })), watch(account.deposit({ amount: 2 })));
    await settle();
    await store.release();
    await settle();
    expect([works[0]?.value, works[2]?.value]).toMatchObject([{ version: 1 }, { version: 2 }]);
    expect(works[1]?.error).toMatchObject({ code: "DomainCodeFailed", cause: { message: "no key" } });
  });

  it("that never answers has a bound of its own: its command fails, and the stream goes on with the next", async () => {
    const codec = hiding(noWait);
    let stuck = true;
    const { app, clock, settle } = await begin({
      codec: { ...codec, encode: (batch) => (stuck ? new Promise(() => undefined) : codec.encode(batch)) },
      actors: { commandTimeoutMs: 2000 },
    });
    const first = watch(app.at(Account, "a").deposit({ amount: 1 }));
    await clock.advance(10_000);
    expect(first.code).toBe("StoreUnavailable");
    stuck = false;
    const second = watch(app.at(Account, "a").deposit({ amount: 2 }));
    await settle();
    expect(second.value).toMatchObject({ ok: true, version: 1 });
  });

  it("that cannot decode makes the stream EventUnreadable by name, and no other stream", async () => {
    const forgotten = new Set<string>();
    const { app, clock, run, store } = await begin({ codec: hiding(noWait, forgotten), actors: { idleTimeoutMs: 10 } });
    await run(Promise.all(["a", "b"].map((id) => app.at(Account, id).deposit({ amount: 5 }))));
    await clock.advance(1000);
    forgotten.add("account-a");
    await expect(run(app.at(Account, "a").state())).rejects.toMatchObject({ code: "EventUnreadable", details: { stream: "account-a", version: 1 } });
    expect(await run(app.at(Account, "b").state())).toMatchObject({ state: { balance: 5 } });
    await stranger(store.other, "account-c", 1); // plain JSON: not of this codec
    await expect(run(app.at(Account, "c").state())).rejects.toMatchObject({ code: "EventUnreadable", details: { stream: "account-c" } });
  });
});

describe("a codec that changes data on its way", () => {
  it("D3 live state is folded from what a reader will see", async () => {
    // Loses everything after the third character of a note.
    const codec: Codec = {
      encode: (batch) => batch.map(({ data }) => JSON.stringify(data, (_, value: unknown) => (typeof value === "string" ? value.slice(0, 3) : value))),
      decode: (batch) => batch.map(({ data }) => JSON.parse(data) as unknown),
    };
    const { app, clock, run } = await begin({ codec, actors: { idleTimeoutMs: 10 } });
    const account = app.at(Account, "a");
    expect(await run(account.deposit({ amount: 1, note: "abcdef" }))).toMatchObject({ events: [{ data: { note: "abc" } }] });
    const live = await run(account.state());
    await clock.advance(1000);
    expect(app.metrics().residentActors).toBe(0);
    expect(await run(account.state())).toEqual(live);
    expect(live.state.notes).toEqual(["abc"]);
  });

  it("that makes no text of the data is UnserialisableData, and nothing is written", async () => {
    const { app, run, store } = await begin({ codec: { encode: () => [], decode: () => [] } });
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }))).rejects.toMatchObject({ code: "UnserialisableData" });
    expect(store.groups).toEqual([]);
  });
});
