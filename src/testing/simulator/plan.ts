/**
 * What is going to be tried in a simulation, and when: all of it drawn before the run, so that a failing run can be tried again with less of it.
 */
import type { Draws } from "./draws.ts";
import type { FaultKind, FaultKinds } from "./faults.ts";
import type { Wish, Workload } from "./workload.ts";

/** What a call may say beside its input; resolved when it is made. */
export interface CallPlan {
  /** The caller chose a command id, and repeats the command with it until it is answered. */
  readonly repeats: boolean;
  /** The version that the session has seen, or one that it has not. */
  readonly expects: "nothing" | "seen" | "other";
  /** The call carries the session's token. */
  readonly tokenised: boolean;
  readonly deadlineMs: number | undefined;
  /** Its caller gives up after so long. */
  readonly abortMs: number | undefined;
  /** An answer that appends nothing may rest on an older version. */
  readonly cached: boolean;
}

export type Step = { readonly at: number } & (
  | { readonly kind: "command"; readonly number: number; readonly session: number; readonly process: number; readonly wish: Wish; readonly call: CallPlan }
  /** An earlier command again, under the same id: with the same input, or with another one. */
  | { readonly kind: "again"; readonly session: number; readonly process: number; readonly number: number; readonly sameInput: boolean }
  | { readonly kind: "state"; readonly session: number; readonly process: number; readonly wish: Wish; readonly tokenised: boolean }
  /** A read model is built anew beside the one that answers, or stands still for a while. */
  | { readonly kind: "steer"; readonly process: number; readonly model: number; readonly pauseMs: number | undefined }
  | { readonly kind: "history"; readonly process: number; readonly wish: Wish }
  | {
      readonly kind: "read";
      readonly session: number;
      readonly process: number;
      readonly model: number;
      readonly timeoutMs: number;
      readonly serve: boolean;
      /** Asks for the last processed version of this instance. */
      readonly wish: Wish | undefined;
    }
  | { readonly kind: "fault"; readonly fault: FaultKind; readonly process: number; readonly ms: number; readonly times: number; readonly wish: Wish }
);

export interface PlanSizes {
  readonly commands: number;
  readonly reads: number;
  readonly faults: number;
  readonly processes: number;
}

/** Users who each carry their own token. */
export const SESSIONS = 6;

/** Draws a plan, in the order of its times (milliseconds from the start). */
export function planOf(draws: Draws, workload: Workload, sizes: PlanSizes, faults: FaultKinds): Step[] {
  const steps: Step[] = [];
  let clock = 0;
  const time = (): number => {
    // Bursts: half of what happens, happens together with what was before.
    if (draws.chance(0.5)) clock += -Math.log(1 - draws.next()) * 14;
    return clock;
  };
  const process = (): number => draws.int(0, sizes.processes - 1);
  const model = (): number => draws.int(0, Math.max(0, workload.readModels.length - 1));
  const session = (): number => draws.int(0, SESSIONS - 1);
  const kinds: ("command" | "read" | "other")[] = [
    ...Array.from({ length: sizes.commands }, () => "command" as const),
    ...Array.from({ length: sizes.reads }, () => "read" as const),
    ...Array.from({ length: Math.ceil(sizes.commands / 3) }, () => "other" as const),
  ];
  let number = 0;
  for (let left = kinds.length; left > 0; left--) {
    const chosen = draws.int(0, left - 1);
    const kind = kinds[chosen];
    kinds[chosen] = kinds[left - 1] as "command";
    if (kind === "command") steps.push({ at: time(), kind, number: number++, session: session(), process: process(), wish: workload.wish(draws), call: callPlan(draws) });
    else if (kind === "read") {
      steps.push({
        at: time(),
        kind,
        session: session(),
        process: process(),
        model: model(),
        timeoutMs: draws.pick([0, 50, 400, 2000]),
        serve: draws.chance(0.3),
        wish: draws.chance(0.4) ? workload.wish(draws) : undefined,
      });
    } else {
      const which = draws.next();
      if (which < 0.45 && number > 0) {
        steps.push({ at: time(), kind: "again", session: session(), process: process(), number: draws.int(Math.max(0, number - 25), number - 1), sameInput: draws.chance(0.85) });
      } else if (which < 0.52) steps.push({ at: time(), kind: "steer", process: process(), model: model(), pauseMs: draws.chance(0.5) ? draws.next() * 150 : undefined });
      else if (which < 0.9) steps.push({ at: time(), kind: "state", session: session(), process: process(), wish: workload.wish(draws), tokenised: draws.chance(0.5) });
      else steps.push({ at: time(), kind: "history", process: process(), wish: workload.wish(draws) });
    }
  }
  // Not all faults in every run: those that are left go deeper, and do not hide each other (swarm testing).
  const some = <T>(kinds: readonly T[]): T[] => {
    const chosen = kinds.filter(() => draws.chance(0.65));
    return chosen.length > 0 ? chosen : [draws.pick(kinds)];
  };
  const [timed, armed] = [some(faults.timed), some(faults.armed)];
  for (let index = 0; index < sizes.faults; index++) {
    // The timed ones are the heavier: a third of all.
    const fault = draws.chance(0.35) ? draws.pick(timed) : draws.pick(armed);
    steps.push({ at: draws.next() * clock, kind: "fault", fault, process: process(), ms: draws.next(), times: draws.int(1, 2), wish: workload.wish(draws) });
  }
  return steps.sort((a, b) => a.at - b.at);
}

function callPlan(draws: Draws): CallPlan {
  const expects = draws.next();
  return {
    repeats: draws.chance(0.6),
    expects: expects < 0.12 ? "seen" : expects < 0.17 ? "other" : "nothing",
    tokenised: draws.chance(0.25),
    deadlineMs: draws.chance(0.12) ? draws.int(2, 120) : undefined,
    abortMs: draws.chance(0.08) ? draws.next() * 60 : undefined,
    cached: draws.chance(0.08),
  };
}

/** A step in one line. */
export function describeStep(step: Step): string {
  const at = `+${step.at.toFixed(1)}ms`;
  switch (step.kind) {
    case "command": {
      const { repeats, expects, tokenised, deadlineMs, abortMs, cached } = step.call;
      const says = [
        repeats && "with a command id",
        expects !== "nothing" && `expects the version it has ${expects === "seen" ? "seen" : "not seen"}`,
        tokenised && "with its token",
        deadlineMs !== undefined && `deadline ${deadlineMs}ms`,
        abortMs !== undefined && `aborts after ${abortMs.toFixed(1)}ms`,
        cached && "from the cache",
      ].filter((part) => part !== false);
      return `${at} session ${step.session} to process ${step.process}: command ${step.number} ${describeWish(step.wish)}${says.length > 0 ? ` (${says.join(", ")})` : ""}`;
    }
    case "again":
      return `${at} session ${step.session} to process ${step.process}: command ${step.number} again${step.sameInput ? "" : " with another input"}`;
    case "state":
      return `${at} session ${step.session} to process ${step.process}: state of ${step.wish.aggregate.name}-${step.wish.id}${step.tokenised ? " (with its token)" : ""}`;
    case "steer":
      return `${at} process ${step.process}: model ${step.model} ${step.pauseMs === undefined ? "is built anew" : `pauses for ${step.pauseMs.toFixed(1)}ms`}`;
    case "history":
      return `${at} to process ${step.process}: history of ${step.wish.aggregate.name}-${step.wish.id}`;
    case "read":
      return `${at} session ${step.session} to process ${step.process}: reads model ${step.model} with its token, ${step.timeoutMs}ms, then ${step.serve ? "serves" : "fails"}`;
    case "fault":
      return `${at} fault ${step.fault} (process ${step.process}, size ${step.ms.toFixed(2)}, times ${step.times})`;
  }
}

export function describeWish({ aggregate, id, command, input }: Wish): string {
  return `${aggregate.name}-${id}.${command}(${input === undefined ? "" : JSON.stringify(input)})`;
}
