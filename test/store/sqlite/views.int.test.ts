import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { OpenView, Row, RowKey, TableDefinition, ViewStore } from "../../../src/readmodel/view-store.ts";
import { sqliteViews } from "../../../src/store/sqlite/index.ts";
import { folder } from "./support.ts";

const KEY = { model: "order-list", version: 1, build: 1 };
const TABLE: TableDefinition = { kind: "table", name: "orders", key: "id", indexes: ["status"], columns: ["total"] };

describe("views in SQLite", () => {
  let files: ReturnType<typeof folder>;
  let views: ViewStore;
  let view: OpenView;
  beforeEach(async () => {
    files = folder();
    views = sqliteViews({ file: files.path("x.views.db") });
    view = await views.open(KEY, TABLE);
    const rows: Row[] = [
      { id: "1", status: "placed", total: 5 },
      { id: "2", status: "shipped", total: 7 },
      { id: "3", status: "placed", total: 1 },
    ];
    await view.commit(new Map(rows.map((row) => [row["id"] as RowKey, row])), { position: { log: 3 }, store: "s", events: 3 }, 0);
  });
  afterEach(async () => {
    await views.close();
    files.dispose();
  });
  const sql = (text: string, ...parameters: readonly unknown[]): Promise<readonly Row[]> => view.reader.sql?.(text, ...parameters) ?? Promise.reject(new Error("no sql"));

  it("answer SQL with fields as columns and {table} for the table", async () => {
    expect(await sql("SELECT status, sum(total) AS total FROM {table} WHERE id <> ? GROUP BY status ORDER BY status", "9")).toEqual([
      { status: "placed", total: 6 },
      { status: "shipped", total: 7 },
    ]);
    await view.commit(new Map([["1", null]]), { position: { log: 4 }, store: "s", events: 4 }, 1);
    expect(await sql("SELECT count(*) AS n FROM {table} WHERE status = ? AND ?", "placed", true)).toEqual([{ n: 1 }]);
  });

  it.each(["DELETE FROM {table}", "UPDATE {table} SET row = '{}'", "DROP TABLE {table}", "PRAGMA user_version = 7", "CREATE TABLE x (a)"])("refuse to write by SQL: %s", async (text) => {
    await sql("PRAGMA query_only = OFF").catch(() => undefined);
    await expect(sql(text)).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(await view.reader.count({})).toBe(3);
  });

  it("name what is wrong with a query or its parameters", async () => {
    await expect(sql("SELECT $1", 1, 2)).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(sql("SELEC 1")).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(sql("SELECT ?", undefined)).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(sql("SELECT ?", {})).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(sql("WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT v FROM n")).rejects.toThrow(/add a LIMIT/);
    expect(await sql("SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });

  it("use an index for indexed fields", async () => {
    const plan = await sql("EXPLAIN QUERY PLAN SELECT row FROM {table} WHERE status = ?", "placed");
    expect(String(plan[0]?.["detail"])).toMatch(/USING INDEX .*__status/);
  });

  it("take no table or model whose name is not plain, and no field that is not", async () => {
    for (const name of ["", 'a"b', "1a", "a b", "a.b", "x".repeat(65)]) {
      await expect(views.open({ ...KEY, model: "m" }, { ...TABLE, name })).rejects.toMatchObject({ code: "InvalidArgument" });
      await expect(views.open({ ...KEY, model: name }, TABLE)).rejects.toMatchObject({ code: "InvalidArgument" });
    }
    for (const field of ["a'b", 'a"b', "row", "Row", "ID", "STATUS"]) {
      await expect(views.open({ ...KEY, model: "m" }, { ...TABLE, columns: [field] })).rejects.toMatchObject({ code: "InvalidArgument" });
    }
    await expect(views.open({ ...KEY, model: "m" }, { ...TABLE, key: "row" })).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(views.open({ ...KEY, model: "Order-List" }, TABLE)).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(await views.builds("m")).toEqual([]);
  });

  it("ask for a new version when the key or the table of a build changes", async () => {
    await expect(views.open(KEY, { ...TABLE, key: "number" })).rejects.toThrow(/new version/);
    await expect(views.open(KEY, { ...TABLE, name: "other" })).rejects.toThrow(/new version/);
    expect(await view.reader.count({})).toBe(3);
  });

  it("drop an index that is no longer wanted and keep the rows", async () => {
    const again = await views.open(KEY, { ...TABLE, indexes: ["total"], columns: [] });
    expect(await again.reader.find({ total: { gt: 4 } }, { orderBy: [{ field: "total", direction: "desc" }] })).toMatchObject([{ id: "2" }, { id: "1" }]);
    const indexes = await sql("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL");
    expect(indexes).toEqual([{ name: "order-list.orders__v1b1__total" }]);
  });
});
