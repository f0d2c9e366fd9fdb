/** Runs seeds in several processes. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { SeedResult } from "./results.ts";

/** Longest silence of a runner; a run that never comes to rest is a result too. */
const SILENCE_MS = 120_000;

export interface SeedRun {
  readonly first: number;
  readonly count: number;
  readonly workers: number;
  /** Name of the mutant that is applied. */
  readonly mutant?: string;
  /** Ends with the first violation. */
  readonly stop?: boolean;
  /** On the Kafka store and a model of Kafka. */
  readonly kafka?: boolean;
  readonly onResult?: (result: SeedResult) => void;
}

/** The results of all seeds, in the order of the seeds. Rejects where a runner itself fails. */
export async function runSeeds({ first, count, workers, mutant, stop = false, kafka = false, onResult }: SeedRun): Promise<SeedResult[]> {
  const results: SeedResult[] = [];
  const lanes = Math.max(1, Math.min(workers, count));
  await Promise.all(
    Array.from({ length: lanes }, (_, lane) =>
      runner([first + lane, Math.ceil((count - lane) / lanes), lanes, ...(stop ? ["stop"] : []), ...(kafka ? ["kafka"] : [])].map(String), mutant, (result) => {
        results.push(result);
        onResult?.(result);
      }),
    ),
  );
  return results.sort((a, b) => a.seed - b.seed);
}

function runner(args: readonly string[], mutant: string | undefined, onResult: (result: SeedResult) => void): Promise<void> {
  const hooks = mutant === undefined ? [] : ["--import", join(import.meta.dirname, "apply-mutant.ts")];
  const child = spawn(process.execPath, [...hooks, join(import.meta.dirname, "runner.ts"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...(mutant !== undefined && { TIDEMARK_MUTANT: mutant }) },
  });
  let last = Number(args[0]) - Number(args[2]);
  let said = "";
  let silent = false;
  const onSilence = (): void => {
    silent = true;
    child.kill("SIGKILL");
  };
  let silence = setTimeout(onSilence, SILENCE_MS);
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = `${said}${text}`.slice(-4000);
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    clearTimeout(silence);
    silence = setTimeout(onSilence, SILENCE_MS);
    const result = JSON.parse(line) as SeedResult;
    last = result.seed;
    onResult(result);
  });
  return new Promise((resolve, reject) => {
    child.once("close", (code) => {
      clearTimeout(silence);
      if (silent) {
        const violations = [{ invariant: "I6", what: `the run did not come to rest within ${SILENCE_MS / 1000} s` }];
        onResult({ seed: last + Number(args[2]), violations, commands: 0, faults: 0, tokenisedReads: 0, events: 0, coverage: {}, ms: SILENCE_MS });
      } else if (code !== 0) return reject(new Error(`a runner ended with ${code}: ${said}`));
      resolve();
    });
  });
}
