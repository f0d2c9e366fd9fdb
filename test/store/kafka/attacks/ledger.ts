/**
 * What a workload did and was told, line by line, for the checker. Times are microseconds of the machine's monotonic clock, which all processes share: `began` is
 * taken before a call, `at` after its answer, so that what is concluded from them is never more than what was so.
 */
import { closeSync, openSync, readSync } from "node:fs";

export type Line =
  | { readonly what: "append"; readonly stream: string; readonly expected: number; /** Id of the event it was decided on. */ readonly after: string | null; readonly ids: readonly string[] }
  | { readonly what: "outcome"; /** First id of the append. */ readonly id: string; readonly at: number; readonly kind: string; readonly version?: number; readonly offset?: number; readonly code?: string }
  | { readonly what: "read"; readonly stream: string; readonly began: number; readonly version: number; readonly last: string | null }
  | { readonly what: "error"; readonly stream: string; readonly code: string }
  /** What the store says aloud. */
  | { readonly what: "alarm"; readonly code: string };

export const now = (): number => Number(process.hrtime.bigint() / 1000n);

/** A ledger that a process writes to, read as it grows; what a kill -9 cut off is left out. */
export class LedgerFile {
  readonly #file: string;
  readonly #lines: Line[] = [];
  #offset = 0;
  #committed = 0;

  constructor(file: string) {
    this.#file = file;
  }

  get lines(): readonly Line[] {
    this.#read();
    return this.#lines;
  }

  get committed(): number {
    this.#read();
    return this.#committed;
  }

  #read(): void {
    let descriptor: number;
    try {
      descriptor = openSync(this.#file, "r");
    } catch {
      return; // nothing was written yet
    }
    const piece = Buffer.alloc(1024 * 1024);
    for (;;) {
      const end = piece.lastIndexOf(10, readSync(descriptor, piece, 0, piece.length, this.#offset) - 1);
      if (end < 0) break;
      const lines = piece.toString("utf8", 0, end).split("\n").map((line) => JSON.parse(line) as Line);
      for (const line of lines) this.#lines.push(line);
      this.#committed += committedIn(lines);
      this.#offset += end + 1;
      piece.fill(0);
    }
    closeSync(descriptor);
  }
}

/** Appends that were acknowledged. */
export function committedIn(lines: readonly Line[]): number {
  return lines.filter((line) => line.what === "outcome" && line.kind === "committed").length;
}
