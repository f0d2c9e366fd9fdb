import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { aggregate, behaviourOf } from "../../src/aggregate/aggregate.ts";

interface V1 {
  name: string;
}
interface V2 {
  first: string;
  last: string;
}
interface V3 extends V2 {
  initials: string;
}
const two = (old: V1): V2 => {
  const { name, ...rest } = old;
  const [first = "", last = ""] = name.split(" ");
  return { ...rest, first, last };
};
const three = (old: V2): V3 => ({ ...old, initials: `${old.first.charAt(0)}${old.last.charAt(0)}` });

const Person = aggregate("person", {
  initial: () => ({ initials: "" }),
  events: {
    Named: (person, data: V3) => {
      person.initials = data.initials;
    },
    Left: (person) => {
      person.initials = "";
    },
  },
  commands: { touch: () => [] },
  upcasters: { Named: { 1: two, 2: three } },
  renamed: { Baptised: "Named" },
});
const person = behaviourOf(Person);
const at = { stream: "person-1", version: 5 };
const failing = (code: string, more: object = {}): unknown => expect.objectContaining({ code, ...more });

describe("upcasting", () => {
  it("chains the steps from the version an event was written in, and equals applying them directly", () => {
    fc.assert(
      fc.property(fc.string(), fc.dictionary(fc.constantFrom("x", "y"), fc.jsonValue()), (name, extra) => {
        const old = { ...extra, name };
        expect(person.upcast("Named", 1, structuredClone(old), at)).toEqual({ type: "Named", data: three(two(old)) });
        expect(person.upcast("Named", 2, structuredClone(two(old)), at)).toEqual({ type: "Named", data: three(two(old)) });
        expect(person.upcast("Named", 3, structuredClone(three(two(old))), at)).toEqual({ type: "Named", data: three(two(old)) });
      }),
    );
  });

  it("writes new events in the highest version + 1", () => {
    expect([person.schemaVersionOf("Named"), person.schemaVersionOf("Left"), person.schemaVersionOf("Nope")]).toEqual([3, 1, 1]);
  });

  it("reads an event under its old name, in every version", () => {
    expect(person.upcast("Baptised", 1, { name: "Ann Lee" }, at)).toEqual({ type: "Named", data: { first: "Ann", last: "Lee", initials: "AL" } });
    expect(person.upcast("Baptised", 3, { first: "A", last: "B", initials: "AB" }, at).type).toBe("Named");
  });

  it("keeps fields that nobody knows", () => {
    expect(person.upcast("Named", 3, { first: "A", last: "B", initials: "AB", later: [1] }, at).data).toHaveProperty("later", [1]);
    expect(person.upcast("Named", 1, { name: "A B", later: [1] }, at).data).toHaveProperty("later", [1]);
  });

  it("freezes what it gives, deeply", () => {
    for (const version of [1, 3]) {
      const { data } = person.upcast("Named", version, { name: "A B", later: { deep: [1] } }, at) as unknown as { data: { later: { deep: number[] } } };
      expect([Object.isFrozen(data), Object.isFrozen(data.later), Object.isFrozen(data.later.deep)]).toEqual([true, true, true]);
    }
  });

  it("refuses a type that no version knows, with stream, version and type", () => {
    for (const type of ["Nope", "constructor", "__proto__"]) {
      const run = () => person.upcast(type, 1, {}, at);
      expect(run).toThrow(failing("UnknownEventType", { details: { stream: "person-1", version: 5, type, schemaVersion: 1 } }));
      expect(run).toThrow(/person-1 at version 5/);
    }
  });

  it("refuses a schema version newer than it knows, and one that is no version", () => {
    for (const version of [4, 0, -1, 1.5, Number.NaN]) {
      expect(() => person.upcast("Named", version, {}, at)).toThrow(failing("EventUnreadable"));
    }
    expect(() => person.upcast("Left", 2, null, at)).toThrow(/knows 1 to 1/);
  });

  it.each<[string, (old: { list: number[] }) => unknown]>([
    ["throws", () => { throw new Error("boom"); }],
    ["returns nothing", () => undefined],
    ["returns a promise", async () => Promise.reject(new Error("later"))],
    ["changes the old data", (old) => (old.list.push(1), old)],
  ])("fails with EventUnreadable when a step %s", (_what, step) => {
    const Broken = aggregate("broken", {
      initial: () => ({}),
      events: { A: (_state, _data: { list: number[] }) => undefined },
      commands: { touch: () => [] },
      upcasters: { A: { 1: step as (old: { list: number[] }) => { list: number[] } } },
    });
    expect(() => behaviourOf(Broken).upcast("A", 1, { list: [] }, at)).toThrow(failing("EventUnreadable", { details: { stream: "person-1", version: 5, type: "A", schemaVersion: 1 } }));
  });
});
