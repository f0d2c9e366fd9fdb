/**
 * One node of a cluster, broker and controller in one process, and what can be done to it.
 * The process has a session of its own: a Ctrl-C in the terminal reaches the launcher alone, which stops the nodes in order.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { Guardian } from "./guardian.ts";
import { KafkaUnavailable } from "./kafka-unavailable.ts";
import { writeNodeFiles, type NodePlan } from "./node-files.ts";

const run = promisify(execFile);

/** How long a node has for stopping before it is killed, milliseconds. */
const STOP_TIMEOUT_MS = 15_000;
const LOG_TAIL_LINES = 15;

export interface KafkaNode {
  readonly id: number;
  /** `host:port` of its listener for clients. */
  readonly address: string;
  readonly pid: number | undefined;
  /** Starts it again, with its data, at its address. Resolves when the process runs; `KafkaCluster.serving` tells when it answers. */
  start(): void;
  /** As an administrator does it (SIGTERM); killed when it does not end in time, which only a node without a quorum of controllers does. */
  stop(timeoutMs?: number): Promise<void>;
  /** `kill -9`, also of a paused node. */
  kill(): Promise<void>;
  /** SIGSTOP. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** The end of what it printed. */
  logTail(): string;
}

export interface NodeSetup extends NodePlan {
  /** Folder with the jars. */
  readonly jars: string;
  readonly jvmOptions: readonly string[];
  readonly formatJvmOptions: readonly string[];
  readonly guardian: Guardian;
  /** Called when the process ends without having been asked to. */
  readonly onUnexpectedEnd: (node: KafkaNode) => void;
}

/** Java's launcher, the one of JAVA_HOME first. */
const java = (): string => {
  const home = process.env["JAVA_HOME"];
  return home === undefined || home === "" ? "java" : join(home, "bin/java");
};

/** Makes the node's folder ready for its first start; does nothing to one that has been started. */
export async function formatNode(setup: NodeSetup, clusterId: string, formatArguments: readonly string[], signal?: AbortSignal): Promise<void> {
  const { properties, logOption } = writeNodeFiles(setup);
  // The format takes less time without the second compiler.
  const options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", ...setup.formatJvmOptions, logOption];
  // An id may begin with a dash.
  const args = [...options, "kafka.tools.StorageTool", "format", `--cluster-id=${clusterId}`, "-c", properties, "--ignore-formatted", ...formatArguments];
  try {
    await run(java(), args, { env: environmentOf(setup), ...(signal === undefined ? {} : { signal }) });
  } catch (cause) {
    const { code, stderr, stdout } = cause as { readonly code?: unknown; readonly stderr?: string; readonly stdout?: string };
    if (code === "ENOENT") throw new KafkaUnavailable("Kafka runs on Java, and there is no java on the PATH", { cause });
    if (code === "ABORT_ERR") throw cause;
    throw new KafkaUnavailable(whyItFailed(setup, `${stderr ?? ""}${stdout ?? ""}`), { cause });
  }
}

export function kafkaNode(setup: NodeSetup): KafkaNode {
  const logFile = join(setup.folder, "server.log");
  let child: ChildProcess | undefined;
  let ended: Promise<void> = Promise.resolve();
  let asked = false;

  const signal = (name: NodeJS.Signals): void => void child?.kill(name);

  const node: KafkaNode = {
    id: setup.id,
    address: `127.0.0.1:${setup.port}`,
    get pid() {
      return child?.pid;
    },
    start() {
      if (child !== undefined) throw new Error(`node ${setup.id} runs already`);
      const { properties, logOption } = writeNodeFiles(setup);
      const log = openSync(logFile, "a");
      const started = spawn(java(), [...setup.jvmOptions, logOption, "kafka.Kafka", properties], { detached: true, stdio: ["ignore", log, log], env: environmentOf(setup) });
      closeSync(log);
      child = started;
      asked = false;
      const { pid } = started;
      if (pid !== undefined) setup.guardian.watch(pid);
      ended = new Promise((resolve) => {
        const end = (): void => {
          if (pid !== undefined) setup.guardian.forget(pid);
          child = undefined;
          resolve();
          if (!asked) setup.onUnexpectedEnd(node);
        };
        started.once("error", end).once("exit", end);
      });
    },
    async stop(timeoutMs = STOP_TIMEOUT_MS) {
      asked = true;
      signal("SIGTERM");
      signal("SIGCONT");
      const abort = new AbortController();
      const inTime = await Promise.race([ended.then(() => true), delay(timeoutMs, false, { signal: abort.signal })]);
      abort.abort();
      if (!inTime) await node.kill();
    },
    async kill() {
      asked = true;
      signal("SIGKILL");
      await ended;
    },
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    logTail() {
      try {
        return readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
      } catch {
        return "";
      }
    },
  };
  return node;
}

/** One line for a node that did not start. */
export function whyItFailed({ version, id }: NodePlan, log: string): string {
  if (log.includes("UnsupportedClassVersionError")) return `Kafka ${version} needs Java 17 or newer`;
  return `node ${id} of Kafka ${version} did not start: ${log.trim() === "" ? "it printed nothing" : log.trim()}`;
}

function environmentOf({ jars }: NodeSetup): NodeJS.ProcessEnv {
  return { ...process.env, CLASSPATH: join(jars, "*") };
}
