/** Group commit against a model: whatever comes, in whatever order the store answers, G1 to G4 hold. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Committer } from "../../src/actor/committer.ts";
import { newCounters } from "../../src/actor/metrics.ts";
import type { Append, AppendOutcome, EventStore } from "../../src/store/event-store.ts";
import { memoryStore } from "../../src/store/memory/index.ts";
import { manualClock } from "../../src/testing/manual-environment.ts";

const GROUP_EVENTS = 10_000;
const GROUP_CHARACTERS = 8 * 1024 * 1024;

/** Data of a few sizes: nothing, several to a group, one alone. */
const texts = ["{}", "x".repeat(3_000_000), "x".repeat(9_000_000)] as const;

function appendOf(place: number, events: number, text: number): Append {
  const metadata = { correlationId: "c", causationId: "c", commandId: "c" };
  const event = { type: "Happened", data: texts[text] ?? "{}", metadata, recordedAt: 0 };
  return { stream: `thing-${place}`, expected: place, events: Array.from({ length: events }, (_, index) => ({ ...event, id: `${place}-${index}` })) };
}

const sizes = fc.oneof(
  { weight: 8, arbitrary: fc.record({ events: fc.constant(1), text: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ events: fc.constantFrom(1, 2), text: fc.constantFrom(1, 2) }) },
  { weight: 1, arbitrary: fc.record({ events: fc.constantFrom(4000, 11_000), text: fc.constant(0) }) },
);
const actions = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("append" as const), size: sizes }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("turn" as const) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("answer" as const), which: fc.nat(), how: fc.constantFrom("each", "each", "throws", "too few") }) },
  ),
  { maxLength: 40 },
);

interface Group {
  readonly appends: readonly Append[];
  /** Appends that had been given to the committer when it was sent. */
  readonly given: number;
  readonly answer: (how: string) => void;
}

describe("the committer", () => {
  it("sends whatever waits as soon as the store takes it, in order and within bounds, and gives each append its own outcome", async () => {
    await fc.assert(
      fc.asyncProperty(actions, fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 4 }), async (all, groupsInFlight, maxAppendsInBatch) => {
        const clock = manualClock();
        const given: Append[] = [];
        const groups: Group[] = [];
        const open: Group[] = [];
        const expected = new Map<string, AppendOutcome["kind"]>();
        const outcomes = new Map<string, AppendOutcome>();
        const inner = memoryStore();
        const store: EventStore = {
          capabilities: { ...inner.capabilities, groupsInFlight, maxAppendsInBatch },
          identity: () => inner.identity(),
          readStream: (stream) => inner.readStream(stream),
          readAll: () => inner.readAll(),
          subscribe: () => inner.subscribe(),
          close: () => inner.close(),
          append: (appends) =>
            new Promise((resolve, reject) => {
              const group: Group = {
                appends,
                given: given.length,
                answer(how) {
                  open.splice(open.indexOf(group), 1);
                  const answered = how === "throws" ? 0 : how === "too few" ? appends.length - 1 : appends.length;
                  appends.forEach(({ stream }, index) => expected.set(stream, index < answered ? "committed" : "unknown"));
                  if (how === "throws") reject(new Error("the store broke its promise"));
                  else resolve(appends.slice(0, answered).map(({ expected: place }) => ({ kind: "committed", version: Number(place), position: {} })));
                },
              };
              groups.push(group);
              open.push(group);
              expect(open.length).toBeLessThanOrEqual(groupsInFlight);
            }),
        };
        const committer = new Committer(store, clock, newCounters());
        const settle = async (): Promise<void> => {
          await clock.settle();
          const sent = groups.flatMap(({ appends }) => appends);
          expect(sent).toEqual(given.slice(0, sent.length)); // first come, first sent
          if (sent.length < given.length) expect(open).toHaveLength(groupsInFlight); // G1
        };
        for (const action of all) {
          if (action.kind === "append") {
            const append = appendOf(given.length, action.size.events, action.size.text);
            given.push(append);
            committer.append(append, {
              settled(outcome) {
                expect(outcomes.has(append.stream)).toBe(false);
                outcomes.set(append.stream, outcome);
              },
            });
          } else if (action.kind === "turn") await settle();
          else {
            open[action.which % Math.max(1, open.length)]?.answer(action.how);
            await settle();
          }
        }
        await settle();
        while (open.length > 0) {
          open[0]?.answer("each");
          await settle();
        }
        expect(outcomes.size).toBe(given.length);
        for (const { stream, expected: place } of given) {
          const outcome = outcomes.get(stream);
          expect(outcome?.kind).toBe(expected.get(stream));
          if (outcome?.kind === "committed") expect(outcome.version).toBe(place); // G3
        }
        let sent = 0;
        for (const group of groups) {
          sent += group.appends.length;
          const [events, characters] = sizeOf(group.appends);
          expect(group.appends.length).toBeLessThanOrEqual(maxAppendsInBatch);
          expect(group.appends.length === 1 || (events <= GROUP_EVENTS && characters <= GROUP_CHARACTERS)).toBe(true); // G2
          const next = given.slice(0, group.given)[sent];
          if (next === undefined || group.appends.length === maxAppendsInBatch) continue;
          const [moreEvents, moreCharacters] = sizeOf([...group.appends, next]);
          expect(moreEvents > GROUP_EVENTS || moreCharacters > GROUP_CHARACTERS).toBe(true); // as many as fit
        }
      }),
      { numRuns: 60 },
    );
  });
});

function sizeOf(appends: readonly Append[]): [events: number, characters: number] {
  const events = appends.flatMap((append) => append.events);
  return [events.length, events.reduce((sum, { data }) => sum + data.length, 0)];
}
