/**
 * What `find` and `count` mean, in one place: every view store gives the same answers.
 *
 * W1 A field counts as null when it is absent or null, as a number when it is a number or a boolean (true is 1, false is 0), as text when it is text;
 *    an object or array counts as its JSON text.
 * W2 Equality: same kind and same value; `null` matches null. `{ in: [...] }` is equality with any of them; an empty list matches nothing.
 * W3 A range (gt, gte, lt, lte; all that are given hold) compares numbers with numbers and text with text, and never matches null or another kind.
 * W4 Order: null before numbers before text; text by Unicode code points (as its UTF-8 bytes sort). `desc` turns all of it round.
 *    Ties, and an absent `orderBy`, go by key, ascending.
 * W5 Only fields that the definition of the table names can be compared or ordered by: a misspelt one would match nothing, and say nothing.
 */
import { InvalidArgument } from "../errors.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import type { FindOptions, Row, RowKey, TableDefinition, Where } from "./view-store.ts";

export type Scalar = null | number | string;

/** The largest `limit` of one find. */
export const MAX_LIMIT = 10_000;
export const DEFAULT_LIMIT = 1000;
/** The largest `offset` of one find: page by key beyond. */
export const MAX_OFFSET = 1_000_000;
/** Most values of one `{ in: [...] }`. */
export const MAX_IN = 1000;
export const MAX_KEY_LENGTH = 512;

const FIELD = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;

/** One condition in normal form. */
export type FieldTest =
  | { readonly field: string; readonly kind: "in"; readonly values: readonly Scalar[] }
  | { readonly field: string; readonly kind: "range"; readonly bounds: readonly { readonly op: "gt" | "gte" | "lt" | "lte"; readonly value: number | string }[] };

/** W1. */
export function scalarOf(value: unknown): Scalar {
  switch (typeof value) {
    case "string":
    case "number":
      return value;
    case "boolean":
      return value ? 1 : 0;
    case "object":
      return value === null ? null : JSON.stringify(value);
    default:
      return null;
  }
}

/** W4, ascending: negative when `a` comes first. */
export function compareScalars(a: Scalar, b: Scalar): number {
  if (a === b) return 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "string" && typeof b === "string") return compareText(a, b);
  return rank(a) - rank(b);
}

function rank(value: Scalar): number {
  return value === null ? 0 : typeof value === "number" ? 1 : 2;
}

/** By code points: UTF-16 units put surrogates below U+E000..U+FFFF, so these are moved when the first difference lies among them. */
export function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    if (x < 0xd800 || y < 0xd800) return x - y;
    return (x < 0xe000 ? x + 0x2000 : x - 0x800) - (y < 0xe000 ? y + 0x2000 : y - 0x800);
  }
  return a.length - b.length;
}

/** Checks a condition from outside and brings it to its normal form. Errors: InvalidArgument. */
export function parseWhere(where: Where<Row>): readonly FieldTest[] {
  return Object.entries(where).map(([field, condition]) => {
    assertField(field);
    if (typeof condition !== "object" || condition === null) return { field, kind: "in", values: [operand(field, condition)] };
    const operators = Object.entries(condition as object).filter(([, value]) => value !== undefined);
    const only = operators[0];
    if (operators.length === 1 && only?.[0] === "in") {
      const list: unknown = only[1];
      if (!Array.isArray(list) || list.length > MAX_IN) throw invalid(field, `{ in: [...] } takes a list of at most ${MAX_IN} values`);
      return { field, kind: "in", values: list.map((value) => operand(field, value)) };
    }
    if (operators.length === 0 || Array.isArray(condition)) throw invalid(field, "compares with a value, { in: [...] }, or { gt, gte, lt, lte }");
    const bounds = operators.map(([op, value]) => {
      if (op !== "gt" && op !== "gte" && op !== "lt" && op !== "lte") throw invalid(field, `has no operator ${JSON.stringify(op.slice(0, 20))}`);
      const bound = operand(field, value);
      if (bound === null) throw invalid(field, "a range has no null bound");
      return { op, value: bound } as const;
    });
    return { field, kind: "range", bounds };
  });
}

/** W5. Errors: InvalidArgument, with the fields that are known. */
export function assertKnownFields({ name, key, indexes, columns }: TableDefinition, where: Where<Row>, { orderBy = [] }: FindOptions<Row> = {}): void {
  for (const field of [...Object.keys(where), ...orderBy.map((term) => term.field)]) {
    if (field === key || indexes.includes(field) || columns.includes(field)) continue;
    assertField(field);
    const known = [...new Set([key, ...indexes, ...columns])];
    throw new InvalidArgument(`table ${name} knows no field ${field}: where and orderBy take ${known.join(", ")}, and what else \`indexes\` and \`columns\` of the table name`, {
      details: { table: name, field, known },
    });
  }
}

/** A row's own field; a name that objects inherit is none. */
export function fieldOf(row: Row, field: string): unknown {
  return Object.hasOwn(row, field) ? row[field] : undefined;
}

/** Whether a row meets all tests. W2, W3. */
export function matches(row: Row, tests: readonly FieldTest[]): boolean {
  for (const test of tests) {
    const value = scalarOf(fieldOf(row, test.field));
    if (test.kind === "in") {
      if (!test.values.includes(value)) return false;
    } else {
      for (const { op, value: bound } of test.bounds) {
        if (typeof value !== typeof bound) return false;
        const order = compareScalars(value, bound);
        if (op === "gt" ? order <= 0 : op === "gte" ? order < 0 : op === "lt" ? order >= 0 : order > 0) return false;
      }
    }
  }
  return true;
}

/** The order that `options` ask for. W4. */
export function comparator(options: FindOptions<Row>, key: string): (a: Row, b: Row) => number {
  const terms = (options.orderBy ?? []).map(({ field, direction }) => ({ field, sign: direction === "desc" ? -1 : 1 }));
  return (a, b) => {
    for (const { field, sign } of terms) {
      const order = compareScalars(scalarOf(fieldOf(a, field)), scalarOf(fieldOf(b, field)));
      if (order !== 0) return order * sign;
    }
    return compareScalars(scalarOf(fieldOf(a, key)), scalarOf(fieldOf(b, key)));
  };
}

const FIND: OptionNames<FindOptions<Row>> = { orderBy: true, limit: true, offset: true };
const TERM: OptionNames<NonNullable<FindOptions<Row>["orderBy"]>[number]> = { field: true, direction: true };

/** Checks options from outside. Errors: InvalidArgument. */
export function checkedOptions(options: FindOptions<Row>): FindOptions<Row> & { readonly limit: number; readonly offset: number } {
  assertKnown(options, FIND, "find()");
  const { orderBy = [], limit = DEFAULT_LIMIT, offset = 0 } = options;
  if (!Number.isInteger(limit) || limit < 0 || limit > MAX_LIMIT) throw new InvalidArgument(`limit must be a whole number from 0 to ${MAX_LIMIT}`);
  if (!Number.isInteger(offset) || offset < 0 || offset > MAX_OFFSET) throw new InvalidArgument(`offset must be a whole number from 0 to ${MAX_OFFSET}`);
  if (!Array.isArray(orderBy) || orderBy.length > 8) throw new InvalidArgument("orderBy must be a list of at most 8 fields");
  for (const term of orderBy as NonNullable<FindOptions<Row>["orderBy"]>) {
    assertKnown(term, TERM, "orderBy");
    const { field, direction } = term;
    assertField(field);
    if (direction !== undefined && direction !== "asc" && direction !== "desc") throw invalid(field, 'is ordered "asc" or "desc"');
  }
  return { orderBy, limit, offset };
}

/** Refuses what cannot identify a row. Errors: InvalidArgument. */
export function assertRowKey(key: unknown): asserts key is RowKey {
  const valid = typeof key === "string" ? key.length > 0 && key.length <= MAX_KEY_LENGTH && key.isWellFormed() && !key.includes("\0") : Number.isFinite(key);
  if (!valid) throw new InvalidArgument(`a row's key must be a finite number or well-formed text of 1 to ${MAX_KEY_LENGTH} characters without NUL`);
}

/** Refuses a field name that not every view store can hold. Errors: InvalidArgument. */
export function assertField(field: unknown): asserts field is string {
  if (typeof field !== "string" || !FIELD.test(field)) {
    throw new InvalidArgument(`a field that is compared, ordered or indexed must match ${FIELD.source}`, { details: { field: String(field).slice(0, 80) } });
  }
}

function operand(field: string, value: unknown): Scalar {
  if (value === undefined) throw invalid(field, "compares with undefined: leave it out to match every row, use null to match rows without it");
  if (typeof value === "number" && Number.isNaN(value)) throw invalid(field, "compares with NaN");
  if (value !== null && typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") throw invalid(field, "compares with text, numbers, booleans and null only");
  return scalarOf(value);
}

function invalid(field: string, message: string): InvalidArgument {
  return new InvalidArgument(`${field}: ${message}`, { details: { field } });
}
