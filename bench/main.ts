/** `npm run bench -- NAME [--json] [--quick]`: runs one benchmark and prints what it found. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Argument, Command } from "commander";
import type { Benchmark } from "./harness.ts";
import { asText, report } from "./report.ts";

/** Garbage is collected between rounds; the heap has room for a million events. */
const NODE_FLAGS = ["--expose-gc", "--max-old-space-size=6144"];

const BENCHMARKS: Readonly<Record<string, () => Promise<Benchmark>>> = {
  actors: async () => (await import("./actors.ts")).actors,
  eventstoredb: async () => (await import("./eventstoredb.ts")).eventstoredb,
  hydrate: async () => (await import("./hydrate.ts")).hydrate,
  postgres: async () => (await import("./postgres.ts")).postgres,
  projection: async () => (await import("./projection.ts")).projection,
  kafka: async () => (await import("./kafka.ts")).kafka,
  load: async () => (await import("./load.ts")).loadBenchmark,
  resident: async () => (await import("./resident.ts")).resident,
};

const program = new Command("bench")
  .description("Measures Tidemark beside a reference, in one run.")
  .addArgument(new Argument("<benchmark>", "what to measure").choices(Object.keys(BENCHMARKS)))
  .option("--json", "print one JSON document instead of a table")
  .option("--quick", "fewer rounds and smaller amounts: less than a minute")
  .action(async (name: string, options: { readonly json?: boolean; readonly quick?: boolean }) => {
    if (globalThis.gc === undefined) return runAgain();
    const load = BENCHMARKS[name];
    if (load === undefined) throw new TypeError(`there is no benchmark ${name}`);
    const benchmark = await load();
    const note = (line: string): void => void process.stderr.write(`${line}\n`);
    const results = await benchmark.run({ quick: options.quick === true, note });
    const found = report(name, results, benchmark.packages);
    process.stdout.write(`${options.json === true ? JSON.stringify(found) : asText(found)}\n`);
  });

/** The same in a process with the flags that the benchmarks need. */
function runAgain(): Promise<void> {
  const child = spawn(process.execPath, [...NODE_FLAGS, fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      process.exitCode = signal === null ? (code ?? 1) : 1;
      resolve();
    });
  });
}

await program.parseAsync();
