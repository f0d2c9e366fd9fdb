/**
 * What processes say of their calls, and what the checker of the simulator makes of it. It knows of a simulated store at which version a stream was at any
 * moment; of a real one the answers bound it: whatever had been answered before a call began is the least that the call rests on.
 */
import { check, type Violation } from "../../../src/testing/simulator/checker.ts";
import { History, type CallAnswer, type CallRecord, type ReadRecord } from "../../../src/testing/simulator/history.ts";
import { Reference } from "../../../src/testing/simulator/reference.ts";
import type { Workload } from "../../../src/testing/simulator/workload.ts";
import type { StoredEvent } from "../../../src/store/event-store.ts";
import { Account, balances } from "../../soak/processes/account.ts";

interface Begun {
  readonly id: string;
  /** Nothing goes wrong any more: it has to succeed. */
  readonly calm: boolean;
  /** Milliseconds, on a clock that all processes share. */
  readonly at: number;
  readonly account: string;
}

/** Said before the call is made: a kill may keep its answer from being told. */
export type Asked =
  | (Begun & { readonly kind: "command"; readonly command: "deposit" | "withdraw"; readonly amount: number; readonly commandId: string })
  | (Begun & { readonly kind: "state" })
  /** With the token of `version`. */
  | (Begun & { readonly kind: "read"; readonly version: number });

export interface Answered {
  readonly id: string;
  readonly at: number;
  readonly answer: Exclude<CallAnswer, { readonly kind: "lost" }> | NonNullable<ReadRecord["answer"]>;
  /** Of a read: how long the log was afterwards. */
  readonly length?: number;
}

export interface Recording {
  /** All lines of all processes, in whichever order. */
  readonly lines: readonly (Asked | Answered)[];
  /** Processes that were killed: what they did not answer is lost. */
  readonly killed: ReadonlySet<string>;
  readonly log: readonly StoredEvent[];
  /** No call takes longer once it is calm. */
  readonly boundMs: number;
}

const WORKLOAD: Workload = { aggregates: [Account], readModels: [balances], wish: () => ({ aggregate: Account, id: "none", command: "deposit" }) };

/** I1 to I6 as far as answers and log tell; the first violations. */
export async function checkRecording({ lines, killed, log, boundMs }: Recording): Promise<readonly Violation[]> {
  const answers = new Map<string, Answered>();
  const asked: Asked[] = [];
  for (const line of lines) {
    if ("kind" in line) asked.push(line);
    else answers.set(line.id, line);
  }
  const leasts = leastVersions(asked, answers);
  const history = new History(0);
  for (const one of asked) {
    const process = one.id.slice(0, one.id.indexOf("."));
    const answered = answers.get(one.id);
    const lost = answered === undefined && killed.has(process) ? ({ kind: "lost" } as const) : undefined;
    if (one.kind === "read") history.reads.push(readOf(one, process, answered, lost));
    else history.calls.push(callOf(one, process, answered, lost, leasts.get(one.id) ?? 0));
  }
  return check({ workload: WORKLOAD, history, reference: new Reference(WORKLOAD, log), strangers: [], viewCommits: [], callBoundMs: boundMs });
}

function callOf(asked: Exclude<Asked, { readonly kind: "read" }>, process: string, answered: Answered | undefined, lost: { readonly kind: "lost" } | undefined, least: number): CallRecord {
  const isCommand = asked.kind === "command";
  const answer = (answered?.answer as CallAnswer | undefined) ?? lost;
  return {
    id: asked.id,
    process,
    wish: { aggregate: Account, id: asked.account, command: isCommand ? asked.command : "settle", ...(isCommand && { input: { amount: asked.amount } }) },
    stream: `account-${asked.account}`,
    kind: isCommand ? "command" : "state",
    commandId: isCommand ? asked.commandId : undefined,
    expectedVersion: undefined,
    metadata: {},
    leastVersion: 0,
    cached: false,
    calm: asked.calm,
    calledAt: asked.at,
    versionAtCall: least,
    undisturbed: asked.calm,
    ...(answered !== undefined && { answeredAt: answered.at }),
    ...(answer !== undefined && { answer }),
  };
}

function readOf(asked: Extract<Asked, { readonly kind: "read" }>, process: string, answered: Answered | undefined, lost: { readonly kind: "lost" } | undefined): ReadRecord {
  const answer = (answered?.answer as ReadRecord["answer"]) ?? lost;
  const stream = `account-${asked.account}`;
  return {
    id: asked.id,
    process,
    model: 0,
    calm: asked.calm,
    streams: new Map([[stream, asked.version]]),
    positions: new Map(),
    tokenised: true,
    serve: false,
    asked: stream,
    calledAt: asked.at,
    ...(answered !== undefined && { answeredAt: answered.at, ...(answered.length !== undefined && { lengthAtAnswer: answered.length }) }),
    ...(answer !== undefined && { answer }),
  };
}

/** For each call the highest version of its stream that had been answered, in whichever process, before it began. */
function leastVersions(asked: readonly Asked[], answers: ReadonlyMap<string, Answered>): ReadonlyMap<string, number> {
  const leasts = new Map<string, number>();
  for (const own of Map.groupBy(asked, ({ account }) => account).values()) {
    const ends = own.flatMap(({ id }) => {
      const found = answers.get(id);
      return found !== undefined && "version" in found.answer ? [{ at: found.at, version: found.answer.version }] : [];
    });
    ends.sort((a, b) => a.at - b.at);
    let seen = 0;
    let next = 0;
    for (const { id, at } of own.toSorted((a, b) => a.at - b.at)) {
      for (let end = ends[next]; end !== undefined && end.at < at; end = ends[++next]) seen = Math.max(seen, end.version);
      leasts.set(id, seen);
    }
  }
  return leasts;
}
