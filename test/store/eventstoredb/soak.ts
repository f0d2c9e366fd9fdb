/** Callers on one EventStoreDB, a test server on a file in a process of its own, which is killed, cut off, and loses replies. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { soakCallers, type CallersSoakReport } from "../../support/callers/soak.ts";
import { proxyTo } from "../../support/proxy.ts";
import { startServer } from "../../testing/eventstoredb-server/own-process.ts";
import { readChecked } from "../postgres/shared.ts";

/** Longest wait of a caller for an answer; what is under way when the attacks end has failed by then. */
const TIMEOUT_MS = 3000;

export async function soakEventStoreDB({ seed, durationMs }: { readonly seed: number; readonly durationMs: number }): Promise<CallersSoakReport> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
  const serve = (port: number) => startServer("--port", String(port), "--file", join(folder, "log"), "--control", "0");
  let server = await serve(0);
  const proxy = await proxyTo(server.lines[0] as string);
  const control = (path: string, body: unknown = {}): Promise<unknown> => fetch(`${server.lines[1]}${path}`, { method: "POST", body: JSON.stringify(body) });
  try {
    return await soakCallers({
      seed,
      processes: 2,
      durationMs,
      url: `${proxy.url}&timeoutMs=${TIMEOUT_MS}`,
      proxy,
      settleMs: TIMEOUT_MS,
      attacks: {
        drop: (random) => control("/faults", { on: "batch-append", times: 1 + Math.floor(4 * random()), action: { kind: "drop-reply" } }),
        end: () => control("/end-streams"),
        async server(random) {
          const { port } = server;
          await server.kill("SIGKILL");
          await pause(200 * random());
          server = await serve(port);
        },
      },
      async log() {
        const store = await eventStoreDBStore({ connection: server.lines[0] as string });
        const events = [...(await readChecked(store, {}, { gaps: true })).values()];
        await store.close();
        return events;
      },
    });
  } finally {
    await proxy.close();
    await server.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  }
}
