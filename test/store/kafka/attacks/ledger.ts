/**
 * What a workload did and was told, line by line, for the checker. Times are microseconds of the machine's monotonic clock, which all processes share: `began` is
 * taken before a call, `at` after its answer, so that what is concluded from them is never more than what was so.
 */
import { readFileSync } from "node:fs";

export type Line =
  | { readonly what: "append"; readonly stream: string; readonly expected: number; /** Id of the event it was decided on. */ readonly after: string | null; readonly ids: readonly string[] }
  | { readonly what: "outcome"; /** First id of the append. */ readonly id: string; readonly at: number; readonly kind: string; readonly version?: number; readonly offset?: number; readonly code?: string }
  | { readonly what: "read"; readonly stream: string; readonly began: number; readonly version: number; readonly last: string | null }
  | { readonly what: "error"; readonly stream: string; readonly code: string };

export const now = (): number => Number(process.hrtime.bigint() / 1000n);

/** A ledger that a process writes to; what a kill -9 cut off is left out. */
export function readLedger(file: string): Line[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return [];
  }
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as Line);
}

/** Appends that were acknowledged. */
export function committedIn(lines: readonly Line[]): number {
  return lines.filter((line) => line.what === "outcome" && line.kind === "committed").length;
}
