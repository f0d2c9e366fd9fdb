/**
 * What a definition must be, checked once and at once, for those whom the compiler does not help.
 */
import { InvalidArgument } from "../errors.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import type { SnapshotPolicy } from "./behaviour.ts";
import type { Recipe } from "./fold.ts";
import { problemOf } from "./json.ts";
import type { Schema } from "./schema.ts";
import type { Upcasters } from "./upcast.ts";

/** A definition without its types. */
export interface UntypedDefinition {
  readonly initial: () => unknown;
  readonly events: Readonly<Record<string, Recipe>>;
  readonly inputs?: Readonly<Record<string, Schema>> | undefined;
  readonly prepare?: Readonly<Record<string, unknown>> | undefined;
  readonly commands: Readonly<Record<string, unknown>>;
  readonly snapshot?: SnapshotPolicy<never> | undefined;
  readonly upcasters?: Upcasters | undefined;
  readonly renamed?: Readonly<Record<string, string>> | undefined;
}

/** Names that a handle or JavaScript itself uses: no command may be called so. */
export const reservedCommandNames = ["state", "then", "id", "stream", "constructor", "prototype", "__proto__", "toString", "toJSON", "valueOf"] as const;

const CATEGORY = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;
const COMMAND = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;
const EVENT_TYPE = /^[A-Za-z][A-Za-z0-9_.-]{0,199}$/;

const NAMES: OptionNames<UntypedDefinition> = { initial: true, events: true, inputs: true, prepare: true, commands: true, snapshot: true, upcasters: true, renamed: true };
const POLICY: OptionNames<SnapshotPolicy> = { everyEvents: true, everyMs: true, when: true, schemaVersion: true };

/** Checks names, functions, schemas, policy and initial state, and returns the initial state. Errors: InvalidArgument that names what is wrong. */
export function checkDefinition(category: string, definition: UntypedDefinition): unknown {
  assertKnown(definition, NAMES, `aggregate ${JSON.stringify(category)}`);
  for (const part of ["events", "commands"] as const) {
    if (typeof definition[part] !== "object" || definition[part] === null) throw new InvalidArgument(`${part} of ${category} must be an object`, { details: { category, option: part } });
  }
  if (typeof definition.initial !== "function") throw new InvalidArgument(`initial of ${category} must be a function that returns the state of a new stream`, { details: { category, option: "initial" } });
  assertKnown(definition.snapshot, POLICY, `snapshot of ${category}`);
  checkNames(category, definition);
  checkPolicy(category, definition.snapshot);
  return initialState(category, definition);
}

function initialState(category: string, definition: UntypedDefinition): unknown {
  const initial = definition.initial();
  const problem = typeof initial !== "object" || initial === null ? { path: [], problem: "not an object" } : problemOf(initial);
  if (problem !== undefined) {
    const place = ["initial()", ...problem.path].join(".");
    throw new InvalidArgument(`the state of ${category} must be plain data, an object or an array: ${place} is ${problem.problem}`, { details: { category } });
  }
  return initial;
}

function checkNames(category: string, definition: UntypedDefinition): void {
  if (!CATEGORY.test(category)) {
    throw new InvalidArgument(`the aggregate's name ${JSON.stringify(category)} must match [A-Za-z][A-Za-z0-9_]{0,63}`, { details: { category } });
  }
  const refuse = (message: string): never => {
    throw new InvalidArgument(`${category}: ${message}`, { details: { category } });
  };
  for (const [type, recipe] of Object.entries(definition.events)) {
    if (!EVENT_TYPE.test(type)) refuse(`the event type ${JSON.stringify(type)} must match [A-Za-z][A-Za-z0-9_.-]{0,199}`);
    if (typeof recipe !== "function") refuse(`the recipe of ${type} must be a function`);
  }
  const commands = Object.entries(definition.commands);
  if (Object.getPrototypeOf(definition.commands) !== Object.prototype) refuse("no command may be called __proto__");
  for (const [name, command] of commands) {
    if ((reservedCommandNames as readonly string[]).includes(name)) refuse(`no command may be called ${name}: the name is reserved`);
    if (!COMMAND.test(name)) refuse(`the command ${JSON.stringify(name)} must match [A-Za-z][A-Za-z0-9_]{0,63}`);
    if (typeof command !== "function") refuse(`the command ${name} must be a function`);
  }
  const known = new Set(commands.map(([name]) => name));
  for (const [name, schema] of Object.entries(definition.inputs ?? {})) {
    if (!known.has(name)) refuse(`inputs.${name} belongs to no command`);
    if (typeof (schema as Partial<Schema>)["~standard"]?.validate !== "function") refuse(`inputs.${name} must be a Standard Schema`);
  }
  for (const [name, prepare] of Object.entries(definition.prepare ?? {})) {
    if (!known.has(name)) refuse(`prepare.${name} belongs to no command`);
    if (typeof prepare !== "function") refuse(`prepare.${name} must be a function`);
  }
}

function checkPolicy(category: string, policy: SnapshotPolicy<never> | undefined): void {
  for (const option of ["everyEvents", "everyMs", "schemaVersion"] as const) {
    const value = policy?.[option];
    if (value !== undefined && !(Number.isSafeInteger(value) && value > 0)) {
      throw new InvalidArgument(`snapshot.${option} of ${category} must be a whole number above 0`, { details: { category, option } });
    }
  }
}
