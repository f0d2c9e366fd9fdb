/**
 * Real processes on one SQLite file that write the same streams, while they are killed, stopped, continued and stalled; then what they were told is checked.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { openStore } from "../../../src/index.ts";
import { randomFrom } from "../../store/sqlite/support.ts";
import { check, type LoggedEvent } from "./check.ts";
import type { CallRecord, Repeat } from "./record.ts";

export interface ProcessSoakOptions {
  readonly processes: number;
  readonly durationMs: number;
  readonly seed: number;
  /** Between two attacks, on average. */
  readonly attackEveryMs: number;
  readonly stallMs: number;
}

export interface ProcessSoakReport {
  readonly calls: number;
  readonly events: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly attacks: Readonly<Record<string, number>>;
  readonly callsPerSecond: number;
  readonly violations: readonly string[];
}

interface Running {
  readonly process: ChildProcess;
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
}

export async function soakProcesses({ processes, durationMs, seed, attackEveryMs, stallMs }: ProcessSoakOptions): Promise<ProcessSoakReport> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-soak-"));
  const file = join(folder, "events.db");
  const random = randomFrom(seed);
  const records: CallRecord[] = [];
  const repeats: Repeat[] = [];
  const attacks: Record<string, number> = { kill: 0, stop: 0, stall: 0 };
  const said: string[] = [];
  let started = 0;

  const start = (): Running => {
    const arguments_ = [fileURLToPath(new URL("./child.ts", import.meta.url)), file, join(folder, "views.db"), String(seed * 1000 + started), `p${started}`];
    started++;
    const child = spawn(process.execPath, arguments_, { stdio: ["pipe", "pipe", "pipe"] });
    child.stderr.on("data", (chunk: Buffer) => said.push(chunk.toString()));
    child.stdin.on("error", () => undefined); // it was killed
    let isReady = (): void => undefined;
    const ready = new Promise<void>((resolve) => (isReady = resolve));
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      if (line === "ready") isReady();
      else if (line.endsWith("}}") && line.startsWith('{"again"')) repeats.push(JSON.parse(line) as Repeat);
      else if (line.endsWith("}")) records.push(JSON.parse(line) as CallRecord); // a line may be cut by a kill
    });
    const ended = new Promise<void>((resolve) => child.once("close", () => (isReady(), resolve())));
    return { process: child, ready, ended };
  };

  try {
    const running = Array.from({ length: processes }, start);
    await Promise.all(running.map(({ ready }) => ready));
    const until = Date.now() + durationMs;
    while (Date.now() < until) {
      await pause(Math.min(attackEveryMs * (0.5 + random()), until - Date.now()));
      const index = Math.floor(random() * processes);
      const victim = running[index] as Running;
      const attack = random();
      if (attack < 0.5) {
        attacks["kill"] = (attacks["kill"] ?? 0) + 1;
        victim.process.kill("SIGKILL");
        await victim.ended;
        running[index] = start();
        await running[index].ready;
      } else if (attack < 0.8) {
        attacks["stop"] = (attacks["stop"] ?? 0) + 1;
        victim.process.kill("SIGSTOP");
        await pause(stallMs * random());
        victim.process.kill("SIGCONT");
      } else {
        attacks["stall"] = (attacks["stall"] ?? 0) + 1;
        victim.process.stdin?.write(`stall ${Math.round(stallMs)}\n`);
      }
    }
    for (const { process: child } of running) child.stdin?.write("end\n");
    await Promise.all(running.map(({ ended }) => ended));
    const crashed = running.filter(({ process: child }) => child.exitCode !== 0);
    const events = await readLog(file);
    const violations = [...check(events, records, repeats), ...crashed.map(({ process: child }) => `a process ended with code ${child.exitCode}, signal ${child.signalCode}: ${said.join("").slice(-2000)}`)];
    const answers = Object.fromEntries([...Map.groupBy(records, ({ answer }) => (answer.kind === "error" ? answer.code : answer.kind))].map(([kind, list]) => [kind, list.length]));
    return { calls: records.length, events: events.length, answers, attacks, callsPerSecond: Math.round((records.length / durationMs) * 1000), violations };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function readLog(file: string): Promise<readonly LoggedEvent[]> {
  const backend = await openStore(`sqlite:${file}`);
  const events: LoggedEvent[] = [];
  for await (const page of backend.events.readAll()) {
    for (const { stream, version, type, data, metadata } of page.events) {
      events.push({ stream, version, type, amount: (JSON.parse(data) as { amount: number }).amount, commandId: metadata.commandId, chosen: metadata.fingerprint !== undefined });
    }
  }
  await backend.close();
  return events;
}
