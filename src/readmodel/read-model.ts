/** A read model's definition: what it reads, where its result lives, and the pipeline between. */
import type { Observable } from "rxjs";
import { behaviourOf, type AnyAggregate } from "../aggregate/aggregate.ts";
import type { Behaviour } from "../aggregate/behaviour.ts";
import type { Recorded, RecordedEvent } from "../aggregate/recorded.ts";
import { InvalidArgument } from "../errors.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import { MAX_SHARDS } from "./shard-of.ts";
import type { ReadTable, Table } from "./staged-table.ts";
import type { View } from "./view-store.ts";
import { assertField } from "./where.ts";

/** What queries hold of a view: a table without its writes, or what a view in SQL opens, where it can only read. */
export type ReadSide<V> = V extends Table<infer R> ? ReadTable<R> : V;

export interface TableOptions<R> {
  /** The field that identifies a row: text or a number. */
  readonly key: keyof R & string;
  /** Fields that `where` and `orderBy` take, and find fast. */
  readonly indexes?: readonly (keyof R & string)[];
  /** Further fields that `where` and `orderBy` take, and SQL sees as columns. */
  readonly columns?: readonly (keyof R & string)[];
}

const TABLE: OptionNames<TableOptions<never>> = { key: true, indexes: true, columns: true };
const READ_MODEL: OptionNames<ReadModelDefinition<readonly AnyAggregate[], unknown>> = { from: true, view: true, project: true, version: true, needs: true, shards: true, pageTimeoutMs: true };

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

/** A view that is a table of rows; `name` is also the table's name in SQL. Errors: InvalidArgument. */
export function table<R>(name: string, options: TableOptions<R>): View<Table<R>> {
  assertName("table", name);
  assertKnown(options, TABLE, `table ${name}`);
  const { key, indexes = [], columns = [] } = options;
  for (const field of [key, ...indexes, ...columns]) assertField(field);
  const unique = (fields: readonly string[]): readonly string[] => Object.freeze([...new Set(fields)]);
  return { definition: Object.freeze({ kind: "table", name, key, indexes: unique(indexes.filter((field) => field !== key)), columns: unique(columns) }) };
}

/** What `project` gets beside the events. */
export interface ProjectContext<V> {
  /** Writes become visible with the page, all of them or none. */
  readonly view: V;
  /** Aborts when the page is given up (time-out, stop). */
  readonly signal: AbortSignal;
}

export interface ReadModelDefinition<A extends readonly AnyAggregate[], V> {
  /** Whose events it reads. */
  readonly from: A;
  readonly view: View<V>;
  /**
   * Subscribed anew for each page of the log: the completion of what it returns acknowledges the page, an error throws its writes away.
   * What an operator remembers ends with the page; what must last belongs into the view.
   */
  readonly project: (events$: Observable<Recorded<A[number]>>, context: ProjectContext<V>) => Observable<unknown>;
  /** Grows whenever rows would come out differently: the new version is built beside the old one. Default 1. */
  readonly version?: number;
  /** Refuses stores that cannot order all events. */
  readonly needs?: "totalOrder";
  /**
   * Divides its streams among this many shards (at most 64), which the processes that run it share out among themselves, where the view store can; elsewhere it is
   * moved as one. Rows of a table then belong to the shard that wrote them first: key them by stream. Changing it takes a new `version`. Default 1.
   */
  readonly shards?: number;
  /** A page that has not completed by then is given up (PipelineStalled). Default 30,000. */
  readonly pageTimeoutMs?: number;
}

/** A recorded event whose aggregate is not known to the compiler. */
export type AnyRecorded = RecordedEvent<string, string, unknown>;

export interface ReadModel<V> {
  readonly name: string;
  readonly version: number;
  readonly from: readonly AnyAggregate[];
  readonly behaviours: readonly Behaviour[];
  readonly view: View<V>;
  readonly needs: "totalOrder" | undefined;
  readonly shards: number;
  readonly pageTimeoutMs: number;
  /** The pipeline, its types erased. */
  readonly project: (events$: Observable<AnyRecorded>, context: ProjectContext<unknown>) => Observable<unknown>;
}

/** Names a read model and checks its definition. Errors: InvalidArgument. */
export function readModel<const A extends readonly AnyAggregate[], V>(name: string, definition: ReadModelDefinition<A, V>): ReadModel<V> {
  assertName("read model", name);
  assertKnown(definition, READ_MODEL, `read model ${name}`);
  const { from, view, version = 1, needs, shards = 1, pageTimeoutMs = 30_000 } = definition;
  if (!Array.isArray(from) || from.length === 0) throw new InvalidArgument(`read model ${name} reads from no aggregate`, { details: { model: name } });
  if (!Number.isSafeInteger(version) || version < 1) throw new InvalidArgument(`the version of read model ${name} must be a whole number from 1`, { details: { model: name } });
  if (!(pageTimeoutMs > 0)) throw new InvalidArgument(`pageTimeoutMs of read model ${name} must be above 0`, { details: { model: name } });
  if (!Number.isSafeInteger(shards) || shards < 1 || shards > MAX_SHARDS) throw new InvalidArgument(`shards of read model ${name} must be a whole number from 1 to ${MAX_SHARDS}`, { details: { model: name } });
  if (shards > 1 && needs === "totalOrder") throw new InvalidArgument(`read model ${name} needs the order of all events, which its shards do not see`, { details: { model: name } });
  const behaviours = from.map((aggregate: AnyAggregate | undefined) => {
    if (typeof aggregate !== "object" || behaviourOf(aggregate) === undefined) throw new InvalidArgument(`read model ${name} reads from what is no aggregate: \`from\` lists what aggregate() returned`, { details: { model: name } });
    return behaviourOf(aggregate);
  });
  if (new Set(behaviours.map((behaviour) => behaviour.category)).size !== behaviours.length) {
    throw new InvalidArgument(`read model ${name} names a category twice in \`from\``, { details: { model: name } });
  }
  return Object.freeze({ name, version, from, behaviours, view, needs, shards, pageTimeoutMs, project: definition.project as unknown as ReadModel<V>["project"] });
}

function assertName(what: string, name: string): void {
  if (typeof name !== "string" || !NAME.test(name)) throw new InvalidArgument(`the name of a ${what} must match ${NAME.source}`, { details: { name: String(name).slice(0, 80) } });
}
