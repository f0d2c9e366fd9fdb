/** The test server as `npm run eventstoredb` starts it, in a process that can be killed. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";

export const runner = join(resolve(import.meta.dirname, "../../.."), "scripts/eventstoredb.ts");

const started = new Set<ChildProcess>();

/** Kills what a test that failed has left behind. */
export function killServers(): void {
  for (const child of started) child.kill("SIGKILL");
}

export interface ServerProcess {
  readonly process: ChildProcess;
  /** What it printed when it served: its address, and that of its control channel. */
  readonly lines: readonly string[];
  readonly port: number;
  kill(signal: NodeJS.Signals): Promise<number | null>;
}

export async function startServer(...args: readonly string[]): Promise<ServerProcess> {
  const child = spawn(process.execPath, [runner, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  started.add(child);
  child.once("exit", () => started.delete(child));
  const wanted = args.includes("--control") ? 2 : 1;
  let text = "";
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (errors += chunk));
  await new Promise<void>((serves, fails) => {
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (text.split("\n").length > wanted) serves();
    });
    child.once("exit", (code) => fails(new Error(`the server ended with ${code}: ${errors}`)));
  });
  const lines = text.trim().split("\n");
  return {
    process: child,
    lines,
    port: Number(/:(\d+)\?/.exec(lines[0] ?? "")?.[1]),
    async kill(signal) {
      const exit = once(child, "exit");
      child.kill(signal);
      const [code] = (await exit) as [number | null];
      return code;
    },
  };
}
