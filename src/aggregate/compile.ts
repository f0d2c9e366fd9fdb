/**
 * Makes the untyped behaviour that the rest of the house works with from a definition. Checked once here, so that the hot path need not.
 */
import { DomainCodeFailed, EventUnreadable, UnknownCommand, UnknownEventType } from "../errors.ts";
import type { Behaviour, Decided, DecisionInputs, DomainEvent, PrepareContext, SnapshotPolicy } from "./behaviour.ts";
import { checkDefinition, type UntypedDefinition } from "./check-definition.ts";
import { DecisionContext, said, type Emission } from "./decision.ts";
import { FoldFailed, foldInto, settle, Sharing } from "./fold.ts";
import { jsonImage } from "./json.ts";
import { isThenable, parseWith, schemaOf, validate, type Schema } from "./schema.ts";
import { renamesOf, stepsOf, upcaster } from "./upcast.ts";

type Command = (state: unknown, input: unknown, context: DecisionContext) => unknown;
type Prepare = (input: unknown, context: PrepareContext) => unknown;

/** Compiles and checks a definition. Errors: InvalidArgument that names what is wrong. */
export function compile(category: string, definition: UntypedDefinition): Behaviour {
  const initial = checkDefinition(category, definition);
  settle(initial, undefined);
  const commands = new Map(Object.entries(definition.commands)) as ReadonlyMap<string, Command>;
  const inputs = new Map(Object.entries(definition.inputs ?? {}));
  const preparers = new Map(Object.entries(definition.prepare ?? {})) as ReadonlyMap<string, Prepare>;
  const recipes = new Map(Object.entries(definition.events as Readonly<Record<string, unknown>>)) as ReadonlyMap<string, (draft: unknown, data: unknown) => unknown>;
  const places = new Map([...commands.keys()].map((command) => [command, { category, command }]));
  const schemas = new Map(Object.entries(definition.events).map(([type, recipe]) => [type, schemaOf(recipe)]));
  const eventTypes = [...recipes.keys()];
  const sharing = new Sharing(eventTypes);
  const steps = stepsOf(category, eventTypes, definition.upcasters);
  const upcast = upcaster(category, steps, renamesOf(category, eventTypes, definition.renamed));

  const apply = (draft: unknown, event: DomainEvent): void => {
    const recipe = recipes.get(event.type);
    if (recipe === undefined) throw new UnknownEventType(event.type);
    const returned = recipe(draft, event.data);
    if (returned !== undefined) throw returnedSomething(returned);
  };

  const commandOf = (name: string): Command => {
    const command = commands.get(name);
    if (command === undefined) throw new UnknownCommand(`${category} has no command ${JSON.stringify(name.slice(0, 64))}`, { details: { category, command: name.slice(0, 64) } });
    return command;
  };
  const failed = (command: string, what: string, cause?: unknown): DomainCodeFailed =>
    new DomainCodeFailed(`${category}.${command} ${what}`, { details: { category, command }, ...(cause === undefined ? {} : { cause }) });

  /** Appends what was emitted to `into`, checked: the type is known, the schema accepts it, JSON holds it; the data is what JSON makes of it, frozen. */
  const collect = (part: unknown, command: string, into: DomainEvent[]): void => {
    if (!isEmission(part)) throw refuse(part, command);
    for (const event of part.events) {
      const schema = schemas.get(event.type);
      if (schema === undefined && !schemas.has(event.type)) throw failed(command, `emitted ${JSON.stringify(event.type)}, which is no event of ${category}`);
      const data = schema === undefined ? event.data : checkedBy(schema, event, command);
      into.push({ type: event.type, data: jsonImage(data, event.type, places.get(command) ?? NOWHERE) });
    }
  };

  const checkedBy = (schema: Schema, event: DomainEvent, command: string): unknown => {
    let result: ReturnType<typeof validate>;
    try {
      result = validate(schema, event.data);
    } catch (cause) {
      throw failed(command, `emitted ${event.type}, whose schema threw`, cause);
    }
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw failed(command, `emitted ${event.type}, whose schema is asynchronous; the schemas of events must be synchronous`);
    }
    if (result.issues === undefined) return result.value;
    const list = result.issues.map((issue) => `${issue.path}: ${issue.message}`).join("; ");
    throw failed(command, `emitted ${event.type} with data that its schema refuses: ${list}`, result.issues);
  };

  /** A refusal that is said and not returned would become its opposite; an event, nothing. */
  const assertReturned = (returned: number, command: string): void => {
    if (said.rejected !== undefined) throw failed(command, `called reject(${JSON.stringify(said.rejected)}) but did not return it: write return reject(…)`);
    if (said.emitted > returned) throw failed(command, `called emit(…) ${said.emitted} times but returned ${returned} of them: return them in an array`);
  };

  const refuse = (answer: unknown, command: string): DomainCodeFailed => {
    if (isThenable(answer)) {
      answer.then(undefined, () => undefined); // its own failure would go unhandled
      return failed(command, "returned a promise; a command decides synchronously, `prepare` is for what is not");
    }
    return failed(command, answer === undefined ? "returned nothing; return emit(…), reject(…), or [] for nothing to do" : "returned what is neither emit(…), reject(…) nor an array of emit(…)");
  };

  return {
    category,
    commands: [...commands.keys()],
    eventTypes,
    snapshot: definition.snapshot as SnapshotPolicy | undefined,
    initial: () => initial,

    decide(state: unknown, command: string, input: unknown, given: DecisionInputs): Decided {
      const run = commandOf(command);
      let answer: unknown;
      said.emitted = 0;
      said.rejected = undefined;
      try {
        answer = run(state, input, new DecisionContext(given));
      } catch (cause) {
        throw failed(command, `threw: ${messageOf(cause)}`, cause);
      }
      if (isRejection(answer)) return answer;
      const events: DomainEvent[] = [];
      if (Array.isArray(answer)) for (const part of answer as readonly unknown[]) collect(part, command, events);
      else collect(answer, command, events);
      assertReturned(Array.isArray(answer) ? answer.length : 1, command);
      return { ok: true, events };
    },

    evolve(state, events, at) {
      try {
        return foldInto(state, events, apply, sharing);
      } catch (error) {
        throw located(error, events, at);
      }
    },

    upcast,
    schemaVersionOf: (type) => (steps.get(type)?.length ?? 0) + 1,

    parseInput(command, input) {
      commandOf(command);
      const schema = inputs.get(command);
      return schema === undefined ? input : parseWith(schema, input, category, command);
    },

    prepare: (command) => preparers.get(command),
  };

  function located(error: unknown, events: readonly DomainEvent[], at: { readonly stream: string; readonly version: number }): Error {
    if (!(error instanceof FoldFailed)) return error as Error;
    const version = at.version + error.index;
    const type = events[error.index]?.type ?? "";
    const details = { stream: at.stream, version, type };
    if (error.cause instanceof UnknownEventType) {
      return new UnknownEventType(`${category} knows no event ${JSON.stringify(type)}, found in ${at.stream} at version ${version}: put it in events, or its new name in renamed`, { details });
    }
    return new EventUnreadable(`${type} in ${at.stream} at version ${version} could not be folded: ${error.message} (was the shape of its data changed? an upcaster brings old events to it)`, { details, cause: error.cause });
  }
}

const NOWHERE = Object.freeze({});

const isEmission = (said: unknown): said is Emission =>
  typeof said === "object" && said !== null && (said as Emission).ok === true && Array.isArray((said as Emission).events);

const isRejection = (said: unknown): said is Extract<Decided, { ok: false }> =>
  typeof said === "object" && said !== null && (said as Decided).ok === false && typeof (said as { code?: unknown }).code === "string";

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

function returnedSomething(returned: unknown): TypeError {
  if (isThenable(returned)) {
    returned.then(undefined, () => undefined); // an asynchronous recipe fails later, on a draft that is gone
    return new TypeError("the recipe returned a promise; recipes are synchronous");
  }
  return new TypeError("the recipe returned a value; recipes change the state they are given and return nothing");
}
