/**
 * Processes that call an app on one store, while they are killed and stopped, their connections are cut, and whatever else the store's own attacks are; what they were
 * told is held against the log by the checker of the simulator.
 *
 * K1 Every attack has its turn, one after the other, with pauses that the seed decides.
 * K2 After the last attack comes time for what is under way to fail. However long a busy machine takes for that: the calm begins when every call of before has been
 *    answered, and the calls after it go well. In the calm nothing may fail.
 */
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { StoredEvent } from "../../../src/store/event-store.ts";
import type { Violation } from "../../../src/testing/simulator/checker.ts";
import { randomFrom, until } from "../../store/postgres/shared.ts";
import { start, type Child } from "../processes.ts";
import type { Proxy } from "../proxy.ts";
import { checkRecording, type Answered, type Asked } from "./recorded.ts";

export interface CallersSoakOptions {
  readonly seed: number;
  readonly processes: number;
  readonly durationMs: number;
  /** What the processes open; through the proxy. */
  readonly url: string;
  readonly proxy: Proxy;
  /** K2, milliseconds: what is under way when the attacks end has failed by then. */
  readonly settleMs: number;
  /** What is done to the store itself. */
  readonly attacks: Readonly<Record<string, (random: () => number) => Promise<unknown>>>;
  /** The whole log, once all processes have ended. */
  readonly log: () => Promise<readonly StoredEvent[]>;
}

export interface CallersSoakReport {
  readonly violations: readonly Violation[];
  readonly events: number;
  readonly calmCalls: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly attacks: Readonly<Record<string, number>>;
  /** How the processes ended that were not killed: 0, each of them. */
  readonly exits: readonly (number | null)[];
}

const CALLER = join(import.meta.dirname, "caller.ts");
const CALM_MS = 1000;
/** No call takes longer in the calm. */
const BOUND_MS = 15_000;
/** A machine that is busy takes its time to start a process, and to come to rest. */
const PATIENCE_MS = 60_000;

export async function soakCallers({ seed, processes, durationMs, url, proxy, settleMs, attacks: own, log }: CallersSoakOptions): Promise<CallersSoakReport> {
  const random = randomFrom(seed);
  const lines: (Asked | Answered)[] = [];
  const killed = new Set<string>();
  const names = new Map<Child, string>();
  const begin = async (): Promise<Child> => {
    const name = `p${names.size}`;
    const child = start(CALLER, url, String(seed * 1000 + names.size), name);
    names.set(child, name);
    child.onLine = (line) => {
      if (line.startsWith("{")) lines.push(JSON.parse(line) as Asked | Answered);
    };
    await until(() => child.lines[0] === "ready", "a process being ready", PATIENCE_MS);
    return child;
  };
  const running = await Promise.all(Array.from({ length: processes }, begin));
  const one = (): number => Math.floor(random() * running.length);
  const attacks: Readonly<Record<string, (random: () => number) => Promise<unknown>>> = {
    async kill() {
      const index = one();
      const victim = running[index] as Child;
      killed.add(names.get(victim) as string);
      victim.process.kill("SIGKILL");
      await victim.exited;
      running[index] = await begin();
    },
    async stop() {
      const victim = running[one()];
      victim?.process.kill("SIGSTOP");
      await pause(800 * random());
      victim?.process.kill("SIGCONT");
    },
    async reset() {
      proxy.reset();
    },
    async cut() {
      proxy.cutAfter = (bytes) => (bytes.includes("Deposited") || bytes.includes("Withdrawn")) && random() < 0.3;
      await pause(200);
      proxy.cutAfter = undefined;
    },
    async delay() {
      proxy.delayMs = 300 * random();
      await pause(200);
      proxy.delayMs = 0;
    },
    ...own,
  };
  const kinds = Object.keys(attacks);
  const done: Record<string, number> = {};
  const end = performance.now() + durationMs;
  try {
    // K1.
    for (let n = 0; performance.now() < end || n < kinds.length; n++) {
      await pause(300 * (0.5 + random()));
      const kind = kinds[n % kinds.length] as string;
      await attacks[kind]?.(random);
      done[kind] = (done[kind] ?? 0) + 1;
    }
    await pause(settleMs);
    await settled(running, lines, names);
    for (const child of running) child.send("calm");
    await pause(CALM_MS);
    for (const child of running) child.send("end");
    const exits = await Promise.all(running.map(({ exited }) => exited));
    const events = await log();
    const answers: Record<string, number> = {};
    for (const line of lines) if ("answer" in line) answers[line.answer.kind] = (answers[line.answer.kind] ?? 0) + 1;
    const calmCalls = lines.filter((line) => "kind" in line && line.calm).length;
    return { violations: await checkRecording({ ...counted(events, lines), killed, boundMs: BOUND_MS }), events: events.length, calmCalls, answers, attacks: done, exits };
  } finally {
    for (const child of running) child.process.kill("SIGKILL");
  }
}

/** K2: every call that was under way has been answered, and of those that began since, each process's last ones well. */
async function settled(running: readonly Child[], lines: readonly (Asked | Answered)[], names: ReadonlyMap<Child, string>): Promise<void> {
  const from = lines.length;
  const alive = new Set(running.map((child) => names.get(child)));
  const underWay = new Set(lines.flatMap((line) => ("kind" in line && alive.has(processOf(line)) ? [line.id] : [])));
  for (const line of lines) if ("answer" in line) underWay.delete(line.id);
  await until(
    () => {
      const answers = lines.slice(from).flatMap((line) => ("answer" in line ? [line] : []));
      for (const { id } of answers) underWay.delete(id);
      if (underWay.size > 0) return false;
      const last = Map.groupBy(answers, processOf);
      return [...alive].every((name) => {
        const own = last.get(name ?? "")?.slice(-WELL_ANSWERED) ?? [];
        return own.length === WELL_ANSWERED && own.every(({ answer }) => answer.kind !== "error");
      });
    },
    "everything under way being answered, and all processes going on without an error",
    PATIENCE_MS,
  );
}

const WELL_ANSWERED = 20;

function processOf({ id }: Asked | Answered): string {
  return id.slice(0, id.indexOf("."));
}

/** With positions that count events: the checker knows no others. */
function counted(log: readonly StoredEvent[], lines: readonly (Asked | Answered)[]): { readonly log: readonly StoredEvent[]; readonly lines: readonly (Asked | Answered)[] } {
  const ends = log.map((event) => event.position["log"] as number);
  const count = (position = 0): number => {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ends[middle] as number) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return {
    log: log.map((event, index) => ({ ...event, position: { log: index + 1 } })),
    lines: lines.map((line) => {
      if (!("answer" in line)) return line;
      const { answer, length } = line;
      return {
        ...line,
        ...(length !== undefined && { length: count(length) }),
        ...("position" in answer && { answer: { ...answer, position: { log: count(answer.position["log"]) } } }),
      };
    }),
  };
}
