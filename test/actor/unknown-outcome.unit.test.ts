/** What becomes of appends whose outcome nobody knows (A5, U1 to U4, C3). */
import { afterEach, describe, expect, it } from "vitest";
import { OutcomeUnknown, StoreUnavailable, tokens } from "../../src/index.ts";
import { Account } from "./account.ts";
import { amountsOf, eventOf, scene, stranger, watch, type AppendScript, type ReadScript, type Scene } from "./support.ts";
import type { TestAppOptions } from "../../src/testing/index.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<Omit<TestAppOptions, "store">> = {}): Promise<Scene> {
  const test = await scene({ aggregates: [Account], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

const cause = new Error("the reply was lost");
/** The group is written, and its reply is lost. */
const written: AppendScript = async (appends, send) => {
  await send(appends);
  return appends.map(() => ({ kind: "unknown", cause }));
};
/** The group is lost on its way. */
const lost: AppendScript = async (appends) => appends.map(() => ({ kind: "unknown", cause }));
const unreachable: ReadScript = () => Promise.reject(new StoreUnavailable("the store cannot be reached", { retryable: true }));

describe("an append whose outcome is unknown", () => {
  it("and that stands is answered as committed, without being sent again", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    store.appendScripts.push(written);
    store.reads.length = 0;
    const results = await run(Promise.all([account.deposit({ amount: 2 }), account.scatter({ times: 3, note: "n" })]));
    expect(results).toMatchObject([
      { ok: true, version: 2 },
      { ok: true, version: 5 },
    ]);
    expect(store.groups).toHaveLength(2);
    expect(store.reads.map(({ from }) => from)).toEqual([2, 5]);
    expect(app.metrics()).toMatchObject({ unknownOutcomes: 1, conflicts: 0 });
    expect(await run(account.state())).toMatchObject({ version: 5, state: { balance: 6 } });
  });

  it("answers with the position of the append: a token of it is no earlier", async () => {
    const { app, run, store } = await begin();
    store.appendScripts.push(written);
    const result = await run(app.at(Account, "a").scatter({ times: 3, note: "n" }));
    expect(tokens().decode(result.ok ? result.token : "")).toMatchObject([{ version: 3, position: { log: 3 } }]);
  });

  it("and that does not stand is sent again, the same events on the same version", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    store.appendScripts.push(lost);
    expect(await run(account.deposit({ amount: 2 }))).toMatchObject({ ok: true, version: 2 });
    const [, first, second] = store.groups;
    expect(second).toEqual(first);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+2"]);
  });

  it("and whose place another writer took is decided again on what stands", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 10 }));
    store.appendScripts.push(async (appends) => {
      await store.other.append([{ stream: "account-a", expected: 1, events: [eventOf("Withdrawn", { amount: 8 })] }]);
      return appends.map(() => ({ kind: "unknown", cause }));
    });
    expect(await run(account.withdraw({ amount: 5 }))).toMatchObject({ ok: false, details: { balance: 2 }, decidedAt: { version: 2 } });
    expect(app.metrics()).toMatchObject({ unknownOutcomes: 1, conflicts: 1 });
  });

  it("and that arrives late, while it is sent a second time, stands once", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    let late: (() => Promise<unknown>) | undefined;
    store.appendScripts.push(
      async (appends, send) => {
        late = () => send(appends);
        return appends.map(() => ({ kind: "unknown", cause }));
      },
      async (appends, send) => {
        await late?.();
        return send(appends);
      },
    );
    expect(await run(account.deposit({ amount: 2 }))).toMatchObject({ ok: true, version: 2 });
    expect(await run(account.deposit({ amount: 3 }))).toMatchObject({ ok: true, version: 3 });
    await late?.();
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+2", "+3"]);
  });

  it("U3 is not answered by the refusal of a second try, which says nothing of the first", async () => {
    const { app, clock, settle, store } = await begin();
    let late: (() => Promise<unknown>) | undefined;
    store.appendScripts.push(
      async (appends, send) => {
        late = () => send(appends);
        return appends.map(() => ({ kind: "unknown", cause }));
      },
      async (appends) => {
        await late?.();
        return appends.map(() => ({ kind: "refused", code: "busy", message: "try later", retryable: true }));
      },
    );
    const command = watch(app.at(Account, "a").deposit({ amount: 2 }));
    await settle();
    expect(command.answered).toBe(false);
    await clock.advance(100);
    expect(command.value).toMatchObject({ ok: true, version: 1 });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+2"]);
  });

  it("A5 lets nothing else of its stream be sent before it is settled", async () => {
    const { app, clock, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.appendScripts.push(lost);
    store.readScripts.push(async (read) => read(), unreachable, unreachable); // hydration, then two looks
    const first = watch(account.deposit({ amount: 1 }));
    await settle();
    const second = watch(account.deposit({ amount: 2 }));
    await settle();
    expect(store.groups).toHaveLength(1);
    expect([first.answered, second.answered]).toEqual([false, false]);
    await clock.advance(1000);
    expect([first.value, second.value]).toMatchObject([{ version: 1 }, { version: 2 }]);
    expect(store.groups.map(([append]) => append?.expected)).toEqual([0, 0, 1]);
    expect(store.groups[1]).toEqual(store.groups[0]);
  });

  it("takes a store that throws, or that answers too little, for unknown and never for failed", async () => {
    for (const broken of [
      async (...[appends, send]: Parameters<AppendScript>) => {
        await send(appends);
        throw new Error("the store broke its promise");
      },
      async (...[appends, send]: Parameters<AppendScript>) => {
        await send(appends);
        return [];
      },
    ]) {
      const { app, run, store } = await begin();
      store.appendScripts.push(broken);
      expect(await run(app.at(Account, "a").deposit({ amount: 2 }))).toMatchObject({ ok: true, version: 1 });
      expect(app.metrics().unknownOutcomes).toBe(1);
      expect(await amountsOf(store.other, "account-a")).toEqual(["+2"]);
    }
  });

  it("on a log that lost its past ends with StoreRewound", async () => {
    const { app, run, store } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }));
    store.appendScripts.push(lost);
    store.readScripts.push(async () => ({ events: [], version: 0, firstVersion: 1, next: undefined }));
    await expect(run(account.deposit({ amount: 2 }))).rejects.toMatchObject({ code: "OutcomeUnknown", cause: { code: "StoreRewound" } });
    expect(app.metrics().residentActors).toBe(0);
  });
});

describe("a store that cannot be reached to settle an outcome", () => {
  it("C3 tells those whose deadline passes OutcomeUnknown, with the command id to try again with, and those alone", async () => {
    const { app, clock, settle, store } = await begin();
    const account = app.at(Account, "a");
    await settle();
    store.appendScripts.push(written);
    store.readScripts.push(async (read) => read(), ...Array.from({ length: 6 }, () => unreachable));
    const patient = watch(account.deposit({ amount: 1 }));
    const hasty = watch(account.deposit({ amount: 2 }, { commandId: "hasty", deadlineMs: 100 }));
    await settle();
    await clock.advance(99);
    expect(hasty.answered).toBe(false);
    await clock.advance(200);
    expect(hasty.error).toMatchObject({ code: "OutcomeUnknown", retryable: true, details: { commandId: "hasty", stream: "account-a" } });
    expect(patient.answered).toBe(false);
    await clock.advance(10_000);
    expect(patient.value).toMatchObject({ ok: true, version: 1 });
    // Sent again with its id, it is answered as it stands.
    const again = watch(account.deposit({ amount: 2 }, { commandId: "hasty" }));
    await settle();
    expect(again.value).toMatchObject({ ok: true, version: 2 });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+2"]);
  });

  it("U4 is given up when nobody waits any more, and the next command begins with the log", async () => {
    const { app, clock, settle, store, logger } = await begin({ actors: { commandTimeoutMs: 2000 } });
    const account = app.at(Account, "a");
    store.appendScripts.push(written);
    let cut = true;
    for (let n = 0; n < 1000; n++) store.readScripts.push((read, stream) => (cut && store.groups.length > 0 ? unreachable(read, stream) : read()));
    const command = watch(account.deposit({ amount: 1 }, { commandId: "c" }));
    await clock.advance(6000);
    expect(command.error).toMatchObject({ code: "OutcomeUnknown", retryable: true });
    expect(app.metrics()).toMatchObject({ residentActors: 0, waitingCommands: 0 });
    expect(clock.pendingTimers).toBe(0);
    expect(logger.lines.filter(({ level }) => level === "error")).toEqual([]);
    cut = false;
    const again = watch(account.deposit({ amount: 1 }, { commandId: "c" }));
    await settle();
    expect(again.value).toMatchObject({ ok: true, version: 1 });
  });

  it("holds a command that comes meanwhile no longer than its own deadline, and it is never decided", async () => {
    const { app, clock, settle, store } = await begin();
    const account = app.at(Account, "a");
    await settle();
    store.appendScripts.push(lost);
    store.readScripts.push(async (read) => read(), ...Array.from({ length: 4 }, () => unreachable));
    const first = watch(account.deposit({ amount: 1 }));
    await settle();
    const late = watch(account.deposit({ amount: 50 }, { deadlineMs: 30 }));
    await clock.advance(31);
    expect(late.code).toBe("DeadlineExceeded");
    await clock.advance(10_000);
    expect(first.value).toMatchObject({ ok: true, version: 1 });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1"]);
  });

  it("a late append is kept apart from the commands of the actor that came next", async () => {
    const { app, clock, settle, store } = await begin({ actors: { commandTimeoutMs: 1000 } });
    const account = app.at(Account, "a");
    let late: (() => Promise<readonly { kind: string }[]>) | undefined;
    store.appendScripts.push(async (appends, send) => {
      late = () => send(appends);
      return appends.map(() => ({ kind: "unknown", cause }));
    });
    store.readScripts.push(async (read) => read(), ...Array.from({ length: 200 }, (): ReadScript => (read, stream) => (late === undefined || clock.now() >= until ? read() : unreachable(read, stream))));
    const until = clock.now() + 5000;
    const first = watch(account.deposit({ amount: 1 }));
    await clock.advance(5000);
    expect(first.code).toBe("OutcomeUnknown");
    const second = watch(account.deposit({ amount: 2 }));
    await settle();
    expect(second.value).toMatchObject({ ok: true, version: 1 });
    expect((await late?.())?.map(({ kind }) => kind)).toEqual(["conflict"]);
    await stranger(store.other, "account-a", 4);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+2", "+4"]);
  });
});

describe("a store that never answers", () => {
  it("ends a call at its hard bound, truthfully: OutcomeUnknown for what was sent, DeadlineExceeded for what was not", async () => {
    const { app, clock, settle, store } = await begin({ actors: { commandTimeoutMs: 4000 } });
    const account = app.at(Account, "a");
    store.hold();
    const sent = watch(account.deposit({ amount: 1 }));
    await settle();
    const waiting = watch(account.deposit({ amount: 2 }));
    await settle();
    await clock.advance(3000);
    expect([sent.answered, waiting.answered]).toEqual([false, false]);
    await clock.advance(2001);
    expect(sent.error).toBeInstanceOf(OutcomeUnknown);
    expect(waiting.error).toMatchObject({ code: "DeadlineExceeded", retryable: true });
    await store.release();
    await settle();
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1"]); // the second one never was
  });

  it("C4 has no outcome for a question for the state: it was late, and there is nothing to send again", async () => {
    const { app, clock, settle, store } = await begin({ actors: { commandTimeoutMs: 4000 } });
    const account = app.at(Account, "a");
    store.hold();
    const sent = watch(account.deposit({ amount: 1 }));
    const asked = watch(account.state());
    await settle();
    await clock.advance(5001);
    expect(sent.error).toBeInstanceOf(OutcomeUnknown);
    expect(asked.error).toMatchObject({ code: "DeadlineExceeded", retryable: true, message: expect.stringContaining("the state of account-a") });
    await store.release();
    await settle();
  });
});
