/** How long a command may wait and how it is ended (C1 to C3, R5), and how much may wait. */
import { afterEach, describe, expect, it } from "vitest";
import { aggregate } from "../../src/index.ts";
import { Account } from "./account.ts";
import { amountsOf, scene, stranger, watch, type Scene } from "./support.ts";
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

describe("a full mailbox", () => {
  it("refuses one more command at once, retryable, and takes commands again when it has drained", async () => {
    const { app, settle, run, store } = await begin({ actors: { mailboxCapacity: 3 } });
    const account = app.at(Account, "a");
    store.hold();
    const taken = [watch(account.deposit({ amount: 1 }))];
    await settle(); // under way: it is not in the mailbox any more
    for (let n = 0; n < 3; n++) taken.push(watch(account.deposit({ amount: 1 })));
    await settle();
    const refused = watch(account.deposit({ amount: 100 }));
    await settle();
    expect(refused.error).toMatchObject({ code: "MailboxFull", retryable: true, details: { stream: "account-a", capacity: 3 } });
    await store.release();
    await settle();
    expect(taken.map(({ value }) => value.ok && value.version)).toEqual([1, 2, 3, 4]);
    expect(await run(account.deposit({ amount: 1 }))).toMatchObject({ ok: true, version: 5 });
  });

  it("has room again as soon as the commands at its front were ended, while the stream is still being read", async () => {
    const { app, clock, settle, store } = await begin({ actors: { mailboxCapacity: 2 } });
    const account = app.at(Account, "a");
    let read: (() => void) | undefined;
    store.readScripts.push(async (really) => {
      await new Promise<void>((resolve) => (read = resolve));
      return really();
    });
    const ended = [watch(account.deposit({ amount: 1 }, { deadlineMs: 10 })), watch(account.deposit({ amount: 2 }, { deadlineMs: 10 }))];
    await settle();
    const refused = watch(account.deposit({ amount: 3 }));
    await clock.advance(10);
    const taken = [watch(account.deposit({ amount: 4 })), watch(account.deposit({ amount: 5 }))];
    await settle();
    read?.();
    await settle();
    expect([...ended, refused].map(({ code }) => code)).toEqual(["DeadlineExceeded", "DeadlineExceeded", "MailboxFull"]);
    expect(taken.map(({ value }) => value.ok && value.version)).toEqual([1, 2]);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+4", "+5"]);
  });

  it("has room again as soon as what was decided ahead was ended, while an append is under way", async () => {
    const { app, clock, settle, store } = await begin({ actors: { mailboxCapacity: 2 } });
    const account = app.at(Account, "a");
    store.hold();
    const first = watch(account.deposit({ amount: 1 }));
    await settle();
    const ended = [watch(account.deposit({ amount: 2 }, { deadlineMs: 10 })), watch(account.deposit({ amount: 3 }, { deadlineMs: 10 }))];
    await settle();
    await clock.advance(10);
    const taken = [watch(account.deposit({ amount: 4 })), watch(account.deposit({ amount: 5 }))];
    await settle();
    await store.release();
    await settle();
    expect(ended.map(({ code }) => code)).toEqual(["DeadlineExceeded", "DeadlineExceeded"]);
    expect([first, ...taken].map(({ value }) => value.ok && value.version)).toEqual([1, 2, 3]);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+4", "+5"]);
  });

  it("of one stream is no matter of another", async () => {
    const { app, settle, store } = await begin({ actors: { mailboxCapacity: 1 } });
    store.hold();
    const works = ["a", "a", "b"].map((id) => watch(app.at(Account, id).deposit({ amount: 1 })));
    await settle();
    await store.release();
    await settle();
    expect(works[0]?.value).toMatchObject({ ok: true });
    expect(works[1]?.code).toBe("MailboxFull");
    expect(works[2]?.value).toMatchObject({ ok: true });
  });
});

describe("a process with too many commands", () => {
  it("takes no more before some are answered: Overloaded, and nothing was decided", async () => {
    const { app, settle, run, store } = await begin({ actors: { maxPendingCommands: 4 } });
    store.hold();
    const works = Array.from({ length: 6 }, (_, n) => watch(app.at(Account, `a${n}`).deposit({ amount: 1 })));
    await settle();
    expect(works.map(({ code }) => code)).toEqual([undefined, undefined, undefined, undefined, "Overloaded", "Overloaded"]);
    expect(works[4]?.error).toMatchObject({ retryable: true, details: { stream: "account-a4", maxPendingCommands: 4 } });
    expect(app.metrics()).toMatchObject({ waitingCommands: 4, commandsFailed: 2 });
    await store.release();
    await settle();
    expect(app.metrics()).toMatchObject({ waitingCommands: 0, commandsAccepted: 4 });
    expect(await amountsOf(store.other, "account-a4")).toEqual([]);
    expect(await run(app.at(Account, "a4").deposit({ amount: 1 }))).toMatchObject({ ok: true });
  });
});

describe("C1 a deadline", () => {
  it("that passes before the decision ends the command: DeadlineExceeded, and it is never decided", async () => {
    const { app, clock, settle, run, store } = await begin();
    let read: (() => void) | undefined;
    store.readScripts.push(async (really) => {
      await new Promise<void>((resolve) => (read = resolve));
      return really();
    });
    const account = app.at(Account, "a");
    const late = watch(account.deposit({ amount: 1 }, { deadlineMs: 50 }));
    const patient = watch(account.deposit({ amount: 2 }, { deadlineMs: 500 }));
    await clock.advance(49);
    expect(late.answered).toBe(false);
    await clock.advance(1);
    expect(late.error).toMatchObject({ code: "DeadlineExceeded", retryable: true, details: { stream: "account-a" } });
    read?.();
    await settle();
    expect(patient.value).toMatchObject({ ok: true, version: 1 });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+2"]);
    expect(await run(account.state())).toMatchObject({ version: 1, state: { balance: 2 } });
  });

  it("that passes while the append is under way changes nothing: the command answers what happened", async () => {
    const { app, clock, settle, store } = await begin();
    store.hold();
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }, { deadlineMs: 50 }));
    await settle();
    await clock.advance(5000);
    expect(command.answered).toBe(false);
    await store.release();
    await settle();
    expect(command.value).toMatchObject({ ok: true, version: 1 });
  });

  it("C2 that passed while the append was under way ends the command after a conflict: it is not decided again", async () => {
    const { app, clock, settle, store } = await begin();
    store.hold();
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }, { deadlineMs: 50 }));
    await settle();
    await clock.advance(60);
    await stranger(store.other, "account-a", 9);
    await store.release();
    await settle();
    expect(command.code).toBe("DeadlineExceeded");
    expect(await amountsOf(store.other, "account-a")).toEqual(["+9"]);
  });

  it("C2 of a command that was decided ahead throws its events away, and what was decided on them is decided again", async () => {
    const { app, clock, settle, store } = await begin();
    const account = app.at(Account, "a");
    store.hold();
    const first = watch(account.deposit({ amount: 1 }));
    await settle();
    const late = watch(account.deposit({ amount: 10 }, { deadlineMs: 50 }));
    const after = watch(account.withdraw({ amount: 5 }));
    await settle();
    await clock.advance(50);
    expect(late.code).toBe("DeadlineExceeded");
    await store.release();
    await settle();
    expect(first.value).toMatchObject({ ok: true, version: 1 });
    expect(after.value).toMatchObject({ ok: false, details: { balance: 1 }, decidedAt: { version: 1 } });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1"]);
  });

  it("leaves no timer behind, however the command ends", async () => {
    const { app, clock, run } = await begin({ actors: { idleTimeoutMs: 10 } });
    const account = app.at(Account, "a");
    const signal = new AbortController().signal;
    await run(Promise.allSettled([account.deposit({ amount: 1 }, { deadlineMs: 1e6, signal }), account.withdraw({ amount: 9 }, { deadlineMs: 1e6 }), account.explode(undefined, { deadlineMs: 1e6 }), account.state({ deadlineMs: 1e6 })]));
    await clock.advance(1000);
    expect(app.metrics().residentActors).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("C1 a command that was ended while it waited", () => {
  it("is not even decided: its code does not run", async () => {
    const ran: string[] = [];
    const Counting = aggregate("counting", {
      initial: () => ({}),
      events: {},
      commands: {
        run: (_, input: { name: string }) => {
          ran.push(input.name);
          return [];
        },
      },
    });
    const { app, clock, settle, store } = await begin({ aggregates: [Counting] });
    let read: (() => void) | undefined;
    store.readScripts.push(async (really) => {
      await new Promise<void>((resolve) => (read = resolve));
      return really();
    });
    const controller = new AbortController();
    const counting = app.at(Counting, "a");
    const works = [
      watch(counting.run({ name: "late" }, { deadlineMs: 10 })),
      watch(counting.run({ name: "aborted" }, { signal: controller.signal })),
      watch(counting.run({ name: "patient" })),
    ];
    await clock.advance(10);
    controller.abort();
    read?.();
    await settle();
    expect(works.map(({ code }) => code)).toEqual(["DeadlineExceeded", "Aborted", undefined]);
    expect(ran).toEqual(["patient"]);
  });
});

describe("C1 a signal", () => {
  it("that aborted already ends the command before it reaches the mailbox", async () => {
    const { app, run, store } = await begin();
    const reason = new Error("the user went away");
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }, { signal: AbortSignal.abort(reason) }))).rejects.toMatchObject({ code: "Aborted", cause: reason });
    expect(app.metrics()).toMatchObject({ hydrations: 0, residentActors: 0, waitingCommands: 0 });
    expect(store.groups).toEqual([]);
  });

  it("that aborts before the decision ends the command, and it is never decided", async () => {
    const { app, settle, store } = await begin();
    let read: (() => void) | undefined;
    store.readScripts.push(async (really) => {
      await new Promise<void>((resolve) => (read = resolve));
      return really();
    });
    const controller = new AbortController();
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }, { signal: controller.signal }));
    const state = watch(app.at(Account, "a").state({ signal: controller.signal }));
    await settle();
    controller.abort();
    await settle();
    expect([command.code, state.code]).toEqual(["Aborted", "Aborted"]);
    read?.();
    await settle();
    expect(await amountsOf(store.other, "account-a")).toEqual([]);
    expect(app.metrics().waitingCommands).toBe(0);
  });

  it("that aborts after the decision changes nothing: the command answers what happened", async () => {
    const { app, settle, store } = await begin();
    const controller = new AbortController();
    store.hold();
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }, { signal: controller.signal }));
    await settle();
    controller.abort();
    await settle();
    expect(command.answered).toBe(false);
    await store.release();
    await settle();
    expect(command.value).toMatchObject({ ok: true, version: 1 });
  });

  it("C2 that aborted while the append was under way ends the command after a conflict", async () => {
    const { app, settle, store } = await begin();
    const controller = new AbortController();
    store.hold();
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }, { signal: controller.signal }));
    await settle();
    controller.abort();
    await stranger(store.other, "account-a", 9);
    await store.release();
    await settle();
    expect(command.code).toBe("Aborted");
    expect(await amountsOf(store.other, "account-a")).toEqual(["+9"]);
  });
});

describe("R5 the hard bound of a call without a deadline", () => {
  it("ends it while the stream cannot be read", async () => {
    const { app, clock, settle, store } = await begin({ actors: { commandTimeoutMs: 4000 } });
    let read: (() => void) | undefined;
    store.readScripts.push(async (really) => {
      await new Promise<void>((resolve) => (read = resolve));
      return really();
    });
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }));
    await settle();
    await clock.advance(3999);
    expect(command.answered).toBe(false);
    await clock.advance(1001);
    expect(command.error).toMatchObject({ code: "DeadlineExceeded", retryable: true });
    expect(app.metrics().waitingCommands).toBe(0);
    read?.();
    await settle();
    expect(store.groups).toEqual([]);
  });

  it("A2 sends nothing else of the stream while the store still owes an answer, and goes on once it has it", async () => {
    const { app, clock, settle, store } = await begin({ actors: { commandTimeoutMs: 4000 } });
    store.hold();
    const sent = watch(app.at(Account, "a").deposit({ amount: 3 }));
    await clock.advance(10_000);
    expect(sent.code).toBe("OutcomeUnknown");
    const waiting = watch(app.at(Account, "a").deposit({ amount: 4 }));
    await clock.advance(10_000);
    expect(waiting.code).toBe("DeadlineExceeded");
    const { other } = store;
    await store.release();
    await settle();
    const next = watch(app.at(Account, "a").deposit({ amount: 5 }));
    await settle();
    expect(next.value).toMatchObject({ ok: true, version: 2 });
    expect(await amountsOf(other, "account-a")).toEqual(["+3", "+5"]);
  });

  it("does not cut a longer deadline short", async () => {
    const { app, clock, settle, store } = await begin({ actors: { commandTimeoutMs: 4000 } });
    store.hold();
    const command = watch(app.at(Account, "a").deposit({ amount: 1 }, { deadlineMs: 60_000 }));
    await settle();
    await clock.advance(50_000);
    expect(command.answered).toBe(false);
    await store.release();
    await settle();
    expect(command.value).toMatchObject({ ok: true });
  });
});
