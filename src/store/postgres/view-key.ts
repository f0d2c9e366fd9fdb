/**
 * The key of a row as text that sorts as keys do (W4 of readmodel/where.ts): numbers before text, numbers by value, text by its UTF-8 bytes.
 */
import type { RowKey } from "../../readmodel/view-store.ts";

/** What the keys of numbers, and those of text, begin with. */
export const NUMBER_KEYS = "n";
export const TEXT_KEYS = "t";

const scratch = Buffer.alloc(8);

/** A number is written as the sixteen hexadecimal digits of its IEEE form, turned so that they sort by value. */
export function keyText(key: RowKey): string {
  if (typeof key === "string") return TEXT_KEYS + storable(key);
  scratch.writeDoubleBE(key === 0 ? 0 : key);
  const negative = (scratch[0] as number) >= 0x80;
  for (let index = 0; index < 8; index++) scratch[index] = (scratch[index] as number) ^ (negative ? 0xff : index === 0 ? 0x80 : 0);
  return NUMBER_KEYS + scratch.toString("hex");
}

/** Text as PostgreSQL can hold it: what it cannot is compared as U+FFFD. The row itself keeps what it was given. */
export function storable(text: string): string {
  return (text.includes("\0") ? text.replaceAll("\0", "\u{FFFD}") : text).toWellFormed();
}
