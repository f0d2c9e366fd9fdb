/**
 * `npm run soak -- --seeds 1000`: runs seeds of the simulator and prints what they came to; of the first that fails a shorter plan, and its history.
 * `npm run soak -- --mutants`: switches protections off one by one, and prints how many seeds each of them survives.
 * `npm run soak -- --seed 7`: runs one seed again and prints a shorter plan that fails alike, and its history.
 * `npm run soak -- --kafka-seeds 1000`, `--kafka-mutants`, `--kafka-seed 7`: the same for the write protocol on Kafka, on a model of Kafka.
 * `npm run soak -- --processes 4 --minutes 10`: real processes on one SQLite file, killed, stopped and stalled.
 * `npm run soak -- --eventstoredb --minutes 10`: real processes on one EventStoreDB (the test server), killed, stopped and cut off, and the server with them.
 * `npm run soak -- --kafka --minutes 10`: two processes on a Kafka of their own, with killed processes and brokers and a bad network.
 * `npm run soak -- --postgres-versions 14,16,17,18`: the tests of the PostgreSQL backend against servers of these versions, which npm fetches.
 * `npm run soak -- --kafka-attacks`: all attacks on the Kafka store, on real brokers; `--only NAME` for some; with `--mutants`, that they miss protections.
 */
import { inspect, parseArgs } from "node:util";
import { describeSimulation, minimiseSimulation } from "../../src/testing/simulator/simulate.ts";
import { soakEventStoreDB } from "../store/eventstoredb/soak.ts";
import { kafkaMutantNames } from "./kafka-mutants.ts";
import { attackKafka, missed } from "./kafka-attacks.ts";
import { mutants } from "./mutants.ts";
import { testPostgresVersions } from "./postgres-versions.ts";
import { soakProcesses } from "./processes/run.ts";
import { idleIn, type SeedResult } from "./results.ts";
import { runSeeds } from "./seeds.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    workers: { type: "string", default: "2" },
    mutants: { type: "boolean", default: false },
    only: { type: "string" },
    kafka: { type: "boolean", default: false },
    "kafka-seeds": { type: "string" },
    "kafka-seed": { type: "string" },
    "kafka-mutants": { type: "boolean", default: false },
    processes: { type: "string" },
    eventstoredb: { type: "boolean", default: false },
    minutes: { type: "string", default: "10" },
    "postgres-versions": { type: "string" },
    "kafka-attacks": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

/** Seeds that a mutant may survive at most; those on the model of Kafka take a tenth of the time. */
const MUTANT_SEEDS = { ports: 200, kafka: 1000 } as const;

const print = (text: string): void => void process.stdout.write(`${text}\n`);

if (values.seed !== undefined && !values.eventstoredb) await replay(Number(values.seed));
else if (values["kafka-seed"] !== undefined) await replayKafka(Number(values["kafka-seed"]));
else if (values["kafka-attacks"] && values.mutants) await attackMutants(values.only ?? "");
else if (values.mutants) await killMutants(mutants.map(({ name }) => name), false);
else if (values["kafka-mutants"]) await killMutants(kafkaMutantNames, true);
else if (values.kafka) await soakOnKafka(Number(values.minutes));
else if (values["postgres-versions"] !== undefined) await testVersions(values["postgres-versions"].split(","));
else if (values.eventstoredb) await soakCallersOfEventStoreDB(Number(values.minutes));
else if (values["kafka-attacks"]) await attack(values.only);
else if (values.processes !== undefined) await soakRealProcesses(Number(values.processes), Number(values.minutes));
else if (values["kafka-seeds"] !== undefined) await soak(Number(values.from), Number(values["kafka-seeds"]), true);
else await soak(Number(values.from), Number(values.seeds), false);

async function replay(seed: number): Promise<void> {
  const report = await minimiseSimulation({ seed });
  print(describeSimulation(report));
  process.exitCode = report.violations.length === 0 ? 0 : 1;
}

async function replayKafka(seed: number): Promise<void> {
  const { explainKafka } = await import("../store/kafka/simulated/kafka-stage.ts");
  const { violations, text } = await explainKafka(seed);
  print(text);
  process.exitCode = violations === 0 ? 0 : 1;
}

async function soakRealProcesses(processes: number, minutes: number): Promise<void> {
  const seed = Number(values.from);
  const report = await soakProcesses({ processes, durationMs: minutes * 60_000, seed, attackEveryMs: 400, stallMs: 5000 });
  print(values.json ? JSON.stringify({ processes, minutes, seed, ...report }) : inspect(report, { depth: 3, breakLength: 120 }));
  process.exitCode = report.violations.length === 0 ? 0 : 1;
}

async function soakCallersOfEventStoreDB(minutes: number): Promise<void> {
  const seed = Number(values.seed ?? values.from);
  const report = await soakEventStoreDB({ seed, durationMs: minutes * 60_000 });
  print(values.json ? JSON.stringify({ minutes, seed, ...report }) : inspect({ seed, ...report }, { depth: 3, breakLength: 120 }));
  process.exitCode = report.violations.length === 0 && report.exits.every((code) => code === 0) ? 0 : 1;
}

async function soakOnKafka(minutes: number): Promise<void> {
  const seed = Number(values.from);
  const { soakKafka } = await import("./kafka/run.ts");
  const { violations, ...report } = await soakKafka({ durationMs: minutes * 60_000, seed, attackEveryMs: 3000, print: values.json ? () => undefined : print });
  const shown = { ...report, violations: violations.slice(0, 50), violated: violations.length };
  print(values.json ? JSON.stringify({ minutes, seed, ...shown }) : inspect(shown, { depth: 3, breakLength: 120 }));
  process.exitCode = violations.length === 0 ? 0 : 1;
}

async function testVersions(versions: readonly string[]): Promise<void> {
  const results = await testPostgresVersions(versions, values.only?.split(",") ?? [], print);
  if (values.json) print(JSON.stringify({ results }));
  else for (const { version, passed, seconds } of results) print(`PostgreSQL ${version}: ${passed ? "all tests passed" : "TESTS FAILED"}, ${seconds} s`);
  if (results.some(({ passed }) => !passed)) process.exitCode = 1;
}

async function attack(only: string | undefined): Promise<void> {
  const results = await attackKafka(only);
  if (values.json) print(JSON.stringify({ results }));
  else for (const { attack: name, passed, seconds } of results) print(`${passed ? "held  " : "FAILED"} ${String(seconds).padStart(4)} s  ${name}`);
  if (results.length === 0 || results.some(({ passed }) => !passed)) process.exitCode = 1;
}

async function attackMutants(only: string): Promise<void> {
  const verdicts: { readonly mutant: string; readonly attack: string; readonly caught: boolean }[] = [];
  for (const [mutant, attack] of missed.filter(([name]) => name.includes(only))) {
    const results = await attackKafka(attack, mutant);
    verdicts.push({ mutant, attack, caught: results.some(({ passed }) => !passed) });
  }
  if (values.json) print(JSON.stringify({ mutants: verdicts }));
  else for (const { mutant, attack, caught } of verdicts) print(`${caught ? "caught  " : "SURVIVES"} ${mutant.padEnd(50)} ${attack}`);
  if (verdicts.length === 0 || verdicts.some(({ caught }) => !caught)) process.exitCode = 1;
}

async function soak(first: number, count: number, kafka: boolean): Promise<void> {
  const begun = performance.now();
  let done = 0;
  const results = await runSeeds({
    first,
    count,
    kafka,
    workers: Number(values.workers),
    onResult(result) {
      done++;
      if (values.json) return;
      for (const { invariant, what } of result.violations) print(`seed ${result.seed}: ${invariant}: ${what}`);
      if (done % 100 === 0) print(`${done} of ${count} seeds, ${((performance.now() - begun) / 1000).toFixed(0)} s`);
    },
  });
  const violations = results.flatMap(({ seed, violations: own }) => own.map(({ invariant, what }) => ({ seed, invariant, what })));
  const idle = results.filter((result) => result.violations.length === 0 && idleIn(result) !== undefined);
  if (values.json) print(JSON.stringify({ seeds: results.length, violations, totals: totalsOf(results), coverage: coverageOf(results) }));
  else {
    print(`\n${Object.entries(coverageOf(results)).map(([what, times]) => `${String(times).padStart(9)}  ${what}`).join("\n")}\n`);
    for (const result of idle) print(`seed ${result.seed} tried too little: ${idleIn(result)}`);
    const totals = totalsOf(results);
    print(`${results.length} seeds in ${((performance.now() - begun) / 1000).toFixed(0)} s: ${totals.commands} commands, ${totals.faults} faults, ${totals.tokenisedReads} tokenised reads, ${totals.events} events`);
    print(`each seed at least: ${totals.least.commands} commands, ${totals.least.faults} faults, ${totals.least.tokenisedReads} tokenised reads`);
    const failing = [...new Set(violations.map(({ seed }) => seed))];
    const [one] = failing;
    if (one === undefined) print("no invariant was violated");
    else {
      print(`${failing.length} ${failing.length === 1 ? "seed violates" : "seeds violate"} an invariant: ${failing.slice(0, 20).join(", ")}; run one of them again with ${kafka ? "--kafka-seed" : "--seed"}\n`);
      if (kafka) await replayKafka(one);
      else await replay(one);
    }
  }
  if (violations.length > 0 || idle.length > 0) process.exitCode = 1;
}

async function killMutants(names: readonly string[], kafka: boolean): Promise<void> {
  const chosen = names.filter((name) => name.includes(values.only ?? ""));
  const count = kafka ? MUTANT_SEEDS.kafka : MUTANT_SEEDS.ports;
  const verdicts = new Map<string, { readonly caught: boolean; readonly seed: number | undefined; readonly seeds: number; readonly said: string }>();
  const waiting = [...chosen];
  const lane = async (): Promise<void> => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const results = await runSeeds({ first: 1, count, workers: 1, mutant, kafka, stop: true });
      const red = results.find(({ violations }) => violations.length > 0);
      const [first] = red?.violations ?? [];
      const said = first === undefined ? "nothing" : `${first.invariant}: ${first.what}`;
      verdicts.set(mutant, { caught: red !== undefined, seed: red?.seed, seeds: results.length, said });
      if (!values.json) print(`${red === undefined ? "SURVIVES" : "caught  "} ${mutant.padEnd(50)} ${String(results.length).padStart(4)} seeds  ${said.replaceAll("\n", " ").slice(0, 160)}`);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Number(values.workers)) }, lane));
  const table = chosen.flatMap((name) => {
    const verdict = verdicts.get(name);
    return verdict === undefined ? [] : [{ name, ...verdict }];
  });
  const survivors = table.filter(({ caught }) => !caught);
  if (values.json) print(JSON.stringify({ mutants: table }));
  else print(`\n${table.length - survivors.length} of ${table.length} protections are missed within ${count} seeds once they are switched off`);
  if (survivors.length > 0) process.exitCode = 1;
}

function coverageOf(results: readonly SeedResult[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const { coverage } of results) for (const [what, count] of Object.entries(coverage)) total[what] = (total[what] ?? 0) + count;
  return Object.fromEntries(Object.entries(total).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function totalsOf(results: readonly SeedResult[]) {
  const sum = (what: "commands" | "faults" | "tokenisedReads" | "events"): number => results.reduce((total, result) => total + result[what], 0);
  const least = (what: "commands" | "faults" | "tokenisedReads"): number => Math.min(...results.map((result) => result[what]));
  return {
    commands: sum("commands"),
    faults: sum("faults"),
    tokenisedReads: sum("tokenisedReads"),
    events: sum("events"),
    least: { commands: least("commands"), faults: least("faults"), tokenisedReads: least("tokenisedReads") },
  };
}
