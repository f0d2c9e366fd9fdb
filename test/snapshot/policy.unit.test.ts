import { describe, expect, it } from "vitest";
import { isDue } from "../../src/snapshot/policy.ts";

const since = (events: number, ms = 0) => ({ events, ms });

describe("a snapshot is due", () => {
  it("after so many events, and not before", () => {
    expect([0, 1, 9, 10, 11].map((events) => isDue({ everyEvents: 10 }, {}, since(events)))).toEqual([false, false, false, true, true]);
  });

  it("after so much time, if something has happened", () => {
    expect(isDue({ everyMs: 1000 }, {}, since(1, 999))).toBe(false);
    expect(isDue({ everyMs: 1000 }, {}, since(1, 1000))).toBe(true);
    expect(isDue({ everyMs: 1000 }, {}, since(0, 5000))).toBe(false);
  });

  it("when the predicate says so of the state and of what has passed", () => {
    const when = (state: unknown, passed: { events: number; ms: number }) => state === "done" && passed.events > 2 && passed.ms > 5;
    expect(isDue({ when }, "done", since(3, 6))).toBe(true);
    expect(isDue({ when }, "done", since(2, 6))).toBe(false);
    expect(isDue({ when }, "open", since(3, 6))).toBe(false);
    expect(isDue({ when: () => true }, "done", since(0))).toBe(false);
  });

  it("when any of what is given holds", () => {
    const policy = { everyEvents: 10, everyMs: 1000, when: (state: unknown) => state === "done" };
    expect(isDue(policy, "open", since(9, 999))).toBe(false);
    expect(isDue(policy, "open", since(10, 0))).toBe(true);
    expect(isDue(policy, "open", since(1, 1000))).toBe(true);
    expect(isDue(policy, "done", since(1, 0))).toBe(true);
  });

  it("never when nothing is given", () => {
    expect(isDue({}, {}, since(1e9, 1e9))).toBe(false);
  });
});
