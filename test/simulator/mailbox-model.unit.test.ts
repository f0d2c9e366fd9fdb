/** A mailbox against a model: whatever is called, while the store takes its time or not, calls take effect in their order, each is answered once, and what waits is bounded. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { aggregate } from "../../src/index.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import type { EventStore } from "../../src/store/event-store.ts";
import type { Backend } from "../../src/store/backend.ts";
import { testApp } from "../../src/testing/test-app.ts";

const CAPACITY = 4;

const Tally = aggregate("tally", {
  initial: () => ({ numbers: [] as number[] }),
  events: {
    Noted: (tally, data: { number: number }) => {
      tally.numbers.push(data.number);
    },
  },
  commands: {
    note: (_, input: { number: number }, { emit }) => emit("Noted", input),
    refuse: (tally, _: undefined, { reject }) => reject("refused", { seen: tally.numbers.length }),
    pass: () => [],
  },
});

const actions = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom("note" as const, "note" as const, "refuse" as const, "pass" as const, "state" as const) },
    { weight: 3, arbitrary: fc.constant("turn" as const) },
    { weight: 2, arbitrary: fc.constant("hold" as const) },
    { weight: 2, arbitrary: fc.constantFrom("release" as const, "advance" as const, "stranger" as const) },
  ),
  { minLength: 20, maxLength: 100 },
);

/** A backend in memory whose appends wait while it is held. */
function held(): { readonly backend: Backend; readonly direct: EventStore; hold(): void; release(): void } {
  const inner = memoryBackend();
  const { events } = inner;
  let holding = false;
  let waiting: (() => void)[] = [];
  const backend: Backend = {
    ...inner,
    events: {
      capabilities: events.capabilities,
      identity: () => events.identity(),
      readStream: (stream, options) => events.readStream(stream, options),
      readAll: (options) => events.readAll(options),
      subscribe: (options) => events.subscribe(options),
      close: () => events.close(),
      async append(appends) {
        if (holding) await new Promise<void>((resolve) => waiting.push(resolve));
        return events.append(appends);
      },
    },
  };
  return {
    backend,
    direct: events,
    hold() {
      holding = true;
    },
    release() {
      holding = false;
      for (const resolve of waiting) resolve();
      waiting = [];
    },
  };
}

describe("a mailbox", () => {
  it("takes effect in the order of its calls, answers each once, and holds no more than its capacity", async () => {
    await fc.assert(
      fc.asyncProperty(actions, async (all) => {
        const store = held();
        const test = await testApp({ store: store.backend, aggregates: [Tally], actors: { mailboxCapacity: CAPACITY, idleTimeoutMs: 50 } });
        const tally = test.app.at(Tally, "one");
        const open = new Set<number>();
        /** Numbers in the order in which they were called and not refused by the mailbox, and versions as they were answered. */
        const answered: { readonly call: number; readonly version: number; readonly notes: boolean }[] = [];
        let calls = 0;
        let strangers = 0;
        const track = (notes: boolean, work: Promise<{ version: number }>): void => {
          const call = calls++;
          const before = open.size;
          open.add(call);
          work.then(
            ({ version }) => {
              expect(open.delete(call)).toBe(true);
              answered.push({ call, version, notes });
            },
            (error: unknown) => {
              expect(open.delete(call)).toBe(true);
              expect((error as { code: string }).code).toBe("MailboxFull");
              expect(before).toBeGreaterThanOrEqual(CAPACITY);
            },
          );
        };
        /** Another writer: what was decided before it is decided again, and keeps its order. */
        const stranger = async (): Promise<void> => {
          const metadata = { correlationId: "s", causationId: "s", commandId: "s" };
          await store.direct.append([{ stream: "tally-one", expected: "any", events: [{ id: `stranger-${strangers++}`, type: "Noted", data: '{"number":-1}', metadata, recordedAt: 0 }] }]);
        };
        const versionOf = (result: { ok: true; version: number } | { ok: false; decidedAt: { version: number } }) => ({ version: result.ok ? result.version : result.decidedAt.version });
        for (const action of all) {
          if (action === "note") track(true, tally.note({ number: calls }).then(versionOf));
          else if (action === "refuse") track(false, tally.refuse().then(versionOf));
          else if (action === "pass") track(false, tally.pass().then(versionOf));
          else if (action === "state") track(false, tally.state());
          else if (action === "hold") store.hold();
          else if (action === "release") store.release();
          else if (action === "stranger") await stranger();
          else if (action === "advance") await test.clock.advance(60);
          else await test.settle();
          // One round under way and the mailbox behind it, however often conflicts throw back what was decided.
          if (action === "turn" || action === "advance") expect(open.size).toBeLessThanOrEqual(2 * CAPACITY);
        }
        store.release();
        await test.clock.advance(5000); // pauses after conflicts
        expect(open.size).toBe(0);

        const inOrder = answered.toSorted((a, b) => a.call - b.call);
        const notes = inOrder.filter((one) => one.notes);
        const { state, version } = await test.run(tally.state());
        expect(version).toBe(notes.length + strangers);
        expect(state.numbers.filter((number) => number >= 0)).toEqual(notes.map(({ call }) => call)); // once each, in the order of the calls
        for (const one of notes) expect(state.numbers[one.version - 1]).toBe(one.call);
        for (const one of inOrder) {
          // What appends nothing rests on all notes that were called before it and answered.
          if (!one.notes) expect(one.version).toBeGreaterThanOrEqual(notes.filter(({ call }) => call < one.call).length);
        }
        await test.close();
      }),
      { numRuns: 120 },
    );
  });
});
