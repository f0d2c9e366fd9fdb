import { closeSync, cpSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, it } from "vitest";
import { environmentOf, silentLogger } from "../../../src/environment.ts";
import type { IndexedEvent, IndexStep, LaneState, LogIndex } from "../../../src/store/kafka/log-index.ts";
import { memoryIndex } from "../../../src/store/kafka/memory-index.ts";
import { sqliteIndex } from "../../../src/store/kafka/sqlite-index.ts";
import { manualEnvironment } from "../../../src/testing/manual-environment.ts";

const folder = mkdtempSync(join(tmpdir(), "tidemark-index-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Damages in a run; more by hand. */
const ATTEMPTS = Number(process.env["INDEX_DAMAGES"] ?? 60);

let files = 0;
const newFile = (): string => join(folder, `index-${++files}.db`);
const environment = environmentOf();
const open = (file: string): LogIndex => sqliteIndex({ file, environment });

const LANES = ["order/0", "order/1", "cart/0"];
const STREAMS = Array.from({ length: 40 }, (_, index) => `${index % 3 === 2 ? "cart" : "order"}-${"x".repeat(index % 7)}é${index}`);
/** Each stream lives in one lane. */
const laneOf = (stream: string): string => LANES[STREAMS.indexOf(stream) % 3] as string;

function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

/** Makes steps as a fold does: versions without gaps, offsets with gaps, claims among them. */
class Writer {
  readonly #random: (below: number) => number;
  readonly #versions = new Map<string, number>();
  readonly #states = new Map<string, LaneState>();

  constructor(seed: number) {
    this.#random = randomFrom(seed);
  }

  step(most = 12): { readonly lane: string; readonly step: IndexStep } {
    const random = this.#random;
    const lane = LANES[random(3)] as string;
    const before = this.#states.get(lane) ?? { topicId: `topic-${lane}`, next: 0, claim: undefined, last: undefined };
    let { next, claim, last } = before;
    const claims = [];
    if (claim === undefined || random(6) === 0) {
      claim = { nonce: `nonce-${lane}-${next}`, offset: next++, producerId: random(9), epoch: random(99), writer: "w" };
      claims.push(claim);
    }
    const events: IndexedEvent[] = [];
    const own = STREAMS.filter((stream) => laneOf(stream) === lane);
    for (let count = random(most); count > 0; count--) {
      next += random(3) === 0 ? 2 : 0;
      const stream = own[random(own.length)] as string;
      const version = (this.#versions.get(stream) ?? 0) + 1;
      this.#versions.set(stream, version);
      const record = Buffer.from(`${stream}:${version}:${"data".repeat(random(40))}`);
      last = { offset: next, eventId: `${stream}/${version}` };
      events.push({ stream, version, offset: next++, record });
    }
    const state = { topicId: before.topicId, next, claim, last };
    this.#states.set(lane, state);
    return { lane, step: { events, claims, state } };
  }

  forget(lane: string): void {
    this.#states.delete(lane);
    for (const stream of STREAMS) if (laneOf(stream) === lane) this.#versions.delete(stream);
  }

  states(): ReadonlyMap<string, LaneState> {
    return this.#states;
  }
}

const plain = (events: readonly IndexedEvent[]) => events.map(({ stream, version, offset, record }) => ({ stream, version, offset, record: Buffer.from(record).toString() }));

/** Everything an index can be asked, as pairs of a question and a way to ask it. */
function* questions(states: ReadonlyMap<string, LaneState>): Generator<readonly [string, (index: LogIndex) => unknown]> {
  for (const lane of LANES) yield [`lane ${lane}`, (index) => index.lane(lane)];
  for (const stream of STREAMS) {
    yield [`version of ${stream}`, (index) => index.versionOf(stream)];
    yield [`stream ${stream}`, (index) => plain(readStream(index, stream))];
  }
  for (const [lane, { next }] of states) {
    yield [`log ${lane}`, (index) => plain(readLog(index, lane, 0, next))];
    yield [`middle of ${lane}`, (index) => plain(readLog(index, lane, next >> 1, next - 3))];
    for (let offset = 0; offset < next; offset += 5) yield [`claim of ${lane} at ${offset}`, (index) => index.claimAt(lane, offset)];
  }
}

function readStream(index: LogIndex, stream: string): readonly IndexedEvent[] {
  const found: IndexedEvent[] = [];
  const last = index.versionOf(stream);
  while (found.length < last) {
    const slice = index.stream(stream, found.length + 1, last);
    if (slice.length === 0) throw new Error("none where there are some");
    found.push(...slice);
  }
  return found;
}

function readLog(index: LogIndex, lane: string, from: number, to: number): readonly IndexedEvent[] {
  const found: IndexedEvent[] = [];
  for (let at = from; ; ) {
    const page = index.log(lane, at, to, 7);
    const last = page.at(-1);
    if (last === undefined) return found;
    found.push(...page);
    at = last.offset + 1;
  }
}

function expectAlike(index: LogIndex, model: LogIndex, states: ReadonlyMap<string, LaneState>): void {
  for (const [question, ask] of questions(states)) expect(ask(index), question).toEqual(ask(model));
}

describe("the index in an SQLite file", () => {
  it.each([1, 2, 3, 4, 5])("answers as the one in memory, before and after it is opened again (seed %i)", (seed) => {
    const [file, random, writer, model] = [newFile(), randomFrom(seed + 100), new Writer(seed), memoryIndex()];
    let index = open(file);
    for (let round = 0; round < 60; round++) {
      const { lane, step } = writer.step();
      index.apply(lane, step);
      model.apply(lane, step);
      if (random(8) === 0) {
        index.close();
        index = open(file);
      }
      if (random(25) === 0) {
        index.reset(lane);
        model.reset(lane);
        writer.forget(lane);
      }
      if (round % 10 === 9) expectAlike(index, model, writer.states());
    }
    expect(writer.states().size).toBeGreaterThan(0);
    index.close();
  });

  it("saves what it was given after a second, and does not lose it with the process", async () => {
    const file = newFile();
    const manual = manualEnvironment();
    const index = sqliteIndex({ file, environment: manual });
    const { lane, step } = new Writer(9).step();
    index.apply(lane, step);
    const copy = `${file}.copy`;
    const asAfterCrash = (): LaneState | undefined => {
      for (const suffix of ["", "-wal"]) if (existsSync(file + suffix)) cpSync(file + suffix, copy + suffix);
      const copied = open(copy);
      const state = copied.lane(lane);
      copied.close();
      return state;
    };
    expect(asAfterCrash()).toBeUndefined();
    await manual.clock.advance(1000);
    expect(asAfterCrash()).toEqual(step.state);
    index.close();
  });

  it("is opened by one process at a time, and leaves foreign files alone", () => {
    const file = newFile();
    const index = open(file);
    index.apply("order/0", new Writer(3).step().step);
    expect(() => open(file)).toThrow("is in use by another process: give each process a file of its own");
    index.close();
    const foreign = newFile();
    const db = new DatabaseSync(foreign);
    db.exec("CREATE TABLE theirs (x)");
    db.close();
    expect(() => open(foreign)).toThrow("is an SQLite file, but not an index of the Kafka store");
    expect(() => sqliteIndex({ file: ":memory:", environment })).toThrow("must be the path of a file");
  });

  it("is built anew where the file is no index any more, and the damaged one is kept aside", () => {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (_: object, message: string) => void warnings.push(message) };
    const file = newFile();
    writeFileSync(file, "no SQLite file at all, but long enough to be read as one".repeat(100));
    const index = sqliteIndex({ file, environment: environmentOf({ logger }) });
    expect(index.lane("order/0")).toBeUndefined();
    index.close();
    expect(readFileSync(`${file}.damaged`, "utf8")).toContain("no SQLite file");
    expect(warnings).toEqual(["the index is damaged: it was put aside and is built again from the log"]);
  });

  it("takes a step or not: where there is no more room in memory and the file refuses, the next step fails whole", () => {
    const file = newFile();
    const index = open(file);
    const writer = new Writer(12);
    const { lane, step } = writer.step();
    // No file takes such an offset, and such a record leaves no room for another.
    const large: IndexedEvent = { stream: "cart-large", version: 1, offset: 7, record: Buffer.alloc(33 * 1024 * 1024) };
    const unsaved = { topicId: "t", next: 2 ** 41, claim: undefined, last: { offset: 7, eventId: "large" } };
    index.apply("other/0", { events: [large], claims: [], state: unsaved });
    expect(() => index.apply(lane, step)).toThrow("the index cannot hold offset");
    expect(index.lane(lane)).toBeUndefined();
    expect(index.lane("other/0")).toEqual(unsaved);
    index.close();
    const again = open(file);
    expect(again.lane("other/0")).toBeUndefined();
    expect(again.versionOf("cart-large")).toBe(0);
    again.close();
  });

  // A row that is gone without a trace of its own.
  it.each([
    ["an event in the middle", "log", "DELETE FROM events WHERE at = (SELECT at FROM events ORDER BY at LIMIT 1 OFFSET 3)"],
    ["the first event of a lane", "log", "DELETE FROM events WHERE at = (SELECT min(at) FROM events)"],
    ["the last event of a lane", "log", "DELETE FROM events WHERE at = (SELECT max(at) FROM events)"],
    ["the last version of a stream", "version of", "DELETE FROM versions WHERE at = (SELECT at FROM versions v WHERE version = (SELECT max(version) FROM versions w WHERE w.stream = v.stream) LIMIT 1)"],
    ["a version in the middle", "stream", "DELETE FROM versions WHERE version = 1 AND stream = (SELECT max(stream) FROM versions WHERE version = 2)"],
    ["the first claim of a lane", "claim of", "DELETE FROM claims WHERE at = (SELECT min(at) FROM claims)"],
    ["the last claim of a lane", "claim of", "DELETE FROM claims WHERE at = (SELECT max(at) FROM claims)"],
  ])("notices that %s is missing, from what is asked of the %s", (_, prefix, sql) => {
    const file = newFile();
    const index = open(file);
    const writer = new Writer(21);
    for (let round = 0; round < 40; round++) {
      const { lane, step } = writer.step();
      index.apply(lane, step);
    }
    index.close();
    const db = new DatabaseSync(file);
    expect(db.prepare(sql).run().changes).toBe(1);
    db.close();
    expect(notices(file, [...questions(writer.states())].filter(([question]) => question.startsWith(prefix)))).toBe(true);
  });

  // Bytes changed anywhere, and a file cut anywhere: whatever is answered is right, or it is refused as damaged.
  it.each([11])("never answers wrongly from a damaged file (seed %i)", (seed) => {
    const [file, random, writer, model] = [newFile(), randomFrom(seed), new Writer(seed), memoryIndex()];
    const index = open(file);
    for (let round = 0; round < 120; round++) {
      const { lane, step } = writer.step();
      index.apply(lane, step);
      model.apply(lane, step);
    }
    index.close();
    const asked = [...questions(writer.states())].map(([question, ask]) => [question, ask, JSON.stringify(ask(model))] as const);
    const size = statSync(file).size;
    let noticed = 0;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const damaged = newFile();
      cpSync(file, damaged);
      if (attempt % 10 === 0) truncateSync(damaged, random(size));
      else overwrite(damaged, random(size), Uint8Array.from({ length: 1 + random(attempt % 3 === 0 ? 200 : 3) }, () => random(256)));
      noticed += judge(damaged, asked) ? 1 : 0;
      for (const suffix of ["", ".damaged", "-wal", "-shm"]) rmSync(damaged + suffix, { force: true });
    }
    // Most bytes of the file mean something.
    expect(noticed).toBeGreaterThan(ATTEMPTS / 3);
  });
});

/** Whether it is put aside when it is opened, or one of the questions finds the damage. */
function notices(file: string, asked: readonly (readonly [string, (index: LogIndex) => unknown])[]): boolean {
  const index = open(file);
  try {
    return existsSync(`${file}.damaged`) || asked.some(([, ask]) => {
      try {
        ask(index);
        return false;
      } catch (error) {
        return (error as { code?: unknown }).code === "StoreCorrupt";
      }
    });
  } finally {
    index.close();
  }
}

function overwrite(file: string, at: number, bytes: Uint8Array): void {
  const descriptor = openSync(file, "r+");
  writeSync(descriptor, bytes, 0, bytes.length, at);
  closeSync(descriptor);
}

/** Whether the damage was noticed. Fails when an answer is wrong. */
function judge(file: string, asked: readonly (readonly [string, (index: LogIndex) => unknown, string])[]): boolean {
  let index: LogIndex;
  try {
    index = open(file);
  } catch (error) {
    // The header that says whose file it is was hit: a file that may be another's is left alone.
    expect((error as { code?: unknown }).code).toBe("InvalidArgument");
    return true;
  }
  try {
    if (existsSync(`${file}.damaged`)) {
      expect(index.lane("order/0")).toBeUndefined();
      return true;
    }
    for (const [question, ask, expected] of asked) {
      let answer: string;
      try {
        answer = JSON.stringify(ask(index));
      } catch (error) {
        expect((error as { code?: unknown }).code, question).toBe("StoreCorrupt");
        expect(existsSync(file)).toBe(false);
        return true;
      }
      expect(answer, question).toBe(expected);
    }
    return false;
  } finally {
    index.close();
  }
}
