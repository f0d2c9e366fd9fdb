/** The actors of one process: at most one for each stream, bounded, and gone when nobody needs them (R1 to R5). */
import { afterEach, describe, expect, it } from "vitest";
import { Account } from "./account.ts";
import { tidemark } from "../../src/index.ts";
import { amountsOf, scene, scriptedStore, watch, type ReadScript, type Scene } from "./support.ts";
import { manualEnvironment, type TestAppOptions } from "../../src/testing/index.ts";

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<Omit<TestAppOptions, "store">> = {}): Promise<Scene> {
  const test = await scene({ aggregates: [Account], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

/** A read that waits until it is let go. */
function gate(): { readonly script: ReadScript; open(): void } {
  let go: (() => void) | undefined;
  const passed = new Promise<void>((resolve) => (go = resolve));
  return {
    script: async (read) => {
      await passed;
      return read();
    },
    open: () => go?.(),
  };
}

describe("R1 a stream has one actor", () => {
  it("and is hydrated once, however many commands come meanwhile", async () => {
    const { app, settle, store } = await begin();
    const door = gate();
    store.readScripts.push(door.script);
    const works = [];
    for (let n = 0; n < 5; n++) {
      works.push(watch(app.at(Account, "a").deposit({ amount: 1 })));
      await settle();
    }
    expect(store.reads).toHaveLength(1);
    door.open();
    await settle();
    expect(works.map(({ value }) => value.ok && value.version)).toEqual([1, 2, 3, 4, 5]);
    expect(app.metrics()).toMatchObject({ hydrations: 1, residentActors: 1 });
    expect(store.groups).toHaveLength(1);
  });

  it("whose hydration failed leaves the next command a new one", async () => {
    const { app, run, store } = await begin();
    store.readScripts.push(() => Promise.reject(new Error("the disk is gone")));
    const results = await run(Promise.allSettled([app.at(Account, "a").deposit({ amount: 1 }), app.at(Account, "a").deposit({ amount: 1 })]));
    expect(results).toMatchObject([{ reason: { message: "the disk is gone" } }, { reason: { message: "the disk is gone" } }]);
    expect(app.metrics().residentActors).toBe(0);
    expect(await run(app.at(Account, "a").deposit({ amount: 1 }))).toMatchObject({ ok: true, version: 1 });
  });

  it("and one of another stream is not held up by it", async () => {
    const { app, settle, store } = await begin();
    const door = gate();
    store.readScripts.push(door.script);
    const slow = watch(app.at(Account, "slow").deposit({ amount: 1 }));
    await settle();
    const quick = watch(app.at(Account, "quick").deposit({ amount: 1 }));
    await settle();
    expect([slow.answered, quick.answered]).toEqual([false, true]);
    door.open();
    await settle();
    expect(slow.value).toMatchObject({ ok: true });
  });
});

describe("an actor is unloaded", () => {
  it("when it was idle for so long, and the next command finds the same state", async () => {
    const { app, clock, run } = await begin({ actors: { idleTimeoutMs: 4000 } });
    await run(app.at(Account, "a").deposit({ amount: 5 }));
    await clock.advance(2000);
    await run(app.at(Account, "b").deposit({ amount: 1 }));
    await clock.advance(1999);
    expect(app.metrics()).toMatchObject({ residentActors: 2, passivations: 0 });
    await clock.advance(1001);
    expect(app.metrics()).toMatchObject({ residentActors: 1, passivations: 1 });
    await clock.advance(2000);
    expect(app.metrics()).toMatchObject({ residentActors: 0, residentBytes: 0, passivations: 2 });
    expect(clock.pendingTimers).toBe(0);
    expect(await run(app.at(Account, "a").withdraw({ amount: 5 }))).toMatchObject({ ok: true, version: 2 });
    expect(app.metrics().hydrations).toBe(3);
  });

  it("R3 least recently used first, when there are more than may be", async () => {
    const { app, run } = await begin({ actors: { maxActors: 3 } });
    const use = (id: string) => run(app.at(Account, id).state({ from: "cache" }));
    for (const id of ["a", "b", "c", "a", "d"]) await use(id); // b goes
    expect(app.metrics()).toMatchObject({ residentActors: 3, passivations: 1, hydrations: 4 });
    for (const id of ["a", "c", "d"]) await use(id); // all of them still there
    expect(app.metrics().hydrations).toBe(4);
    await use("b"); // a goes
    await use("c");
    expect(app.metrics()).toMatchObject({ hydrations: 5, residentActors: 3 });
    await use("a");
    expect(app.metrics().hydrations).toBe(6);
  });

  it("R3 least recently used first, when they hold more bytes than may be", async () => {
    const { app, run } = await begin({ actors: { maxBytes: 40_000 } });
    const note = "n".repeat(10_000);
    for (const id of ["a", "b", "c"]) await run(app.at(Account, id).deposit({ amount: 1, note }));
    expect(app.metrics()).toMatchObject({ residentActors: 3, passivations: 0 });
    expect(app.metrics().residentBytes).toBeGreaterThan(30_000);
    await run(app.at(Account, "a").state({ from: "cache" }));
    await run(app.at(Account, "d").deposit({ amount: 1, note }));
    expect(app.metrics()).toMatchObject({ residentActors: 3, passivations: 1 });
    expect(app.metrics().residentBytes).toBeLessThanOrEqual(40_000);
    await run(app.at(Account, "a").state({ from: "cache" }));
    expect(app.metrics().hydrations).toBe(4); // a stayed, b went
  });

  it("R3 never while it is the only one, however large it is", async () => {
    const { app, run } = await begin({ actors: { maxBytes: 1000 } });
    for (let n = 1; n <= 3; n++) expect(await run(app.at(Account, "a").deposit({ amount: 1, note: "n".repeat(5000) }))).toMatchObject({ version: n });
    expect(app.metrics()).toMatchObject({ hydrations: 1, residentActors: 1 });
  });

  it("R2 never while it works or has to: a command that arrives meanwhile is not lost", async () => {
    const { app, clock, settle, store } = await begin({ actors: { idleTimeoutMs: 1000, maxActors: 2 } });
    store.hold();
    const first = watch(app.at(Account, "a").deposit({ amount: 1 }));
    await settle();
    const second = watch(app.at(Account, "a").deposit({ amount: 2 }));
    await clock.advance(5000); // five times its idle time
    const third = watch(app.at(Account, "a").deposit({ amount: 3 }));
    await settle();
    expect(app.metrics()).toMatchObject({ residentActors: 1, passivations: 0, hydrations: 1 });
    expect(store.groups).toHaveLength(1); // the third one went to the same actor
    for (const id of ["b", "c"]) {
      const other = watch(app.at(Account, id).state());
      await settle();
      expect(other.value).toMatchObject({ version: 0 }); // b made room for c, and the busy one stayed
    }
    await store.release();
    await settle();
    expect([first.value, second.value, third.value]).toMatchObject([{ version: 1 }, { version: 2 }, { version: 3 }]);
    expect(app.metrics()).toMatchObject({ hydrations: 3, passivations: 1 });
  });

  it("R2 in the very turn in which a command arrives, and the command makes a new one", async () => {
    const { app, clock, run, store } = await begin({ actors: { idleTimeoutMs: 1000 } });
    for (let n = 1; n <= 20; n++) {
      const work = app.at(Account, "a").deposit({ amount: n });
      await run(work);
      // The sweep falls due in the same advance in which the next command comes.
      const next = clock.advance(1000);
      const command = watch(app.at(Account, "a").deposit({ amount: 1000 + n }));
      await next;
      expect(command.value).toMatchObject({ ok: true, version: 2 * n });
      await clock.advance(2000);
    }
    expect(app.metrics().residentActors).toBe(0);
    expect(await amountsOf(store.other, "account-a")).toHaveLength(40);
  });
});

describe("a wall clock that jumps, back or forth", () => {
  it.each([-3_600_000, 3_600_000])("by %i ms ends no command, unloads no actor and keeps none for longer", async (jump) => {
    const environment = manualEnvironment();
    const { clock } = environment;
    let jumped = 0;
    const jumping = { ...clock, now: () => clock.now() + jumped };
    const store = scriptedStore();
    const opening = tidemark({ store: store.backend, aggregates: [Account], environment: { ...environment, clock: jumping }, actors: { idleTimeoutMs: 4000, commandTimeoutMs: 8000 } });
    await clock.settle();
    const app = await opening;
    jumped = jump;
    const idle = watch(app.at(Account, "idle").deposit({ amount: 1 }));
    await clock.settle();
    store.hold();
    const busy = watch(app.at(Account, "busy").deposit({ amount: 1 }));
    await clock.settle();
    jumped = 2 * jump;
    await clock.advance(2000);
    expect(busy.answered).toBe(false);
    expect(app.metrics()).toMatchObject({ residentActors: 2, passivations: 0 });
    await clock.advance(3000);
    expect(app.metrics()).toMatchObject({ residentActors: 1, passivations: 1 });
    await clock.advance(5000);
    expect(busy.code).toBe("OutcomeUnknown"); // its bound of eight seconds has passed, and nothing else
    await store.release();
    await clock.settle();
    expect(idle.value).toMatchObject({ ok: true });
    const closing = watch(app.close());
    await clock.settle();
    expect(closing.answered).toBe(true);
  });
});

describe("R3 a registry whose actors are all busy", () => {
  it("refuses a new stream at once: RegistryFull, retryable; the streams that are there go on", async () => {
    const { app, settle, run, store } = await begin({ actors: { maxActors: 2 } });
    store.hold();
    const works = ["a", "b"].map((id) => watch(app.at(Account, id).deposit({ amount: 1 })));
    await settle();
    const refused = watch(app.at(Account, "c").deposit({ amount: 1 }));
    const known = watch(app.at(Account, "a").deposit({ amount: 2 }));
    await settle();
    expect(refused.error).toMatchObject({ code: "RegistryFull", retryable: true, details: { stream: "account-c", maxActors: 2 } });
    await store.release();
    await settle();
    expect([...works, known].map(({ value }) => value.ok)).toEqual([true, true, true]);
    expect(await run(app.at(Account, "c").deposit({ amount: 1 }))).toMatchObject({ ok: true });
    expect(app.metrics().residentActors).toBe(2);
  });
});

describe("R5 close", () => {
  it("drains what was accepted, refuses what comes, and stops", async () => {
    const { app, settle, store } = await begin();
    store.hold();
    const accepted = [watch(app.at(Account, "a").deposit({ amount: 1 }))];
    await settle();
    accepted.push(watch(app.at(Account, "a").deposit({ amount: 2 })));
    const closing = watch(app.close());
    await settle();
    expect(closing.answered).toBe(false);
    const late = watch(app.at(Account, "a").deposit({ amount: 4 }));
    await settle();
    expect(late.error).toMatchObject({ code: "AppClosed", details: { stream: "account-a" } });
    await store.release();
    await settle();
    expect(closing.answered).toBe(true);
    expect(accepted.map(({ value }) => value.ok)).toEqual([true, true]);
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1", "+2"]);
    expect(app.metrics()).toMatchObject({ residentActors: 0, waitingCommands: 0 });
  });

  it("is bounded: what is left is told the truth, and that it was given up is logged", async () => {
    const { app, clock, settle, store, logger } = await begin({ closeTimeoutMs: 3000 });
    store.hold();
    const sent = watch(app.at(Account, "a").deposit({ amount: 1 }));
    await settle();
    const waiting = watch(app.at(Account, "a").deposit({ amount: 2 }));
    store.readScripts.push(() => new Promise(() => undefined));
    const unread = watch(app.at(Account, "b").deposit({ amount: 3 }));
    await settle();
    const closing = watch(app.close());
    await clock.advance(2999);
    expect([closing.answered, sent.answered, waiting.answered, unread.answered]).toEqual([false, false, false, false]);
    await clock.advance(1);
    expect(sent.error).toMatchObject({ code: "OutcomeUnknown", retryable: true });
    expect(waiting.code).toBe("AppClosed");
    expect(unread.code).toBe("AppClosed");
    expect(closing.answered).toBe(true);
    expect(logger.lines.some(({ level, message }) => level === "error" && message.includes("given up"))).toBe(true);
    await store.release();
    await settle();
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1"]);
  });

  it("twice is once, also through `await using`", async () => {
    const { app, run, clock } = await begin();
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    const first = app.close();
    expect(app.close()).toBe(first);
    await run(first);
    {
      await using scoped = app;
      expect(scoped.metrics().residentActors).toBe(0);
    }
    expect(clock.pendingTimers).toBe(0);
  });
});
