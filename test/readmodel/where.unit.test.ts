import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { FindOptions, Row, Where } from "../../src/readmodel/view-store.ts";
import { assertRowKey, checkedOptions, comparator, compareScalars, compareText, matches, parseWhere } from "../../src/readmodel/where.ts";

const match = (row: Row, where: Where<Row>): boolean => matches(row, parseWhere(where));

describe("where", () => {
  it("matches null with absent, and with nothing else", () => {
    expect(match({}, { a: null })).toBe(true);
    expect(match({ a: null }, { a: null })).toBe(true);
    expect(match({ a: 0 }, { a: null })).toBe(false);
    expect(match({ a: "" }, { a: null })).toBe(false);
  });

  it("keeps kinds apart: 1 is not '1', and true is 1", () => {
    expect(match({ a: 1 }, { a: "1" })).toBe(false);
    expect(match({ a: "1" }, { a: 1 })).toBe(false);
    expect(match({ a: true }, { a: true })).toBe(true);
    expect(match({ a: true }, { a: 1 })).toBe(true);
    expect(match({ a: false }, { a: true })).toBe(false);
  });

  it("matches membership, and an empty list matches nothing", () => {
    expect(match({ a: "x" }, { a: { in: ["y", "x"] } })).toBe(true);
    expect(match({}, { a: { in: [null] } })).toBe(true);
    expect(match({ a: "x" }, { a: { in: [] } })).toBe(false);
  });

  it("compares ranges within one kind and never with null", () => {
    expect(match({ a: 5 }, { a: { gt: 4, lte: 5 } })).toBe(true);
    expect(match({ a: 5 }, { a: { gt: 5 } })).toBe(false);
    expect(match({ a: "5" }, { a: { gt: 4 } })).toBe(false);
    expect(match({}, { a: { lt: 4 } })).toBe(false);
    expect(match({ a: null }, { a: { gte: "" } })).toBe(false);
    expect(match({ a: "b" }, { a: { gte: "a", lt: "c" } })).toBe(true);
  });

  it("asks for every field that is named", () => {
    expect(match({ a: 1, b: 2 }, { a: 1, b: 2 })).toBe(true);
    expect(match({ a: 1, b: 3 }, { a: 1, b: 2 })).toBe(false);
  });

  it.each([
    [{ a: undefined }],
    [{ a: Number.NaN }],
    [{ a: {} }],
    [{ a: [1] }],
    [{ a: { like: "x" } }],
    [{ a: { gt: null } }],
    [{ a: { in: "x" } }],
    [{ a: { in: Array.from({ length: 1001 }, (_, i) => i) } }],
    [{ a: { in: [1], gt: 2 } }],
    [{ a: new Date(0) }],
    [{ 'a"; --': 1 }],
    [{ "a.b": 1 }],
  ])("refuses %j by name", (where) => {
    expect(() => parseWhere(where as unknown as Where<Row>)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });
});

describe("order", () => {
  it("puts null before numbers before text, and text by code points", () => {
    const values = ["\u{1F600}", "\uFB01", "a", "B", "", 10, 9, -1, null, "é"];
    expect([...values].sort(compareScalars)).toEqual([null, -1, 9, 10, "", "B", "a", "é", "\uFB01", "\u{1F600}"]);
  });

  it("orders well-formed text as its UTF-8 bytes do", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (a, b) => {
        expect(Math.sign(compareText(a, b))).toBe(Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))));
      }),
    );
  });

  it("breaks ties by key, ascending, also when the order is descending", () => {
    const rows = [{ id: "b", n: 1 }, { id: "a", n: 1 }, { id: "c", n: 2 }, { id: "d" }];
    const sorted = (options: FindOptions<Row>): unknown[] => [...rows].sort(comparator(options, "id")).map((row) => row.id);
    expect(sorted({})).toEqual(["a", "b", "c", "d"]);
    expect(sorted({ orderBy: [{ field: "n" }] })).toEqual(["d", "a", "b", "c"]);
    expect(sorted({ orderBy: [{ field: "n", direction: "desc" }] })).toEqual(["c", "a", "b", "d"]);
  });

  it.each([[{ limit: 10_001 }], [{ limit: -1 }], [{ limit: 1.5 }], [{ offset: -1 }], [{ offset: 1e9 }], [{ orderBy: [{ field: "a b" }] }], [{ orderBy: [{ field: "a", direction: "up" }] }]])(
    "refuses the options %j",
    (options) => {
      expect(() => checkedOptions(options as unknown as FindOptions<Row>)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
    },
  );

  it.each([[""], ["x".repeat(513)], ["\ud800"], ["a\0b"], [Number.NaN], [Number.POSITIVE_INFINITY], [null], [{}]])("refuses %j as a key", (key) => {
    expect(() => assertRowKey(key)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });
});

describe("names that objects inherit", () => {
  it("are fields that a row does not have, as in a database", () => {
    expect(matches({ id: "1" }, parseWhere(JSON.parse('{"__proto__":null}') as Where<Row>))).toBe(true);
    expect(matches({ id: "1" }, parseWhere({ constructor: null }))).toBe(true);
  });
});
