/** Apps in processes of their own, called from here. */
import { join } from "node:path";
import type { CallOptions } from "../../src/index.ts";
import { start } from "../support/processes.ts";

export interface RemoteCall {
  readonly n: number;
  readonly id: string;
  readonly command: string;
  readonly input?: unknown;
  readonly options?: Omit<CallOptions, "signal">;
}

export interface RemoteAnswer {
  readonly n: number;
  readonly value?: unknown;
  readonly error?: string;
}

export interface RemoteApp {
  /** Rejects with an error whose message is the code that the call failed with. */
  call(id: string, command: string, input?: unknown, options?: RemoteCall["options"]): Promise<unknown>;
  /** Ends the process with its app closed, or at once. */
  end(how?: "close" | "kill"): Promise<void>;
}

/** Starts a process with an app on this file; resolves when it takes calls. */
export async function remoteApp(file: string): Promise<RemoteApp> {
  const child = start(join(import.meta.dirname, "child.ts"), file);
  const open = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let calls = 0;
  const ready = new Promise<unknown>((resolve, reject) => open.set(0, { resolve, reject }));
  child.onLine = (line) => {
    const { n, value, error } = JSON.parse(line) as RemoteAnswer;
    const call = open.get(n);
    open.delete(n);
    if (error === undefined) call?.resolve(value);
    else call?.reject(new Error(error));
  };
  void child.exited.then(() => {
    for (const { reject } of open.values()) reject(new Error("the process has ended"));
  });
  await ready;
  return {
    call(id, command, input, options) {
      const n = ++calls;
      const call: RemoteCall = { n, id, command, ...(input === undefined ? {} : { input }), ...(options === undefined ? {} : { options }) };
      child.send(JSON.stringify(call));
      return new Promise((resolve, reject) => open.set(n, { resolve, reject }));
    },
    async end(how = "close") {
      if (how === "kill") child.process.kill("SIGKILL");
      else child.send(JSON.stringify({ n: -1, id: "", command: "close" } satisfies RemoteCall));
      await child.exited;
    },
  };
}
