/**
 * A stable fingerprint of a command and its input, written with the events of a command whose id the caller chose:
 * the same id with another fingerprint is `CommandIdReused`. It stands in the log, so its form never changes.
 */
import { hash } from "node:crypto";
import { UnserialisableData } from "../errors.ts";

/** 22 characters of base64url: the first 132 bits of SHA-256 over the command's name and the canonical JSON of its input. Errors: UnserialisableData. */
export function fingerprint(command: string, input: unknown): string {
  return hash("sha256", `${JSON.stringify(command)}${canonicalJson(input, command)}`, "base64url").slice(0, 22);
}

/** JSON with the keys of every object in code-unit order; absent (undefined) is empty text. `what` names it in the error. Errors: UnserialisableData. */
export function canonicalJson(value: unknown, what: string): string {
  try {
    return JSON.stringify(value, sortedKeys) ?? "";
  } catch (cause) {
    throw new UnserialisableData(`the input of ${what} cannot be written as JSON: ${(cause as Error).message}`, { cause, details: { command: what } });
  }
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  const entries = Object.entries(value);
  if (entries.every(([key], i) => i === 0 || (entries[i - 1] as [string, unknown])[0] <= key)) return value;
  // fromEntries defines its properties: a key named __proto__ stays a key.
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}
