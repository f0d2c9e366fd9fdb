/**
 * Copies what goes into a row: plain JSON values, nothing shared with the giver. A hand-written walk, several times faster than stringify and parse.
 */
import { UnserialisableData } from "../errors.ts";

/** Deepest nesting that is copied; a cycle ends here too. */
export const MAX_DEPTH = 64;

/** A mutable deep copy of a JSON value; absent properties are dropped as JSON does. Errors: UnserialisableData, naming the path. */
export function copyJson<T>(value: T, what = "row"): T {
  return copy(value, what, 0) as T;
}

function copy(value: unknown, path: string, depth: number): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (!Number.isFinite(value)) throw unserialisable(path, `the number ${value}`);
      return value === 0 ? 0 : value;
    case "object":
      break;
    default:
      throw unserialisable(path, `a ${typeof value}`);
  }
  if (value === null) return null;
  if (depth >= MAX_DEPTH) throw unserialisable(path.slice(0, 100), `a cycle or more than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    const items: unknown[] = Array.from({ length: value.length });
    for (let i = 0; i < value.length; i++) items[i] = value[i] === undefined ? null : copy(value[i], path, depth + 1);
    return items;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const name = (value as object).constructor?.name ?? "an object of a class";
    throw unserialisable(path, name === "Date" ? "a Date (store its ISO text or its milliseconds)" : `an instance of ${name}`);
  }
  const copied: Record<string, unknown> = {};
  for (const field in value) {
    const item = (value as Record<string, unknown>)[field];
    if (item === undefined) continue;
    const plain = typeof item === "string" || typeof item === "boolean" ? item : copy(item, depth === 0 ? `${path}.${field}` : path, depth + 1);
    if (field === "__proto__") Object.defineProperty(copied, field, { value: plain, enumerable: true, writable: true, configurable: true });
    else copied[field] = plain;
  }
  return copied;
}

function unserialisable(path: string, found: string): UnserialisableData {
  return new UnserialisableData(`${path} holds ${found}, which JSON cannot hold`, { details: { path } });
}
