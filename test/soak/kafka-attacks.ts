/** Runs all attacks on the Kafka store against real brokers, those that take minutes included, and says one line about each. */
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

/** `only`: a part of the attacks' names, default all. Errors: a run that gave no results. */
export async function attackKafka(only: string | undefined): Promise<readonly AttackResult[]> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-attacks-"));
  const file = join(folder, "report.json");
  try {
    // One after the other: each has its own bounds of time.
    const args = ["vitest", "run", "test/store/kafka/attacks", "--no-file-parallelism", "--reporter=verbose", "--reporter=json", `--outputFile.json=${file}`, ...(only === undefined ? [] : ["-t", only])];
    const child = spawn("npx", args, { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, TIDEMARK_KAFKA_ATTACKS: "all", TIDEMARK_REQUIRE: "kafka,kafka-server,kcat" } });
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
