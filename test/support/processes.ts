/** Starts scripts in processes of their own. */
import { spawn, type ChildProcess } from "node:child_process";

export interface Child {
  readonly process: ChildProcess;
  /** Whole lines that it printed; a line that a kill cut off is not among them. */
  readonly lines: string[];
  /** Calls back for each line. */
  onLine: (line: string) => void;
  readonly exited: Promise<number | null>;
  send(line: string): void;
}

/** `script`: its path. */
export function start(script: string, ...args: readonly string[]): Child {
  const process_ = spawn(process.execPath, [script, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const exited = new Promise<number | null>((resolve) => process_.once("close", resolve));
  const child: Child = { process: process_, lines: [], onLine: () => undefined, exited, send: (line) => void process_.stdin.write(`${line}\n`) };
  process_.stdin.on("error", () => undefined);
  let rest = "";
  process_.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts) {
      child.lines.push(line);
      child.onLine(line);
    }
  });
  return child;
}

export async function killAll(children: Child[]): Promise<void> {
  for (const { process: process_, exited } of children.splice(0)) {
    process_.kill("SIGKILL");
    await exited;
  }
}
