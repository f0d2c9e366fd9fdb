/** What was asked and what was answered, in the order in which it happened. */
import { offsetOf, type Position } from "../../store/position.ts";
import { describeWish } from "./plan.ts";
import type { Wish } from "./workload.ts";

export type CallAnswer =
  | { readonly kind: "accepted"; readonly version: number; readonly events: readonly { readonly type: string; readonly data: unknown }[] }
  | { readonly kind: "rejected"; readonly version: number; readonly code: string; readonly details: unknown }
  | { readonly kind: "state"; readonly version: number; readonly state: unknown }
  | { readonly kind: "error"; readonly code: string; readonly message: string; readonly details: Readonly<Record<string, unknown>> }
  /** The process died before it answered. */
  | { readonly kind: "lost" };

/** One call of a command, or of `state()`. A repeated command is a call of its own. */
export interface CallRecord {
  /** Recorded with the events as their correlation id: it tells which call made them. */
  readonly id: string;
  readonly process: string;
  readonly wish: Wish;
  readonly stream: string;
  readonly kind: "command" | "state";
  readonly commandId: string | undefined;
  readonly expectedVersion: number | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The version that the call's token names. */
  readonly leastVersion: number;
  /** An answer that appends nothing may rest on an older version. */
  readonly cached: boolean;
  /** Nothing goes wrong any more: it has to succeed. */
  readonly calm: boolean;
  readonly calledAt: number;
  /** Version of the stream in the store when the call was made. */
  readonly versionAtCall: number;
  answeredAt?: number;
  versionAtAnswer?: number;
  /** Its process neither stalled nor had its clock jump meanwhile. */
  undisturbed?: boolean;
  answer?: CallAnswer;
}

/** One read of a read model. */
export interface ReadRecord {
  readonly id: string;
  readonly process: string;
  /** Place among the workload's read models. */
  readonly model: number;
  readonly calm: boolean;
  /** What the session has been told, and so must see: a version for each stream, a position for each category. */
  readonly streams: ReadonlyMap<string, number>;
  readonly positions: ReadonlyMap<string, number>;
  readonly tokenised: boolean;
  readonly serve: boolean;
  readonly asked: string | undefined;
  readonly calledAt: number;
  answeredAt?: number;
  /** Offset of the log's last event when the answer came. */
  lengthAtAnswer?: number;
  answer?:
    | { readonly kind: "rows"; readonly rows: readonly unknown[]; readonly position: Position; readonly stale: boolean; readonly lastProcessed: number | undefined }
    | { readonly kind: "error"; readonly code: string; readonly message: string }
    | { readonly kind: "lost" };
}

/** A slice of a stream that a process was shown. */
export interface HistoryRecord {
  readonly process: string;
  readonly stream: string;
  readonly versions: readonly number[];
  readonly ids: readonly string[];
}

/** A state as it was, folded by a process from the log. */
export interface PastState {
  readonly process: string;
  readonly stream: string;
  readonly version: number;
  readonly state: unknown;
}

/** What the consumer of a process has seen, over all of its restarts. */
export interface Consumed {
  readonly process: number;
  readonly ids: string[];
  token: string | undefined;
}

export class History {
  readonly begun: number;
  readonly calls: CallRecord[] = [];
  readonly reads: ReadRecord[] = [];
  readonly slices: HistoryRecord[] = [];
  readonly states: PastState[] = [];
  readonly consumed: Consumed[] = [];
  /** Everything in one line each. */
  readonly lines: string[] = [];

  constructor(begun: number) {
    this.begun = begun;
  }

  note(now: number, text: string): void {
    this.lines.push(`+${(now - this.begun).toFixed(2)}ms ${text}`);
  }
}

export function describeCall(call: CallRecord): string {
  const what = call.kind === "state" ? `${call.stream}.state()` : describeWish(call.wish);
  const says = [
    call.commandId !== undefined && `commandId ${call.commandId}`,
    call.expectedVersion !== undefined && `expects ${call.expectedVersion}`,
    call.cached && "from the cache",
    call.leastVersion > 0 && `at least ${call.leastVersion}`,
  ].filter((part) => part !== false);
  return `${call.id} on ${call.process}: ${what}${says.length > 0 ? ` (${says.join(", ")})` : ""}, stream at ${call.versionAtCall}`;
}

export function describeAnswer(answer: CallAnswer | undefined): string {
  switch (answer?.kind) {
    case undefined:
      return "no answer";
    case "accepted":
      return `accepted at ${answer.version}: ${answer.events.map(({ type }) => type).join(", ") || "nothing to do"}`;
    case "rejected":
      return `rejected on ${answer.version}: ${answer.code}${answer.details === undefined ? "" : ` ${JSON.stringify(answer.details)}`}`;
    case "state":
      return `state at ${answer.version}: ${JSON.stringify(answer.state)}`;
    case "error":
      return `${answer.code}: ${answer.message}`;
    case "lost":
      return "lost with its process";
  }
}

export function describeRead(answer: ReadRecord["answer"]): string {
  switch (answer?.kind) {
    case undefined:
      return "no answer";
    case "rows":
      return `shows ${JSON.stringify(answer.rows)} up to ${offsetOf(answer.position)}${answer.stale ? ", stale" : ""}`;
    case "error":
      return `${answer.code}: ${answer.message}`;
    case "lost":
      return "lost with its process";
  }
}
