/** Two apps on one log against a sequential model: whatever is called, in whatever order the store does it, the log explains every answer (I1 to I4). */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jsonCodec, tidemark, type Codec } from "../../src/index.ts";
import { delay } from "../../src/environment.ts";
import type { AppendOutcome, EventStore, StoredEvent } from "../../src/store/event-store.ts";
import { memoryBackend, memoryLog, memoryStore } from "../../src/store/memory/index.ts";
import { manualEnvironment, seededRandom, type ManualClock } from "../../src/testing/index.ts";
import { accountWith } from "./account.ts";

const Account = accountWith({ everyEvents: 4 });

const STREAMS = 3;

const call = fc.record({
  app: fc.nat(1),
  stream: fc.nat(STREAMS - 1),
  kind: fc.constantFrom("deposit" as const, "deposit" as const, "withdraw" as const, "withdraw" as const, "scatter" as const, "settle" as const, "state" as const, "again" as const),
  amount: fc.integer({ min: 1, max: 9 }),
  cached: fc.boolean(),
  deadlineMs: fc.constantFrom(undefined, undefined, undefined, 3, 15, 40),
  /** Milliseconds until the next one. */
  pause: fc.constantFrom(0, 0, 0, 1, 4, 30),
});
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

/** A store that takes its time for everything, and that loses replies and whole groups now and then. */
function slow(inner: EventStore, clock: ManualClock, seed: number): EventStore {
  const random = seededRandom(seed);
  const some = (): Promise<void> => delay(clock, Math.floor(random.next() * 12));
  return {
    capabilities: inner.capabilities,
    identity: () => inner.identity(),
    async append(appends) {
      const fate = random.next();
      await some();
      const unknown = (): AppendOutcome[] => appends.map(() => ({ kind: "unknown", cause: new Error("lost") }));
      if (fate < 0.05) return unknown();
      const outcomes = await inner.append(appends);
      await some();
      return fate < 0.1 ? unknown() : outcomes;
    },
    async readStream(stream, options) {
      await some();
      const slice = await inner.readStream(stream, options);
      await some();
      return slice;
    },
    readAll: (options) => inner.readAll(options),
    subscribe: (options) => inner.subscribe(options),
    close: () => inner.close(),
  };
}

/** JSON, a few milliseconds later. */
function late(clock: ManualClock, seed: number): Codec {
  const random = seededRandom(seed + 1000);
  const some = (): Promise<void> => delay(clock, Math.floor(random.next() * 4));
  return {
    encode: (batch) => some().then(() => jsonCodec.encode(batch)),
    decode: (batch) => some().then(() => jsonCodec.decode(batch)),
  };
}

interface Answered {
  readonly id: string;
  readonly stream: string;
  readonly call: Call;
  /** Highest version of the stream that anybody had been told of when the call began. */
  readonly known: number;
  readonly answer:
    | { readonly kind: "accepted"; readonly version: number; readonly events: number }
    | { readonly kind: "rejected"; readonly version: number; readonly balance: number }
    | { readonly kind: "state"; readonly version: number; readonly balance: number };
}

const amountOf = (event: StoredEvent): number => (event.type === "Withdrawn" ? -1 : 1) * (JSON.parse(event.data) as { amount: number }).amount;

describe("two apps on one log", () => {
  it("equal a sequential model: contiguous versions, every acknowledged command once, every answer true on the version it names", async () => {
    let accepted = 0;
    let conflicts = 0;
    let unknown = 0;
    let expired = 0;
    let unsure = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 10, maxLength: 60 }), fc.integer({ min: 1, max: 1e6 }), fc.boolean(), fc.constantFrom(0, 32), async (calls, seed, slowCodec, assumeNewAfter) => {
        const log = memoryLog();
        const environment = manualEnvironment({ seed });
        const { clock } = environment;
        const opened = [0, 1].map((n) => {
          const backend = memoryBackend({ log });
          const store = { ...backend, events: slow(backend.events, clock, seed + n) };
          return tidemark({ store, aggregates: [Account], environment, codec: slowCodec ? late(clock, seed + n) : jsonCodec, actors: { attempts: 200, idleTimeoutMs: n === 0 ? 40 : 1e9, assumeNewAfter } });
        });
        await clock.settle();
        const apps = await Promise.all(opened);

        const told = new Map<string, number>();
        const answers: Answered[] = [];
        const failures: { readonly id: string; readonly code: string }[] = [];
        const sent: { readonly id: string; readonly one: Call }[] = [];
        const begin = async (one: Call, id: string): Promise<void> => {
          const stream = `account-s${one.stream}`;
          const known = told.get(stream) ?? 0;
          const account = (apps[one.app] as (typeof apps)[number]).at(Account, `s${one.stream}`);
          const options = { commandId: id, from: one.cached ? ("cache" as const) : ("store" as const), ...(one.deadlineMs === undefined ? {} : { deadlineMs: one.deadlineMs }) };
          let answer: Answered["answer"];
          if (one.kind === "state") {
            const { version, state } = await account.state({ from: options.from });
            answer = { kind: "state", version, balance: state.balance };
          } else {
            const result =
              one.kind === "withdraw"
                ? await account.withdraw({ amount: one.amount }, options)
                : one.kind === "settle"
                  ? await account.settle(undefined, options)
                  : one.kind === "scatter"
                    ? await account.scatter({ times: one.amount, note: id }, options)
                    : await account.deposit({ amount: one.amount }, options);
            answer = result.ok ? { kind: "accepted", version: result.version, events: result.events.length } : { kind: "rejected", version: result.decidedAt.version, balance: result.details.balance };
          }
          told.set(stream, Math.max(told.get(stream) ?? 0, answer.version));
          answers.push({ id, stream, call: one, known, answer });
        };
        for (const [n, one] of calls.entries()) {
          const earlier = one.kind === "again" ? sent[n % Math.max(1, sent.length)] : undefined;
          if (one.kind === "again" && earlier === undefined) continue;
          // Once more, through whichever app: the same command.
          const repeated = earlier === undefined ? one : { ...earlier.one, app: one.app, cached: false };
          const id = earlier?.id ?? `c${n}`;
          if (earlier === undefined && (one.kind === "deposit" || one.kind === "withdraw" || one.kind === "scatter")) sent.push({ id, one });
          begin(repeated, id).catch((error: { code: string }) => failures.push({ id, code: error.code }));
          await clock.advance(one.pause);
        }
        await clock.advance(120_000);
        for (const { code } of failures) expect(["DeadlineExceeded", "OutcomeUnknown"]).toContain(code);
        expect(apps.reduce((sum, app) => sum + app.metrics().waitingCommands, 0)).toBe(0);

        const direct = memoryStore({ log });
        const streams = new Map<string, readonly StoredEvent[]>();
        for (let n = 0; n < STREAMS; n++) streams.set(`account-s${n}`, (await direct.readStream(`account-s${n}`)).events);
        /** The balance after each version: the fold, done by hand. */
        const balances = new Map<string, number[]>();
        for (const [stream, events] of streams) {
          expect(events.map(({ version }) => version)).toEqual(events.map((_, index) => index + 1)); // I2
          const after = [0];
          for (const event of events) after.push((after.at(-1) ?? 0) + amountOf(event));
          expect(Math.min(...after)).toBeGreaterThanOrEqual(0); // every withdrawal was valid where it stands
          balances.set(stream, after);
        }
        const standing = new Map<string, StoredEvent[]>();
        for (const events of streams.values()) for (const event of events) standing.set(event.metadata.commandId, [...(standing.get(event.metadata.commandId) ?? []), event]);
        for (const { id, stream, call: one, known, answer } of answers) {
          if (answer.kind === "accepted" && answer.events > 0) {
            const events = standing.get(id) ?? [];
            expect(events.map(({ version }) => version)).toEqual(Array.from({ length: answer.events }, (_, n) => answer.version - answer.events + 1 + n)); // I1, once and together
            continue;
          }
          if (!one.cached) expect(answer.version).toBeGreaterThanOrEqual(known); // as true as a commit
          if (answer.kind === "accepted") continue;
          expect(answer.balance).toBe(balances.get(stream)?.[answer.version]); // I3
          if (answer.kind === "rejected") expect(one.amount).toBeGreaterThan(answer.balance);
        }
        const acknowledged = new Set(answers.filter(({ answer }) => answer.kind === "accepted" && answer.events > 0).map(({ id }) => id));
        // I4: nothing else stands, but what nobody could tell.
        const untold = new Set(failures.filter(({ code }) => code === "OutcomeUnknown").map(({ id }) => id));
        for (const id of acknowledged) expect(standing.has(id)).toBe(true);
        for (const id of standing.keys()) expect(acknowledged.has(id) || untold.has(id)).toBe(true);
        expired += failures.length - untold.size;
        unsure += untold.size;

        for (const app of apps) {
          for (let n = 0; n < STREAMS; n++) {
            const state = app.at(Account, `s${n}`).state();
            await clock.advance(1000);
            expect(await state).toMatchObject({ version: streams.get(`account-s${n}`)?.length, state: { balance: balances.get(`account-s${n}`)?.at(-1) } });
          }
          accepted += app.metrics().commandsAccepted;
          conflicts += app.metrics().conflicts;
          unknown += app.metrics().unknownOutcomes;
          const closing = app.close();
          await clock.advance(10_000);
          await closing;
        }
      }),
      { numRuns: 60 },
    );
    // The property is about something.
    expect(accepted).toBeGreaterThan(500);
    expect(conflicts).toBeGreaterThan(50);
    expect(unknown).toBeGreaterThan(20);
    expect(expired).toBeGreaterThan(20);
    expect(unsure).toBeGreaterThan(0);
  });
});
