/**
 * `find` and `count` in SQL: the words of readmodel/where.ts (W1 to W4), said to SQLite.
 *
 * json_extract gives null, 1 and 0 for booleans, numbers, text, and JSON text for objects and arrays: W1 as it stands. SQLite orders null before numbers
 * before text, and text in its BINARY collation as UTF-8 bytes: W4 as it stands. Columns have no affinity, so numbers never equal text: W2.
 * W3 needs a second bound that keeps a range inside its kind: every number is below the empty text, and every text is at or above it.
 */
import type { FindOptions, Row, Where } from "../../readmodel/view-store.ts";
import { assertField, DEFAULT_LIMIT, parseWhere, type FieldTest, type Scalar } from "../../readmodel/where.ts";
import type { BuildTable } from "./view-schema.ts";

export interface Query {
  readonly text: string;
  readonly parameters: readonly Scalar[];
}

/** The rows of one `find`. Errors: InvalidArgument. */
export function findQuery(build: BuildTable, where: Where<Row>, options: FindOptions<Row>): Query {
  const parameters: Scalar[] = [];
  const terms = (options.orderBy ?? []).map(({ field, direction }) => {
    assertField(field);
    return `${build.column(field)} ${direction === "desc" ? "DESC" : "ASC"}`;
  });
  const text = `SELECT "row" FROM ${build.table}${conditions(build, parseWhere(where), parameters)} ORDER BY ${[...terms, `${build.key} ASC`].join(", ")} LIMIT ? OFFSET ?`;
  parameters.push(options.limit ?? DEFAULT_LIMIT, options.offset ?? 0);
  return { text, parameters };
}

/** The number of rows that meet `where`. Errors: InvalidArgument. */
export function countQuery(build: BuildTable, where: Where<Row>): Query {
  const parameters: Scalar[] = [];
  const text = `SELECT count(*) AS n FROM ${build.table}${conditions(build, parseWhere(where), parameters)}`;
  return { text, parameters };
}

function conditions(build: BuildTable, tests: readonly FieldTest[], parameters: Scalar[]): string {
  if (tests.length === 0) return "";
  return ` WHERE ${tests.map((test) => condition(build.column(test.field), test, parameters)).join(" AND ")}`;
}

const OPERATORS = { gt: ">", gte: ">=", lt: "<", lte: "<=" } as const;

function condition(column: string, test: FieldTest, parameters: Scalar[]): string {
  if (test.kind === "range") {
    return test.bounds
      .map(({ op, value }) => {
        parameters.push(value);
        const inKind = typeof value === "number" ? `${column} < ''` : `${column} >= ''`;
        return `${column} ${OPERATORS[op]} ? AND ${inKind}`;
      })
      .join(" AND ");
  }
  const values = test.values.filter((value) => value !== null);
  const parts: string[] = [];
  if (values.length < test.values.length) parts.push(`${column} IS NULL`);
  if (values.length === 1) parts.push(`${column} = ?`);
  else if (values.length > 1) parts.push(`${column} IN (${values.map(() => "?").join(", ")})`);
  parameters.push(...values);
  return parts.length === 0 ? "0" : `(${parts.join(" OR ")})`;
}
