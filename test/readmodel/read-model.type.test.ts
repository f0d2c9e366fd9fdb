import { concatMap, EMPTY, tap, type Observable } from "rxjs";
import { describe, expect, expectTypeOf, it } from "vitest";
import { byStream, ofType } from "../../src/readmodel/operators.ts";
import { readModel, table } from "../../src/readmodel/read-model.ts";
import { createRunner } from "../../src/readmodel/runner.ts";
import type { ReadTable, Table } from "../../src/readmodel/staged-table.ts";
import { Customer, Order } from "./support.ts";

interface ThingRow {
  id: string;
  status: string;
  customer?: string;
}

const things = table<ThingRow>("things", { key: "id", indexes: ["status"] });

describe("a read model's types", () => {
  it("come from its aggregates and its table", () => {
    const model = readModel("things", {
      from: [Order, Customer],
      view: things,
      project: (events$, { view, signal }) => {
        expectTypeOf(view).toEqualTypeOf<Table<ThingRow>>();
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
        return events$.pipe(
          tap((event) => {
            expectTypeOf(event.category).toEqualTypeOf<"order" | "customer">();
            expectTypeOf(event.type).toEqualTypeOf<"Placed" | "Shipped" | "Cancelled" | "Registered">();
            // @ts-expect-error only some of the events have it
            void event.data.customer;
          }),
          ofType("Placed", "Shipped"),
          tap((event) => {
            expectTypeOf(event).not.toBeAny();
            expectTypeOf(event.category).toEqualTypeOf<"order">();
            if (event.type === "Placed") expectTypeOf(event.data.customer).toEqualTypeOf<string>();
            expectTypeOf(event.recordedAt).toEqualTypeOf<Date>();
          }),
          byStream((event) => view.upsert({ id: event.id, status: event.type })),
        );
      },
    });
    expect(model).toMatchObject({ name: "things", version: 1, pageTimeoutMs: 30_000 });
    const query = (): ReadTable<ThingRow> => createRunner(model, {} as never).reader();
    expectTypeOf(query).returns.toEqualTypeOf<ReadTable<ThingRow>>();
    // @ts-expect-error queries do not write
    void (() => query().upsert({ id: "1", status: "x" }));
    expectTypeOf<Awaited<ReturnType<ReadTable<ThingRow>["find"]>>>().toEqualTypeOf<readonly ThingRow[]>();
  });

  it("refuse wrong event types, rows, fields and conditions", () => {
    readModel("refused", {
      from: [Order],
      view: things,
      project: (events$, { view }) =>
        events$.pipe(
          tap(() => {
            // @ts-expect-error no such event
            ofType<{ type: "Placed" }, "Plaaced">("Plaaced");
            // @ts-expect-error a field is missing
            void (() => view.upsert({ id: "1" }));
            // @ts-expect-error no such field
            void (() => view.find({ statuss: "x" }));
            // @ts-expect-error another kind
            void (() => view.find({ status: 1 }));
            // @ts-expect-error no such field to order by
            void (() => view.find({}, { orderBy: [{ field: "when" }] }));
            void (() => view.find({ status: { in: ["a"] }, customer: { gte: "a" } }, { orderBy: [{ field: "status", direction: "desc" }] }));
          }),
          // @ts-expect-error no such event
          ofType("Plaaced"),
          concatMap(() => []),
        ),
    });
    // @ts-expect-error no such field
    table<ThingRow>("things", { key: "idd" });
    // @ts-expect-error no such field
    table<ThingRow>("things", { key: "id", indexes: ["statuss"] });
    // @ts-expect-error a pipeline is an Observable
    expect(() => readModel("things", { from: [Order], view: things, project: () => 1 })).not.toThrow();
  });
});

describe("a definition", () => {
  it("is checked by name", () => {
    const project = (): Observable<unknown> => EMPTY;
    const refused = expect.objectContaining({ code: "InvalidArgument" });
    expect(() => table<ThingRow>("1; DROP", { key: "id" })).toThrow(refused);
    expect(() => table<Record<string, string>>("t", { key: "a b" })).toThrow(refused);
    expect(() => readModel("no name", { from: [Order], view: things, project })).toThrow(refused);
    expect(() => readModel("m", { from: [], view: things, project })).toThrow(refused);
    expect(() => readModel("m", { from: [Order, Order], view: things, project })).toThrow(refused);
    expect(() => readModel("m", { from: [Order], view: things, project, version: 0 })).toThrow(refused);
    expect(() => readModel("m", { from: [Order], view: things, project, pageTimeoutMs: 0 })).toThrow(refused);
  });
});
