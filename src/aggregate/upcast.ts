/**
 * Old events, new code: each step takes an event's data from one schema version to the next. Steps are pure and chained; the current version is the highest step + 1.
 */
import { EventUnreadable, InvalidArgument, UnknownEventType } from "../errors.ts";
import type { DomainEvent } from "./behaviour.ts";
import { freezeData, type Frozen } from "./json.ts";
import { isThenable } from "./schema.ts";

/** `{ OrderPlaced: { 1: (old: V1) => v2, 2: (old: V2) => current } }` */
export type Upcasters = Readonly<Record<string, Readonly<Record<number, (old: never) => unknown>>>>;

interface Successors {
  1: 2; 2: 3; 3: 4; 4: 5; 5: 6; 6: 7; 7: 8; 8: 9; 9: 10; 10: 11; 11: 12; 12: 13; 13: 14; 14: 15; 15: 16; 16: 17; 17: 18; 18: 19; 19: 20; 20: 21;
}
type StepAfter<V, Steps> = V extends keyof Successors ? (Successors[V] extends keyof Steps ? Steps[Successors[V]] : never) : never;
type Target<D, V, Steps> = [StepAfter<V, Steps>] extends [never] ? Frozen<D> : StepAfter<V, Steps> extends (old: infer Next) => unknown ? Next : never;

/**
 * Holds each step to what the next one takes, and the last one to the event's data type.
 * While the compiler does not know the events yet (it looks at a definition twice) everything passes.
 */
export type Chained<E, U> = [keyof E] extends [never]
  ? unknown
  : {
      readonly [K in keyof U]: K extends keyof E
        ? [unknown] extends [E[K]]
          ? unknown
          : { readonly [V in keyof U[K]]: (old: never) => Target<E[K], V, U[K]> }
        : "no event of this aggregate has this type";
    };

/** The event types that an old name can lead to. */
export type TypesOf<E> = [keyof E] extends [never] ? string : keyof E & string;

type Step = (old: unknown) => unknown;

/** The steps of each event type in order, checked. Errors: InvalidArgument. */
export function stepsOf(category: string, eventTypes: readonly string[], upcasters: Upcasters | undefined): ReadonlyMap<string, readonly Step[]> {
  const all = new Map<string, readonly Step[]>(eventTypes.map((type) => [type, []]));
  for (const [type, steps] of Object.entries(upcasters ?? {})) {
    if (!all.has(type)) throw new InvalidArgument(`${category} has an upcaster for ${JSON.stringify(type)}, which is none of its events`, { details: { category, type } });
    const list = Object.keys(steps).map((_, index) => steps[index + 1] as Step | undefined);
    if (!list.every((step): step is Step => typeof step === "function")) {
      throw new InvalidArgument(`the upcasters of ${category}.${type} must be functions under 1, 2, 3 … without a gap`, { details: { category, type } });
    }
    all.set(type, list);
  }
  return all;
}

/** Old names to current ones, checked. Errors: InvalidArgument. */
export function renamesOf(category: string, eventTypes: readonly string[], renamed: Readonly<Record<string, string>> | undefined): ReadonlyMap<string, string> {
  for (const [old, current] of Object.entries(renamed ?? {})) {
    const problem = eventTypes.includes(old) ? "is still an event" : eventTypes.includes(current) ? undefined : `leads to ${JSON.stringify(current)}, which is no event`;
    if (problem !== undefined) throw new InvalidArgument(`the old name ${JSON.stringify(old)} of ${category} ${problem}`, { details: { category, type: old } });
  }
  return new Map(Object.entries(renamed ?? {}));
}

/** Makes the function that brings a decoded event to its current, frozen form; fields that nobody knows are kept. */
export function upcaster(category: string, steps: ReadonlyMap<string, readonly Step[]>, renamed: ReadonlyMap<string, string>) {
  return (written: string, schemaVersion: number, data: unknown, at: { readonly stream: string; readonly version: number }): DomainEvent => {
    const type = renamed.get(written) ?? written;
    const chain = steps.get(type);
    const details = { stream: at.stream, version: at.version, type: written, schemaVersion };
    if (chain === undefined) {
      throw new UnknownEventType(`${category} knows no event ${JSON.stringify(written)}, found in ${at.stream} at version ${at.version}: put it in events, or its new name in renamed`, { details });
    }
    const current = chain.length + 1;
    if (schemaVersion === current) return { type, data: freezeData(data) };
    if (!Number.isInteger(schemaVersion) || schemaVersion < 1 || schemaVersion > current) {
      throw new EventUnreadable(`${written} in ${at.stream} at version ${at.version} has schema version ${schemaVersion}; this code knows 1 to ${current}`, { details });
    }
    let value = freezeData(data);
    for (let step = schemaVersion - 1; step < chain.length; step++) {
      try {
        value = freezeData((chain[step] as Step)(value));
      } catch (cause) {
        throw new EventUnreadable(`upcasting ${written} in ${at.stream} at version ${at.version} from schema version ${step + 1} failed`, { details, cause });
      }
      if (value === undefined || isThenable(value)) {
        if (isThenable(value)) value.then(undefined, () => undefined);
        throw new EventUnreadable(`the upcaster ${step + 1} of ${type} must return the new data (${at.stream}, version ${at.version})`, { details });
      }
    }
    return { type, data: value };
  };
}
