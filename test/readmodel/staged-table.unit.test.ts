import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { copyJson } from "../../src/readmodel/json-copy.ts";
import { readTable, StagedTable } from "../../src/readmodel/staged-table.ts";
import type { FindOptions, Row, RowKey, TableReader, Where } from "../../src/readmodel/view-store.ts";
import { memoryViews } from "../../src/store/memory/memory-views.ts";

const DEFINITION = { kind: "table", name: "t", key: "id", indexes: ["kind"], columns: ["n"] } as const;

async function committed(rows: readonly Row[]): Promise<TableReader> {
  const view = await memoryViews().open({ model: "m", version: 1, build: 1 }, DEFINITION);
  await view.commit(new Map(rows.map((row) => [row["id"] as RowKey, row])), { position: {}, store: "s", events: 0 }, 0);
  return view.reader;
}

function stagedOver(reader: TableReader, maxRows = 1000): StagedTable {
  return new StagedTable(reader, DEFINITION, { maxRows, onLateWrite: () => undefined });
}

describe("a staged table", () => {
  it("answers every question as if its writes were committed (drawn writes and questions)", async () => {
    const ids = ["a", "b", "c", "d", "e", "f"];
    const row = fc.record({ id: fc.constantFrom(...ids), kind: fc.constantFrom("x", "y", null), n: fc.integer({ min: 0, max: 5 }) });
    const operation = fc.oneof(
      row.map((value) => ({ op: "upsert" as const, value })),
      fc.constantFrom(...ids).map((id) => ({ op: "delete" as const, id })),
      fc.constantFrom(...ids).map((id) => ({ op: "update" as const, id })),
    );
    const question = fc.record({
      where: fc.constantFrom<Where<Row>>({}, { kind: "x" }, { kind: null }, { n: { gte: 2, lt: 5 } }, { kind: { in: ["x", "y"] }, n: 1 }, { id: "b" }),
      options: fc.record({
        orderBy: fc.constantFrom<NonNullable<FindOptions<Row>["orderBy"]>>([], [{ field: "n", direction: "desc" }], [{ field: "kind" }, { field: "n" }]),
        limit: fc.constantFrom(1, 2, 1000),
        offset: fc.constantFrom(0, 1, 3),
      }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { maxLength: 6 }), fc.array(operation, { maxLength: 12 }), fc.array(question, { minLength: 1, maxLength: 4 }), fc.boolean(), async (base, operations, questions, wait) => {
        const start = new Map<string, Row>(base.map((value) => [value.id, value]));
        const model = new Map(start);
        const table = stagedOver(await committed([...start.values()]));
        for (const step of operations) {
          let pending: Promise<unknown>;
          if (step.op === "upsert") {
            model.set(step.value.id, step.value);
            pending = table.upsert(step.value);
          } else if (step.op === "delete") {
            model.delete(step.id);
            pending = table.delete(step.id);
          } else {
            const change = (before: Row | undefined): Row | undefined => (before?.["n"] === 3 ? undefined : { id: step.id, kind: "y", n: ((before?.["n"] as number | undefined) ?? 0) + 1 });
            const after = change(model.get(step.id));
            if (after === undefined) model.delete(step.id);
            else model.set(step.id, after);
            pending = table.update(step.id, change);
          }
          if (wait) await pending;
        }
        const expected = await committed([...model.values()]);
        for (const { where, options } of questions) {
          expect(await table.find(where, options)).toEqual(await expected.find(where, options));
          expect(await table.count(where)).toBe(await expected.count(where));
        }
        for (const id of ids) expect(await table.get(id)).toEqual(await expected.get(id));
        await table.settle();
        const changes = table.seal();
        for (const [key, value] of changes) {
          if (value === null) start.delete(key as string);
          else start.set(key as string, value);
        }
        expect(start).toEqual(model);
      }),
      { numRuns: 150 },
    );
  });

  it("never loses an update, however many run at once over a slow reader", async () => {
    const base = await committed([{ id: "n", count: 5 }]);
    const slow: TableReader = { ...base, get: async (key) => (await new Promise((resolve) => setImmediate(resolve)), base.get(key)) };
    const table = stagedOver(slow);
    await Promise.all(Array.from({ length: 20 }, () => table.update("n", (row) => ({ id: "n", count: (row?.["count"] as number) + 1 }))));
    expect(await table.get("n")).toEqual({ id: "n", count: 25 });
  });

  it("takes operations on one key in the order of their calls", async () => {
    const table = stagedOver(await committed([{ id: "a", n: 1 }]));
    void table.update("a", (row) => ({ ...row, id: "a", n: (row?.["n"] as number) * 10 }));
    void table.upsert({ id: "a", n: 7 });
    const between = table.get("a");
    void table.delete("a");
    void table.update("a", (row) => ({ id: "a", was: row === undefined ? "nothing" : "something" }));
    await between;
    await table.settle();
    expect(table.seal().get("a")).toEqual({ id: "a", was: "nothing" });
  });

  it("shares nothing with the giver or the reader", async () => {
    const table = stagedOver(await committed([]));
    const given = { id: "a", list: [1] };
    await table.upsert(given);
    given.list.push(2);
    const read = (await table.get("a")) as typeof given;
    read.list.push(3);
    ((await table.find())[0] as typeof given).list.push(4);
    expect(await table.get("a")).toEqual({ id: "a", list: [1] });
  });

  it("remembers a failed write for its page, and leaves no unhandled rejection", async () => {
    const table = stagedOver(await committed([]), 2);
    void table.upsert({ id: "a" });
    void table.upsert([{ id: "b" }, { id: "c" }]);
    await expect(table.settle()).rejects.toMatchObject({ code: "PageTooLarge" });
    const other = stagedOver(await committed([]));
    void other.update("a", () => ({ id: "b" }));
    await expect(other.settle()).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  it("refuses every write after its page, and still reads", async () => {
    const late: unknown[] = [];
    const table = new StagedTable(await committed([{ id: "a" }]), DEFINITION, { maxRows: 10, onLateWrite: (error) => late.push(error) });
    table.seal();
    await expect(table.upsert({ id: "b" })).rejects.toMatchObject({ code: "LateWrite" });
    await expect(table.delete("a")).rejects.toMatchObject({ code: "LateWrite" });
    await expect(table.update("a", (row) => row)).rejects.toMatchObject({ code: "LateWrite" });
    expect(late.length).toBe(3);
    expect(await table.get("a")).toEqual({ id: "a" });
  });
});

describe("the table of queries", () => {
  it("has no writes, checks what it is asked, and says where there is no SQL", async () => {
    const table = readTable<{ id: string; n: number }>(await committed([{ id: "a", n: 1 }]), DEFINITION);
    expect(Object.keys(table).sort()).toEqual(["count", "find", "get", "sql"]);
    expect(await table.find({ n: { gte: 1 } })).toEqual([{ id: "a", n: 1 }]);
    expect(await table.count()).toBe(1);
    await expect(table.find({}, { limit: 10_001 })).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(table.find({ n: undefined as unknown as number })).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(table.get("")).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(table.sql("select 1")).rejects.toMatchObject({ code: "UnsupportedByStore" });
  });
});

describe("copyJson", () => {
  it("copies what JSON holds as JSON does", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false } as never), (value) => {
        const copy = copyJson(value);
        expect(JSON.stringify(copy)).toBe(JSON.stringify(value));
      }),
    );
    const hostile = JSON.parse('{"__proto__":{"polluted":1},"a":[{}]}') as Record<string, unknown>;
    expect(JSON.stringify(copyJson(hostile))).toBe(JSON.stringify(hostile));
    expect(Object.getPrototypeOf(copyJson(hostile))).toBe(Object.prototype);
    expect(copyJson({ a: undefined, b: 1 })).toEqual({ b: 1 });
  });

  const circular: Record<string, unknown> = {};
  circular["self"] = circular;
  it.each([["NaN", Number.NaN], ["bigint", 1n], ["a function", () => 1], ["a Date", new Date(0)], ["a Map", new Map()], ["a cycle", circular], ["a symbol", Symbol("s")]])("refuses %s by name", (_, value) => {
    expect(() => copyJson({ id: "x", value })).toThrow(expect.objectContaining({ code: "UnserialisableData" }));
  });
});
