/** What all benchmarks share: rounds that take turns, quiet between them, load with a bound, and folders that go away. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./figures.ts";
import type { Result } from "./figures.ts";

export interface BenchOptions {
  /** Fewer rounds and smaller amounts, so that a benchmark takes less than a minute. */
  readonly quick: boolean;
  /** Tells what is going on. */
  readonly note: (line: string) => void;
}

export interface Benchmark {
  readonly name: string;
  readonly summary: string;
  /** Packages beside Node that are measured. */
  readonly packages: readonly string[];
  run(options: BenchOptions): Promise<readonly Result[]>;
}

/**
 * Runs the contenders in turn, `rounds` times after one that does not count, and answers the median figure of each. Garbage is collected before each
 * one, unless `collect` is false: over a large heap that takes longer than what is measured.
 */
export async function interleaved<const K extends string>(
  rounds: number,
  contenders: Readonly<Record<K, () => Promise<number>>>,
  { collect = true }: { readonly collect?: boolean } = {},
): Promise<Readonly<Record<K, number>>> {
  const names = Object.keys(contenders) as K[];
  const figures = new Map<K, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    // Who comes first changes, so that what one leaves behind does not always hit the same other.
    const turn = round % 2 === 0 ? names : names.toReversed();
    for (const name of turn) {
      if (collect) await quiet();
      const figure = await contenders[name]();
      if (round > 0) figures.get(name)?.push(figure);
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(figures.get(name) ?? [])])) as Record<K, number>;
}

/** Collects garbage, where Node was started with --expose-gc, and lets what is due run. */
export async function quiet(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  globalThis.gc?.();
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** How many a second. */
export function rate(count: number, ms: number): number {
  return (count / ms) * 1000;
}

/** Runs tasks 0 to `count` - 1, at most `inFlight` at a time, each next one as soon as one is done; `check` is given what each one resolved with. */
export async function load<T>(count: number, inFlight: number, task: (index: number) => Promise<T>, check?: (result: T) => void): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const result = await task(next++);
      check?.(result);
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlight, count) }, worker));
}

/** Calls `work` with a new folder, which is gone afterwards. */
export async function inTempFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-bench-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
