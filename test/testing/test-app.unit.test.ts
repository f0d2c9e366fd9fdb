import { NEVER } from "rxjs";
import { afterEach, describe, expect, it } from "vitest";
import { accepted, readModel, table } from "../../src/index.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import { testApp, type TestApp, type TestAppOptions } from "../../src/testing/index.ts";
import { Account, balances } from "../actor/account.ts";
import { eventOf, eventsOf, stranger, watch } from "../actor/support.ts";
import { patched } from "../readmodel/support.ts";

const open: TestApp[] = [];
async function begin(options: Partial<TestAppOptions> = {}): Promise<TestApp> {
  const test = await testApp({ aggregates: [Account], readModels: [balances], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

describe("a test's app", () => {
  it("runs a command to its answer, and the read model to it, while time stands still", async () => {
    const { app, clock, run } = await begin();
    const before = clock.now();
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 5 })));
    expect(await run(app.query(balances, (view) => view.get("a"), { atLeast: token }))).toEqual({ id: "a", balance: 5, version: 1 });
    expect(clock.now()).toBe(before);
  });

  it("does nothing before it is told to", async () => {
    const { app, settle } = await begin();
    const work = watch(app.at(Account, "a").deposit({ amount: 5 }));
    for (let n = 0; n < 50; n++) await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(work.answered).toBe(false);
    await settle();
    expect(work.value).toMatchObject({ ok: true });
  });

  it("begins at the time it is given, and moves when the test says so", async () => {
    const { app, clock, run } = await begin({ now: Date.UTC(2030, 5, 1) });
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    await clock.advance(60_000);
    await run(app.at(Account, "a").deposit({ amount: 2 }));
    const { events } = await run(app.history(Account, "a"));
    expect(events.map(({ recordedAt }) => recordedAt.toISOString())).toEqual(["2030-06-01T00:00:00.000Z", "2030-06-01T00:01:00.000Z"]);
  });

  it("closes though the pipeline of a read model never completes, for which its clock moves on", async () => {
    const never = readModel("never", { from: [Account], view: table<{ id: string }>("never", { key: "id" }), project: () => NEVER });
    const { app, clock, close, logger, run, settle } = await testApp({ aggregates: [Account], readModels: [never], closeTimeoutMs: 3000 });
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    await settle();
    const before = clock.now();
    await close();
    expect(clock.now() - before).toBe(3000);
    expect(logger.lines.some(({ message }) => message.includes("did not stop in time"))).toBe(true);
  });

  it("is the same in every run of one seed, ids and tokens included, and another with another seed", async () => {
    const story = async (seed: number): Promise<unknown> => {
      const { app, run, clock, close } = await testApp({ aggregates: [Account], seed });
      const answers: unknown[] = [app.storeId];
      for (let n = 1; n <= 5; n++) {
        answers.push(await run(app.at(Account, `a${n % 2}`).deposit({ amount: n })));
        await clock.advance(10);
      }
      answers.push((await run(app.history(Account, "a1"))).events);
      await close();
      return answers;
    };
    expect(await story(7)).toEqual(await story(7));
    expect(await story(7)).not.toEqual(await story(8));
  });

  it("hands on what a call fails with", async () => {
    const { app, run } = await begin();
    await expect(run(app.at(Account, "a").explode())).rejects.toMatchObject({ code: "DomainCodeFailed" });
    await expect(run(Promise.reject(new Error("not of the app at all")))).rejects.toThrow("not of the app at all");
  });

  it("keeps what it logs", async () => {
    const backend = memoryBackend();
    const { logger } = await begin({ store: backend, readModels: [] });
    const poisoned = await begin({ store: backend, readModels: [balances], projections: { attempts: 1 } });
    await backend.events.append([{ stream: "account-a", expected: "any", events: [eventOf("Forgotten", {})] }]);
    await poisoned.settle();
    expect(poisoned.app.readModel(balances).progress()).toMatchObject({ state: "failed" });
    expect(poisoned.logger.lines.some(({ level }) => level === "error")).toBe(true);
    expect(logger.lines).toEqual([]);
  });

  it("works on a store that the test holds, and leaves it open", async () => {
    const store = memoryBackend();
    await stranger(store.events, "account-a", 3);
    const { app, run, close } = await testApp({ aggregates: [Account], readModels: [balances], store });
    expect(await run(app.at(Account, "a").withdraw({ amount: 3 }))).toMatchObject({ ok: true, version: 2 });
    await close();
    expect(await eventsOf(store.events, "account-a")).toHaveLength(2);
  });

  it("leaves no timer behind when it is closed", async () => {
    const { app, run, clock, close } = await testApp({ aggregates: [Account], readModels: [balances] });
    await run(app.at(Account, "a").deposit({ amount: 5 }));
    await run(app.at(Account, "a").deposit({ amount: 5 }, { deadlineMs: 1e6 }));
    await close();
    await close();
    expect(clock.pendingTimers).toBe(0);
  });

  it("runs retries at the times that it passes, every one of them on a whole millisecond", async () => {
    const backend = memoryBackend();
    const other = backend.events;
    let strangers = 3;
    const events = patched(other, {
      async append(appends) {
        if (strangers-- > 0) await stranger(other, "account-a", 1);
        return other.append(appends);
      },
    });
    const { app, clock } = await begin({ store: { ...backend, events }, readModels: [] });
    const work = watch(app.at(Account, "a").deposit({ amount: 5 }));
    await clock.advance(1000);
    expect(work.value).toMatchObject({ ok: true, version: 4 });
    expect((await eventsOf(other, "account-a")).every(({ recordedAt }) => Number.isInteger(recordedAt))).toBe(true);
  });
});
