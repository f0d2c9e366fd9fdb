import { deepStrictEqual } from "node:assert/strict";
import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { current, produce } from "immer";
import * as v from "valibot";
import { z } from "zod";
import { accepted } from "../../src/aggregate/accepted.ts";
import { aggregate, behaviourOf } from "../../src/aggregate/aggregate.ts";
import type { DecisionInputs, DomainEvent } from "../../src/aggregate/behaviour.ts";
import { compile } from "../../src/aggregate/compile.ts";
import { freezeData, jsonImage } from "../../src/aggregate/json.ts";
import { event } from "../../src/aggregate/schema.ts";
import { Account, Order, type Line } from "./domain.ts";

const order = behaviourOf(Order);
const account = behaviourOf(Account);
const at = { stream: "order-1", version: 1 };
const inputs: DecisionInputs = { now: 1_000, id: () => "id-1", metadata: { tenant: "t" }, version: 0 };
const placed: DomainEvent = freezeData({ type: "OrderPlaced", data: { customer: "c", lines: [{ sku: "a", quantity: 1 }] } });
const failing = (code: string, more: object = {}): unknown => expect.objectContaining({ code, ...more });
/** An aggregate as plain JavaScript would write it, without the compiler's help. */
const loose = (commands: Record<string, unknown>, events: Record<string, unknown> = { A: () => undefined }, more: object = {}) =>
  compile("loose", { initial: () => ({}), events, commands, ...more } as never);
/** Decides what `emit("A", data)` makes of data. */
const emitting = (data: unknown) => loose({ go: (_s: unknown, _i: unknown, { emit }: { emit: (type: string, data: unknown) => unknown }) => emit("A", data) }).decide({}, "go", undefined, inputs);
const untilSettled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a decision", () => {
  it("emits one event, several, none, or rejects", () => {
    expect(order.decide(order.initial(), "place", placed.data, inputs)).toEqual({ ok: true, events: [placed] });
    const state = order.evolve(order.initial(), [placed], at);
    const two = order.decide(state, "add", { lines: [{ sku: "b", quantity: 1 }, { sku: "c", quantity: 2 }] }, inputs);
    expect(two.ok && two.events.map((e) => e.type)).toEqual(["LineAdded", "LineAdded"]);
    expect(order.decide(state, "touch", undefined, inputs)).toEqual({ ok: true, events: [] });
    expect(order.decide(state, "place", placed.data, inputs)).toEqual({ ok: false, code: "already-placed", details: undefined });
    expect(order.decide(order.initial(), "add", { lines: [] }, inputs)).toEqual({ ok: false, code: "not-placed", details: { status: "new" } });
  });

  it("is repeated exactly from the injected time, ids, metadata and version", () => {
    const Probe = aggregate("probe", {
      initial: () => ({}),
      events: { Seen: (_state, _data: { now: number; ids: string[]; tenant: string; version: number }) => undefined },
      commands: {
        look: (_state, _input: void, { emit, now, id, metadata, version }) =>
          emit("Seen", { now: now.getTime(), ids: [id(), id()], tenant: String(metadata["tenant"]), version }),
      },
    });
    const decide = () => {
      let n = 0;
      return behaviourOf(Probe).decide({}, "look", undefined, { ...inputs, version: 7, id: () => `id-${++n}` });
    };
    expect(decide()).toEqual({ ok: true, events: [{ type: "Seen", data: { now: 1_000, ids: ["id-1", "id-2"], tenant: "t", version: 7 } }] });
    expect(decide()).toEqual(decide());
  });

  it("writes null as the data of an event without data", () => {
    expect(order.decide(order.initial(), "reset", undefined, inputs)).toEqual({ ok: true, events: [{ type: "OrderReset", data: null }] });
  });

  it("fails with DomainCodeFailed when the command throws, keeping the cause", () => {
    const cause = new RangeError("boom");
    const broken = loose({ go: () => { throw cause; } });
    expect(() => broken.decide({}, "go", undefined, inputs)).toThrow(failing("DomainCodeFailed", { cause, details: { category: "loose", command: "go" } }));
  });

  it("fails with DomainCodeFailed when a command changes the frozen state", () => {
    const broken = loose({ go: (state: { n: number }) => { state.n = 1; return []; } });
    expect(() => broken.decide(broken.initial(), "go", undefined, inputs)).toThrow(failing("DomainCodeFailed"));
  });

  it.each([
    ["nothing", () => undefined, /returned nothing/],
    ["text", () => "yes", /neither/],
    ["an array of something else", () => [1], /neither/],
    ["an event that is not known", (_s: unknown, _i: unknown, c: { emit: (t: string) => unknown }) => c.emit("B"), /no event/],
    ["a prototype's name as event", (_s: unknown, _i: unknown, c: { emit: (t: string) => unknown }) => c.emit("constructor"), /no event/],
  ])("fails with DomainCodeFailed when the command returns %s", (_what, command, message) => {
    const run = () => loose({ go: command }).decide({}, "go", undefined, inputs);
    expect(run).toThrow(failing("DomainCodeFailed"));
    expect(run).toThrow(message);
  });

  it("fails with DomainCodeFailed when a command says what it does not return: a forgotten return must not turn a refusal into a fact", () => {
    type Say = { emit: (type: string) => unknown; reject: (code: string) => unknown };
    const decide = (go: (state: unknown, input: unknown, say: Say) => unknown) => () => loose({ go }).decide({}, "go", undefined, inputs);
    expect(decide((_s, _i, { emit, reject }) => (reject("many"), emit("A")))).toThrow(/called reject\("many"\) but did not return it/);
    expect(decide((_s, _i, { emit }) => (emit("A"), emit("A")))).toThrow(/emit\(…\) 2 times but returned 1/);
    expect(decide((_s, _i, { reject }) => (reject("many"), []))).toThrow(failing("DomainCodeFailed"));
    expect(decide((_s, _i, { emit }) => [emit("A"), emit("A")])()).toMatchObject({ ok: true, events: [{ type: "A" }, { type: "A" }] });
    expect(decide((_s, _i, { emit, reject }) => (emit("A"), reject("no")))()).toMatchObject({ ok: false, code: "no" });
  });

  it("fails with DomainCodeFailed on a promise, whose own failure does not go unhandled", async () => {
    const seen: unknown[] = [];
    const listener = (reason: unknown): void => void seen.push(reason);
    process.on("unhandledRejection", listener);
    const broken = loose({ go: async () => Promise.reject(new Error("later")) }, { A: async () => Promise.reject(new Error("later")) });
    expect(() => broken.decide({}, "go", undefined, inputs)).toThrow(/promise/);
    expect(() => broken.evolve({}, [{ type: "A", data: null }], at)).toThrow(/promise/);
    await untilSettled();
    process.off("unhandledRejection", listener);
    expect(seen).toEqual([]);
  });

  it("refuses a command that does not exist, also one that every object has", () => {
    for (const name of ["nope", "constructor", "__proto__", "toString"]) {
      expect(() => order.decide(order.initial(), name, undefined, inputs)).toThrow(failing("UnknownCommand"));
      expect(() => order.parseInput(name, undefined)).toThrow(failing("UnknownCommand"));
    }
  });
});

describe("emitted data", () => {
  const circular: Record<string, unknown> = {};
  circular["self"] = circular;
  circular["other"] = circular;

  it.each<[string, unknown, string]>([
    ["a bigint", { a: { b: 1n } }, "a.b"],
    ["NaN", { a: [1, Number.NaN] }, "a.1"],
    ["Infinity", { a: -Infinity }, "a"],
    ["a function", { f: () => 1 }, "f"],
    ["a symbol", { s: Symbol("x") }, "s"],
    ["a Date", { at: new Date(0) }, "at"],
    ["a Map", { m: new Map() }, "m"],
    ["a class instance", { u: new URL("http://x.test") }, "u"],
    ["undefined in an array", { a: ["x", undefined] }, "a.1"],
    ["a hole in an array", { a: Object.assign([], { length: 1 }) }, "a.0"],
  ])("is refused with its path when it holds %s", (_what, data, path) => {
    expect(() => emitting(data)).toThrow(failing("UnserialisableData", { details: { category: "loose", command: "go", type: "A", path } }));
  });

  it("is refused when it is circular, with a message of bounded length", () => {
    let caught: Error | undefined;
    try {
      emitting(circular);
    } catch (error) {
      caught = error as Error;
    }
    expect(caught).toEqual(failing("UnserialisableData"));
    expect(caught?.message).toMatch(/circular/);
    expect(caught?.message.length).toBeLessThan(300);
  });

  it("is refused when it is nested more than 200 levels deep", () => {
    const nested = (levels: number): unknown => JSON.parse("[".repeat(levels) + "]".repeat(levels));
    expect(emitting(nested(200)).ok).toBe(true);
    expect(() => emitting(nested(202))).toThrow(failing("UnserialisableData"));
  });

  it("passes when JSON gives it back unchanged, but for undefined properties, which are dropped", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        deepStrictEqual(emitting(value), { ok: true, events: [{ type: "A", data: JSON.parse(JSON.stringify(value)) as unknown }] }); // -0 is 0
      }),
    );
    expect(emitting({ a: undefined, b: Object.assign(Object.create(null) as object, { c: 1 }) }).ok).toBe(true);
  });
});

describe("folding events", () => {
  it("gives a state that is frozen throughout, as is the initial one", () => {
    const state = order.evolve(order.initial(), [placed], at) as { lines: Line[] };
    for (const part of [order.initial(), state, state.lines, state.lines[0]]) expect(Object.isFrozen(part)).toBe(true);
    expect(() => state.lines.push({ sku: "x", quantity: 1 })).toThrow(TypeError);
  });

  it("freezes a state that came in unfrozen, as from a snapshot", () => {
    const state = order.evolve({ status: "placed", lines: [{ sku: "a", quantity: 1 }] }, [{ type: "OrderShipped", data: {} }], at) as { lines: Line[] };
    expect([Object.isFrozen(state), Object.isFrozen(state.lines), Object.isFrozen(state.lines[0])]).toEqual([true, true, true]);
  });

  it("leaves the state it was given as it was, also when an event fails", () => {
    const before = order.evolve(order.initial(), [placed], at);
    const copy = structuredClone(before);
    order.evolve(before, [{ type: "LineAdded", data: { sku: "b", quantity: 1 } }], at);
    expect(() => order.evolve(before, [{ type: "OrderReset", data: null }, { type: "Nope", data: null }], at)).toThrow();
    expect(before).toEqual(copy);
  });

  it("names stream, version and type of an event that it does not know", () => {
    const run = () => order.evolve(order.initial(), [placed, { type: "constructor", data: null }], { stream: "order-9", version: 41 });
    expect(run).toThrow(failing("UnknownEventType", { details: { stream: "order-9", version: 42, type: "constructor" } }));
    expect(run).toThrow(/order-9 at version 42/);
  });

  it.each<[string, (state: { n: number }, data: { list: number[] }) => unknown]>([
    ["throws", () => { throw new RangeError("boom"); }],
    ["returns a value", () => ({ n: 2 })],
    ["returns a promise", async () => undefined],
    ["changes the event's data", (_state, data) => void data.list.push(2)],
    ["puts a Date into the state", (state) => void Object.assign(state, { at: new Date(0) })],
    ["puts a Map into the state", (state) => void Object.assign(state, { deep: { m: new Map() } })],
  ])("fails with EventUnreadable that says where when a recipe %s", (_what, recipe) => {
    const broken = loose({}, { A: (s: { n?: number }) => void (s.n = 1), Bad: recipe });
    const good = { type: "A", data: null };
    const bad = { type: "Bad", data: freezeData({ list: [1] }) };
    for (const [events, version] of [[[bad], 1], [[good, good, bad, good], 3]] as const) {
      expect(() => broken.evolve(broken.initial(), events, at)).toThrow(failing("EventUnreadable", { details: { stream: "order-1", version, type: "Bad" } }));
    }
  });

  it("lets a later event change what an earlier one took from its data", () => {
    const add = { type: "LineAdded", data: freezeData({ sku: "b", quantity: 1 }) };
    const state = order.evolve(order.initial(), [placed, add, add], at) as { lines: Line[] };
    expect(state.lines.map((line) => line.sku)).toEqual(["a", "b", "b"]);
    expect(placed.data).toEqual({ customer: "c", lines: [{ sku: "a", quantity: 1 }] });
  });

  it("runs each recipe a bounded number of times, whatever the events", () => {
    let runs = 0;
    const counting = loose(
      {},
      {
        Put: (s: { item?: { n: number } }, data: { n: number }) => void (runs++, (s.item = data)),
        Change: (s: { item: { n: number } }) => void (runs++, s.item.n++),
      },
    );
    const events = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? { type: "Put", data: freezeData({ n: i }) } : { type: "Change", data: null }));
    expect(counting.evolve(counting.initial(), events, at)).toEqual({ item: { n: 299 } });
    expect(runs).toBeLessThanOrEqual(3 * events.length);
  });

  it("uses one draft for a page of ordinary events", () => {
    const drafts = new Set<unknown>();
    const spying = loose({}, { A: (s: { list?: number[] }, n: number) => void (drafts.add(s), (s.list ??= []).push(n)) });
    const page = Array.from({ length: 1000 }, (_, data) => ({ type: "A", data }));
    const state = spying.evolve(spying.initial(), page, at);
    drafts.clear(); // the first events of a type are looked at one by one
    spying.evolve(state, page, at);
    expect(drafts.size).toBe(1);
  });

  describe("of a flat state", () => {
    interface Flat {
      count: number;
      note?: string | undefined;
      item: { n: number } | null;
    }
    const recipes: Record<string, (state: Flat, data: never) => void> = {
      Count: (s) => { s.count++; },
      Note: (s, note: string | null) => { if (note === null) delete s.note; else s.note = note; },
      Blank: (s) => { s.note = undefined; },
      Take: (s, item: { n: number }) => { s.item = item; },
      Bump: (s) => { if (s.item !== null) s.item.n++; },
      Drop: (s) => { s.item = null; },
      Touch: (s) => { const { note } = s; delete s.note; s.note = note; },
      Again: (s) => { s.count += current(s).count; },
    };
    const initial = (): Flat => ({ count: 0, item: null });

    it("equals folding each event with Immer alone", () => {
      const domain = loose({}, recipes, { initial });
      const plain = fc.record({ type: fc.constantFrom("Count", "Blank", "Bump", "Drop", "Again", "Touch"), data: fc.constant(null) });
      const note = fc.record({ type: fc.constant("Note"), data: fc.option(fc.string({ maxLength: 2 })) });
      const take = fc.record({ type: fc.constant("Take"), data: fc.record({ n: fc.nat(9) }) });
      fc.assert(
        fc.property(fc.array(fc.oneof(plain, note, take), { maxLength: 20 }), fc.nat(20), (list, cut) => {
          const events: DomainEvent[] = freezeData(structuredClone(list));
          const reference = events.reduce((state, { type, data }) => produce(state, (draft) => (recipes[type] as (s: Flat, d: unknown) => void)(draft, data)), initial());
          const state = domain.evolve(domain.evolve(domain.initial(), events.slice(0, cut), at), events.slice(cut), at);
          deepStrictEqual(state, reference);
        }),
        { numRuns: 1000 },
      );
    });

    it("gives the very same state back where nothing was changed, and leaves it as it was where something was", () => {
      const domain = loose({}, recipes, { initial });
      const before = domain.evolve(domain.initial(), [{ type: "Count", data: null }], at);
      expect(domain.evolve(before, [{ type: "Drop", data: null }], at)).toBe(before);
      expect(domain.evolve(before, [{ type: "Count", data: null }], at)).toEqual({ count: 2, item: null });
      expect(before).toEqual({ count: 1, item: null });
      expect(Object.isFrozen(domain.evolve(before, [{ type: "Take", data: { n: 1 } }], at))).toBe(true);
    });

    it("leaves it as it was when a recipe throws half way", () => {
      const domain = loose({}, { Half: (s: Flat) => { s.count = 7; throw new Error("half"); } }, { initial });
      const before = domain.initial();
      expect(() => domain.evolve(before, [{ type: "Half", data: null }], at)).toThrow(failing("EventUnreadable"));
      expect(before).toEqual({ count: 0, item: null });
    });
  });

  describe("equals folding one by one for every list of events, cut anywhere", () => {
    interface Shape {
      list: { n: number }[];
      last: { n: number } | null;
      total: number;
    }
    const shape = (recipes: Record<string, (state: Shape, data: never) => void>) =>
      loose(
        {},
        {
          BumpFirst: (s: Shape) => { const first = s.list[0]; if (first !== undefined) first.n++; },
          BumpLast: (s: Shape) => { if (s.last !== null) s.last.n += 10; },
          Replace: (s: Shape, d: { list: { n: number }[] }) => { s.list = d.list; },
          Count: (s: Shape) => { s.total++; },
          ...recipes,
        },
        { initial: (): Shape => ({ list: [], last: null, total: 0 }) },
      );
    const n = fc.nat(9);
    const common = [
      fc.record({ type: fc.constantFrom("BumpFirst", "BumpLast", "Count"), data: fc.constant(null) }),
      fc.record({ type: fc.constant("Replace"), data: fc.record({ list: fc.array(fc.record({ n }), { maxLength: 3 }) }) }),
    ];
    const holds = (domain: ReturnType<typeof shape>, more: fc.Arbitrary<DomainEvent>): void => {
      const events: fc.Arbitrary<DomainEvent[]> = fc.array(fc.oneof(...common, more), { maxLength: 20 });
      fc.assert(
        fc.property(events, fc.nat(20), (list, cut) => {
          const frozen = freezeData(structuredClone(list));
          const single = frozen.reduce<unknown>((state, e) => domain.evolve(state, [e], at), domain.initial());
          const start = domain.evolve(domain.initial(), frozen.slice(0, cut), at);
          expect(domain.evolve(domain.initial(), frozen, at)).toEqual(single);
          expect(domain.evolve(start, frozen.slice(cut), at)).toEqual(single);
          expect(domain.evolve(JSON.parse(JSON.stringify(start)), frozen.slice(cut), at)).toEqual(single);
          expect(frozen).toEqual(list);
        }),
        { numRuns: 500 },
      );
    };

    it("when recipes take over parts of the event's data and change them later", () => {
      const domain = shape({ Item: (s, d: { item: { n: number } }) => { s.list.push(d.item); s.last = { ...d.item }; } });
      holds(domain, fc.record({ type: fc.constant("Item"), data: fc.record({ item: fc.record({ n }) }) }));
    });

    it("when recipes put one new object at two places", () => {
      const domain = shape({ Fresh: (s, d: { n: number }) => { const item = { n: d.n }; s.list.push(item); s.last = item; } });
      holds(domain, fc.record({ type: fc.constant("Fresh"), data: fc.record({ n }) }));
    });

    it("when recipes put one part of the state at a second place", () => {
      const domain = shape({ Cross: (s) => { s.last = s.list[0] ?? null; } });
      holds(domain, fc.record({ type: fc.constant("Cross"), data: fc.constant(null) }));
    });

    it("when a recipe does so for the first time long after its first events, and one of the places is lost in the same page", () => {
      const domain = shape({ Cross: (s) => { s.last = s.list[0] ?? null; } });
      const of = (...types: string[]): DomainEvent[] => types.map((type) => ({ type, data: null }));
      const replace = (...n: number[]): DomainEvent => ({ type: "Replace", data: { list: n.map((each) => ({ n: each })) } });
      // Nothing to put at a second place yet, and every type was seen often enough.
      for (let seen = 0; seen < 20; seen++) domain.evolve(domain.initial(), [replace(), ...of("Cross", "BumpFirst", "BumpLast", "Count")], at);
      const start = domain.evolve(domain.initial(), [replace(0)], at);
      const page = [...of("BumpFirst", "Cross", "BumpFirst"), replace(3)];
      const single = page.reduce<unknown>((state, e) => domain.evolve(state, [e], at), start);
      expect(single).toMatchObject({ last: { n: 1 } });
      expect(domain.evolve(start, page, at)).toEqual(single);
    });

    it("when one of the two places is written to and the other one lost in the same page", () => {
      const domain = shape({
        Fresh: (s) => { const item = { n: 0 }; s.list.push(item); s.last = item; },
        Forget: (s) => { s.last = null; },
      });
      const page = ["Fresh", "BumpLast", "Forget"].map((type): DomainEvent => ({ type, data: null }));
      const many = Array.from({ length: 20 }, () => page).flat();
      const single = many.reduce<unknown>((state, e) => domain.evolve(state, [e], at), domain.initial());
      expect(domain.evolve(domain.initial(), many, at)).toEqual(single);
      expect(single).toMatchObject({ list: Array.from({ length: 20 }, () => ({ n: 0 })), last: null });
    });

    it("when a recipe that did not do so before does it in the middle of a page", () => {
      const domain = shape({ Maybe: (s, d: { twice: boolean }) => { s.last = { n: 0 }; if (d.twice) s.list.push(s.last); } });
      const maybe = (twice: boolean): DomainEvent => ({ type: "Maybe", data: { twice } });
      const bump: DomainEvent = { type: "BumpLast", data: null };
      const warm = domain.evolve(domain.initial(), Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? maybe(false) : bump)), at);
      const page = [maybe(false), maybe(true), bump];
      expect(domain.evolve(warm, page, at)).toEqual(page.reduce<unknown>((state, e) => domain.evolve(state, [e], at), warm));
      expect(domain.evolve(warm, page, at)).toMatchObject({ list: [{ n: 0 }], last: { n: 10 } });
    });
  });
});

describe("schemas", () => {
  it("pass good input on in the form that the schema gives, by Zod and by Valibot", () => {
    expect(account.parseInput("open", { owner: "ann" })).toEqual({ owner: "ann", referrer: "nobody" });
    expect(account.parseInput("deposit", { cents: 5 })).toEqual({ cents: 5 });
    expect(account.parseInput("topUp", "as it is")).toBe("as it is");
  });

  it("refuse bad input with every issue and its path, by Zod and by Valibot", () => {
    const run = () => account.parseInput("convert", { amount: "1" });
    expect(run).toThrow(failing("InvalidInput", { details: { category: "account", command: "convert" } }));
    expect(run).toThrow(
      failing("InvalidInput", { issues: [{ message: expect.any(String) as string, path: "amount" }, { message: expect.any(String) as string, path: "currency" }] }),
    );
    expect(() => account.parseInput("open", { owner: 1 })).toThrow(failing("InvalidInput", { issues: [{ message: expect.any(String) as string, path: "owner" }] }));
    const nested = loose({ go: () => [] }, {}, { inputs: { go: v.object({ list: v.array(v.object({ n: v.number() })) }) } });
    expect(() => nested.parseInput("go", { list: [{ n: 1 }, { n: "x" }] })).toThrow(failing("InvalidInput", { issues: [{ message: expect.any(String) as string, path: "list.1.n" }] }));
  });

  it("may be asynchronous for input", async () => {
    const slow = loose({ go: () => [] }, {}, { inputs: { go: z.string().refine(async (text) => text === "yes") } });
    await expect(slow.parseInput("go", "yes")).resolves.toBe("yes");
    await expect(slow.parseInput("go", "no")).rejects.toEqual(failing("InvalidInput"));
  });

  it("list a bounded number of issues", () => {
    const many = loose({ go: () => [] }, {}, { inputs: { go: v.array(v.number()) } });
    let issues: readonly unknown[] = [];
    try {
      many.parseInput("go", Array.from({ length: 1000 }, () => "x"));
    } catch (error) {
      issues = (error as { issues: readonly unknown[] }).issues;
    }
    expect(issues).toHaveLength(100);
  });

  it("check what a command emits, and refuse an asynchronous schema there", () => {
    expect(() => account.decide(account.initial(), "open", { owner: "" }, inputs)).toThrow(failing("DomainCodeFailed"));
    expect(account.decide(account.initial(), "open", { owner: "ann" }, inputs).ok).toBe(true);
    const emits = (schema: z.ZodType, data: unknown) =>
      loose({ go: (_s: unknown, _i: unknown, c: { emit: (t: string, d: unknown) => unknown }) => c.emit("A", data) }, { A: event(schema, () => undefined) }).decide({}, "go", undefined, inputs);
    expect(() => emits(z.object({ n: z.number() }), { n: "1" })).toThrow(failing("DomainCodeFailed"));
    expect(() => emits(z.object({ n: z.number() }), { n: "1" })).toThrow(/schema refuses: n:/);
    expect(() => emits(z.string().refine(async () => true), "x")).toThrow(failing("DomainCodeFailed"));
    expect(emits(z.object({ n: z.number() }), { n: 1 })).toEqual({ ok: true, events: [{ type: "A", data: { n: 1 } }] });
  });
});

describe("prepare", () => {
  it("turns the caller's input into the command's, and stands only where it was defined", async () => {
    const context = { signal: undefined, metadata: {} };
    await expect(account.prepare("convert")?.({ amount: 1.5, currency: "USD" }, context)).resolves.toEqual({ cents: 150, rate: 2 });
    expect(account.prepare("deposit")).toBeUndefined();
    expect(account.prepare("constructor")).toBeUndefined();
  });
});

describe("a definition", () => {
  const fine = { initial: () => ({}), events: { A: () => undefined }, commands: { go: () => [] } };
  it.each<[string, string, object]>([
    ["a name that is no category", "or-der", {}],
    ["a name that is too long", "a".repeat(65), {}],
    ["a state that is not an object", "x", { initial: () => 1 }],
    ["a state that is not plain data", "x", { initial: () => ({ at: new Date(0) }) }],
    ["an odd event type", "x", { events: { "a b": () => undefined } }],
    ["a recipe that is no function", "x", { events: { A: 1 } }],
    ["an odd command name", "x", { commands: { "mark-it": () => [] } }],
    ["a command called state", "x", { commands: { state: () => [] } }],
    // oxlint-disable-next-line unicorn/no-thenable
    ["a command called then", "x", { commands: { then: () => [] } }],
    ["a command called id", "x", { commands: { id: () => [] } }],
    ["a command called __proto__", "x", { commands: { __proto__: { go: () => [] } } }],
    ["a command that is no function", "x", { commands: { go: 1 } }],
    ["an input schema of no command", "x", { inputs: { nope: z.string() } }],
    ["an input schema that is none", "x", { inputs: { go: {} } }],
    ["a prepare of no command", "x", { prepare: { nope: async () => 1 } }],
    ["snapshots every 0 events", "x", { snapshot: { everyEvents: 0 } }],
    ["a fractional schema version", "x", { snapshot: { schemaVersion: 1.5 } }],
    ["an upcaster of no event", "x", { upcasters: { B: { 1: () => 1 } } }],
    ["upcasters with a gap", "x", { upcasters: { A: { 1: () => 1, 3: () => 1 } } }],
    ["a rename to no event", "x", { renamed: { Old: "B" } }],
    ["a rename of an event that is still there", "x", { renamed: { A: "A" } }],
  ])("is refused with %s", (_what, name, change) => {
    expect(() => compile(name, { ...fine, ...change } as never)).toThrow(failing("InvalidArgument"));
    expect(() => compile("x", fine as never)).not.toThrow();
  });

  it("lists its commands, events and snapshot policy", () => {
    expect(account.commands).toEqual(["open", "deposit", "convert", "topUp"]);
    expect(account.eventTypes).toEqual(["Opened", "Deposited"]);
    expect(account.snapshot).toBeUndefined();
    expect(order.snapshot?.everyEvents).toBe(100);
    expect(behaviourOf(Order)).toBe(order);
    expect(Object.isFrozen(Order)).toBe(true);
  });
});

describe("accepted", () => {
  it("gives back what was accepted and throws a rejection with code, details and version", () => {
    const yes = { ok: true, version: 3 } as const;
    expect(accepted(yes)).toBe(yes);
    const no = { ok: false, code: "already-placed", details: { since: 1 }, decidedAt: { version: 4, token: "t" } } as const;
    expect(() => accepted(no)).toThrow(failing("DomainRejection", { rejection: { code: "already-placed", details: { since: 1 } }, details: { version: 4 } }));
  });
});

describe("the image of emitted data", () => {
  it("is what JSON text would give back, frozen, for any data that JSON holds", () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof({ depthSize: "small" }, fc.string({ unit: "binary" }), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.constant(-0), fc.boolean(), fc.constant(null), tie("list"), tie("object")),
      list: fc.array(tie("any"), { maxLength: 4 }),
      object: fc.dictionary(fc.oneof(fc.string(), fc.constantFrom("__proto__", "constructor", "0", "10")), fc.oneof(tie("any"), fc.constant(undefined)), { maxKeys: 5, noNullPrototype: false }),
    })).any;
    const isFrozen = (part: unknown): boolean => typeof part !== "object" || part === null || (Object.isFrozen(part) && Object.values(part).every(isFrozen));
    fc.assert(
      fc.property(value, (data) => {
        const image = jsonImage(data, "Something", {});
        deepStrictEqual(image, JSON.parse(JSON.stringify(data)) as unknown);
        expect(isFrozen(image)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
