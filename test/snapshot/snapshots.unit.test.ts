/** Snapshots as apps take and use them: off the command path (S1 to S3), a hint and never a truth (H1, H2). */
import { afterEach, describe, expect, it } from "vitest";
import { aggregate, type App, type SnapshotPolicy, type SnapshotStore, type StoredSnapshot } from "../../src/index.ts";
import { checksumOf } from "../../src/snapshot/checksum.ts";
import type { Backend } from "../../src/store/backend.ts";
import { memorySnapshots } from "../../src/store/memory/index.ts";
import { testApp, type TestApp, type TestAppOptions } from "../../src/testing/index.ts";
import { accountWith } from "../actor/account.ts";
import { scriptedStore, stranger, watch, type ScriptedStore } from "../actor/support.ts";

interface Recorded extends SnapshotStore {
  /** Everything that was saved, in order. */
  readonly saved: StoredSnapshot[];
  /** Calls of `save`, by their number of snapshots. */
  readonly batches: number[];
  /** Taken one by one by the calls of `save` to come. */
  readonly saveScripts: (() => Promise<void>)[];
  replaceLoad(load: SnapshotStore["load"]): void;
}

function recordedSnapshots(): Recorded {
  const inner = memorySnapshots();
  const saved: StoredSnapshot[] = [];
  const batches: number[] = [];
  const saveScripts: (() => Promise<void>)[] = [];
  let load: SnapshotStore["load"] = (stream) => inner.load(stream);
  return {
    saved,
    batches,
    saveScripts,
    replaceLoad: (other) => void (load = other),
    load: (stream, signal) => load(stream, signal),
    async save(snapshots) {
      batches.push(snapshots.length);
      await saveScripts.shift()?.();
      saved.push(...snapshots);
      await inner.save(snapshots);
    },
    delete: (stream) => inner.delete(stream),
    close: () => inner.close(),
  };
}

interface Place extends TestApp {
  readonly store: ScriptedStore;
  readonly snapshots: Recorded;
  readonly Account: ReturnType<typeof accountWith>;
  /** Another app on the same events and snapshots, with nothing in memory. */
  restarted(policy?: SnapshotPolicy, options?: Partial<TestAppOptions>): Promise<TestApp & { readonly Account: ReturnType<typeof accountWith> }>;
}

const open: { close(): Promise<void> }[] = [];
async function begin(policy: SnapshotPolicy<{ readonly balance: number; readonly notes: readonly string[] }>, options: Partial<TestAppOptions> = {}): Promise<Place> {
  const store = scriptedStore();
  const snapshots = recordedSnapshots();
  const backend: Backend = { ...store.backend, snapshots };
  const Account = accountWith(policy);
  const test = await testApp({ store: backend, aggregates: [Account], ...options });
  open.push(test);
  return {
    ...test,
    store,
    snapshots,
    Account,
    async restarted(other = policy as SnapshotPolicy, more = {}) {
      const Again = accountWith(other);
      const next = await testApp({ store: backend, aggregates: [Again], ...options, ...more });
      open.push(next);
      return { ...next, Account: Again };
    },
  };
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

const deposit = async ({ app, run, Account }: Pick<Place, "app" | "run" | "Account">, times: number, id = "a"): Promise<void> => {
  for (let n = 0; n < times; n++) await run(app.at(Account, id).deposit({ amount: 1 }));
};
const versions = ({ snapshots }: Place): number[] => snapshots.saved.map(({ version }) => version);
const used = ({ app }: { app: App }) => {
  const { snapshotsUsed, snapshotsIgnored, eventsReplayed } = app.metrics();
  return { snapshotsUsed, snapshotsIgnored, eventsReplayed };
};

describe("snapshots are taken", () => {
  it("every so many events, also over what one append brings", async () => {
    const place = await begin({ everyEvents: 5 });
    await deposit(place, 4);
    await place.settle();
    expect(versions(place)).toEqual([]);
    await place.run(place.app.at(place.Account, "a").scatter({ times: 4, note: "n" }));
    await place.settle();
    expect(versions(place)).toEqual([8]);
    await deposit(place, 12);
    await place.settle();
    expect(versions(place)).toEqual([8, 13, 18]);
  });

  it("after so much time, with the next event", async () => {
    const place = await begin({ everyMs: 1000 });
    await deposit(place, 3);
    await place.clock.advance(999);
    await deposit(place, 1);
    await place.settle();
    expect(versions(place)).toEqual([]);
    await place.clock.advance(1);
    expect(versions(place)).toEqual([]); // time alone takes none
    await deposit(place, 2);
    await place.settle();
    expect(versions(place)).toEqual([5]);
  });

  it("when the state says so, or whatever else of the policy holds", async () => {
    const place = await begin({ everyEvents: 6, when: (state) => state.balance === 2 });
    await deposit(place, 9);
    await place.settle();
    expect(versions(place)).toEqual([2, 8]);
  });

  it("of confirmed state, with everything that hydration needs (S1)", async () => {
    const place = await begin({ everyEvents: 2, schemaVersion: 3 });
    await place.run(place.app.at(place.Account, "a").scatter({ times: 2, note: "n" }, { commandId: "c" }));
    await place.settle();
    const events = (await place.store.other.readStream("account-a")).events;
    const [snapshot] = place.snapshots.saved;
    expect(snapshot).toMatchObject({ stream: "account-a", version: 2, eventId: events[1]?.id, position: events[1]?.position, schemaVersion: 3, takenAt: place.clock.now() });
    expect(JSON.parse(snapshot?.state ?? "")).toEqual({ balance: 2, notes: ["n.0", "n.1"] });
    expect(snapshot?.checksum).toBe(checksumOf(snapshot as StoredSnapshot));
  });

  it("by a predicate that throws: none, with a warning, and the command is answered", async () => {
    const place = await begin({
      when: () => {
        throw new Error("no idea");
      },
    });
    expect(await place.run(place.app.at(place.Account, "a").deposit({ amount: 1 }))).toMatchObject({ ok: true });
    expect(place.logger.lines).toMatchObject([{ level: "warn", fields: { stream: "account-a" } }]);
    expect(versions(place)).toEqual([]);
  });
});

describe("S2 writing a snapshot", () => {
  it("delays no command: they are answered while it is under way", async () => {
    const place = await begin({ everyEvents: 1 });
    let done: (() => void) | undefined;
    place.snapshots.saveScripts.push(() => new Promise((resolve) => (done = resolve)));
    await deposit(place, 5);
    expect(place.snapshots.saved).toEqual([]);
    expect(await place.run(place.app.at(place.Account, "a").state())).toMatchObject({ version: 5 });
    done?.();
    await place.settle();
    expect(versions(place)).toEqual([1, 5]); // S3: of those that waited, the newest
  });

  it("that fails is dropped, with a warning and a count, and fails no command", async () => {
    const place = await begin({ everyEvents: 1 });
    place.snapshots.saveScripts.push(() => Promise.reject(new Error("the disk is full")));
    await deposit(place, 1);
    await place.settle();
    expect(place.app.metrics()).toMatchObject({ snapshotsSaved: 0, snapshotsFailed: 1, commandsAccepted: 1 });
    expect(place.logger.lines).toMatchObject([{ level: "warn", fields: { streams: ["account-a"] } }]);
    await deposit(place, 1);
    await place.settle();
    expect(place.app.metrics()).toMatchObject({ snapshotsSaved: 1, snapshotsFailed: 1 });
  });

  it("goes in batches, and is finished when the app has closed", async () => {
    const place = await begin({ everyEvents: 1 });
    const works = Array.from({ length: 120 }, (_, n) => place.app.at(place.Account, `a${n}`).deposit({ amount: 1 }));
    await place.run(Promise.all(works));
    await place.run(place.app.close());
    expect(place.snapshots.saved).toHaveLength(120);
    expect(place.snapshots.batches.every((size) => size <= 50)).toBe(true);
  });

  it("is waited for when the app closes, as long as that may take and no longer", async () => {
    for (const saves of [true, false]) {
      const place = await begin({ everyEvents: 1 }, { closeTimeoutMs: 2000 });
      let done: (() => void) | undefined;
      place.snapshots.saveScripts.push(() => new Promise((resolve) => (done = resolve)));
      await deposit(place, 1);
      const closing = watch(place.app.close());
      await place.clock.advance(1999);
      expect(closing.answered).toBe(false);
      if (saves) done?.();
      await place.clock.advance(saves ? 0 : 1);
      expect([closing.answered, closing.error]).toEqual([true, undefined]);
      expect(versions(place)).toEqual(saves ? [1] : []);
      expect(place.logger.lines.some(({ level, message }) => level === "error" && message.includes("did not stop in time"))).toBe(!saves);
    }
  });

  it("S4 of a state that JSON would change is left out, with a warning and a count: the stream is replayed", async () => {
    const Ratio = aggregate("ratio", {
      initial: (): { sum: number; mean: (number | undefined)[] } => ({ sum: 0, mean: [] }),
      events: {
        Added: (ratio, data: { value: number; count: number }) => {
          ratio.sum += data.value;
          ratio.mean = [data.count === 0 ? undefined : ratio.sum / data.count];
        },
      },
      commands: { add: (_, input: { value: number; count: number }, { emit }) => emit("Added", input) },
      snapshot: { everyEvents: 1 },
    });
    const place = await begin({ everyEvents: 1 }, { aggregates: [Ratio] });
    await place.run(place.app.at(Ratio, "r").add({ value: 1, count: 0 })); // a list with undefined in it
    await place.settle();
    expect(place.snapshots.saved).toEqual([]);
    expect(place.app.metrics()).toMatchObject({ snapshotsSaved: 0, snapshotsFailed: 1 });
    expect(place.logger.lines).toMatchObject([{ level: "warn", fields: { stream: "ratio-r", version: 1 } }]);
    const next = await place.restarted(undefined, { aggregates: [Ratio] });
    expect(await next.run(next.app.at(Ratio, "r").state())).toMatchObject({ state: { sum: 1, mean: [undefined] } });
    await place.run(place.app.at(Ratio, "r").add({ value: 1, count: 2 }));
    await place.settle();
    expect(versions(place)).toEqual([2]);
    // Beside one that cannot be written: each is counted once.
    place.snapshots.saveScripts.push(() => Promise.reject(new Error("the disk is full")));
    await place.run(Promise.all([place.app.at(Ratio, "s").add({ value: 1, count: 0 }), place.app.at(Ratio, "t").add({ value: 1, count: 1 })]));
    await place.settle();
    expect(place.app.metrics()).toMatchObject({ snapshotsSaved: 1, snapshotsFailed: 3 });
  });

  it("S3 that cannot keep up drops the oldest of what waits, and counts it", async () => {
    const place = await begin({ everyEvents: 1 });
    let done: (() => void) | undefined;
    place.snapshots.saveScripts.push(() => new Promise((resolve) => (done = resolve)));
    await deposit(place, 1, "first");
    await place.settle();
    await place.run(Promise.all(Array.from({ length: 1003 }, (_, n) => place.app.at(place.Account, `a${n}`).deposit({ amount: 1 }))));
    expect(place.app.metrics().snapshotsFailed).toBe(3);
    done?.();
    await place.settle();
    expect(place.snapshots.saved).toHaveLength(1001);
    expect(place.snapshots.saved.some(({ stream }) => stream === "account-a0")).toBe(false);
  });
});

describe("H2 hydration with a snapshot", () => {
  it("reads only the rest, and the one event that it compares", async () => {
    const place = await begin({ everyEvents: 100 });
    await place.run(place.app.at(place.Account, "a").scatter({ times: 5000, note: "n" }));
    await place.settle();
    await deposit(place, 3);
    const next = await place.restarted();
    place.store.reads.length = 0;
    expect(await next.run(next.app.at(next.Account, "a").withdraw({ amount: 5003 }))).toMatchObject({ ok: true, version: 5004 });
    expect(place.store.reads).toEqual([{ stream: "account-a", from: 5000, events: 4 }]);
    expect(used(next)).toEqual({ snapshotsUsed: 1, snapshotsIgnored: 0, eventsReplayed: 3 });
  });

  it("goes on counting from the last one, however often the stream was unloaded since", async () => {
    const place = await begin({ everyEvents: 5 }, { actors: { idleTimeoutMs: 100 } });
    for (let n = 1; n <= 12; n++) {
      await deposit(place, 1);
      await place.clock.advance(1000);
    }
    expect(place.app.metrics()).toMatchObject({ passivations: 12, hydrations: 12 });
    expect(versions(place)).toEqual([5, 10]);
  });

  it("takes one at once where it had to fold more than the policy allows", async () => {
    const place = await begin({ everyEvents: 5 });
    await stranger(place.store.other, "account-a", 1, 1, 1, 1, 1, 1);
    await place.run(place.app.at(place.Account, "a").state());
    await place.settle();
    expect(versions(place)).toEqual([6]);
  });

  it("keeps the command ids: the same command is answered the same without a replay", async () => {
    const place = await begin({ everyEvents: 1 });
    const first = await place.run(place.app.at(place.Account, "a").deposit({ amount: 5 }, { commandId: "c" }));
    await place.settle();
    const next = await place.restarted();
    expect(await next.run(next.app.at(next.Account, "a").deposit({ amount: 5 }, { commandId: "c" }))).toEqual(first);
    expect(used(next)).toEqual({ snapshotsUsed: 1, snapshotsIgnored: 0, eventsReplayed: 0 });
  });
});

describe("H1 a snapshot that cannot be believed costs a full replay, a warning and a count, and the state is right", () => {
  const cases: readonly [name: string, change: (snapshot: StoredSnapshot) => StoredSnapshot][] = [
    ["whose state was damaged", (snapshot) => ({ ...snapshot, state: snapshot.state.replace('"balance":4', '"balance":9') })],
    ["whose window was damaged", (snapshot) => ({ ...snapshot, window: `${snapshot.window}x` })],
    ["whose version was changed", (snapshot) => ({ ...snapshot, version: 3 })],
    ["whose checksum is wrong", (snapshot) => ({ ...snapshot, checksum: "x" })],
    ["of another schema version", (snapshot) => sealed({ ...snapshot, schemaVersion: 2 })],
    ["whose state is no JSON", (snapshot) => sealed({ ...snapshot, state: "{" })],
    ["whose window is none", (snapshot) => sealed({ ...snapshot, window: "w9.1" })],
    ["ahead of the stream", (snapshot) => sealed({ ...snapshot, version: 40 })],
    ["whose event is not the stream's", (snapshot) => sealed({ ...snapshot, eventId: "of-another-log" })],
    ["of another stream", (snapshot) => sealed({ ...snapshot, stream: "account-b", state: '{"balance":1000,"notes":[]}' })],
  ];
  const sealed = (snapshot: StoredSnapshot): StoredSnapshot => ({ ...snapshot, checksum: checksumOf(snapshot) });

  it.each(cases)("%s", async (_, change) => {
    const place = await begin({ everyEvents: 4 });
    await deposit(place, 6);
    await place.settle();
    const [snapshot] = place.snapshots.saved;
    expect(snapshot?.version).toBe(4);
    const next = await place.restarted();
    place.snapshots.replaceLoad(async () => change(snapshot as StoredSnapshot));
    expect(await next.run(next.app.at(next.Account, "a").state())).toMatchObject({ version: 6, state: { balance: 6 } });
    expect(used(next)).toEqual({ snapshotsUsed: 0, snapshotsIgnored: 1, eventsReplayed: 6 });
    expect(next.logger.lines).toMatchObject([{ level: "warn", fields: { stream: "account-a" } }]);
    expect(await next.run(next.app.at(next.Account, "a").withdraw({ amount: 6 }))).toMatchObject({ ok: true, version: 7 });
  });

  it("as it was taken: believed", async () => {
    const place = await begin({ everyEvents: 4 });
    await deposit(place, 6);
    const next = await place.restarted();
    await next.run(next.app.at(next.Account, "a").state());
    expect(used(next)).toEqual({ snapshotsUsed: 1, snapshotsIgnored: 0, eventsReplayed: 2 });
    expect(next.logger.lines).toEqual([]);
  });

  it("of a state-schema version that the code has left behind, until a new one is taken", async () => {
    const place = await begin({ everyEvents: 4 });
    await deposit(place, 4);
    await place.settle();
    const next = await place.restarted({ everyEvents: 2, schemaVersion: 2 });
    await deposit(next, 2);
    await next.settle();
    expect(used(next)).toMatchObject({ snapshotsIgnored: 1, eventsReplayed: 4 });
    const third = await place.restarted({ everyEvents: 2, schemaVersion: 2 });
    await third.run(third.app.at(third.Account, "a").state());
    expect(used(third)).toEqual({ snapshotsUsed: 1, snapshotsIgnored: 0, eventsReplayed: 0 });
  });

  it("whose window was kept under narrower options", async () => {
    const place = await begin({ everyEvents: 1 }, { actors: { commandWindow: { capacity: 5, windowMs: 1000 } } });
    await deposit(place, 2);
    const next = await place.restarted(undefined, { actors: { commandWindow: { capacity: 6, windowMs: 1000 } } });
    expect(await next.run(next.app.at(next.Account, "a").state())).toMatchObject({ state: { balance: 2 } });
    expect(used(next)).toEqual({ snapshotsUsed: 0, snapshotsIgnored: 1, eventsReplayed: 2 });
  });

  it("that cannot be loaded at all", async () => {
    const place = await begin({ everyEvents: 1 });
    await deposit(place, 2);
    place.snapshots.replaceLoad(() => Promise.reject(new Error("no such table")));
    const next = await place.restarted();
    expect(await next.run(next.app.at(next.Account, "a").state())).toMatchObject({ version: 2 });
    expect(next.logger.lines).toMatchObject([{ level: "warn", fields: { stream: "account-a" } }]);
    expect(used(next)).toMatchObject({ eventsReplayed: 2 });
  });
});

describe("an aggregate without a policy", () => {
  it("neither takes snapshots nor looks for any", async () => {
    const place = await begin({ everyEvents: 1 });
    await deposit(place, 3);
    await place.settle();
    const Plain = accountWith();
    const test = await testApp({ store: { ...place.store.backend, snapshots: place.snapshots }, aggregates: [Plain] });
    open.push(test);
    const state = watch(test.app.at(Plain, "a").state());
    await test.settle();
    expect(state.value).toMatchObject({ version: 3 });
    await stranger(place.store.other, "account-a", 1);
    expect(used(test)).toEqual({ snapshotsUsed: 0, snapshotsIgnored: 0, eventsReplayed: 3 });
  });
});
