/** From a call to its answer: options, input, prepare, middleware, and what is recorded with events. */
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { aggregate, InvalidInput, tidemark, type AnyAggregate, type CommandCall, type CommandMiddleware } from "../../src/index.ts";
import type { TestAppOptions } from "../../src/testing/index.ts";
import { Account } from "../actor/account.ts";
import { amountsOf, eventsOf, scene, watch, type Scene } from "../actor/support.ts";

interface Rate {
  readonly rate: number;
}

/** Where the rates of `Exchange` come from: a test's own function. */
let rates: (signal: AbortSignal | undefined, metadata: Readonly<Record<string, unknown>>) => Promise<Rate>;
const Exchange = aggregate("exchange", {
  initial: () => ({ total: 0 }),
  events: {
    Exchanged: (exchange, data: { amount: number; rate: number; by: string }) => {
      exchange.total += data.amount * data.rate;
    },
  },
  inputs: { order: z.object({ sku: z.string().min(1), quantity: z.number().int().positive() }) },
  prepare: {
    buy: async (input: { amount: number }, { signal, metadata }) => ({ amount: input.amount, rate: (await rates(signal, metadata)).rate }),
  },
  commands: {
    buy: (_, input, { emit, metadata }) => emit("Exchanged", { amount: input.amount, rate: input.rate, by: typeof metadata["by"] === "string" ? metadata["by"] : "nobody" }),
    order: (_, input, { emit }) => emit("Exchanged", { amount: input.quantity, rate: 1, by: input.sku }),
    refuse: (_, _input, { reject }) => reject("no"),
  },
});

const open: { close(): Promise<void> }[] = [];
async function begin(options: Partial<Omit<TestAppOptions, "store">> = {}): Promise<Scene> {
  rates = async () => ({ rate: 2 });
  const test = await scene({ aggregates: [Account, Exchange], ...options });
  open.push(test);
  return test;
}
afterEach(async () => {
  for (const test of open.splice(0)) await test.close();
});

describe("what is recorded with an event", () => {
  it("is its command's id, correlation, causation, trace, the caller's metadata and the time of the decision", async () => {
    const { app, clock, run, store } = await begin();
    await clock.advance(1234);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await run(app.at(Account, "a").scatter({ times: 2, note: "n" }, { commandId: "c", correlationId: "r", causationId: "z", traceparent, metadata: { user: "u-1", roles: ["clerk"] } }));
    const events = await eventsOf(store.other, "account-a");
    for (const event of events) {
      expect(event.metadata).toMatchObject({ commandId: "c", correlationId: "r", causationId: "z", traceparent, user: { user: "u-1", roles: ["clerk"] } });
      expect(event.recordedAt).toBe(clock.now());
    }
    expect(new Set(events.map(({ id }) => id)).size).toBe(2);
    const [recorded] = (await run(app.history(Account, "a"))).events;
    expect(recorded).toMatchObject({ type: "Deposited", category: "account", id: "a", stream: "account-a", version: 1, position: { log: 1 }, metadata: { commandId: "c", correlationId: "r", causationId: "z", traceparent, user: { user: "u-1" } } });
    expect(recorded?.recordedAt).toEqual(new Date(clock.now()));
  });

  it("without any options: correlation and causation are the command's own id, and its own id is nobody's choice", async () => {
    const { app, run, store } = await begin();
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    const [event] = await eventsOf(store.other, "account-a");
    const { commandId } = event?.metadata ?? { commandId: "" };
    expect(event?.metadata).toEqual({ commandId, correlationId: commandId, causationId: commandId });
    expect(commandId).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("is a copy: what the caller changes afterwards changes nothing", async () => {
    const { app, run, store } = await begin();
    const metadata = { tags: ["a"] };
    const input = { amount: 1, note: "before" };
    const work = app.at(Account, "a").deposit(input, { metadata });
    metadata.tags.push("b");
    await run(work);
    expect((await eventsOf(store.other, "account-a"))[0]?.metadata.user).toEqual({ tags: ["a"] });
  });

  it("is what the options said when the call was made", async () => {
    const { app, run, store } = await begin();
    const options = { correlationId: "before", traceparent: "before" };
    const work = app.at(Account, "a").deposit({ amount: 1 }, options);
    options.correlationId = "after";
    options.traceparent = "after";
    await run(work);
    expect((await eventsOf(store.other, "account-a"))[0]?.metadata).toMatchObject({ correlationId: "before", traceparent: "before" });
  });

  it("is what the decision sees as metadata", async () => {
    const { app, run } = await begin();
    const result = await run(app.at(Exchange, "x").buy({ amount: 1 }, { metadata: { by: "u-1" } }));
    expect(result).toMatchObject({ ok: true, events: [{ data: { by: "u-1" } }] });
  });

  it("must be JSON", async () => {
    const { app, run, store } = await begin();
    const cyclic: Record<string, unknown> = {};
    cyclic["self"] = cyclic;
    for (const metadata of [cyclic, { when: 1n }, { when: () => 1 }]) await expect(run(app.at(Account, "a").deposit({ amount: 1 }, { metadata }))).rejects.toMatchObject({ code: "UnserialisableData" });
    expect(store.groups).toEqual([]);
  });
});

describe("an option of a call that is not allowed", () => {
  it.each([
    [{ expectedVersion: -1 }, "expectedVersion"],
    [{ expectedVersion: 1.5 }, "expectedVersion"],
    [{ deadlineMs: 0 }, "deadlineMs"],
    [{ deadlineMs: 2 ** 31 }, "deadlineMs"],
    [{ deadlineMs: Number.NaN }, "deadlineMs"],
    [{ from: "disk" }, "from"],
    [{ correlationId: "" }, "correlationId"],
    [{ causationId: "x".repeat(1025) }, "causationId"],
    [{ traceparent: 7 }, "traceparent"],
    [{ metadata: [] }, "metadata"],
    [{ metadata: "text" }, "metadata"],
    [{ commandId: "" }, "commandId"],
    [{ commandId: "x".repeat(257) }, "commandId"],
    [{ commandId: "a\0b" }, "commandId"],
  ])("%j is refused by name, as a rejected promise, before anything is read", async (options, name) => {
    const { app, run, store } = await begin();
    const error = await run(app.at(Account, "a").deposit({ amount: 1 }, options as never).then(() => undefined, (cause: unknown) => cause));
    expect(error).toMatchObject({ code: "InvalidArgument", message: expect.stringContaining(name) as string });
    expect([store.reads, store.groups]).toEqual([[], []]);
  });
});

describe("input", () => {
  it("that its schema refuses is InvalidInput with the issues, and never reaches the mailbox", async () => {
    const { app, run, store } = await begin();
    const error = await run(app.at(Exchange, "x").order({ sku: "", quantity: -1 }).then(() => undefined, (cause: unknown) => cause));
    expect(error).toMatchObject({ code: "InvalidInput", issues: [{ path: "sku" }, { path: "quantity" }] });
    expect(store.reads).toEqual([]);
    expect(app.metrics()).toMatchObject({ hydrations: 0, waitingCommands: 0 });
  });

  it("goes to the decision as its schema returns it", async () => {
    const { app, run } = await begin();
    expect(await run(app.at(Exchange, "x").order({ sku: "s", quantity: 3, more: true } as never))).toMatchObject({ ok: true, events: [{ data: { amount: 3, by: "s" } }] });
  });
});

describe("prepare", () => {
  it("fetches what the decision needs before the mailbox: others of the stream are not held up", async () => {
    const { app, settle } = await begin();
    let answer: ((rate: Rate) => void) | undefined;
    rates = () => new Promise((resolve) => (answer = resolve));
    const buying = watch(app.at(Exchange, "x").buy({ amount: 10 }));
    const ordering = watch(app.at(Exchange, "x").order({ sku: "s", quantity: 1 }));
    await settle();
    expect([buying.answered, ordering.answered]).toEqual([false, true]);
    answer?.({ rate: 3 });
    await settle();
    expect(buying.value).toMatchObject({ ok: true, version: 2, events: [{ data: { amount: 10, rate: 3 } }] });
  });

  it("gets a signal that ends it with the call's deadline, and the command is never decided", async () => {
    const { app, clock, settle, store } = await begin();
    let signal: AbortSignal | undefined;
    rates = (given) => {
      signal = given;
      return new Promise(() => undefined);
    };
    const buying = watch(app.at(Exchange, "x").buy({ amount: 10 }, { deadlineMs: 100 }));
    await clock.advance(99);
    expect([buying.answered, signal?.aborted]).toEqual([false, false]);
    await clock.advance(1);
    expect(buying.error).toMatchObject({ code: "DeadlineExceeded", retryable: true, details: { stream: "exchange-x", command: "buy" } });
    expect(signal?.aborted).toBe(true);
    await settle();
    expect(store.reads).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it("has the bound of every call where none is given", async () => {
    const { app, clock, settle } = await begin({ actors: { commandTimeoutMs: 2000 } });
    rates = () => new Promise(() => undefined);
    const buying = watch(app.at(Exchange, "x").buy({ amount: 10 }));
    await clock.advance(1999);
    expect(buying.answered).toBe(false);
    await clock.advance(1);
    await settle();
    expect(buying.code).toBe("DeadlineExceeded");
  });

  it("leaves the decision what is left of the deadline", async () => {
    const { app, clock, settle, store } = await begin();
    let answer: ((rate: Rate) => void) | undefined;
    rates = () => new Promise((resolve) => (answer = resolve));
    let read: (() => void) | undefined;
    store.readScripts.push(async (really) => {
      await new Promise<void>((resolve) => (read = resolve));
      return really();
    });
    const buying = watch(app.at(Exchange, "x").buy({ amount: 10 }, { deadlineMs: 100 }));
    await clock.advance(60);
    answer?.({ rate: 3 });
    await clock.advance(39);
    expect(buying.answered).toBe(false);
    await clock.advance(1);
    expect(buying.code).toBe("DeadlineExceeded");
    read?.();
    await settle();
    expect(store.groups).toEqual([]);
  });

  it("is ended by the caller's signal", async () => {
    const { app, settle, clock, store } = await begin();
    let signal: AbortSignal | undefined;
    rates = (given) => {
      signal = given;
      return new Promise(() => undefined);
    };
    const controller = new AbortController();
    const buying = watch(app.at(Exchange, "x").buy({ amount: 10 }, { signal: controller.signal }));
    await settle();
    controller.abort();
    await settle();
    expect(buying.code).toBe("Aborted");
    expect(signal?.aborted).toBe(true);
    expect([store.reads, clock.pendingTimers]).toEqual([[], 0]);
  });

  it("is ended when the app closes, and close does not wait for it", async () => {
    const { app, settle, store } = await begin();
    let signal: AbortSignal | undefined;
    rates = (given) => {
      signal = given;
      return new Promise(() => undefined);
    };
    const buying = watch(app.at(Exchange, "x").buy({ amount: 10 }));
    await settle();
    const closing = watch(app.close());
    await settle();
    expect([buying.code, signal?.aborted, closing.answered]).toEqual(["AppClosed", true, true]);
    expect(store.reads).toEqual([]);
  });

  it("counts among the commands that a process takes", async () => {
    const { app, settle } = await begin({ actors: { maxPendingCommands: 2 } });
    const answers: ((rate: Rate) => void)[] = [];
    rates = () => new Promise((resolve) => answers.push(resolve));
    const works = [1, 2, 3].map((amount) => watch(app.at(Exchange, "x").buy({ amount })));
    await settle();
    expect(works.map(({ code }) => code)).toEqual([undefined, undefined, "Overloaded"]);
    expect(app.metrics().waitingCommands).toBe(2);
    for (const answer of answers) answer({ rate: 1 });
    await settle();
    expect(works.slice(0, 2).map(({ value }) => value.ok)).toEqual([true, true]);
    expect(app.metrics().waitingCommands).toBe(0);
  });

  it("that fails fails the call with its own error, and nothing is decided", async () => {
    const { app, run, store } = await begin();
    rates = () => Promise.reject(new Error("the bank is closed"));
    await expect(run(app.at(Exchange, "x").buy({ amount: 10 }))).rejects.toThrow("the bank is closed");
    expect(store.groups).toEqual([]);
  });

  it("that gives something else the second time does not make a command id another command", async () => {
    const { app, run, store } = await begin();
    const first = await run(app.at(Exchange, "x").buy({ amount: 10 }, { commandId: "c" }));
    rates = async () => ({ rate: 99 });
    expect(await run(app.at(Exchange, "x").buy({ amount: 10 }, { commandId: "c" }))).toEqual(first);
    await expect(run(app.at(Exchange, "x").buy({ amount: 11 }, { commandId: "c" }))).rejects.toMatchObject({ code: "CommandIdReused" });
    expect(await eventsOf(store.other, "exchange-x")).toHaveLength(1);
  });

  it("sees the call's metadata", async () => {
    const { app, run } = await begin();
    const seen: unknown[] = [];
    rates = async (_, metadata) => {
      seen.push(metadata);
      return { rate: 1 };
    };
    await run(app.at(Exchange, "x").buy({ amount: 1 }, { metadata: { by: "u-1" } }));
    await run(app.at(Exchange, "x").buy({ amount: 1 }));
    expect(seen).toEqual([{ by: "u-1" }, {}]);
  });
});

describe("middleware", () => {
  it("stands around every command: it sees the call, and its answer", async () => {
    const calls: CommandCall[] = [];
    const answers: unknown[] = [];
    const middleware: CommandMiddleware = async (call, next) => {
      calls.push(call);
      const answer = await next();
      answers.push(answer.ok);
      return answer;
    };
    const { app, run } = await begin({ middleware });
    await run(app.at(Account, "a").deposit({ amount: 1 }, { commandId: "c" }));
    await run(app.execute(Account, "a", "withdraw", { amount: 5 }));
    await run(app.at(Account, "a").state()); // no command
    expect(calls).toEqual([
      { category: "account", id: "a", stream: "account-a", command: "deposit", input: { amount: 1 }, options: { commandId: "c" } },
      { category: "account", id: "a", stream: "account-a", command: "withdraw", input: { amount: 5 }, options: {} },
    ]);
    expect(answers).toEqual([true, false]);
  });

  it("may change input and options", async () => {
    const middleware: CommandMiddleware = (call, next) => next({ input: { amount: 7 }, options: { ...call.options, metadata: { by: "the middleware" } } });
    const { app, run, store } = await begin({ middleware });
    await run(app.at(Account, "a").deposit({ amount: 1 }));
    const [event] = await eventsOf(store.other, "account-a");
    expect(event).toMatchObject({ data: '{"amount":7}', metadata: { user: { by: "the middleware" } } });
  });

  it("may change the answer", async () => {
    const { app, run } = await begin({ middleware: async (_, next) => ({ ...(await next()), ok: true, token: "changed", events: [], version: 0 }) });
    expect(await run(app.at(Account, "a").deposit({ amount: 1 }))).toMatchObject({ ok: true, token: "changed" });
  });

  it("that throws, at once or later, fails the call with its error, and nothing is decided", async () => {
    const at: { now: boolean } = { now: true };
    const middleware: CommandMiddleware = (): never | Promise<never> => {
      if (at.now) throw new Error("forbidden at once");
      return Promise.reject(new Error("forbidden later"));
    };
    const { app, run, store } = await begin({ middleware });
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }))).rejects.toThrow("forbidden at once");
    at.now = false;
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }))).rejects.toThrow("forbidden later");
    expect(await amountsOf(store.other, "account-a")).toEqual([]);
  });

  it("gets what is wrong with the call from next(), as a rejection", async () => {
    const seen: unknown[] = [];
    const middleware: CommandMiddleware = async (_, next) => {
      try {
        return await next();
      } catch (error) {
        seen.push((error as { code: string }).code);
        throw error;
      }
    };
    const { app, run } = await begin({ middleware });
    await expect(run(app.at(Exchange, "x").order({ sku: "", quantity: 1 }))).rejects.toMatchObject({ code: "InvalidInput" });
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }, { deadlineMs: 0 }))).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(run(app.execute(Account, "a", "rob", {}))).rejects.toMatchObject({ code: "UnknownCommand" });
    expect(seen).toEqual(["InvalidInput", "InvalidArgument", "UnknownCommand"]);
  });

  it("that gives no answer is named, instead of an answer that is undefined", async () => {
    const { app, run } = await begin({ middleware: (async (_: CommandCall, next: () => Promise<unknown>) => void (await next())) as never });
    await expect(run(app.at(Account, "a").deposit({ amount: 1 }))).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("middleware") as string });
  });

  it("may try again: with a command id the command is applied once", async () => {
    const middleware: CommandMiddleware = async (call, next) => {
      const options = { ...call.options, commandId: "once" };
      await next({ options });
      return next({ options });
    };
    const { app, run, store } = await begin({ middleware });
    expect(await run(app.at(Account, "a").deposit({ amount: 1 }))).toMatchObject({ ok: true, version: 1 });
    expect(await amountsOf(store.other, "account-a")).toEqual(["+1"]);
  });
});

describe("a call by name", () => {
  it("does what the method does", async () => {
    const { app, run } = await begin();
    expect(await run(app.execute(Account, "a", "deposit", { amount: 5 }, { expectedVersion: 0 }))).toMatchObject({ ok: true, version: 1, events: [{ type: "Deposited", data: { amount: 5 } }] });
    expect(await run(app.execute(Account, "a", "withdraw", { amount: 6 }))).toMatchObject({ ok: false, code: "insufficient", details: { balance: 5 }, decidedAt: { version: 1 } });
  });

  it("of a command that there is not is UnknownCommand, also for names that objects have anyway", async () => {
    const { app, run, store } = await begin();
    for (const name of ["rob", "", "state", "toString", "__proto__", "constructor"]) {
      await expect(run(app.execute(Account, "a", name, {}))).rejects.toMatchObject({ code: "UnknownCommand", details: { category: "account" } });
    }
    expect(store.reads).toEqual([]);
  });

  it("of an aggregate that is not the app's is UnknownCommand, also where another one of that name is", async () => {
    const { app, run } = await begin();
    const Other = aggregate("other", { initial: () => ({}), events: {}, commands: { pass: () => [] } }) as AnyAggregate;
    const Twin = aggregate("account", { initial: () => ({}), events: {}, commands: { pass: () => [] } }) as AnyAggregate;
    for (const stranger of [Other, Twin]) {
      await expect(run(app.execute(stranger, "a", "pass", undefined))).rejects.toMatchObject({ code: "UnknownCommand", details: { category: stranger.name } });
      expect(() => app.at(stranger, "a")).toThrow(expect.objectContaining({ code: "UnknownCommand" }));
    }
  });

  it("of an id that no stream can have is InvalidArgument", async () => {
    const { app, run } = await begin();
    for (const id of ["", "a\0b", "\ud800", "x".repeat(2000)]) {
      expect(() => app.at(Account, id)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
      await expect(run(app.execute(Account, id, "deposit", { amount: 1 }))).rejects.toMatchObject({ code: "InvalidArgument" });
    }
  });
});

describe("a handle", () => {
  it("knows its id and its stream, and reads nothing before it is used", async () => {
    const { app, store } = await begin();
    const account = app.at(Account, "a-b c");
    expect([account.id, account.stream]).toEqual(["a-b c", "account-a-b c"]);
    expect(store.reads).toEqual([]);
  });
});

describe("counters", () => {
  it("tell accepted, rejected, failed and repeated commands apart", async () => {
    const { app, run } = await begin();
    const account = app.at(Account, "a");
    await run(account.deposit({ amount: 1 }, { commandId: "c" }));
    await run(account.deposit({ amount: 1 }, { commandId: "c" }));
    await run(account.settle());
    await run(account.withdraw({ amount: 9 }));
    await run(account.explode().catch(() => undefined));
    await run(account.state());
    expect(app.metrics()).toMatchObject({ commandsAccepted: 3, commandsRejected: 1, commandsFailed: 1, duplicates: 1, eventsAppended: 1, residentActors: 1, waitingCommands: 0 });
  });
});

describe("tidemark()", () => {
  it.each<[string, object, RegExp]>([
    ["an option that it does not have", { store: "memory:", aggregates: [], readmodels: [] }, /no option "readmodels"/],
    ["no store", { aggregates: [] }, /option store/],
    ["no aggregates", { store: "memory:" }, /option aggregates/],
    ["a list of middleware", { store: "memory:", aggregates: [], middleware: [] }, /one function/],
  ])("refuses %s by name, for those whom the compiler does not help", async (_what, options, message) => {
    await expect(tidemark(options as never)).rejects.toThrow(message);
    await expect(tidemark(options as never)).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  it("tells the issues of bad input also as JSON", () => {
    const error = new InvalidInput("no", [{ message: "must be positive", path: "seats" }], { details: { command: "open" } });
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ code: "InvalidInput", details: { command: "open", issues: [{ message: "must be positive", path: "seats" }] } });
  });
});
