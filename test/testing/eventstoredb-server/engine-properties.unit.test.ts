/** What holds whatever is done, in whatever order. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Engine, JournalEntry } from "../../../src/testing/eventstoredb-server/engine/engine.ts";
import { eventFilter } from "../../../src/testing/eventstoredb-server/engine/filter.ts";
import { DELETED, type ExpectedRevision, type RecordedEvent } from "../../../src/testing/eventstoredb-server/engine/model.ts";
import type { ReadResponse } from "../../../src/testing/eventstoredb-server/engine/read-response.ts";
import { readAll, readStream } from "../../../src/testing/eventstoredb-server/engine/reads.ts";
import { subscribeToAll } from "../../../src/testing/eventstoredb-server/engine/subscriptions.ts";
import { engineInManualTime, event, events } from "./support.ts";

const STREAMS = ["a-1", "a-2", "b-1"] as const;

type Step =
  | { readonly do: "append"; readonly stream: string; readonly expected: ExpectedRevision; readonly letters: string }
  | { readonly do: "delete" | "tombstone"; readonly stream: string; readonly expected: ExpectedRevision }
  | { readonly do: "metadata"; readonly stream: string; readonly metadata: object };

const stream = fc.constantFrom(...STREAMS);
const expected: fc.Arbitrary<ExpectedRevision> = fc.oneof(fc.constantFrom<ExpectedRevision>("any", "any", "no_stream", "stream_exists"), fc.integer({ min: 0, max: 6 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ do: fc.constant("append" as const), stream, expected, letters: fc.string({ unit: fc.constantFrom("p", "q", "r", "s", "t"), maxLength: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("delete" as const, "delete" as const, "tombstone" as const), stream, expected }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("metadata" as const), stream, metadata: fc.constantFrom({}, { $maxCount: 2 }, { $tb: 3 }, { $tb: 1, own: "x" }) }) },
);

function take(engine: Engine, one: Step, serial: number): { readonly kind: string } {
  switch (one.do) {
    case "append":
      return engine.append(one.stream, one.expected, events(one.letters));
    case "metadata":
      return engine.append(`$$${one.stream}`, "any", [event(String.fromCodePoint(0x4e00 + serial), { type: "$metadata", data: JSON.stringify(one.metadata) })]);
    default:
      return engine[one.do](one.stream, one.expected);
  }
}

const recorded = (responses: Iterable<ReadResponse>): RecordedEvent[] => Array.from(responses, (response) => (response.kind === "event" ? response.event : undefined)).filter((one) => one !== undefined);
const all = (engine: Engine, backwards = false): RecordedEvent[] => recorded(readAll(engine, { from: backwards ? "end" : 0, backwards, count: 10_000, resolveLinks: false }));
const contentOf = (engine: Engine, of: string, backwards = false): RecordedEvent[] =>
  recorded(readStream(engine, { stream: of, from: backwards ? "end" : 0, backwards, count: 10_000, resolveLinks: false, compatibility: 0 }));

describe("whatever is done to the engine", () => {
  it("revisions of a stream are contiguous, a refused step leaves nothing, and both directions read the same", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { engine } = engineInManualTime();
        for (const [serial, one] of steps.entries()) {
          const before = engine.log.end;
          const outcome = take(engine, one, serial);
          if (outcome.kind !== "success") expect(engine.log.end).toBe(before);
        }
        const log = all(engine);
        expect(all(engine, true).toReversed()).toEqual(log);
        for (const name of new Set(log.map((one) => one.stream))) {
          const revisions = log.filter((one) => one.stream === name && one.revision !== DELETED).map((one) => one.revision);
          expect(revisions).toEqual(revisions.map((_, index) => index));
          if (engine.log.lastRevision(name) === DELETED) continue;
          const content = contentOf(engine, name);
          expect(contentOf(engine, name, true).toReversed()).toEqual(content);
          // What is left of a stream is its end.
          expect(content.map((one) => one.revision)).toEqual(engine.log.isSoftDeleted(name) ? [] : revisions.slice(revisions.length - content.length));
        }
      }),
    );
  });

  it("a log that is opened again is the same, and appends with an exact revision are answered alike", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.array(step, { maxLength: 10 }), (steps, more) => {
        const history: JournalEntry[] = [];
        const { engine: first } = engineInManualTime({ journal: { write: (entry) => void history.push(entry) } });
        for (const [serial, one] of steps.entries()) take(first, one, serial);
        const { engine: second } = engineInManualTime({ history });
        expect([all(second), second.log.end]).toEqual([all(first), first.log.end]);
        // `any` and `stream_exists` know what a restart forgets: a stream that they touched goes its own way in the two.
        const touched = new Set<string>();
        for (const [serial, one] of more.entries()) {
          if (one.do !== "append" || one.expected === "any" || one.expected === "stream_exists") continue;
          if (touched.has(one.stream)) continue;
          expect(take(second, one, serial).kind).toBe(take(first, one, serial).kind);
          touched.add(one.stream);
        }
      }),
    );
  });

  it("a retry of an append with an exact revision or none is answered as the first time, whatever came between", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), stream, fc.array(step, { maxLength: 20 }), (before, name, between) => {
        const { engine } = engineInManualTime();
        for (const [serial, one] of before.entries()) take(engine, one, serial);
        const last = engine.log.lastRevision(name);
        fc.pre(last !== DELETED && !engine.log.isSoftDeleted(name));
        const tried = () => engine.append(name, last, [event("X"), event("Y")]);
        const first = tried();
        for (const [serial, one] of between.entries()) if (one.do === "append") take(engine, one, 100 + serial);
        const { length } = engine.log;
        const again = tried();
        expect(again).toMatchObject({ kind: "success", revision: (first as { revision: number }).revision });
        expect(engine.log.length).toBe(length);
      }),
    );
  });

  it("a subscription gets what $all holds, in its order, once, however fast it reads", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), fc.array(fc.nat({ max: 40 }), { maxLength: 20 }), fc.boolean(), async (steps, pace, filtered) => {
        const { engine } = engineInManualTime();
        const stop = new AbortController();
        const filter = eventFilter({ on: "stream", regex: "", prefixes: ["a-"] });
        const subscription = subscribeToAll(engine, { after: "start", mayRead: () => true, resolveLinks: false, signal: stop.signal, ...(filtered ? { filter, window: 3, interval: 2 } : {}) });
        const wanted = () => all(engine).filter((one) => !filtered || filter(one));
        const got: RecordedEvent[] = [];
        let furthest = -1;
        const read = async (): Promise<void> => {
          const { value } = await subscription.next();
          if (value === undefined) return;
          const response = value as ReadResponse;
          if (response.kind === "event") {
            expect(response.event!.position).toBeGreaterThan(furthest);
            furthest = response.event!.position;
            got.push(response.event!);
          }
          if (response.kind === "checkpoint") {
            // A checkpoint promises that nothing comes at it or before it.
            expect(response.place).toBeGreaterThanOrEqual(furthest);
            furthest = response.place;
          }
        };
        for (const [serial, one] of steps.entries()) {
          take(engine, one, serial);
          for (let turn = pace[serial] ?? 0; turn > 0 && got.length < wanted().length; turn--) await read();
        }
        while (got.length < wanted().length) await read();
        expect(got).toEqual(wanted());
        stop.abort();
        await subscription.return(undefined);
      }),
    );
  });
});
