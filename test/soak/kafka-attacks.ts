/**
 * Runs all attacks on the Kafka store against real brokers, those that take minutes included, and says one line about each. And shows of protections that the attacks need
 * them: with one switched off (kafka-mutants.ts) in the processes that write, the attack fails.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface AttackResult {
  readonly attack: string;
  readonly passed: boolean;
  readonly seconds: number;
}

interface Report {
  readonly testResults: readonly { readonly assertionResults: readonly { readonly fullName: string; readonly status: string; readonly duration?: number }[] }[];
}

/** Protections, and a part of the name of the attack that misses them. */
export const missed: readonly (readonly [mutant: string, attack: string])[] = [
  ["no claim", "is stopped with a batch to be sent"],
  ["read, then claim", "that fights with another process"],
  ["no look at the nonce", "the first of which has only claimed"],
  ["no look at the base offset", "that a stranger writes to all the while"],
  ["fold without producers", "the highest epoch"],
  ["fold without claims", "forgotten all producers takes the batch"],
  ["no stamp of the old producer id", "forgets the transactional id"],
  ["a group formed anew is sent again", "breaks when a batch was handed over"],
  ["45 and 47 after an unknown are definite", "does not hear the broker's answers"],
  ["a topic with the clocks of clients", "clocks are two days behind"],
  ["a partition without a leader fails its topic", "one partition has no leader"],
  ["a log that was cut off is taken for what it was", "forced to elect a leader"],
];

/** `only`: a part of the attacks' names, default all; `mutant`: of the processes that write. Errors: a run that gave no results. */
export async function attackKafka(only: string | undefined, mutant?: string): Promise<readonly AttackResult[]> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-attacks-"));
  const file = join(folder, "report.json");
  try {
    // One after the other: each has its own bounds of time.
    const args = ["vitest", "run", "test/store/kafka/attacks", "--no-file-parallelism", "--reporter=verbose", "--reporter=json", `--outputFile.json=${file}`, ...(only === undefined ? [] : ["-t", only])];
    const child = spawn("npx", args, { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, TIDEMARK_KAFKA_ATTACKS: "all", TIDEMARK_REQUIRE: "kafka,kafka-server,kcat", ...(mutant === undefined ? {} : { TIDEMARK_MUTANT: mutant }) } });
    await once(child, "exit");
    const { testResults } = JSON.parse(readFileSync(file, "utf8")) as Report;
    return testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .filter(({ status }) => status === "passed" || status === "failed")
      .map(({ fullName, status, duration = 0 }) => ({ attack: fullName, passed: status === "passed", seconds: Math.round(duration / 1000) }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
