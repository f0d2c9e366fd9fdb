import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { silentLogger } from "../../src/environment.ts";
import { drawsOf } from "../../src/testing/simulator/draws.ts";
import { World } from "../../src/testing/simulator/world.ts";

const plenty = { forMs: 1e6, maxSteps: 1e5 };

function worldOf(seed: number, onError: (host: string, error: unknown) => void = (_, error) => expect.fail(String(error))): World {
  return new World({ draws: drawsOf(seed, "schedule"), logger: silentLogger, onError });
}

/** Runs until nothing is left. */
async function runOut(world: World): Promise<void> {
  await world.runUntil(() => false, plenty);
}

describe("a simulated world", () => {
  it("lets all microtasks run before the next thing happens (W1)", async () => {
    const world = worldOf(1);
    const { clock } = world.host("a").environment;
    const seen: string[] = [];
    for (const name of ["x", "y", "z"]) {
      clock.immediate(() => {
        seen.push(`${name} begins`);
        void Promise.resolve()
          .then(() => Promise.resolve())
          .then(() => seen.push(`${name} ends`));
      });
    }
    await runOut(world);
    expect(seen).toEqual(["x begins", "x ends", "y begins", "y ends", "z begins", "z ends"]);
  });

  it("is late at times, never early, and lets time go forward alone (W2)", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.array(fc.integer({ min: 0, max: 500 }), { minLength: 1, maxLength: 30 }), async (seed, delays) => {
        const world = worldOf(seed);
        const host = world.host("a");
        const begun = world.now;
        const fired: number[] = [];
        let before = begun;
        const note = (delay: number) => (): void => {
          expect(world.now).toBeGreaterThanOrEqual(begun + delay);
          expect(world.now).toBeGreaterThan(before);
          before = world.now;
          fired.push(delay);
        };
        for (const delay of delays) {
          host.environment.clock.setTimer(delay, note(delay));
          host.deliver(delay, note(delay));
          world.post(delay, note(delay));
        }
        await runOut(world);
        expect(fired).toHaveLength(delays.length * 3);
      }),
      { numRuns: 30 },
    );
  });

  it("keeps the order of one host's timers and immediates, and lets messages overtake (W3)", async () => {
    let overtaken = 0;
    for (let seed = 0; seed < 40; seed++) {
      const world = worldOf(seed);
      const host = world.host("a");
      const timers: number[] = [];
      const immediates: number[] = [];
      const messages: number[] = [];
      for (const delay of [3, 1, 2]) host.environment.clock.setTimer(delay, () => timers.push(delay));
      for (const place of [1, 2, 3]) host.environment.clock.immediate(() => immediates.push(place));
      for (const delay of [1, 2]) host.deliver(delay, () => messages.push(delay));
      await runOut(world);
      expect(timers).toEqual([1, 2, 3]);
      expect(immediates).toEqual([1, 2, 3]);
      if (messages[0] === 2) overtaken++;
    }
    expect(overtaken).toBeGreaterThan(0);
  });

  it("lets nothing happen on a host that is dead, and tells of its death once (W4)", async () => {
    const world = worldOf(1);
    const host = world.host("a");
    let deaths = 0;
    const never = (): void => expect.fail("the dead do nothing");
    host.onDeath(() => deaths++);
    host.environment.clock.setTimer(1, never);
    host.environment.clock.immediate(never);
    host.deliver(1, never);
    host.kill();
    host.kill();
    host.environment.clock.setTimer(1, never);
    host.environment.clock.immediate(never);
    host.deliver(1, never);
    expect([host.alive, host.waiting, deaths]).toEqual([false, 0, 1]);
    expect(await world.runUntil(() => false, plenty)).toBe(false);
  });

  it("lets a stalled host go on where it was, and the others go on meanwhile (W4)", async () => {
    const world = worldOf(1);
    const [slow, quick] = [world.host("slow"), world.host("quick")];
    const begun = world.now;
    const seen: string[] = [];
    slow.stall(100);
    slow.environment.clock.immediate(() => seen.push(`slow ${world.now >= begun + 100}`));
    quick.environment.clock.setTimer(50, () => seen.push(`quick ${world.now < begun + 100}`));
    await runOut(world);
    expect(seen).toEqual(["quick true", "slow true"]);
  });

  it("jumps the wall clock of one host, and no timer with it (W5)", async () => {
    const world = worldOf(1);
    const [a, b] = [world.host("a"), world.host("b")];
    const begun = world.now;
    let fired = 0;
    a.environment.clock.setTimer(10, () => (fired = world.now));
    a.jump(60_000);
    expect(a.environment.clock.now() - b.environment.clock.now()).toBe(60_000);
    await runOut(world);
    expect(fired - begun).toBeLessThan(60);
  });

  it("draws the same order for the same seed, and others for others (W6)", async () => {
    const orderOf = async (seed: number): Promise<string> => {
      const world = worldOf(seed);
      const order: number[] = [];
      for (let index = 0; index < 12; index++) world.host(`${index}`).deliver(0, () => order.push(index));
      await runOut(world);
      return order.join();
    };
    expect(await orderOf(5)).toBe(await orderOf(5));
    const orders = new Set<string>();
    for (let seed = 0; seed < 20; seed++) orders.add(await orderOf(seed));
    expect(orders.size).toBeGreaterThan(15);
  });

  it("goes on after a task that throws, and says where it was", async () => {
    const said: string[] = [];
    const world = worldOf(1, (host, error) => said.push(`${host}: ${(error as Error).message}`));
    const host = world.host("a");
    let after = false;
    host.environment.clock.immediate(() => {
      throw new Error("broken");
    });
    host.environment.clock.immediate(() => (after = true));
    await runOut(world);
    expect(said).toEqual(["a: broken"]);
    expect(after).toBe(true);
  });

  it("gives up at its bounds", async () => {
    const world = worldOf(1);
    const { clock } = world.host("a").environment;
    const again = (): void => clock.immediate(again);
    again();
    expect(await world.runUntil(() => false, { forMs: 1e9, maxSteps: 200 })).toBe(false);
    expect(world.steps).toBe(200);
    expect(await world.runUntil(() => false, { forMs: 1, maxSteps: 1e6 })).toBe(false);
    expect(world.steps).toBeLessThan(2000);
  });
});
