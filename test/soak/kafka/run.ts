/**
 * Two real processes on a real broker that write the same partitions, while they are killed and stopped, their connections are cut, held up and made deaf, and the broker
 * is restarted and killed; then what they were told is held against what stands in the log, read without the store.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startKafka, type KafkaCluster } from "../../../scripts/kafka/start-kafka.ts";
import { systemClock } from "../../../src/environment.ts";
import { kafkajsCluster } from "../../../src/store/kafka/kafkajs-cluster.ts";
import { randomFrom } from "../../store/sqlite/support.ts";
import { LogTruth } from "../../store/kafka/simulated/log-truth.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { check, type LoggedEvent } from "../processes/check.ts";
import type { CallRecord, Repeat } from "../processes/record.ts";
import type { ChildOptions } from "./child.ts";

export interface KafkaSoakOptions {
  readonly durationMs: number;
  readonly seed: number;
  /** Between two attacks, on average. */
  readonly attackEveryMs: number;
  readonly print: (text: string) => void;
}

export interface KafkaSoakReport {
  readonly seconds: number;
  readonly calls: number;
  /** Commands that were accepted. */
  readonly acknowledged: number;
  readonly events: number;
  /** Records of former owners, and of nobody. */
  readonly voidRecords: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly attacks: Readonly<Record<string, number>>;
  readonly violations: readonly string[];
}

const PREFIX = "soak";
const TOPIC = `${PREFIX}.account.events`;
const PARTITIONS = 4;
const PROCESSES = 2;
/** How long a process may take to start, or to end. */
const PATIENCE_MS = 90_000;

interface Running {
  readonly process: ChildProcess;
  readonly proxy: Proxy;
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
}

export async function soakKafka({ durationMs, seed, attackEveryMs, print }: KafkaSoakOptions): Promise<KafkaSoakReport> {
  const random = randomFrom(seed);
  const records: CallRecord[] = [];
  const repeats: Repeat[] = [];
  const attacks: Record<string, number> = {};
  const violations: string[] = [];
  const said: string[] = [];
  let started = 0;
  await using cluster = await startKafka();
  const [broker] = cluster.brokers as [string];

  const start = async (): Promise<Running> => {
    const proxy = await proxyTo(`tcp://${broker}`);
    const ports = { [new URL(`tcp://${broker}`).port]: Number(new URL(proxy.url).port) };
    const options: ChildOptions = { brokers: cluster.brokers, ports, topicPrefix: PREFIX, partitions: PARTITIONS, seed: seed * 1000 + started, name: `p${started}` };
    started++;
    const child = spawn(process.execPath, ["--disable-warning=TimeoutNegativeWarning", fileURLToPath(new URL("./child.ts", import.meta.url)), JSON.stringify(options)], { stdio: ["pipe", "pipe", "pipe"] });
    child.stderr.on("data", (chunk: Buffer) => {
      said.push(chunk.toString());
      if (said.length > 50) said.shift();
    });
    child.stdin.on("error", () => undefined); // it was killed
    let isReady = (): void => undefined;
    const ready = new Promise<void>((resolve) => (isReady = resolve));
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line === "ready") isReady();
      else if (line.endsWith("}}") && line.startsWith('{"again"')) repeats.push(JSON.parse(line) as Repeat);
      else if (line.endsWith("}")) records.push(JSON.parse(line) as CallRecord); // a line may be cut by a kill
    });
    const ended = new Promise<void>((resolve) => child.once("close", () => (isReady(), resolve())));
    return { process: child, proxy, ready, ended };
  };
  /** Waits with a bound: what hangs is a violation, and ended. */
  const within = async (what: string, one: Running, work: Promise<void>): Promise<void> => {
    const late = await Promise.race([work.then(() => false), pause(PATIENCE_MS, true, { ref: false })]);
    if (!late) return;
    violations.push(`I6: a process did not ${what} within ${PATIENCE_MS} ms`);
    one.process.kill("SIGKILL");
    await one.ended;
  };

  const running: Running[] = [];
  const attack = async (): Promise<void> => {
    const index = Math.floor(random() * PROCESSES);
    const victim = running[index] as Running;
    const { proxy } = victim;
    const kinds = ["kill", "stop", "deaf", "late", "reset", "cut-off", "broker-restart", "broker-kill"] as const;
    const kind = kinds[Math.floor(random() * kinds.length)] as (typeof kinds)[number];
    attacks[kind] = (attacks[kind] ?? 0) + 1;
    switch (kind) {
      case "kill": {
        victim.process.kill("SIGKILL");
        await victim.ended;
        await proxy.close();
        const next = await start();
        running[index] = next;
        return within("start", next, next.ready);
      }
      case "stop":
        victim.process.kill("SIGSTOP");
        await pause(3000 * random());
        victim.process.kill("SIGCONT");
        return;
      case "deaf":
        proxy.dropReplies = true;
        await pause(300 + 700 * random());
        proxy.dropReplies = false;
        return proxy.reset();
      case "late":
        proxy.delayMs = 2500;
        await pause(500);
        proxy.delayMs = 0;
        return;
      case "reset":
        return proxy.reset();
      case "cut-off":
        proxy.swallow = true;
        await pause(500 + 1500 * random());
        proxy.swallow = false;
        return proxy.reset();
      case "broker-restart":
      case "broker-kill":
        return restart(cluster, kind === "broker-kill");
    }
  };

  const begun = performance.now();
  try {
    for (let left = PROCESSES; left > 0; left--) running.push(await start());
    await Promise.all(running.map((one) => within("start", one, one.ready)));
    const until = performance.now() + durationMs;
    let told = performance.now();
    while (performance.now() < until) {
      await pause(Math.max(0, Math.min(attackEveryMs * (0.5 + random()), until - performance.now())));
      await attack();
      for (const { process: child } of running) if (child.exitCode !== null) violations.push(`a process ended with code ${child.exitCode}: ${said.join("").slice(-2000)}`);
      if (violations.length > 0) break;
      if (performance.now() - told < 15_000) continue;
      told = performance.now();
      print(`${Math.round((told - begun) / 1000)} s: ${records.length} calls, ${accepted(records)} acknowledged, attacks ${JSON.stringify(attacks)}`);
    }
    for (const { process: child } of running) child.stdin?.write("end\n");
    await Promise.all(running.map((one) => within("end", one, one.ended)));
    const seconds = Math.round((performance.now() - begun) / 1000);
    print(`${seconds} s: ${records.length} calls; the log is read and checked`);
    for (const { process: child } of running) if (child.exitCode !== 0) violations.push(`a process ended with code ${child.exitCode}, signal ${child.signalCode}: ${said.join("").slice(-2000)}`);
    const { events, voidRecords, faults } = await readLog(cluster.brokers);
    violations.push(...faults, ...check(events, records, repeats));
    const answers = Object.fromEntries([...Map.groupBy(records, ({ answer }) => (answer.kind === "error" ? answer.code : answer.kind))].map(([kind, list]) => [kind, list.length]));
    return { seconds, calls: records.length, acknowledged: accepted(records), events: events.length, voidRecords, answers, attacks, violations };
  } finally {
    for (const { process: child, proxy } of running) {
      child.kill("SIGKILL");
      await proxy.close();
    }
  }
}

async function restart(cluster: KafkaCluster, killed: boolean): Promise<void> {
  const [node] = cluster.nodes;
  if (node === undefined) return;
  await (killed ? node.kill() : node.stop());
  node.start();
  await cluster.serving();
}

function accepted(records: readonly CallRecord[]): number {
  return records.reduce((sum, { answer }) => sum + (answer.kind === "accepted" ? 1 : 0), 0);
}

/** By the reader's rule, as the simulation has it; the store's own fold and index are not used. */
async function readLog(brokers: readonly string[]): Promise<{ readonly events: readonly LoggedEvent[]; readonly voidRecords: number; readonly faults: readonly string[] }> {
  const cluster = kafkajsCluster({ brokers, clientId: "soak", requestTimeoutMs: 10_000, clock: systemClock });
  const events: LoggedEvent[] = [];
  const faults: string[] = [];
  let voidRecords = 0;
  try {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const link = cluster.partition(TOPIC, partition);
      const truth = new LogTruth();
      const { offset: end } = await link.end();
      for (let next = 0; next < end; ) {
        const { records } = await link.fetch({ offset: next, maxWaitMs: 100, maxBytes: 4 * 1024 * 1024 });
        next = truth.add(records) ?? next;
      }
      link.close();
      voidRecords += truth.voids;
      faults.push(...truth.faults.map((fault) => `I2: partition ${partition}: ${fault}`));
      for (const { stream, version, type, data, metadata } of truth.events) {
        events.push({ stream, version, type, amount: (JSON.parse(data) as { amount: number }).amount, commandId: metadata.commandId, chosen: metadata.fingerprint !== undefined });
      }
    }
  } finally {
    await cluster.close();
  }
  return { events, voidRecords, faults };
}
