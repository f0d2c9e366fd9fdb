import { describe, expect, expectTypeOf, it } from "vitest";
import * as v from "valibot";
import { z } from "zod";
import {
  aggregate,
  type AnyAggregate,
  type Args,
  type CommandNames,
  type DecisionInputOf,
  type EventsOf,
  type InputOf,
  type RejectionOf,
  type StateOf,
} from "../../src/aggregate/aggregate.ts";
import type { Rejected } from "../../src/aggregate/decision.ts";
import type { Recorded } from "../../src/aggregate/recorded.ts";
import { event } from "../../src/aggregate/schema.ts";
import { Account, Order, type Line, type Placed } from "./domain.ts";

type OrderA = typeof Order;
type AccountA = typeof Account;
const initial = (): { n: number; tags: string[] } => ({ n: 0, tags: [] });
/** Definitions that must not compile stand in functions that nobody calls. */
const neverRun = (..._functions: (() => unknown)[]): void => undefined;

describe("what is inferred from a definition", () => {
  it("gives the names, states and events their exact types", () => {
    expectTypeOf<OrderA["name"]>().toEqualTypeOf<"order">();
    expectTypeOf<StateOf<OrderA>["lines"]>().toEqualTypeOf<readonly { readonly sku: string; readonly quantity: number }[]>();
    expectTypeOf<EventsOf<OrderA>["type"]>().toEqualTypeOf<"OrderPlaced" | "LineAdded" | "OrderShipped" | "OrderReset">();
    expectTypeOf<Extract<EventsOf<OrderA>, { type: "OrderReset" }>["data"]>().toEqualTypeOf<null>();
    expectTypeOf<Extract<EventsOf<AccountA>, { type: "Opened" }>["data"]>().toEqualTypeOf<{ readonly owner: string }>();
    expectTypeOf<CommandNames<OrderA>>().toEqualTypeOf<"place" | "add" | "ship" | "repeat" | "reset" | "refuse" | "touch">();
    expect(Order.name).toBe("order");
  });

  it("gives the caller's input and the decision's input, from annotations, schemas and prepare", () => {
    expectTypeOf<InputOf<OrderA, "place">>().toEqualTypeOf<Placed>();
    expectTypeOf<InputOf<AccountA, "open">>().toEqualTypeOf<{ owner: string; referrer?: string | undefined }>();
    expectTypeOf<DecisionInputOf<AccountA, "open">>().toEqualTypeOf<{ owner: string; referrer: string }>();
    expectTypeOf<InputOf<AccountA, "deposit">>().toEqualTypeOf<{ cents: number }>();
    expectTypeOf<InputOf<AccountA, "convert">>().toEqualTypeOf<{ amount: number; currency: string }>();
    expectTypeOf<DecisionInputOf<AccountA, "convert">>().toEqualTypeOf<{ cents: number; rate: number }>();
    expectTypeOf<InputOf<AccountA, "topUp">>().toEqualTypeOf<{ euros: number }>();
    expectTypeOf<DecisionInputOf<AccountA, "topUp">>().toEqualTypeOf<{ cents: number }>();
    expect(Account.name).toBe("account");
  });

  it("gives rejections their literal codes and the types of their details", () => {
    expectTypeOf<RejectionOf<OrderA, "place">>().toEqualTypeOf<Rejected<"already-placed", undefined>>();
    expectTypeOf<RejectionOf<OrderA, "ship">["code"]>().toEqualTypeOf<"not-placed" | "already-shipped">();
    expectTypeOf<Extract<RejectionOf<OrderA, "ship">, { code: "already-shipped" }>["details"]>().toEqualTypeOf<{ readonly since: 1 }>();
    expectTypeOf<RejectionOf<OrderA, "repeat">>().toEqualTypeOf<never>();
    expectTypeOf<RejectionOf<AccountA, "open">["code"]>().toEqualTypeOf<"already-open">();
    expect(Order.name).toBe("order");
  });

  it("lets a command without input be called without one", () => {
    expectTypeOf<Args<InputOf<OrderA, "place">>>().toEqualTypeOf<[input: Placed]>();
    expectTypeOf<Args<InputOf<OrderA, "repeat">>>().toEqualTypeOf<[input?: undefined]>();
    expectTypeOf<Args<InputOf<OrderA, "reset">>>().toEqualTypeOf<[input?: undefined]>();
    expectTypeOf<Args<InputOf<OrderA, "touch">, { commandId: string }>>().toEqualTypeOf<[input?: undefined, options?: { commandId: string }]>();
    expectTypeOf<Args<{ a: 1 } | undefined>>().toEqualTypeOf<[input?: { a: 1 } | undefined]>();
    expect(Order.name).toBe("order");
  });

  it("narrows recorded events, also of several aggregates, by type and category", () => {
    const read = (e: Recorded<OrderA | AccountA>): string => {
      expectTypeOf(e.version).toEqualTypeOf<number>();
      expectTypeOf(e.recordedAt).toEqualTypeOf<Date>();
      if (e.type === "LineAdded") {
        expectTypeOf(e.category).toEqualTypeOf<"order">();
        expectTypeOf(e.data).toEqualTypeOf<Readonly<Line>>();
      }
      if (e.category === "account" && e.type === "Opened") return e.data.owner;
      return e.metadata.commandId;
    };
    expect(read).toBeTypeOf("function");
  });

  it("infers nothing to any", () => {
    type IsAny<T> = 0 extends 1 & T ? true : false;
    type AnyIn<A extends AnyAggregate> = {
      [K in CommandNames<A>]: true extends [IsAny<InputOf<A, K>>, IsAny<DecisionInputOf<A, K>>, IsAny<RejectionOf<A, K>>][number] ? true : false;
    }[CommandNames<A>];
    expectTypeOf<AnyIn<OrderA>>().toEqualTypeOf<false>();
    expectTypeOf<AnyIn<AccountA>>().toEqualTypeOf<false>();
    expectTypeOf<[IsAny<StateOf<OrderA>>, IsAny<EventsOf<OrderA>["data"]>, IsAny<Recorded<OrderA>>]>().toEqualTypeOf<[false, false, false]>();
    expectTypeOf<[IsAny<StateOf<AccountA>>, IsAny<EventsOf<AccountA>["data"]>]>().toEqualTypeOf<[false, false]>();
    aggregate("probe", {
      initial,
      events: {
        A: (state, data: { n: number }) => {
          expectTypeOf(state).toEqualTypeOf<{ n: number; tags: string[] }>();
          state.n = data.n;
        },
        B: event(z.object({ tag: z.string() }), (state: { tags: string[] }, data) => {
          expectTypeOf(data).toEqualTypeOf<{ tag: string }>();
          state.tags.push(data.tag);
        }),
      },
      inputs: { set: v.object({ n: v.number() }) },
      commands: {
        set: (state, input, context) => {
          expectTypeOf(state).toEqualTypeOf<{ readonly n: number; readonly tags: readonly string[] }>();
          expectTypeOf(input).toEqualTypeOf<{ n: number }>();
          expectTypeOf(context.now).toEqualTypeOf<Date>();
          expectTypeOf(context.metadata).toEqualTypeOf<Readonly<Record<string, unknown>>>();
          return context.emit("A", input);
        },
      },
    });
    expect(Order.name).toBe("order");
  });
});

describe("what does not compile", () => {
  it("a wrong event type, a wrong payload, a missing payload, a payload too much", () => {
    neverRun(() =>
      aggregate("x", {
        initial,
        events: { A: (s, d: { n: number }) => void (s.n = d.n), B: (s) => void (s.n = 0) },
        commands: {
          // @ts-expect-error: no such event
          type: (_s, _i: void, { emit }) => emit("AA", { n: 1 }),
          // @ts-expect-error: wrong type of a field
          payload: (_s, _i: void, { emit }) => emit("A", { n: "1" }),
          // @ts-expect-error: a field too much
          extra: (_s, _i: void, { emit }) => emit("A", { n: 1, m: 2 }),
          // @ts-expect-error: no payload
          missing: (_s, _i: void, { emit }) => emit("A"),
          // @ts-expect-error: B has no data
          surplus: (_s, _i: void, { emit }) => emit("B", { n: 1 }),
        },
      }),
    );
    expect(Order.name).toBe("order");
  });

  it("a wrong command name or input", () => {
    // @ts-expect-error: no such command
    type Name = InputOf<OrderA, "plcae">;
    const call = <K extends CommandNames<OrderA>>(_command: K, ..._args: Args<InputOf<OrderA, K>>): void => undefined;
    neverRun(
      // @ts-expect-error: wrong type of a field
      () => call("place", { customer: 1, lines: [] }),
      // @ts-expect-error: the input is missing
      () => call("place"),
      // @ts-expect-error: this one has no input
      () => call("reset", { a: 1 }),
      // @ts-expect-error: no such command
      () => call("plcae", { customer: "c", lines: [] }),
    );
    call("place", { customer: "c", lines: [] });
    call("reset");
    expectTypeOf<Name>().not.toBeString();
    expect(call).toBeTypeOf("function");
  });

  it("a forgotten return, whole or in one branch, and a promise", () => {
    const events = { A: (s: { n: number }, d: { n: number }) => void (s.n = d.n) };
    neverRun(
      () =>
        aggregate("x", {
          initial,
          events,
          commands: {
            // @ts-expect-error: nothing is returned
            whole: (_s, _i: void, { emit }) => {
              emit("A", { n: 1 });
            },
          },
        }),
      () =>
        aggregate("x", {
          initial,
          events,
          commands: {
            // @ts-expect-error: one branch returns nothing
            branch: (s, _i: void, { emit }) => {
              if (s.n > 0) return emit("A", { n: 1 });
            },
          },
        }),
      () =>
        aggregate("x", {
          initial,
          events,
          commands: {
            // @ts-expect-error: decisions are synchronous
            later: async (_s, _i: void, { emit }) => emit("A", { n: 1 }),
          },
        }),
      () =>
        aggregate("x", {
          initial,
          events,
          commands: {
            // @ts-expect-error: neither events nor a rejection
            other: () => "yes",
          },
        }),
    );
    expect(Order.name).toBe("order");
  });

  it("event data that JSON cannot hold", () => {
    neverRun(() =>
      aggregate("x", {
        initial,
        events: {
          // @ts-expect-error: Date
          ADate: (s, _d: { at: Date }) => void (s.n = 1),
          // @ts-expect-error: Map
          AMap: (s, _d: { m: Map<string, string> }) => void (s.n = 1),
          // @ts-expect-error: Set in an array
          ASet: (s, _d: { m: Set<string>[] }) => void (s.n = 1),
          // @ts-expect-error: bigint
          ABigint: (s, _d: { deep: { cents: bigint } }) => void (s.n = 1),
          // @ts-expect-error: a function
          AFunction: (s, _d: { f: () => void }) => void (s.n = 1),
          // @ts-expect-error: a class instance with methods
          AClass: (s, _d: { u: URL }) => void (s.n = 1),
          // @ts-expect-error: undefined in an array becomes null
          AHole: (s, _d: { list: (string | undefined)[] }) => void (s.n = 1),
          // @ts-expect-error: nobody knows what it is
          Unknown: (s, _d: { what: unknown }) => void (s.n = 1),
          // @ts-expect-error: one member of the union is a Date
          AUnion: (s, _d: { at: string | Date }) => void (s.n = 1),
          // @ts-expect-error: also from a schema
          FromSchema: event(z.object({ at: z.date() }), (s: { n: number }, _d) => void (s.n = 1)),
        },
        commands: { touch: () => [] },
      }),
    );
    expect(Order.name).toBe("order");
  });

  it("while interfaces, unions, optional fields, tuples, literals and recursive JSON compile", () => {
    type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
    const fine = aggregate("fine", {
      initial,
      events: {
        A: (s, _data: Placed) => void (s.n = 1),
        B: (s, _data: { a: "x" | 1 | null; b?: boolean; c: readonly [string, number]; d: Record<string, Line[]> }) => void (s.n = 1),
        C: (s, _data: { kind: "a"; n: number } | { kind: "b"; t: string & { readonly brand: "t" } }) => void (s.n = 1),
        D: (s, _data: { any: Json }) => void (s.n = 1),
        E: (s, data: string) => void s.tags.push(data),
        F: (s) => void (s.n = 1),
      },
      commands: { f: (_s, _i, { emit }) => [emit("F"), emit("E", "x"), emit("D", { any: [1, { a: null }] })] },
    });
    expect(fine.name).toBe("fine");
  });

  it("a recipe that returns a value or a promise", () => {
    neverRun(() =>
      aggregate("x", {
        initial,
        events: {
          // @ts-expect-error: recipes change the state, they return nothing
          Value: (s, d: { tag: string }) => s.tags.push(d.tag),
          // @ts-expect-error: recipes are synchronous
          Later: async (s, d: { tag: string }) => void s.tags.push(d.tag),
        },
        commands: { touch: () => [] },
      }),
    );
    expect(Order.name).toBe("order");
  });

  it("a command that changes the state or decides on what the schema does not give", () => {
    neverRun(() =>
      aggregate("x", {
        initial,
        events: { A: (s, d: { n: number }) => void (s.n = d.n) },
        inputs: { typed: z.object({ n: z.number() }) },
        commands: {
          change: (s) => {
            // @ts-expect-error: the state is read-only
            s.n = 1;
            return [];
          },
          // @ts-expect-error: the schema gives a number
          typed: (_s, input: { n: string }, { reject }) => reject(input.n),
        },
      }),
    );
    expect(Order.name).toBe("order");
  });

  it("a command with a reserved name", () => {
    const define = () =>
      aggregate("x", {
        initial,
        events: { A: (s, d: { n: number }) => void (s.n = d.n) },
        commands: {
          // @ts-expect-error: a handle has a `state()` of its own
          state: (_s, _i: void, { emit }) => emit("A", { n: 1 }),
        },
      });
    expect(define).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });

  it("a command that decides on what `prepare` does not return", () => {
    neverRun(() =>
      aggregate("x", {
        initial,
        events: { A: (s, d: { n: number }) => void (s.n = d.n) },
        prepare: { price: async (input: { sku: string }) => ({ n: input.sku.length }) },
        commands: {
          // @ts-expect-error: prepare returns a number
          price: (_s, input: { n: string }, { reject }) => reject(input.n),
        },
      }),
    );
    expect(Order.name).toBe("order");
  });

  it("upcasters that do not fit each other, the event, or any event; renames to no event", () => {
    const events = { A: (s: { n: number }, d: { n: number; unit: string }) => void (s.n = d.n) };
    const commands = { touch: () => [] };
    neverRun(
      () =>
        aggregate("x", {
          initial,
          events: { A: (s, d: { n: number; unit: string }) => void (s.n = d.n), B: (s) => void (s.n = 0) },
          commands: { touch: () => [] },
          // @ts-expect-error: the same with recipes that are inferred
          upcasters: { A: { 1: (old: { n: number }) => ({ ...old, unit: 1 }) } },
        }),
      () =>
        aggregate("x", {
          initial,
          events: { A: (s, d: { n: number; unit: string }) => void (s.n = d.n), B: (s) => void (s.n = 0) },
          commands: { go: (_s, _i: void, { emit }) => emit("B") },
          // @ts-expect-error: and here
          renamed: { Old: "C" },
        }),
      () => aggregate("x", { initial: () => ({ n: 0 }), events, commands, upcasters: { A: { 1: (old: { n: number }) => ({ ...old, unit: "cent" }) } } }),
      // @ts-expect-error: the last step does not give the event's data
      () => aggregate("x", { initial: () => ({ n: 0 }), events, commands, upcasters: { A: { 1: (old: { n: number }) => ({ ...old, unit: 1 }) } } }),
      () =>
        aggregate("x", {
          initial: () => ({ n: 0 }),
          events,
          commands,
          // @ts-expect-error: the second step takes what the first does not give
          upcasters: { A: { 1: (old: { a: string }) => ({ b: old.a }), 2: (old: { c: string }) => ({ n: old.c.length, unit: "" }) } },
        }),
      // @ts-expect-error: no such event
      () => aggregate("x", { initial: () => ({ n: 0 }), events, commands, upcasters: { B: { 1: (old: { n: number }) => old } } }),
      // @ts-expect-error: leads to no event
      () => aggregate("x", { initial: () => ({ n: 0 }), events, commands, renamed: { Old: "B" } }),
      () => aggregate("x", { initial: () => ({ n: 0 }), events, commands, renamed: { Old: "A" } }),
    );
    expect(Order.name).toBe("order");
  });
});
