import { drizzle, type NodePgDatabase } from "drizzle-orm/node-postgres";
import { Kysely, PostgresDialect } from "kysely";
import type { Pool, PoolClient } from "pg";
import { concatMap, EMPTY } from "rxjs";
import { describe, expectTypeOf, it } from "vitest";
import { aggregate, readModel, table, type App, type ReadModel, type Table } from "../../../src/index.ts";
import { sqlView } from "../../../src/store/postgres/index.ts";

const Thing = aggregate("thing", {
  initial: () => ({}),
  events: { Made: (_state, _data: { size: number }) => undefined },
  commands: { make: (_state, size: number, { emit }) => emit("Made", { size }) },
});

interface Tables {
  thing: { id: string; size: number };
}

const create = "CREATE TABLE thing (id text, size int)";
const withKysely = sqlView({ create, open: ({ pool }) => new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) }) });
const app = undefined as unknown as App;
/** Compiled and never run. */
const compiled = (_code: () => unknown): void => undefined;

describe("a view in SQL", () => {
  it("gives pipelines and queries what it opens, with its types", () => {
    const model = readModel("things", {
      from: [Thing],
      view: withKysely,
      project: (events$, { view }) => {
        expectTypeOf(view).toEqualTypeOf<Kysely<Tables>>();
        return events$.pipe(concatMap(({ id, data }) => view.insertInto("thing").values({ id, size: data.size }).execute()));
      },
    });
    expectTypeOf(model).toEqualTypeOf<ReadModel<Kysely<Tables>>>();
    compiled(async () => expectTypeOf(await app.query(model, (db) => db.selectFrom("thing").select("size").execute())).toEqualTypeOf<{ size: number }[]>());
    compiled(() =>
      app.query(model, (db) =>
        db
          .selectFrom("thing")
          // @ts-expect-error there is no such column
          .select("colour")
          .execute(),
      ),
    );
  });

  it("opens a client of pg and a pool of it, for any builder", () => {
    const view = sqlView({
      create,
      open: ({ client, pool }) => {
        expectTypeOf(client).toEqualTypeOf<PoolClient>();
        expectTypeOf(pool).toEqualTypeOf<Pool>();
        return drizzle({ client });
      },
    });
    readModel("things", {
      from: [Thing],
      view,
      project: (_events$, { view: db }) => {
        expectTypeOf(db).toExtend<NodePgDatabase>();
        return EMPTY;
      },
    });
  });

  it("has no table, and a table has no SQL builder", () => {
    const model = readModel("things", { from: [Thing], view: withKysely, project: () => EMPTY });
    const inTable = readModel("rows", {
      from: [Thing],
      view: table<{ id: string }>("rows", { key: "id" }),
      project: (_events$, { view }) => {
        expectTypeOf(view).toEqualTypeOf<Table<{ id: string }>>();
        return EMPTY;
      },
    });
    // @ts-expect-error a view in SQL has no rows by key
    compiled(() => app.query(model, (db) => db.get("a")));
    // @ts-expect-error a table has no builder
    compiled(() => app.query(inTable, (rows) => rows.selectFrom("rows")));
  });
});
