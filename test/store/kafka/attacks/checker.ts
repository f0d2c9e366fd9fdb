/**
 * Holds what stands in the log to what workloads were told (guarantees I1 to I5).
 *
 * I1 What was acknowledged stands, once, at the version and the offset that was told. Nothing stands that nobody appended; an append stands whole or not at all.
 * I2 Versions of a stream are 1, 2, 3 … (the reader's rule, which stops where they are not).
 * I3 Every append stands right after the event that it was decided on.
 * I4 What was answered with a refusal or a conflict does not stand.
 * I5 A read sees what anybody had been acknowledged before it began.
 */
import { expect } from "vitest";
import { component } from "../../../support/components.ts";
import { committedIn, type Line } from "./ledger.ts";
import { countedIn, readRecords, readWithKcat, type CountedEvent } from "./plain-reader.ts";

type AppendLine = Extract<Line, { what: "append" }>;
type OutcomeLine = Extract<Line, { what: "outcome" }>;

const nothing: ReadonlySet<string> = new Set();

/** What is wrong, in words; at most some dozens. `cutOff`: events that the log itself has lost; what was decided on one of them may stand after another at its version, for an append compares versions alone. */
export function violationsIn(lines: readonly Line[], standing: readonly CountedEvent[], cutOff = nothing): readonly string[] {
  const wrong: string[] = [];
  const say = (text: string): void => void (wrong.length < 40 && wrong.push(text));
  const outcomes = new Map<string, OutcomeLine>();
  for (const line of lines) if (line.what === "outcome") outcomes.set(line.id, line);
  const places = new Map<string, CountedEvent>();
  const streams = new Map<string, (string | null)[]>();
  for (const event of standing) {
    if (places.has(event.id)) say(`I1: ${event.id} stands twice, at offsets ${places.get(event.id)?.offset} and ${event.offset} of partition ${event.partition}`);
    places.set(event.id, event);
    const ids = streams.get(event.stream) ?? [null];
    ids[event.version] = event.id;
    streams.set(event.stream, ids);
  }
  const appended = new Set<string>();
  for (const line of lines) {
    if (line.what !== "append") continue;
    for (const id of line.ids) appended.add(id);
    checkAppend(line, outcomes.get(line.ids[0] ?? ""));
  }
  for (const { id, stream, version } of standing) if (!appended.has(id)) say(`I1: ${id}, version ${version} of ${stream}, was appended by nobody`);
  checkReads(lines, say);
  for (const line of lines) {
    if (line.what === "read" && line.version > 0 && streams.get(line.stream)?.[line.version] !== line.last) say(`I1: ${line.stream} was read as ending with ${line.last}, version ${line.version}, which is not what stands`);
  }
  return wrong;

  function checkAppend({ stream, expected, after, ids }: AppendLine, outcome: OutcomeLine | undefined): void {
    const found = ids.map((id) => places.get(id));
    const count = found.filter((each) => each !== undefined).length;
    const what = `the append of ${ids[0]} to ${stream}`;
    if (count !== 0 && count !== ids.length) say(`I1: of ${what} ${count} of ${ids.length} events stand`);
    if (count > 0) {
      found.forEach((each, index) => each?.version !== expected + index + 1 && say(`I1: event ${index} of ${what} stands at version ${each?.version}, decided on ${expected}`));
      const before = streams.get(stream)?.[expected];
      if (before !== after && !cutOff.has(after ?? "")) say(`I3: ${what} was decided on ${after} and stands after ${before}`);
    }
    if (outcome?.kind === "committed") {
      if (count === 0) say(`I1: ${what} was acknowledged at version ${outcome.version} and does not stand`);
      else if (found.at(-1)?.offset !== outcome.offset || found.at(-1)?.version !== outcome.version) {
        say(`I1: ${what} was acknowledged at version ${outcome.version}, offset ${outcome.offset}, and stands at ${found.at(-1)?.version}, ${found.at(-1)?.offset}`);
      }
    } else if ((outcome?.kind === "refused" || outcome?.kind === "conflict") && count > 0) say(`I4: ${what} was answered ${outcome.kind} and stands at offset ${found[0]?.offset}`);
  }
}

export interface Loss {
  readonly wrong: readonly string[];
  /** Appends that had been acknowledged. */
  readonly lost: number;
}

/**
 * As `violationsIn`, where a log was cut off by an unclean election, and nothing worse. Lost may be what was acknowledged after `alone`, when its leader had no replica any more, and before the next
 * leader acknowledged anything; until then it may also have been read. Whoever had been told of it is told that the log was rewound, and nothing else is said aloud.
 */
export function violationsAfterCut(ledgers: readonly (readonly Line[])[], standing: readonly CountedEvent[], alone: number): Loss {
  const wrong: string[] = [];
  const lines = ledgers.flat();
  const stands = new Set(standing.map(({ id }) => id));
  const appends = new Map(lines.flatMap((line) => (line.what === "append" ? [[line.ids[0] ?? "", line.ids] as const] : [])));
  const outcomes = lines.filter((line) => line.what === "outcome");
  const isLost = (line: Line): boolean => line.what === "outcome" && line.kind === "committed" && appends.get(line.id)?.some((id) => stands.has(id)) === false;
  const lost = outcomes.filter(isLost);
  const cut = Math.min(...lost.map(({ id, offset = -1 }) => offset + 1 - (appends.get(id)?.length ?? 0)));
  const renewed = Math.min(...outcomes.filter((line) => line.kind === "committed" && !isLost(line) && (line.offset ?? -1) >= cut).map(({ at }) => at));
  for (const { id, at } of lost) {
    if (at < alone) wrong.push(`I1: the append of ${id} was acknowledged while its leader had a replica, and is lost`);
    if (at > renewed) wrong.push(`I1: the append of ${id} was acknowledged by the next leader, and is lost`);
  }
  const never = new Set(outcomes.filter(({ kind }) => kind === "refused" || kind === "conflict").flatMap(({ id }) => appends.get(id) ?? []));
  const cutOff = new Set([...appends.values()].flat().filter((id) => !stands.has(id) && !never.has(id)));
  const wasRead = (line: Line): boolean => line.what === "read" && cutOff.has(line.last ?? "") && line.began < renewed;
  const left = lines.filter((line) => !isLost(line) && !wasRead(line));
  for (const own of ledgers) {
    const alarms = own.flatMap((line) => (line.what === "alarm" ? [line.code] : []));
    for (const code of alarms) if (code !== "StoreRewound") wrong.push(`${code} was said aloud`);
    if (alarms.length === 0 && own.some((line) => isLost(line) || wasRead(line))) wrong.push("one who had been told of what is lost was not told that it is");
  }
  return { wrong: [...wrong, ...violationsIn(left, standing, cutOff)], lost: lost.length };
}

/** I5. */
function checkReads(lines: readonly Line[], say: (text: string) => void): void {
  const stream = new Map<string, string>();
  for (const line of lines) if (line.what === "append") stream.set(line.ids[0] ?? "", line.stream);
  type Moment = { readonly time: number; readonly stream: string; readonly version: number; readonly read: boolean };
  const moments: Moment[] = [];
  for (const line of lines) {
    if (line.what === "read") moments.push({ time: line.began, stream: line.stream, version: line.version, read: true });
    if (line.what === "outcome" && line.kind === "committed") moments.push({ time: line.at, stream: stream.get(line.id) ?? "", version: line.version ?? 0, read: false });
  }
  const told = new Map<string, number>();
  // At the same microsecond nobody came before the other.
  for (const { stream: name, version, read } of moments.toSorted((a, b) => a.time - b.time || Number(b.read) - Number(a.read))) {
    const least = told.get(name) ?? 0;
    if (read && version < least) say(`I5: ${name} was read at version ${version} after version ${least} had been acknowledged`);
    if (!read && version > least) told.set(name, version);
  }
}

export interface Attacked {
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly lines: readonly Line[];
  /** What must have been acknowledged at least, for the attack to mean something. */
  readonly atLeast: number;
}

export interface Findings {
  readonly committed: number;
  readonly events: number;
  readonly claims: number;
  /** Records of writers that had been replaced, stamps, and foreign ones. */
  readonly passedOver: number;
}

/** The end of every attack: what a plain consumer and kcat read, by the rule, is what everybody was told. */
export async function expectNothingLost({ brokers, topic, lines, atLeast }: Attacked): Promise<Findings> {
  const records = await readRecords(brokers, topic);
  const standing = countedIn(records, true);
  const committed = committedIn(lines);
  expect(violationsIn(lines, standing)).toEqual([]);
  expect(committed).toBeGreaterThanOrEqual(atLeast);
  // Those who are not shown producer ids come to the same.
  expect(countedIn(records, false)).toEqual(standing);
  if (component("kcat").available) expect(countedIn(await readWithKcat(brokers, topic), false)).toEqual(standing);
  const claims = records.filter(({ headers }) => headers["tm-kind"] === "claim").length;
  return { committed, events: standing.length, claims, passedOver: records.length - standing.length - claims };
}
