import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { placesBehind, requirementOf, waitForPosition, type FreshnessSource } from "../../src/consistency/freshness.ts";
import { mergeEntries, type TokenEntry } from "../../src/consistency/token.ts";
import { ReadModelStopped, StoreUnavailable } from "../../src/errors.ts";
import { at, covers, merge, START, type Position } from "../../src/store/position.ts";
import { manualClock } from "../../src/testing/manual-environment.ts";
import { CATEGORIES, STORES, token } from "./entries.ts";

const entry = (offset: number, over: Partial<TokenEntry> = {}): TokenEntry => ({ store: STORES[0], category: "order", id: "1", version: 1, position: at(offset), ...over });
const coded = (code: string): unknown => expect.objectContaining({ code });

describe("what a token requires of a reader", () => {
  it("is the merge of its entries in the categories that are read", () => {
    expect(requirementOf([entry(3), entry(9, { id: "2" }), entry(20, { category: "customer" })], STORES[0], ["order"])).toEqual(at(9));
  });

  it("is nothing for a category that is not read, and for an empty token", () => {
    expect(requirementOf([entry(3)], STORES[0], ["customer"])).toEqual(START);
    expect(requirementOf([], STORES[0], ["order"])).toEqual(START);
  });

  it("ignores foreign entries in a session token and refuses a token that is foreign altogether", () => {
    expect(requirementOf([entry(3), entry(50, { store: STORES[1] })], STORES[0], ["order"])).toEqual(at(3));
    expect(() => requirementOf([entry(3), entry(4, { category: "customer" })], STORES[1], ["order"])).toThrow(coded("TokenForeign"));
    expect(() => requirementOf([entry(3)], STORES[1], ["customer"])).toThrow(coded("TokenForeign"));
  });

  it("I5 grows by merging and never shrinks", () => {
    fc.assert(
      fc.property(token, token, (a, b) => {
        const own = [{ store: STORES[0], category: "order", version: 0, position: {} }];
        const needed = (entries: readonly TokenEntry[]): Position => requirementOf([...own, ...entries], STORES[0], CATEGORIES);
        const both = needed(mergeEntries(a, b));
        const wanted = merge(needed(a), needed(b));
        return covers(both, wanted) && covers(wanted, both);
      }),
    );
  });
});

describe("how far behind a reader is", () => {
  it("counts places over all lanes; a lane that was never read counts from its first offset", () => {
    expect(placesBehind(at(3), at(10))).toBe(7);
    expect(placesBehind(START, at(10))).toBe(10);
    expect(placesBehind({ "order/0": 5 }, { "order/0": 7, "order/1": 0 })).toBe(3);
    expect(placesBehind({ log: 9, other: 1 }, at(4))).toBe(0);
  });
});

/** A source that the test moves, and that counts who listens. */
function source(): FreshnessSource & { move(to: number): void; fail(error: Error): void; listeners: Set<() => void>; reached: number; onSubscribe?: () => void } {
  let failure: Error | undefined;
  return {
    reached: 0,
    listeners: new Set(),
    position() {
      return at(this.reached);
    },
    failure: () => failure,
    onAdvance(listener) {
      this.onSubscribe?.();
      this.listeners.add(listener);
      return () => void this.listeners.delete(listener);
    },
    move(to) {
      this.reached = to;
      for (const listener of this.listeners) listener();
    },
    fail(error) {
      failure = error;
      for (const listener of this.listeners) listener();
    },
  };
}

describe("waiting for a position", () => {
  const setting = () => {
    const clock = manualClock();
    const model = source();
    const controller = new AbortController();
    const wait = (offset: number, timeoutMs = 500): Promise<boolean> => waitForPosition(model, at(offset), { timeoutMs, clock, signal: controller.signal });
    const leaks = (): unknown => ({ listeners: model.listeners.size, timers: clock.pendingTimers });
    return { clock, model, controller, wait, leaks };
  };
  const NONE = { listeners: 0, timers: 0 };

  it("ends at once where the target is covered, without listener or timer", async () => {
    const { model, wait, leaks } = setting();
    model.reached = 5;
    const answer = wait(5);
    expect(leaks()).toEqual(NONE);
    expect(await answer).toBe(true);
  });

  it("F2 wakes by notification as soon as the target is covered, and not before", async () => {
    const { clock, model, wait, leaks } = setting();
    let answer: boolean | undefined;
    const waiting = wait(5).then((covered) => (answer = covered));
    model.move(4);
    await clock.settle();
    expect(answer).toBeUndefined();
    expect(leaks()).toEqual({ listeners: 1, timers: 1 });
    model.move(5);
    expect(await waiting).toBe(true);
    expect(leaks()).toEqual(NONE);
  });

  it("F2 misses no advance that happens while it subscribes", async () => {
    const { model, wait, leaks } = setting();
    model.onSubscribe = () => (model.reached = 5);
    expect(await wait(5)).toBe(true);
    expect(leaks()).toEqual(NONE);
  });

  it("F2 takes a source that calls back while it is subscribed to", async () => {
    const clock = manualClock();
    const model = source();
    const subscribe = model.onAdvance.bind(model);
    model.onAdvance = (listener) => {
      const undo = subscribe(listener);
      model.move(5);
      return undo;
    };
    expect(await waitForPosition(model, at(5), { timeoutMs: 500, clock })).toBe(true);
    expect([model.listeners.size, clock.pendingTimers]).toEqual([0, 0]);
  });

  it("F1 ends with false when the time is over", async () => {
    const { clock, model, wait, leaks } = setting();
    let answer: boolean | undefined;
    const waiting = wait(5).then((covered) => (answer = covered));
    await clock.advance(499);
    expect(answer).toBeUndefined();
    await clock.advance(1);
    expect(await waiting).toBe(false);
    expect(leaks()).toEqual(NONE);
    model.move(5);
    expect(answer).toBe(false);
  });

  it("never waits without time to wait", async () => {
    const { wait, leaks } = setting();
    const answer = wait(5, 0);
    expect(leaks()).toEqual(NONE);
    expect(await answer).toBe(false);
  });

  it("F1 ends with Aborted when the signal aborts, before or meanwhile", async () => {
    const { controller, wait, leaks } = setting();
    const waiting = wait(5);
    controller.abort(new Error("the caller left"));
    await expect(waiting).rejects.toMatchObject({ code: "Aborted", cause: { message: "the caller left" } });
    await expect(wait(5)).rejects.toMatchObject({ code: "Aborted" });
    expect(leaks()).toEqual(NONE);
  });

  it("F1 fails at once when the read model stops, and says why", async () => {
    const { model, wait, leaks } = setting();
    const waiting = wait(5);
    model.fail(new StoreUnavailable("the disk is gone"));
    await expect(waiting).rejects.toMatchObject({ code: "ReadModelStopped", cause: { code: "StoreUnavailable" } });
    await expect(wait(5)).rejects.toMatchObject({ code: "ReadModelStopped", message: expect.stringContaining("the disk is gone") as string });
    expect(leaks()).toEqual(NONE);
  });

  it("hands on a ReadModelStopped as it is", async () => {
    const { model, wait } = setting();
    const stopped = new ReadModelStopped("paused");
    model.fail(stopped);
    await expect(wait(5)).rejects.toBe(stopped);
  });

  it("F3 answers what is covered, though the read model has stopped", async () => {
    const { model, wait } = setting();
    model.reached = 5;
    model.fail(new Error("later"));
    expect(await wait(5)).toBe(true);
  });

  it("F1 leaves nothing behind, whatever ends it and in whatever order", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("move" as const), to: fc.nat(8) }),
      fc.record({ kind: fc.constant("advance" as const), to: fc.nat(300) }),
      fc.record({ kind: fc.constantFrom("abort" as const, "fail" as const), to: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(8), { minLength: 1, maxLength: 5 }), fc.array(step, { maxLength: 8 }), async (targets, steps) => {
        const { clock, model, controller, wait, leaks } = setting();
        const waits = targets.map((target) => wait(target).catch((error: { code: string }) => error.code));
        for (const { kind, to } of steps) {
          if (kind === "move") model.move(Math.max(model.reached, to));
          else if (kind === "advance") await clock.advance(to);
          else if (kind === "abort") controller.abort();
          else model.fail(new Error("failed"));
        }
        await clock.advance(500);
        for (const answer of await Promise.all(waits)) expect([true, false, "Aborted", "ReadModelStopped"]).toContain(answer);
        expect(leaks()).toEqual(NONE);
      }),
      { numRuns: 60 },
    );
  });
});
