/**
 * Standard Schema (https://standardschema.dev): Zod, Valibot, ArkType and others work unchanged.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { InvalidInput } from "../errors.ts";

/** Any Standard Schema. */
export type Schema<I = unknown, O = I> = StandardSchemaV1<I, O>;
/** The type that a schema takes. */
export type SchemaInput<X> = X extends Schema ? StandardSchemaV1.InferInput<X> : never;
/** The type that a schema gives. */
export type SchemaOutput<X> = X extends Schema ? StandardSchemaV1.InferOutput<X> : never;

export interface SchemaIssue {
  readonly message: string;
  /** Keys from the root, joined by dots; "" = the value as a whole. */
  readonly path: string;
}

type Result = { readonly value: unknown; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };

/** Most issues that an error lists: a hostile input must not make a huge answer. */
const MAX_ISSUES = 100;

/** Runs a schema; a promise only when the schema is asynchronous. What the schema itself throws passes through. */
export function validate(schema: Schema, value: unknown): Result | Promise<Result> {
  const result = schema["~standard"].validate(value);
  return isThenable(result) ? Promise.resolve(result).then(readable) : readable(result as StandardSchemaV1.Result<unknown>);
}

function readable(result: StandardSchemaV1.Result<unknown>): Result {
  if (result.issues === undefined) return result;
  return { issues: result.issues.slice(0, MAX_ISSUES).map((issue) => ({ message: issue.message, path: dotted(issue.path) })) };
}

function dotted(path: StandardSchemaV1.Issue["path"]): string {
  return (path ?? []).map((segment) => String(typeof segment === "object" ? segment.key : segment)).join(".");
}

/** A command's input through its schema; a promise only when the schema is asynchronous. Errors: InvalidInput with all issues. */
export function parseWith(schema: Schema, input: unknown, category: string, command: string): unknown {
  const result = validate(schema, input);
  return result instanceof Promise ? result.then(value) : value(result);

  function value(outcome: Result): unknown {
    if (outcome.issues === undefined) return outcome.value;
    const list = outcome.issues.map((issue) => (issue.path === "" ? issue.message : `${issue.path}: ${issue.message}`)).join("; ");
    throw new InvalidInput(`the input of ${category}.${command} is not valid: ${list}`, outcome.issues, { details: { category, command } });
  }
}

/** Whether a value is a promise or acts like one. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** A recipe whose event data has a schema. */
export interface SchemaRecipe<D, X extends Schema> {
  (state: D, data: SchemaOutput<X>): void | undefined;
  readonly "~schema": X;
}

/**
 * An event whose data type comes from a schema; what a command emits is checked by it, and what the schema gives is what is recorded.
 * The compiler cannot see the state through the call: annotate it, `event(schema, (order: OrderState, data) => …)`.
 * The schema must be synchronous, and accept what it gives (no one-way transforms).
 */
export function event<const X extends Schema, D>(schema: X, evolve: (state: D, data: SchemaOutput<X>) => void | undefined): SchemaRecipe<D, X> {
  return Object.assign((state: D, data: SchemaOutput<X>) => evolve(state, data), { "~schema": schema });
}

/** The schema of a recipe made by `event`. */
export function schemaOf(recipe: unknown): Schema | undefined {
  return (recipe as { readonly "~schema"?: Schema })["~schema"];
}
