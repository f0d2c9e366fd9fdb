/** What an attack on the promises once broke, each with the protection that holds it now. */
import { concatMap } from "rxjs";
import { describe, expect, it } from "vitest";
import { aggregate, readModel, table, tidemark, type Backend, type Codec, type EventStore } from "../../src/index.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import { memorySnapshots } from "../../src/store/memory/memory-snapshots.ts";
import { manualEnvironment, testApp } from "../../src/testing/index.ts";

const counterWith = (extra: { readonly prepare?: () => Promise<{ by: number }> } = {}) =>
  aggregate("counter", {
    initial: () => ({ n: 0 }),
    events: {
      Added: (counter, data: { by: number }) => {
        counter.n += data.by;
      },
    },
    prepare: { slowly: extra.prepare ?? ((input: { by: number }) => Promise.resolve(input)) },
    commands: {
      add: (_counter, input: { by: number }, { emit }) => emit("Added", { by: input.by }),
      refuse: (counter, _input: undefined, { reject }) => reject("no", { n: counter.n }),
      slowly: (_counter, input, { emit }) => emit("Added", { by: input.by }),
    },
  });
const Counter = counterWith();

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const coded = (code: string): unknown => expect.objectContaining({ code });

/** The store with some of its parts replaced. */
function withStore(backend: Backend, patch: (events: EventStore) => Partial<EventStore>): Backend {
  const { events } = backend;
  const bound: EventStore = {
    capabilities: events.capabilities,
    identity: (signal) => events.identity(signal),
    append: (appends) => events.append(appends),
    readStream: (stream, options) => events.readStream(stream, options),
    readAll: (options) => events.readAll(options),
    subscribe: (options) => events.subscribe(options),
    close: () => events.close(),
  };
  return { ...backend, events: { ...bound, ...patch(events) } };
}

describe("a codec that fails", () => {
  /** Decodes asynchronously, and cannot decode 13. */
  const codec: Codec = {
    encode: (batch) => batch.map(({ data }) => JSON.stringify(data)),
    async decode(batch) {
      await turn();
      return batch.map(({ data }) => {
        const decoded = JSON.parse(data) as { by: number };
        if (decoded.by === 13) throw new Error("no key for this subject");
        return decoded;
      });
    },
  };

  it("fails its own command by name, and no neighbour of it", async () => {
    await using app = await tidemark({ store: "memory:", aggregates: [Counter], codec });
    const counter = app.at(Counter, "1");
    const [one, bad, two] = await Promise.allSettled([counter.add({ by: 1 }), counter.add({ by: 13 }), counter.add({ by: 2 })]);
    expect([one.status, two.status]).toEqual(["fulfilled", "fulfilled"]);
    expect(bad).toMatchObject({ status: "rejected", reason: coded("DomainCodeFailed") });
    expect((await counter.state()).state).toEqual({ n: 3 });
  });

  it("also when it is decided ahead, while an append is under way", async () => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const store = withStore(memoryBackend(), (events) => ({
      async append(appends) {
        await gate;
        return events.append(appends);
      },
    }));
    await using app = await tidemark({ store, aggregates: [Counter], codec });
    const counter = app.at(Counter, "1");
    const first = counter.add({ by: 1 });
    for (let turns = 0; turns < 10; turns++) await turn();
    const ahead = Promise.allSettled([counter.add({ by: 13 }), counter.add({ by: 2 })]);
    for (let turns = 0; turns < 10; turns++) await turn();
    go();
    await first;
    const [bad, good] = await ahead;
    expect(bad).toMatchObject({ status: "rejected", reason: coded("DomainCodeFailed") });
    expect(good.status).toBe("fulfilled");
  });

  it("or never answers, has a bound: its command fails, and the stream goes on with the next one", async () => {
    let stuck = true;
    const hanging: Codec = { ...codec, encode: (batch) => (stuck ? new Promise(() => undefined) : codec.encode(batch)) };
    const test = await testApp({ aggregates: [Counter], codec: hanging, actors: { commandTimeoutMs: 1000 } });
    const lost = test.app.at(Counter, "1").add({ by: 1 }).catch((error: unknown) => error);
    await test.clock.advance(3000);
    expect(await lost).toEqual(coded("StoreUnavailable"));
    stuck = false;
    expect(await test.run(test.app.at(Counter, "1").add({ by: 2 }))).toMatchObject({ ok: true, version: 1 });
    await test.close();
  });
});

describe("a state that JSON cannot hold", () => {
  it("is never believed from a snapshot: the stream is replayed", async () => {
    const Limit = aggregate("limit", {
      initial: (): { limits: (number | undefined)[] } => ({ limits: [] }),
      events: {
        Lifted: (limit, _data: { by: string }) => {
          limit.limits.push(undefined);
        },
      },
      commands: { lift: (_limit, input: { by: string }, { emit }) => emit("Lifted", input) },
      snapshot: { everyEvents: 1 },
    });
    const backend: Backend = { ...memoryBackend(), snapshots: memorySnapshots() };
    const first = await tidemark({ store: backend, aggregates: [Limit] });
    await first.at(Limit, "1").lift({ by: "me" });
    await first.close();
    expect(first.metrics()).toMatchObject({ snapshotsSaved: 0, snapshotsFailed: 1 });
    await using second = await tidemark({ store: backend, aggregates: [Limit] });
    expect((await second.at(Limit, "1").state()).state).toEqual({ limits: [undefined] });
  });

  it.each<[string, number | bigint | (() => void)]>([
    ["NaN", Number.NaN],
    ["Infinity", Number.POSITIVE_INFINITY],
    ["a bigint", 1n],
    ["a function", () => undefined],
  ])("such as %s, is refused before its event is recorded", async (_name, value) => {
    const Limit = aggregate("limit", {
      initial: (): { limit: unknown } => ({ limit: 0 }),
      events: { Lifted: (limit, _data: null) => void (limit.limit = value) },
      commands: { lift: (_limit, _input: undefined, { emit }) => emit("Lifted", null) },
    });
    await using app = await tidemark({ store: "memory:", aggregates: [Limit] });
    await expect(app.at(Limit, "1").lift()).rejects.toMatchObject({ code: "DomainCodeFailed" });
    expect(await app.at(Limit, "1").state()).toMatchObject({ version: 0, state: { limit: 0 } });
  });

  it("decides nothing: an event of an older shape that nobody upcasts is unreadable, and covers no expense", async () => {
    const backend = memoryBackend();
    const Before = aggregate("purse", {
      initial: () => ({ balance: 0 }),
      events: { Earned: (purse, { points }: { points: number }) => void (purse.balance += points) },
      commands: { earn: (_purse, points: number, { emit }) => emit("Earned", { points }) },
    });
    const before = await tidemark({ store: backend, aggregates: [Before] });
    await before.at(Before, "1").earn(10);
    const After = aggregate("purse", {
      initial: () => ({ balance: 0 }),
      events: { Earned: (purse, { amount }: { amount: number }) => void (purse.balance += amount), Spent: (purse, { amount }: { amount: number }) => void (purse.balance -= amount) },
      commands: { spend: (purse, amount: number, { emit, reject }) => (purse.balance < amount ? reject("not-covered") : emit("Spent", { amount })) },
    });
    await using after = await tidemark({ store: backend, aggregates: [After] });
    await expect(after.at(After, "1").spend(1000)).rejects.toMatchObject({ code: "EventUnreadable", message: expect.stringContaining("upcaster") as string, details: { stream: "purse-1", version: 1 } });
  });
});

describe("time", () => {
  const Other = aggregate("other", { initial: () => ({}), events: { Happened: () => undefined }, commands: { happen: (_state, _input: undefined, { emit }) => emit("Happened") } });
  const view = table<{ id: string }>("seen", { key: "id" });
  const seen = readModel("seen", { from: [Counter], view, project: (events$, { view: rows }) => events$.pipe(concatMap(({ id }) => rows.upsert({ id }))) });
  const all = readModel("all", { from: [Counter, Other], view, project: (events$, { view: rows }) => events$.pipe(concatMap(({ id }) => rows.upsert({ id }))) });

  it("that goes back stalls no position: what is measured is measured by a clock that does not", async () => {
    const manual = manualEnvironment();
    let back = 0;
    const clock = { ...manual.clock, now: () => manual.clock.now() - back };
    const settled = async <T>(work: Promise<T>): Promise<T> => {
      let done = false;
      void work.finally(() => (done = true)).catch(() => undefined);
      while (!done) await manual.clock.advance(10);
      return work;
    };
    const app = await tidemark({ store: "memory:", aggregates: [Counter, Other], readModels: [seen, all], environment: { ...manual, clock } });
    await settled(app.at(Counter, "1").add({ by: 1 }));
    await manual.clock.advance(1000);
    back = 3_600_000;
    const other = await settled(app.at(Other, "1").happen());
    if (!other.ok) throw new Error("it was rejected");
    const { token } = await settled(app.answer(all, (rows) => rows.count(), { atLeast: other.token }));
    // The event does not concern this model: only its idle position can cover the token.
    expect(await settled(app.query(seen, (rows) => rows.count(), { atLeast: token, timeoutMs: 1000 }))).toBe(1);
    await settled(app.close());
  });

  it("without a bound is a long time, not a short one", async () => {
    const slow = readModel("slow", {
      from: [Counter],
      view,
      pageTimeoutMs: Number.POSITIVE_INFINITY,
      project: (events$, { view: rows }) =>
        events$.pipe(
          concatMap(async ({ id }) => {
            for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve, 1));
            await rows.upsert({ id });
          }),
        ),
    });
    await using app = await tidemark({ store: "memory:", aggregates: [Counter], readModels: [slow], closeTimeoutMs: Number.POSITIVE_INFINITY });
    const result = await app.at(Counter, "1").add({ by: 1 });
    if (!result.ok) throw new Error("it was rejected");
    expect(await app.query(slow, (rows) => rows.count(), { atLeast: result.token })).toBe(1);
  });
});

describe("answers", () => {
  it("from the cache are not behind a token that names no stream", async () => {
    const backend = memoryBackend();
    await using one = await tidemark({ store: backend, aggregates: [Counter] });
    await using other = await tidemark({ store: backend, aggregates: [Counter] });
    await one.at(Counter, "1").add({ by: 1 });
    await other.at(Counter, "1").state();
    let token = "";
    // So many streams that the token of the first one folds into one entry without a name.
    for (let stream = 1; stream <= 20; stream++) {
      const result = await one.at(Counter, String(stream)).add({ by: 1 });
      if (result.ok) token = token === "" ? result.token : one.mergeTokens(token, result.token);
    }
    expect((await other.at(Counter, "1").state({ from: "cache" })).version).toBe(1);
    expect((await other.at(Counter, "1").state({ from: "cache", atLeast: token })).version).toBe(2);
  });

  it("that are confirmed recognise a store that was restored and went on to the same version", async () => {
    const before = memoryBackend();
    const after = memoryBackend();
    let current = before;
    const switching = withStore(before, () => ({ readStream: (stream, options) => current.events.readStream(stream, options) }));
    await using app = await tidemark({ store: switching, aggregates: [Counter] });
    await using restored = await tidemark({ store: after, aggregates: [Counter] });
    await app.at(Counter, "1").add({ by: 100 });
    await restored.at(Counter, "1").add({ by: 1 });
    current = after;
    await expect(app.at(Counter, "1").state()).rejects.toEqual(coded("StoreRewound"));
  });
});

describe("calls", () => {
  it("before their mailbox are counted, and told when the app closes", async () => {
    const Hanging = counterWith({ prepare: () => new Promise(() => undefined) });
    const app = await tidemark({ store: "memory:", aggregates: [Hanging], actors: { maxPendingCommands: 5 } });
    const ends: string[] = [];
    for (let call = 0; call < 8; call++) app.at(Hanging, "1").slowly({ by: 1 }).catch((error: { code: string }) => ends.push(error.code));
    await turn();
    expect(ends).toEqual(["Overloaded", "Overloaded", "Overloaded"]);
    expect(app.metrics().waitingCommands).toBe(5);
    await app.close();
    await turn();
    expect(ends.slice(3)).toEqual(Array.from({ length: 5 }, () => "AppClosed"));
    expect(app.metrics().waitingCommands).toBe(0);
  });

  it("that ended while they waited make room in a full mailbox, also those decided ahead", async () => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const store = withStore(memoryBackend(), (events) => ({
      async append(appends) {
        await gate;
        return events.append(appends);
      },
    }));
    const test = await testApp({ store, aggregates: [Counter], actors: { mailboxCapacity: 3 } });
    const counter = test.app.at(Counter, "1");
    const first = counter.add({ by: 1 });
    await test.settle();
    const expired = Promise.allSettled([1, 2, 3].map(() => counter.add({ by: 1 }, { deadlineMs: 20 })));
    await test.clock.advance(50);
    expect((await expired).map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    const next = counter.add({ by: 5 });
    go();
    expect(await test.run(next)).toMatchObject({ ok: true, version: 2 });
    expect(await test.run(first)).toMatchObject({ ok: true, version: 1 });
    await test.close();
  });

  it("keep the options that they were made with", async () => {
    await using app = await tidemark({ store: "memory:", aggregates: [Counter] });
    const options = { expectedVersion: 0 };
    const made = app.at(Counter, "1").add({ by: 1 }, options);
    options.expectedVersion = 7;
    expect(await made).toMatchObject({ ok: true, version: 1 });
  });

  it("that are aborted before an asynchronous schema has refused their input leave no rejection unhandled", async () => {
    const schema = { "~standard": { version: 1 as const, vendor: "test", validate: async (): Promise<{ issues: { message: string }[] }> => (await turn(), { issues: [{ message: "no" }] }) } };
    const Checked = aggregate("checked", { initial: () => ({}), events: { Done: () => undefined }, inputs: { go: schema }, commands: { go: (_state, _input, { emit }) => emit("Done") } });
    await using app = await tidemark({ store: "memory:", aggregates: [Checked] });
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on("unhandledRejection", note);
    await expect(app.at(Checked, "1").go(undefined, { signal: AbortSignal.abort() })).rejects.toEqual(coded("Aborted"));
    for (let turns = 0; turns < 5; turns++) await turn();
    process.off("unhandledRejection", note);
    expect(unhandled).toEqual([]);
  });

  it("whose middleware gives no answer are told so", async () => {
    await using app = await tidemark({ store: "memory:", aggregates: [Counter], middleware: (async () => undefined) as never });
    await expect(app.at(Counter, "1").add({ by: 1 })).rejects.toEqual(coded("InvalidArgument"));
  });
});

describe("leaving a subscription", () => {
  it("answers at once, also while it waits for the next page", async () => {
    await using app = await tidemark({ store: "memory:", aggregates: [Counter] });
    const pages = app.subscribe([Counter])[Symbol.asyncIterator]();
    expect((await pages.next()).value).toMatchObject({ caughtUp: true });
    const waiting = pages.next();
    await turn();
    expect(await pages.return?.()).toEqual({ done: true, value: undefined });
    expect(await waiting).toEqual({ done: true, value: undefined });
  });
});
