/** Processes on one server, all of which are killed, stopped and cut off; what they were told is held against the log by the checker of the simulator. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StoredEvent } from "../../../src/store/event-store.ts";
import { eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { startServer, type ServerProcess } from "../../testing/eventstoredb-server/own-process.ts";
import { start, type Child } from "../postgres/processes.ts";
import { checkRecording, type Answered, type Asked } from "../postgres/recorded.ts";
import { randomFrom, readChecked, until } from "../postgres/shared.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? Date.now() % 100_000);
/** Longer where it is asked for: TIDEMARK_SOAK_SECONDS=600. */
const DURATION_MS = 1000 * Number(process.env["TIDEMARK_SOAK_SECONDS"] ?? 4);
/** After the last attack: what is under way may still fail, and then nothing may. */
const SETTLE_MS = 3000;
const CALM_MS = 1000;

describe(`processes on one EventStoreDB, killed, stopped and cut off (seed ${SEED})`, () => {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
  let server: ServerProcess;
  let proxy: Proxy;
  const serve = async (port: number): Promise<void> => void (server = await startServer("--port", String(port), "--file", join(folder, "log"), "--control", "0"));
  const control = (path: string, body: unknown = {}): Promise<unknown> => fetch(`${server.lines[1]}${path}`, { method: "POST", body: JSON.stringify(body) });
  beforeAll(async () => {
    await serve(0);
    proxy = await proxyTo(server.lines[0] as string);
  });
  afterAll(async () => {
    await proxy.close();
    await server.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });

  it("nobody is told what the log does not hold: I1 to I6 on what all of them have heard", { timeout: 3 * DURATION_MS + 180_000 }, async () => {
    const random = randomFrom(SEED);
    const lines: (Asked | Answered)[] = [];
    const killed = new Set<string>();
    const names = new Map<Child, string>();
    const begin = async (): Promise<Child> => {
      const name = `p${names.size}`;
      const child = start("caller.ts", `${proxy.url}&timeoutMs=3000`, String(SEED * 1000 + names.size), name);
      names.set(child, name);
      child.onLine = (line) => {
        if (line.startsWith("{")) lines.push(JSON.parse(line) as Asked | Answered);
      };
      await until(() => child.lines[0] === "ready", "a process being ready", 60_000);
      return child;
    };
    const running = [await begin(), await begin()];
    const attacks: Readonly<Record<string, (index: number) => Promise<unknown>>> = {
      async kill(index) {
        const victim = running[index] as Child;
        killed.add(names.get(victim) as string);
        victim.process.kill("SIGKILL");
        await victim.exited;
        running[index] = await begin();
      },
      async stop(index) {
        running[index]?.process.kill("SIGSTOP");
        await pause(800 * random());
        running[index]?.process.kill("SIGCONT");
      },
      async reset() {
        proxy.reset();
      },
      async cut() {
        proxy.cutAfter = (bytes) => (bytes.includes("Deposited") || bytes.includes("Withdrawn")) && random() < 0.3;
        await pause(200);
        proxy.cutAfter = undefined;
      },
      drop: () => control("/faults", { on: "batch-append", times: 1 + Math.floor(4 * random()), action: { kind: "drop-reply" } }),
      end: () => control("/end-streams"),
      async delay() {
        proxy.delayMs = 300 * random();
        await pause(200);
        proxy.delayMs = 0;
      },
      async server() {
        const { port } = server;
        await server.kill("SIGKILL");
        await pause(200 * random());
        await serve(port);
      },
    };
    const kinds = Object.keys(attacks);
    const end = performance.now() + DURATION_MS;
    for (let n = 0; performance.now() < end || n < kinds.length; n++) {
      await pause(300 * (0.5 + random()));
      await attacks[kinds[n % kinds.length] as string]?.(Math.floor(random() * running.length));
    }
    await pause(SETTLE_MS);
    for (const child of running) child.send("calm");
    await pause(CALM_MS);
    for (const child of running) child.send("end");
    expect(await Promise.all(running.map(({ exited }) => exited))).toEqual([0, 0]);

    const store = await eventStoreDBStore({ connection: server.lines[0] as string });
    const log = [...(await readChecked(store, {}, { gaps: true })).values()];
    await store.close();
    const count = places(log);
    const counted = log.map((event): StoredEvent => ({ ...event, position: { log: count(event.position["log"]) } }));
    for (const line of lines) if ("answer" in line && "position" in line.answer) Object.assign(line.answer, { position: { log: count(line.answer.position["log"]) } });
    expect(await checkRecording({ lines, killed, log: counted, boundMs: 15_000 })).toEqual([]);
    const answers = Map.groupBy(lines.flatMap((line) => ("answer" in line ? [line.answer.kind] : [])), (kind) => kind);
    for (const kind of ["accepted", "state", "rows"] as const) expect(answers.get(kind)?.length ?? 0, kind).toBeGreaterThan(10);
    expect(lines.filter((line) => "kind" in line && line.calm).length, "calls in the calm").toBeGreaterThan(5);
  });
});

/** How many events stand up to a place: the checker knows logs whose positions count events. */
function places(log: readonly StoredEvent[]): (position: number | undefined) => number {
  const ends = log.map((event) => event.position["log"] as number);
  return (position = 0) => {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ends[middle] as number) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
