/**
 * `find` and `count` in SQL: the words of readmodel/where.ts (W1 to W4), said to PostgreSQL.
 *
 * A field is two values of which one at most is there: its text and its number. So numbers never equal text (W2), a range stays within its kind (W3), and
 * ordering by the text and then by the number, nulls first, is null, numbers, text (W4); text is compared in the collation "C", as UTF-8 bytes.
 */
import type { FindOptions, Row, Where } from "../../readmodel/view-store.ts";
import { assertField, DEFAULT_LIMIT, parseWhere, type FieldTest, type Scalar } from "../../readmodel/where.ts";
import { doubleArray, textArray } from "./binary-array.ts";
import { keyText, storable, TEXT_KEYS } from "./view-key.ts";
import type { BuildTable } from "./view-schema.ts";

export interface Query {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** The rows of one `find`. Errors: InvalidArgument. */
export function findQuery(build: BuildTable, where: Where<Row>, options: FindOptions<Row>): Query {
  const values: unknown[] = [];
  const terms = (options.orderBy ?? []).flatMap(({ field, direction }) => {
    assertField(field);
    const desc = direction === "desc";
    if (field === build.keyField) return [`${build.key} ${desc ? "DESC" : "ASC"}`];
    const order = desc ? "DESC NULLS LAST" : "ASC NULLS FIRST";
    return [`${build.text(field)} ${order}`, `${build.number(field)} ${order}`];
  });
  const filter = conditions(build, parseWhere(where), values);
  values.push(options.limit ?? DEFAULT_LIMIT, options.offset ?? 0);
  const text = `SELECT ${build.row} FROM ${build.table}${filter} ORDER BY ${[...terms, build.key].join(", ")} LIMIT $${values.length - 1} OFFSET $${values.length}`;
  return { text, values };
}

/** The number of rows that meet `where`. Errors: InvalidArgument. */
export function countQuery(build: BuildTable, where: Where<Row>): Query {
  const values: unknown[] = [];
  return { text: `SELECT count(*) FROM ${build.table}${conditions(build, parseWhere(where), values)}`, values };
}

function conditions(build: BuildTable, tests: readonly FieldTest[], values: unknown[]): string {
  if (tests.length === 0) return "";
  return ` WHERE ${tests.map((test) => (test.field === build.keyField ? keyCondition(build, test, values) : condition(build, test, values))).join(" AND ")}`;
}

const OPERATORS = { gt: ">", gte: ">=", lt: "<", lte: "<=" } as const;

/** A key is never null. */
function keyCondition({ key }: BuildTable, test: FieldTest, values: unknown[]): string {
  if (test.kind === "in") {
    values.push(textArray(test.values.filter((value) => value !== null).map(keyText)));
    return `${key} = ANY ($${values.length}::text[])`;
  }
  return test.bounds
    .map(({ op, value }) => {
      values.push(keyText(value));
      return `${key} ${OPERATORS[op]} $${values.length} AND ${key} ${typeof value === "number" ? "<" : ">="} '${TEXT_KEYS}'`;
    })
    .join(" AND ");
}

function condition(build: BuildTable, test: FieldTest, values: unknown[]): string {
  const text = build.text(test.field);
  const number = build.number(test.field);
  if (test.kind === "range") {
    return test.bounds
      .map(({ op, value }) => {
        values.push(typeof value === "number" ? value : storable(value));
        const operand = `${OPERATORS[op]} $${values.length}`;
        return typeof value === "number" ? `(${text} IS NULL AND ${number} ${operand}::double precision)` : `${text} ${operand}::text`;
      })
      .join(" AND ");
  }
  const parts: string[] = [];
  const numbers = test.values.filter((value) => typeof value === "number");
  const texts = test.values.filter((value) => typeof value === "string").map(storable);
  if (test.values.includes(null)) parts.push(`(${text} IS NULL AND ${number} IS NULL)`);
  if (numbers.length > 0) parts.push(`(${text} IS NULL AND ${number} ${anyOf(numbers, doubleArray(numbers), "double precision", values)})`);
  if (texts.length > 0) parts.push(`${text} ${anyOf(texts, textArray(texts), "text", values)}`);
  return parts.length === 0 ? "false" : `(${parts.join(" OR ")})`;
}

/** One value alone keeps the order of the index for what is ordered by next. */
function anyOf(list: readonly Scalar[], array: Buffer, type: string, values: unknown[]): string {
  values.push(list.length === 1 ? list[0] : array);
  return list.length === 1 ? `= $${values.length}::${type}` : `= ANY ($${values.length}::${type}[])`;
}
