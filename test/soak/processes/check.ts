/**
 * Holds what processes were told against what stands in the log. Nothing of an actor is looked at: the log and the answers are enough.
 *
 * I1 An accepted command stands exactly once within the window of command ids, and at the version that was answered. I2 Versions are contiguous. I3 A state or rejection equals the fold at its version.
 * I4 A command that was refused for certain stands nowhere, unless it was sent again. I5 A read with a token has seen its version, and shows the fold there.
 * Fresh: an answer is not older than any answer that had ended before its call began, in whichever process.
 */
import { commandWindowDefaults } from "../../../src/index.ts";
import type { CallRecord, Repeat } from "./record.ts";

export interface LoggedEvent {
  readonly stream: string;
  readonly version: number;
  readonly type: string;
  readonly amount: number;
  readonly commandId: string;
  /** The caller chose the command id: it takes a place in the window. */
  readonly chosen: boolean;
}

/** Commands that a stream remembers: a repeat beyond that is a new command. */
const WINDOW = commandWindowDefaults.capacity;

/** Errors after which the events of a command may stand. */
const MAYBE = new Set(["OutcomeUnknown"]);

interface Place {
  readonly version: number;
  /** Among the stream's commands whose ids were chosen. */
  readonly ordinal: number;
}

/** What is wrong, a line each; empty when all is well. `repeats`: commands that were sent again, whether or not they were answered. */
export function check(events: readonly LoggedEvent[], records: readonly CallRecord[], repeats: readonly Repeat[] = []): readonly string[] {
  const wrong: string[] = [];
  const balances = new Map<string, number[]>();
  const places = new Map<string, Place[]>();
  const chosen = new Map<string, number>();
  for (const event of events) {
    const folded = balances.get(event.stream) ?? [0];
    balances.set(event.stream, folded);
    if (event.version !== folded.length) wrong.push(`I2: ${event.stream} goes from version ${folded.length - 1} to ${event.version}`);
    folded.push((folded.at(-1) ?? 0) + (event.type === "Deposited" ? event.amount : -event.amount));
    const key = `${event.stream} ${event.commandId}`;
    const standing = places.get(key);
    const ordinal = (chosen.get(event.stream) ?? 0) + (event.chosen ? 1 : 0);
    chosen.set(event.stream, ordinal);
    const place = { version: event.version, ordinal };
    if (standing === undefined) places.set(key, [place]);
    else {
      const before = standing.at(-1) as Place;
      if (ordinal - before.ordinal <= WINDOW) wrong.push(`I1: ${event.commandId} stands at versions ${before.version} and ${event.version} of ${event.stream}, ${ordinal - before.ordinal} commands apart`);
      standing.push(place);
    }
  }
  for (const [stream, folded] of balances) if (folded.some((balance) => balance < 0)) wrong.push(`I3: ${stream} was overdrawn: a withdrawal was decided on a balance that was not there`);

  const possible = new Set(records.filter(({ answer }) => answer.kind === "accepted" || (answer.kind === "error" && MAYBE.has(answer.code))).map(({ stream, commandId }) => `${stream} ${commandId}`));
  for (const key of unanswered(records, repeats)) possible.add(key);
  for (const record of records) {
    const { stream, answer, commandId, call } = record;
    const shown = JSON.stringify(record);
    const at = (version: number): number | undefined => (balances.get(stream) ?? [0])[version];
    if (answer.kind === "accepted" && answer.events > 0 && commandId !== undefined) {
      const standing = places.get(`${stream} ${commandId}`) ?? [];
      if (!standing.some(({ version }) => version === answer.version)) wrong.push(`I1: accepted at version ${answer.version}, but it stands at ${standing.map(({ version }) => version).join(", ") || "none"}: ${shown}`);
    }
    if ((answer.kind === "rejected" || answer.kind === "state") && at(answer.version) !== answer.balance) wrong.push(`I3: the fold at version ${answer.version} is ${at(answer.version)}: ${shown}`);
    if (answer.kind === "rejected" && answer.balance >= (record.amount ?? 0)) wrong.push(`I3: rejected although it was covered: ${shown}`);
    if (answer.kind === "row") {
      if (answer.version < answer.wanted) wrong.push(`I5: the read missed version ${answer.wanted}: ${shown}`);
      if (at(answer.version) !== answer.balance) wrong.push(`I5: the view is not the fold at version ${answer.version}, which is ${at(answer.version)}: ${shown}`);
    }
    if (answer.kind === "error" && !MAYBE.has(answer.code) && commandId !== undefined && call !== "state") {
      if (places.has(`${stream} ${commandId}`) && !possible.has(`${stream} ${commandId}`)) wrong.push(`I4: it failed for certain, but it stands: ${shown}`);
    }
  }
  return [...wrong, ...freshness(records)];
}

/** Sweeps over beginnings and ends in the order of time. Duplicates answer with their first version and are left out. */
function freshness(records: readonly CallRecord[]): readonly string[] {
  const wrong: string[] = [];
  const byStream = Map.groupBy(records, ({ stream }) => stream);
  for (const ofStream of byStream.values()) {
    const ends = ofStream.filter(({ answer }) => answer.kind !== "error").toSorted((a, b) => a.ended - b.ended);
    const begins = ofStream.filter(({ answer }) => answer.kind !== "error").toSorted((a, b) => a.begun - b.begun);
    let seen = 0;
    let next = 0;
    for (const record of begins) {
      for (let end = ends[next]; end !== undefined && end.ended < record.begun; end = ends[++next]) seen = Math.max(seen, versionOf(end));
      const isDuplicate = record.answer.kind === "accepted" && record.answer.events > 0;
      if (!isDuplicate && versionOf(record) < seen) wrong.push(`fresh: version ${seen} had been answered before this call began: ${JSON.stringify(record)}`);
    }
  }
  return wrong;
}

function versionOf({ answer }: CallRecord): number {
  return answer.kind === "error" ? 0 : answer.version;
}

/** Commands that were called once more often than answered: their process was killed meanwhile, and nobody knows. */
function unanswered(records: readonly CallRecord[], repeats: readonly Repeat[]): readonly string[] {
  const calls = new Map<string, number>();
  for (const { again } of repeats) {
    const key = `${again.stream} ${again.commandId}`;
    calls.set(key, (calls.get(key) ?? 1) + 1);
  }
  for (const { stream, commandId } of records) {
    const key = `${stream} ${commandId}`;
    const left = calls.get(key);
    if (left !== undefined) calls.set(key, left - 1);
  }
  return [...calls].filter(([, left]) => left > 0).map(([key]) => key);
}
