/**
 * Runs seeds in a process of its own and prints a line of JSON for each: `runner.ts FIRST COUNT STRIDE [stop] [kafka]`; with `stop` it ends with the first violation,
 * with `kafka` the processes stand on the Kafka store and a model of Kafka.
 */
import { simulate } from "../../src/testing/simulator/simulate.ts";
import type { SeedResult } from "./results.ts";

const [first, count, stride] = process.argv.slice(2, 5).map(Number) as [number, number, number];
const stop = process.argv.includes("stop", 5);
// Loaded here: the mutants of one world do not fit the sources of the other.
const run = process.argv.includes("kafka", 5) ? (await import("../store/kafka/simulated/kafka-stage.ts")).simulateKafka : (seed: number) => simulate({ seed });

let unhandled: string[] = [];
process.on("unhandledRejection", (error: unknown) => unhandled.push(String((error as Error | undefined)?.stack ?? error)));

for (let index = 0, seed = first; index < count; index++, seed += stride) {
  unhandled = [];
  const begun = performance.now();
  const result = await ofSeed(seed, begun);
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (stop && result.violations.length > 0) break;
}

async function ofSeed(seed: number, begun: number): Promise<SeedResult> {
  try {
    const { violations, commands, faults, tokenisedReads, events, coverage } = await run(seed);
    const all = [...violations, ...unhandled.map((what) => ({ invariant: "run", what: `unhandled rejection: ${what}` }))];
    return { seed, violations: all, commands, faults, tokenisedReads, events, coverage, ms: performance.now() - begun };
  } catch (error) {
    const what = `the simulation failed: ${String((error as Error).stack ?? error)}`;
    return { seed, violations: [{ invariant: "run", what }], commands: 0, faults: 0, tokenisedReads: 0, events: 0, coverage: {}, ms: performance.now() - begun };
  }
}
