/** Writers of the attacks: processes of their own, which can be killed and stopped, and stores in this process. Each has a ledger. */
import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { EventStore } from "../../../../src/store/event-store.ts";
import type { KafkaStoreOptions } from "../../../../src/store/kafka/index.ts";
import { committedIn, LedgerFile, type Line } from "./ledger.ts";
import type { Fate } from "./points.ts";
import { work } from "./workload.ts";

export interface WriterPlan {
  readonly brokers: readonly string[];
  readonly streams: readonly string[];
  readonly options: Pick<KafkaStoreOptions, "topicPrefix" | "partitions" | "replicationFactor" | "minInsyncReplicas" | "owner" | "minHoldMs" | "requestTimeoutMs" | "appendTimeoutMs"> & { readonly index?: string };
  readonly pauseMs?: number;
  /** Ports of brokers that are reached through others. */
  readonly ports?: Readonly<Record<string, number>>;
  readonly fate?: Fate;
  /** How wrong its clock is, milliseconds. */
  readonly skewMs?: number;
}

export interface Writer {
  lines(): readonly Line[];
  committed(): number;
  /** Resolves when that many more appends were acknowledged than now. */
  more(count: number, boundMs?: number): Promise<void>;
  /** Lets what is under way be answered. */
  stop(): Promise<void>;
}

export interface WriterProcess extends Writer {
  readonly pid: number;
  kill(): Promise<void>;
  pause(): Promise<void>;
  resume(): void;
  /** Resolves when it has met its fate. */
  met(): Promise<void>;
}

/** `npm run soak -- --kafka-attacks --mutants`: the processes are mutants, the stores of this process are not. */
const HOOKS = process.env["TIDEMARK_MUTANT"] === undefined ? [] : ["--import", join(import.meta.dirname, "../../../soak/apply-mutant.ts")];

/** Outcomes of appends, and what is under way at the end, have bounds; together they are below this. */
const STOP_MS = 40_000;

async function within<T>(what: string, work: Promise<T>): Promise<T> {
  const late = new AbortController();
  const timeout = delay(STOP_MS, undefined, { signal: late.signal }).then(() => {
    throw new Error(`not within ${STOP_MS} ms: ${what}`);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    late.abort();
    timeout.catch(() => undefined);
  }
}

/** Fails, saying what, unless `holds` comes to hold. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, boundMs = 60_000): Promise<void> {
  const deadline = performance.now() + boundMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${boundMs} ms: ${what}`);
    await delay(10);
  }
}

const reached = (writer: { committed(): number }, count: number, boundMs: number, why: () => string): Promise<void> => {
  const goal = writer.committed() + count;
  return until(`${count} more appends acknowledged`, () => {
    const end = why();
    if (end !== "") throw new Error(end);
    return writer.committed() >= goal;
  }, boundMs);
};

/** All writers of a test: what they were told, and their end. */
export class Writers {
  readonly #folder = mkdtempSync(join(tmpdir(), "tidemark-attack-"));
  readonly #all: (Writer & { end(): Promise<void> })[] = [];

  /** What all of them were told. */
  lines(): readonly Line[] {
    return this.#all.flatMap((writer) => writer.lines());
  }

  file(name: string): string {
    return join(this.#folder, name);
  }

  start(plan: WriterPlan): WriterProcess {
    const ledger = join(this.#folder, `${randomUUID()}.jsonl`);
    const child = spawn(process.execPath, [...HOOKS, join(import.meta.dirname, "writer-child.ts"), JSON.stringify({ ...plan, ledger })], { stdio: ["pipe", "inherit", "pipe"] });
    const { stdin, stderr } = child;
    const told = new LedgerFile(ledger);
    let complaint = "";
    stderr.on("data", (bytes: Buffer) => (complaint += String(bytes)));
    stdin.on("error", () => undefined);
    const ended = once(child, "exit");
    const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
    const writer: WriterProcess & { end(): Promise<void> } = {
      pid: child.pid ?? 0,
      lines: () => told.lines,
      committed: () => told.committed,
      more: (count, boundMs = 60_000) => reached(writer, count, boundMs, () => (hasEnded() ? `the writer ended: ${child.signalCode ?? child.exitCode} ${complaint}` : "")),
      async stop() {
        stdin.end();
        await within("a writer process to stop", ended);
        if (child.exitCode !== 0) throw new Error(`a writer process ended with ${child.signalCode ?? child.exitCode}: ${complaint}`);
      },
      async kill() {
        child.kill("SIGKILL");
        await ended;
      },
      async pause() {
        child.kill("SIGSTOP");
        await until("the writer is stopped", () => isStopped(child));
      },
      resume: () => void child.kill("SIGCONT"),
      met: () =>
        until("the writer met its fate", () => {
          if (child.exitCode !== null) throw new Error(`the writer ended with ${child.exitCode}: ${complaint}`);
          return child.signalCode === "SIGKILL" || isStopped(child);
        }),
      async end() {
        if (!hasEnded()) await writer.kill();
      },
    };
    this.#all.push(writer);
    return writer;
  }

  /** Works with a store of this process, which is closed with it. */
  startHere(store: EventStore, streams: readonly string[], pauseMs?: number): Writer {
    const lines: Line[] = [];
    const ending = new AbortController();
    const working = work({ store, streams, record: (line) => void lines.push(line), signal: ending.signal, ...(pauseMs === undefined ? {} : { pauseMs }) });
    working.catch(() => undefined);
    const stop = async (): Promise<void> => {
      ending.abort();
      await within("a writer's last outcomes", working);
      await within("a store to close", store.close());
    };
    const writer = { lines: () => lines, committed: () => committedIn(lines), more: (count: number, boundMs = 60_000) => reached(writer, count, boundMs, () => ""), stop, end: stop };
    this.#all.push(writer);
    return writer;
  }

  /** Ends all that still run. */
  async dispose(): Promise<void> {
    await Promise.allSettled(this.#all.map((writer) => writer.end()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Whether the kernel has it stopped. */
function isStopped({ pid }: ChildProcess): boolean {
  try {
    return / T /.test(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/\(.*\)/, ""));
  } catch {
    return false;
  }
}
