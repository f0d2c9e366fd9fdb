import { describe, expect, it } from "vitest";
import { delay } from "../../src/environment.ts";
import { manualClock, manualEnvironment, recordingLogger, seededRandom } from "../../src/testing/manual-environment.ts";

describe("the manual clock", () => {
  it("M1 stands still until it is advanced", async () => {
    const clock = manualClock({ now: 1000 });
    await clock.settle();
    expect(clock.now()).toBe(1000);
    await clock.advance(250);
    expect(clock.now()).toBe(1250);
  });

  it("M1 runs due timers in order, each at its own time, and those of one time as they were set", async () => {
    const clock = manualClock({ now: 0 });
    const seen: string[] = [];
    for (const [name, delayMs] of [["c", 30], ["a", 10], ["b", 20], ["b2", 20], ["later", 31]] as const) clock.setTimer(delayMs, () => seen.push(`${name}@${clock.now()}`));
    await clock.advance(30);
    expect(seen).toEqual(["a@10", "b@20", "b2@20", "c@30"]);
    expect(clock.pendingTimers).toBe(1);
  });

  it("M1 runs timers that timers and their promises set, when they fall due on the way", async () => {
    const clock = manualClock({ now: 0 });
    const seen: number[] = [];
    const worker = (async () => {
      for (let i = 0; i < 3; i++) {
        await delay(clock, 10);
        seen.push(clock.now());
      }
    })();
    await clock.advance(25);
    expect(seen).toEqual([10, 20]);
    await clock.advance(5);
    await worker;
    expect(seen).toEqual([10, 20, 30]);
  });

  it("does not run a cancelled timer", async () => {
    const clock = manualClock();
    let ran = false;
    const timer = clock.setTimer(10, () => (ran = true));
    timer.cancel();
    timer.cancel();
    await clock.advance(10);
    expect(ran).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  it("M2 M3 settles immediates after microtasks until nothing is left", async () => {
    const clock = manualClock();
    const seen: string[] = [];
    clock.immediate(() => {
      seen.push("immediate");
      void Promise.resolve().then(() => {
        seen.push("its microtask");
        clock.immediate(() => seen.push("the next"));
      });
    });
    clock.immediate(() => seen.push("second"));
    void Promise.resolve().then(() => seen.push("microtask"));
    expect(seen).toEqual([]);
    await clock.settle();
    expect(seen).toEqual(["microtask", "immediate", "its microtask", "second", "the next"]);
  });

  it("M4 rejects with what a task throws", async () => {
    const clock = manualClock();
    clock.immediate(() => {
      throw new Error("broken task");
    });
    await expect(clock.settle()).rejects.toThrow("broken task");
  });
});

describe("seeded randomness", () => {
  it("repeats itself for a seed and differs between seeds", () => {
    const draw = (seed: number): unknown[] => {
      const random = seededRandom(seed);
      return [random.next(), random.uuid(), random.next(), random.uuid()];
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });

  it("draws numbers spread over [0, 1)", () => {
    const random = seededRandom(1);
    const buckets = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 10_000; i++) {
      const number = random.next();
      expect(number >= 0 && number < 1).toBe(true);
      buckets[Math.floor(number * 10)]!++;
    }
    for (const count of buckets) expect(Math.abs(count - 1000)).toBeLessThan(200);
  });

  it("draws distinct version 4 UUIDs", () => {
    const random = seededRandom(3);
    const drawn = new Set(Array.from({ length: 2000 }, () => random.uuid()));
    expect(drawn.size).toBe(2000);
    for (const uuid of drawn) expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

describe("the recording logger", () => {
  it("keeps level, fields and message in order", () => {
    const logger = recordingLogger();
    logger.warn({ stream: "order-1" }, "slow");
    logger.error({}, "failed");
    expect(logger.lines).toEqual([
      { level: "warn", fields: { stream: "order-1" }, message: "slow" },
      { level: "error", fields: {}, message: "failed" },
    ]);
  });

  it("comes with clock and randomness as one environment", () => {
    const { clock, random, logger } = manualEnvironment({ now: 5, seed: 9 });
    expect([clock.now(), random.next(), logger.lines]).toEqual([5, seededRandom(9).next(), []]);
  });
});
