/**
 * Plain data: what JSON holds without loss. The type says it where TypeScript can, the walk says it where it cannot.
 */
import { UnserialisableData } from "../errors.ts";

/** `T` with everything that JSON cannot hold replaced by `never`; `T extends JsonOf<T>` says that JSON holds it. */
export type JsonOf<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends bigint | symbol | ((...parameters: never) => unknown)
    ? never
    : T extends readonly (infer U)[]
      ? undefined extends U
        ? never
        : { readonly [index: number]: JsonOf<U> } // an index, not a mapped array: that would be followed without end in a recursive type
      : T extends object
        ? { [K in keyof T]: JsonOf<T[K]> }
        : never;

/** JSON data that nobody may change; unlike a mapped array, it ends in a recursive type. */
export type Frozen<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends readonly unknown[]
    ? number extends T["length"]
      ? readonly Frozen<T[number]>[]
      : { readonly [K in keyof T]: Frozen<T[K]> }
    : T extends object
      ? { readonly [K in keyof T]: Frozen<T[K]> }
      : T;

/** A property with a complaint as its type for each event whose data JSON cannot hold; empty when all is well. */
export type NotJson<E> = {
  [K in keyof E as [unknown] extends [E[K]] ? never : [E[K]] extends [JsonOf<E[K]>] ? never : K]: "event data must survive JSON";
};

/** Deeper data is refused; circular data is found by it. */
const MAX_DEPTH = 200;
/** Keys of a path that an error shows. */
const SHOWN_PATH = 12;

/**
 * Walks emitted data once and refuses what JSON would change: bigint, NaN, Infinity, functions, symbols, `undefined` in an array, class instances, cycles.
 * Properties that are `undefined` pass: JSON drops them. Errors: UnserialisableData with `details.path`.
 */
export function assertJson(data: unknown, what: string, details: Readonly<Record<string, unknown>>): void {
  const found = data === undefined ? undefined : problemOf(data);
  if (found === undefined) return;
  const path = found.path.length > SHOWN_PATH ? `${found.path.slice(0, SHOWN_PATH).join(".")}…` : found.path.join(".");
  throw new UnserialisableData(`the data of ${what} cannot be written as JSON: ${path === "" ? "it" : JSON.stringify(path)} is ${found.problem}`, {
    details: { ...details, type: what, path },
  });
}

/**
 * What a reader of the log will see of emitted data: a frozen copy, equal to what JSON text gives back. Errors: as assertJson.
 * A copy by hand costs a fraction of the text's way there and back.
 */
export function jsonImage(data: unknown, what: string, details: Readonly<Record<string, unknown>>): unknown {
  assertJson(data, what, details);
  return data === undefined ? null : imageOf(data);
}

function imageOf(value: unknown): unknown {
  if (typeof value === "number") return value === 0 ? 0 : value; // JSON knows no -0
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return Object.freeze(value.map(imageOf));
  const image: Record<string, unknown> = {};
  for (const key in value) {
    const inner = (value as Record<string, unknown>)[key];
    if (inner === undefined) continue;
    if (key === "__proto__") Object.defineProperty(image, key, { value: imageOf(inner), enumerable: true });
    else image[key] = imageOf(inner);
  }
  return Object.freeze(image);
}

interface Found {
  readonly problem: string;
  /** From the root; built backwards, only once something was found. */
  readonly path: string[];
}

/** What is wrong with a value as JSON, and where; undefined when nothing is. */
export function problemOf(value: unknown, depth = 0): Found | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return undefined;
    case "number":
      return Number.isFinite(value) ? undefined : { problem: String(value), path: [] };
    case "object":
      if (value === null) return undefined;
      break;
    default:
      return { problem: value === undefined ? "undefined" : `a ${typeof value}`, path: [] };
  }
  if (depth > MAX_DEPTH) return { problem: `nested more than ${MAX_DEPTH} levels deep, or circular`, path: [] };
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const found = problemOf(value[index], depth + 1);
      if (found !== undefined) return within(String(index), found);
    }
    return undefined;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return { problem: `a ${nameOfClass(value)}`, path: [] };
  for (const key in value) {
    const inner = (value as Record<string, unknown>)[key];
    if (inner === undefined) continue;
    const found = problemOf(inner, depth + 1);
    if (found !== undefined) return within(key, found);
  }
  return undefined;
}

function within(key: string, found: Found): Found {
  found.path.unshift(key);
  return found;
}

function nameOfClass(value: object): string {
  const constructor: unknown = (value as { constructor?: unknown }).constructor;
  return typeof constructor === "function" && constructor.name !== "" ? constructor.name : "class instance";
}

/** Freezes decoded JSON data deeply and returns it; frozen parts are taken as frozen throughout. */
export function freezeData<T>(data: T): T {
  if (typeof data === "object" && data !== null && !Object.isFrozen(data)) freezeTree(data);
  return data;
}

function freezeTree(data: object): void {
  Object.freeze(data);
  if (Array.isArray(data)) {
    for (let index = 0; index < data.length; index++) {
      const inner: unknown = data[index];
      if (typeof inner === "object" && inner !== null && !Object.isFrozen(inner)) freezeTree(inner);
    }
    return;
  }
  for (const key in data) {
    const inner = (data as Record<string, unknown>)[key];
    if (typeof inner === "object" && inner !== null && !Object.isFrozen(inner)) freezeTree(inner);
  }
}
