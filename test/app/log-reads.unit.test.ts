/** Reads of the log through an app: history, the state at a version, subscriptions. */
import { afterEach, describe, expect, it } from "vitest";
import { accepted, aggregate, type EventPage } from "../../src/index.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import { testApp, type TestApp, type TestAppOptions } from "../../src/testing/index.ts";
import { Account } from "../actor/account.ts";
import { eventOf, scene, stranger, watch } from "../actor/support.ts";

const Note = aggregate("note", {
  initial: () => ({ text: "" }),
  events: {
    Written: (note, data: { text: string }) => {
      note.text = data.text;
    },
  },
  commands: { write: (_, input: { text: string }, { emit }) => emit("Written", input) },
});

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<TestAppOptions> = {}): Promise<TestApp> {
  const test = await testApp({ aggregates: [Account, Note], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

async function filled(count: number) {
  const store = memoryBackend();
  const test = await begin({ store });
  await stranger(store.events, "account-a", ...Array.from({ length: count }, (_, n) => n + 1));
  return { ...test, store };
}

describe("history", () => {
  it("is the recorded events, from anywhere, in both directions, in pages", async () => {
    const { app, run } = await filled(25);
    const versions = async (options = {}) => {
      const { events, next, version } = await run(app.history(Account, "a", options));
      expect(version).toBe(25);
      return [events.map((event) => event.version), next];
    };
    expect(await versions()).toEqual([Array.from({ length: 25 }, (_, n) => n + 1), undefined]);
    expect(await versions({ limit: 3 })).toEqual([[1, 2, 3], 4]);
    expect(await versions({ from: 24, limit: 3 })).toEqual([[24, 25], undefined]);
    expect(await versions({ direction: "backward", limit: 3 })).toEqual([[25, 24, 23], 22]);
    expect(await versions({ direction: "backward", from: 2, limit: 3 })).toEqual([[2, 1], undefined]);
    expect(await versions({ from: 26 })).toEqual([[], undefined]);
  });

  it("of a stream that holds nothing is empty", async () => {
    const { app, run } = await filled(1);
    expect(await run(app.history(Account, "none"))).toEqual({ events: [], version: 0, next: undefined });
  });

  it("brings events to their current form, frozen, with what they were recorded with", async () => {
    const store = memoryBackend();
    const Renamed = aggregate("memo", {
      initial: () => ({ text: "" }),
      events: {
        Written: (memo, data: { text: string; tone: string }) => {
          memo.text = data.text;
        },
      },
      commands: { pass: () => [] },
      upcasters: { Written: { 1: (data: { text: string }) => ({ ...data, tone: "plain" }) } },
      renamed: { Scribbled: "Written" },
    });
    await store.events.append([{ stream: "memo-m", expected: "any", events: [eventOf("Scribbled", { text: "x" })] }]);
    const test = await begin({ store, aggregates: [Renamed] });
    const { events } = await test.run(test.app.history(Renamed, "m"));
    expect(events).toMatchObject([{ type: "Written", data: { text: "x", tone: "plain" }, version: 1 }]);
    expect(Object.isFrozen(events[0]?.data)).toBe(true);
  });

  it("names what is wrong", async () => {
    const { app, run, store } = await filled(1);
    for (const limit of [0, 1001, 1.5]) await expect(run(app.history(Account, "a", { limit }))).rejects.toMatchObject({ code: "InvalidArgument" });
    for (const from of [-1, 0.5]) await expect(run(app.history(Account, "a", { from }))).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(run(app.history(Account, "a", { signal: AbortSignal.abort() }))).rejects.toMatchObject({ code: "Aborted" });
    await store.events.append([{ stream: "account-b", expected: "any", events: [eventOf("Forgotten", {})] }]);
    await expect(run(app.history(Account, "b"))).rejects.toMatchObject({ code: "UnknownEventType", details: { stream: "account-b", version: 1 } });
  });
});

describe("the state at a version", () => {
  it("is the fold of the events up to it, for each version, with a token of it", async () => {
    const { app, run } = await filled(12);
    for (let version = 0; version <= 12; version++) {
      const at = await run(app.stateAt(Account, "a", version));
      expect(at).toMatchObject({ version, state: { balance: (version * (version + 1)) / 2 } });
      expect(await run(app.at(Account, "a").state({ atLeast: at.token }))).toMatchObject({ version: 12 });
    }
    expect(await run(app.stateAt(Account, "a", 12))).toMatchObject({ state: (await run(app.at(Account, "a").state())).state });
  });

  it("is found in long streams, over several pages", async () => {
    const { app, run } = await filled(2500);
    expect(await run(app.stateAt(Account, "a", 2400))).toMatchObject({ version: 2400, state: { balance: (2400 * 2401) / 2 } });
  });

  it("that the stream has not reached, or that is none, is InvalidArgument", async () => {
    const { app, run } = await filled(3);
    await expect(run(app.stateAt(Account, "a", 4))).rejects.toMatchObject({ code: "InvalidArgument", details: { version: 4, actual: 3 } });
    for (const version of [-1, 0.5, Number.NaN]) await expect(run(app.stateAt(Account, "a", version))).rejects.toMatchObject({ code: "InvalidArgument" });
  });
});

/** Pulls pages of a subscription in the background, as a consumer would. */
function follow<A>(pages: AsyncIterable<EventPage<A>>) {
  const seen: EventPage<A>[] = [];
  const ended = watch(
    (async () => {
      for await (const page of pages) seen.push(page);
    })(),
  );
  return { pages: seen, events: () => seen.flatMap((page) => page.events as readonly { version: number; stream: string }[]), ended };
}

describe("a subscription", () => {
  it("catches up, then goes on live, misses nothing and repeats nothing", async () => {
    const { app, run, settle } = await filled(5);
    const followed = follow(app.subscribe([Account], { pageSize: 2 }));
    for (let n = 0; n < 5; n++) {
      await run(app.at(Account, "a").deposit({ amount: 1 }));
      await run(app.at(Note, "n").write({ text: "x" })); // not asked for
    }
    await settle();
    expect(followed.events().map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(followed.pages.every(({ events }) => events.length <= 2)).toBe(true);
    expect(followed.pages.at(-1)).toMatchObject({ caughtUp: true });
    expect(followed.ended.answered).toBe(false);
  });

  it("of several aggregates gives their events in the order of the log", async () => {
    const { app, run, settle } = await begin();
    const followed = follow(app.subscribe([Account, Note]));
    for (let n = 0; n < 3; n++) {
      await run(app.at(Account, "a").deposit({ amount: 1 }));
      await run(app.at(Note, "n").write({ text: "x" }));
    }
    await settle();
    expect(followed.events().map(({ stream }) => stream)).toEqual(["account-a", "note-n", "account-a", "note-n", "account-a", "note-n"]);
  });

  it("goes on after the token of a page, and after that of a write", async () => {
    const { app, run, settle } = await filled(6);
    const first = follow(app.subscribe([Account], { pageSize: 2 }));
    await settle();
    const after = first.pages[1]?.token ?? "";
    const second = follow(app.subscribe([Account], { after }));
    await settle();
    expect(second.events().map(({ version }) => version)).toEqual([5, 6]);
    const { token } = accepted(await run(app.at(Account, "a").deposit({ amount: 1 })));
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    const third = follow(app.subscribe([Account], { after: token }));
    await settle();
    expect(third.events().map(({ version }) => version)).toEqual([8]);
  });

  it("from now on gives only what comes", async () => {
    const { app, run, settle } = await filled(6);
    const followed = follow(app.subscribe([Account], { after: "now" }));
    await settle();
    expect(followed.events()).toEqual([]);
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    await settle();
    expect(followed.events().map(({ version }) => version)).toEqual([7]);
  });

  it("from now on needs a store that can tell its end", async () => {
    const backend = memoryBackend();
    const { head: _, ...events } = { ...backend.events, capabilities: backend.events.capabilities };
    const bound = Object.fromEntries((["identity", "append", "readStream", "readAll", "subscribe", "close"] as const).map((name) => [name, backend.events[name].bind(backend.events)]));
    const { app, settle } = await begin({ store: { ...backend, events: { ...events, ...bound } as typeof backend.events } });
    const followed = follow(app.subscribe([Account], { after: "now" }));
    await settle();
    expect(followed.ended.error).toMatchObject({ code: "UnsupportedByStore", details: { capability: "head" } });
  });

  it("moves its token on while nothing but others' events arrive", async () => {
    const { app, run, settle, clock } = await filled(1);
    const followed = follow(app.subscribe([Account]));
    await settle();
    for (let n = 0; n < 4; n++) await run(app.at(Note, "n").write({ text: "x" }));
    await clock.advance(100);
    expect(followed.pages.at(-1)).toMatchObject({ events: [], through: { log: 5 } });
    const resumed = follow(app.subscribe([Account], { after: followed.pages.at(-1)?.token ?? "" }));
    await settle();
    expect(resumed.pages[0]).toMatchObject({ events: [], through: { log: 5 } });
  });

  it("ends with Aborted when its signal aborts, with AppClosed when the app closes, and quietly when it is left", async () => {
    const { app, run, settle } = await filled(2);
    const controller = new AbortController();
    const aborted = follow(app.subscribe([Account], { signal: controller.signal }));
    const closed = follow(app.subscribe([Account]));
    const left = watch(
      (async () => {
        for await (const page of app.subscribe([Account])) if (page.caughtUp) break;
      })(),
    );
    await settle();
    expect([left.answered, left.error]).toEqual([true, undefined]);
    controller.abort();
    await settle();
    expect(aborted.ended.code).toBe("Aborted");
    expect(closed.ended.answered).toBe(false);
    await run(app.close());
    await settle();
    expect(closed.ended.code).toBe("AppClosed");
  });

  it("that is left while it waits for news ends at once", async () => {
    const { app, settle } = await filled(2);
    const pages = app.subscribe([Account])[Symbol.asyncIterator]();
    await pages.next();
    const next = watch(pages.next());
    await settle();
    const left = watch(pages.return?.() ?? Promise.reject(new Error("it cannot be left")));
    await settle();
    expect([left.answered, left.error, next.answered, next.error]).toEqual([true, undefined, true, undefined]);
    expect(next.value).toEqual({ done: true, value: undefined });
  });

  it("names what is wrong with it when it is iterated", async () => {
    const { app, settle, store } = await filled(2);
    const nothing = follow(app.subscribe([]));
    const malformed = follow(app.subscribe([Account], { after: "x" }));
    await settle();
    expect([nothing.ended.code, malformed.ended.code]).toEqual(["InvalidArgument", "TokenMalformed"]);
    await store.events.append([{ stream: "account-b", expected: "any", events: [eventOf("Forgotten", {})] }]);
    const unknown = follow(app.subscribe([Account]));
    await settle();
    expect(unknown.ended.code).toBe("UnknownEventType");
  });
});

describe("a closed app", () => {
  it("cuts off reads that are under way, and says that it was the app", async () => {
    const { app, run, settle, store } = await scene({ aggregates: [Account] });
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    const doors: (() => void)[] = [];
    const wait = async <T>(read: () => Promise<T>): Promise<T> => {
      await new Promise<void>((resolve) => doors.push(resolve));
      return read();
    };
    store.readScripts.push(wait, wait, wait);
    const own = new AbortController();
    const reads = [watch(app.history(Account, "a")), watch(app.stateAt(Account, "a", 1)), watch(app.history(Account, "a", { signal: own.signal }))];
    await settle();
    own.abort();
    const closing = watch(app.close());
    await settle();
    for (const go of doors) go();
    await settle();
    expect(closing.answered).toBe(true);
    expect(reads.map(({ code }) => code)).toEqual(["AppClosed", "AppClosed", "Aborted"]);
  });

  it("reads nothing any more, and says so", async () => {
    const { app, run, settle } = await filled(3);
    await run(app.close());
    await expect(run(app.history(Account, "a"))).rejects.toMatchObject({ code: "AppClosed" });
    await expect(run(app.stateAt(Account, "a", 1))).rejects.toMatchObject({ code: "AppClosed" });
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }))).rejects.toMatchObject({ code: "AppClosed" });
    await expect(run(app.at(Account, "a").state())).rejects.toMatchObject({ code: "AppClosed" });
    await expect(run(app.execute(Account, "a", "deposit", { amount: 1 }))).rejects.toMatchObject({ code: "AppClosed" });
    for (const options of [{}, { after: "now" }]) {
      const followed = follow(app.subscribe([Account], options));
      await settle();
      expect(followed.ended.code).toBe("AppClosed");
    }
  });
});
