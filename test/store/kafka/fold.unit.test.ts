/**
 * The fold, against writers that no broker holds apart: whatever two of them do to one partition in whatever order, what was acknowledged counts once, on the
 * predecessor it was decided on, and nothing else of the same append ever does. Folds and writers with one rule less are told by the same check.
 */
import { describe, expect, it } from "vitest";
import type { NewEvent } from "../../../src/store/event-store.ts";
import { fold, type FoldedBefore } from "../../../src/store/kafka/fold.ts";
import type { IndexedEvent, LaneState } from "../../../src/store/kafka/log-index.ts";
import { prepare } from "../../../src/store/kafka/prepared-append.ts";
import { batchesIn, BatchWriter, eachRecord, type Batch } from "../../../src/store/kafka/record-batch.ts";
import { marksOf, writeClaim, writeEvent } from "../../../src/store/kafka/record-format.ts";
import { seededRandom } from "../../../src/testing/index.ts";

/** Orders of steps that are tried, each from a seed. */
const SCHEDULES = 400;

const START: LaneState = { topicId: "t", next: 0, claim: undefined, last: undefined };
const NOTHING: FoldedBefore = { versionOf: () => 0, idAt: () => undefined, hasClaim: () => false };
const STREAMS = ["order-1", "order-2"];

interface Accepted {
  readonly id: string;
  readonly stream: string;
  readonly version: number;
  /** Id of the event before it, as its writer knew the stream. */
  readonly after: string;
}

/** What a reader makes of the log: the events that count, in order, and the claim in force. */
type Read = (log: readonly Batch[]) => { readonly events: readonly Accepted[]; readonly claim: string | undefined };

const byTheFold: Read = (log) => {
  const { events, state } = fold(START, log, NOTHING);
  return { events: events.map(acceptedOf), claim: state.claim?.nonce };
};

function acceptedOf({ stream, version, record }: Pick<IndexedEvent, "stream" | "version" | "record">): Accepted {
  const marks = marksOf(record);
  return { id: marks.id as string, stream, version, after: JSON.parse(marks.value()) as string };
}

/** Everything that carries marks counts if its version is the next one: the rule without claims. */
const byVersionsAlone: Read = (log) => {
  const events: Accepted[] = [];
  const versions = new Map<string, number>();
  let claim: string | undefined;
  for (const batch of log) {
    eachRecord(batch, (record) => {
      const { kind, stream, version, ...marks } = marksOf(record);
      if (kind === "claim") claim = marks.claim;
      if (kind !== undefined || stream === undefined || version !== (versions.get(stream) ?? 0) + 1) return;
      versions.set(stream, version);
      events.push(acceptedOf({ stream, version, record }));
    });
  }
  return { events, claim };
};

/** Records of any claim that was ever made count, if their version is the next one. */
const byAnyClaim: Read = (log) => {
  const events: Accepted[] = [];
  const versions = new Map<string, number>();
  const claims = new Set<string>();
  let claim: string | undefined;
  for (const batch of log) {
    eachRecord(batch, (record) => {
      const { kind, stream, version, ...marks } = marksOf(record);
      if (kind === "claim") claims.add((claim = marks.claim as string));
      if (kind !== undefined || stream === undefined || !claims.has(marks.claim as string) || version !== (versions.get(stream) ?? 0) + 1) return;
      versions.set(stream, version);
      events.push(acceptedOf({ stream, version, record }));
    });
  }
  return { events, claim };
};

class Partition {
  readonly log: Batch[] = [];
  end = 0;

  append(bytes: Buffer): number {
    const copy = Buffer.from(bytes);
    copy.writeBigInt64BE(BigInt(this.end), 0);
    const [batch] = [...batchesIn(copy)] as [Batch];
    this.log.push(batch);
    const base = this.end;
    this.end += batch.count;
    return base;
  }
}

interface Rules {
  readonly read: Read;
  /** Without: whatever the broker took is believed to be committed. */
  readonly checksBaseOffset: boolean;
  /** Without: the log is read before the claim is written. */
  readonly claimsFirst: boolean;
}

const RULES: Rules = { read: byTheFold, checksBaseOffset: true, claimsFirst: true };

/** A batch under way; `base`: where it landed. */
interface Flight {
  readonly bytes: Buffer;
  readonly ids: readonly (readonly string[])[];
  readonly end: number;
  readonly count: number;
  base: number | undefined;
}

/** One writer as it sees the partition; each step is one thing that can be interleaved with the other's. */
class Writer {
  readonly acknowledged: string[] = [];
  readonly #name: string;
  readonly #partition: Partition;
  readonly #rules: Rules;
  readonly #batch = new BatchWriter();
  #epoch = 0;
  #serial = 0;
  #claim: string | undefined;
  #claiming: string | undefined;
  #end = 0;
  #looked = false;
  #known: readonly Accepted[] = [];
  #flight: Flight | undefined;

  constructor(name: string, partition: Partition, rules: Rules) {
    this.#name = name;
    this.#partition = partition;
    this.#rules = rules;
  }

  step(draw: () => number): void {
    if (this.#claiming !== undefined) return this.#read();
    if (this.#claim === undefined && !this.#rules.claimsFirst && !this.#looked) return this.#look();
    if (this.#claim === undefined) return this.#open();
    if (this.#flight === undefined) return this.#form(draw);
    if (this.#flight.base === undefined) return this.#land();
    this.#answered();
  }

  #open(): void {
    this.#claiming = `${this.#name}-${++this.#epoch}`;
    this.#looked = false;
    writeClaim(this.#batch, { nonce: this.#claiming, writer: this.#name, producerId: 1, epoch: this.#epoch, previous: null });
    this.#partition.append(this.#batch.finish({ producerId: 1, epoch: this.#epoch, sequence: 0, timestamp: 0 }).batch);
    if (!this.#rules.claimsFirst) this.#end = this.#partition.end;
  }

  #read(): void {
    if (this.#rules.claimsFirst) this.#look();
    const { claim } = this.#rules.read(this.#partition.log);
    this.#claim = claim === this.#claiming ? claim : undefined;
    this.#claiming = undefined;
  }

  #look(): void {
    this.#looked = true;
    this.#known = this.#rules.read(this.#partition.log).events;
    this.#end = this.#partition.end;
  }

  /** A group: one append or two, of one event or two each, decided on what is known. */
  #form(draw: () => number): void {
    const ids: string[][] = [];
    const versions = new Map<string, Accepted | undefined>(STREAMS.map((stream) => [stream, this.#known.findLast((each) => each.stream === stream)]));
    for (let appends = draw() < 0.5 ? 1 : 2; appends > 0; appends--) {
      const stream = STREAMS[Math.floor(draw() * STREAMS.length)] as string;
      const size = draw() < 0.7 ? 1 : 2;
      const own: string[] = [];
      for (let index = 0; index < size; index++) {
        const before = versions.get(stream);
        const id = `${this.#name}${++this.#serial}`;
        const version = (before?.version ?? 0) + 1;
        const event: NewEvent = { id, type: "T", data: JSON.stringify(before?.id ?? ""), recordedAt: 0, metadata: { commandId: "c", correlationId: "c", causationId: "c" } };
        for (const each of prepare({ stream, expected: 0, events: [event] }).events) writeEvent(this.#batch, stream, each, { claim: this.#claim as string, version, index, size });
        versions.set(stream, { id, stream, version, after: "" });
        own.push(id);
      }
      ids.push(own);
    }
    const { batch, records } = this.#batch.finish({ producerId: 1, epoch: this.#epoch, sequence: 1, timestamp: 0 });
    this.#flight = { bytes: batch, ids, end: this.#end, count: records.length, base: undefined };
  }

  #land(): void {
    const flight = this.#flight as Flight;
    flight.base = this.#partition.append(flight.bytes);
  }

  #answered(): void {
    const { ids, end, base, count } = this.#flight as Flight;
    this.#flight = undefined;
    const { events, claim } = this.#rules.read(this.#partition.log);
    const standing = new Set(events.map(({ id }) => id));
    if (!this.#rules.checksBaseOffset || base === end) {
      this.acknowledged.push(...ids.flat());
      // What it believes to stand is what it goes on from.
      this.#known = events.filter((each) => this.#known.some(({ id }) => id === each.id) || ids.flat().includes(each.id));
      this.#end = (base ?? 0) + count;
      return;
    }
    for (const own of ids) if (own.every((id) => standing.has(id))) this.acknowledged.push(...own);
    if (claim !== this.#claim) this.#claim = undefined;
    else this.#look();
  }
}

/** What is wrong with a schedule, or undefined. */
function violation(seed: number, rules: Rules): string | undefined {
  const { next } = seededRandom(seed);
  const partition = new Partition();
  const writers = ["a", "b"].map((name) => new Writer(name, partition, rules));
  try {
    for (let step = 0; step < 40; step++) (writers[Math.floor(next() * 2)] as Writer).step(next);
    const { events } = rules.read(partition.log);
    const ids = events.map(({ id }) => id);
    if (new Set(ids).size < ids.length) return "an event counts twice";
    for (const { acknowledged } of writers) for (const id of acknowledged) if (!ids.includes(id)) return `${id} was acknowledged and does not count`;
    for (const stream of STREAMS) {
      let before = "";
      for (const { id, after } of events.filter((each) => each.stream === stream)) {
        if (after !== before) return `${id} stands after ${before || "nothing"} and was decided on ${after || "nothing"}`;
        before = id;
      }
    }
  } catch (error) {
    return String(error);
  }
  return undefined;
}

function firstViolation(rules: Rules, schedules: number): string | undefined {
  for (let seed = 1; seed <= schedules; seed++) {
    const found = violation(seed, rules);
    if (found !== undefined) return `seed ${seed}: ${found}`;
  }
  return undefined;
}

describe("two writers that no broker holds apart", () => {
  it("lose nothing, double nothing and decide on nothing that does not count", () => {
    expect(firstViolation(RULES, SCHEDULES)).toBeUndefined();
  });

  it.each<[string, Partial<Rules>]>([
    ["folded by versions alone", { read: byVersionsAlone }],
    ["folded by any claim that was ever made", { read: byAnyClaim }],
    ["without a look at the base offset", { checksBaseOffset: false }],
    ["reading before they claim", { claimsFirst: false }],
  ])("are caught when they are %s", (_, rules) => {
    expect(firstViolation({ ...RULES, ...rules }, SCHEDULES)).toMatch(/^seed/);
  });
});

describe("the fold", () => {
  const writer = new BatchWriter();
  const stamp = { producerId: 7, epoch: 3, sequence: 0, timestamp: 0 };
  const claim = (nonce: string, identity: Partial<typeof stamp> = {}): Buffer => {
    writeClaim(writer, { nonce, writer: "w", producerId: 7, epoch: 3, previous: null });
    return writer.finish({ ...stamp, ...identity }).batch;
  };
  const events = (nonce: string, places: readonly { version: number; index?: number; size?: number; stream?: string }[], identity: Partial<typeof stamp> = {}, id = "e"): Buffer => {
    for (const { version, index = 0, size = 1, stream = "order-1" } of places) {
      const [event] = prepare({ stream, expected: 0, events: [{ id: `${id}${version}`, type: "T", data: "{}", recordedAt: 0, metadata: { commandId: "c", correlationId: "c", causationId: "c" } }] }).events;
      if (event !== undefined) writeEvent(writer, stream, event, { claim: nonce, version, index, size });
    }
    return writer.finish({ ...stamp, ...identity }).batch;
  };
  const folded = (...batches: readonly Buffer[]) => {
    const partition = new Partition();
    for (const bytes of batches) partition.append(bytes);
    return fold(START, partition.log, NOTHING);
  };
  const versions = (...batches: readonly Buffer[]): number[] => folded(...batches).events.map(({ version }) => version);

  it("counts what names the last claim before it, and nothing that names another", () => {
    expect(versions(events("x", [{ version: 1 }]), claim("x"), events("x", [{ version: 1 }]), claim("y"), events("x", [{ version: 2 }]), events("y", [{ version: 2 }]))).toEqual([1, 2]);
    expect(folded(claim("x"), claim("y"), events("y", [{ version: 1 }])).state).toMatchObject({ next: 3, claim: { nonce: "y", offset: 1, producerId: 7, epoch: 3, writer: "w" }, last: { offset: 2, eventId: "e1" } });
  });

  it("counts nothing that another producer or another epoch has written, whatever it names", () => {
    expect(versions(claim("x"), events("x", [{ version: 1 }], { producerId: 8 }), events("x", [{ version: 1 }], { epoch: 4 }), events("x", [{ version: 1 }], { producerId: -1, epoch: -1 }))).toEqual([]);
  });

  it("counts nothing transactional, compressed, or that is a control record, and goes on after it", () => {
    for (const bit of [0b1_0000, 0b10_0000, 0b1]) {
      const odd = events("x", [{ version: 1 }]);
      const partition = new Partition();
      partition.append(claim("x"));
      partition.append(odd);
      const [first, second] = partition.log as [Batch, Batch];
      const flagged: Batch = { ...second, transactional: bit === 0b1_0000, control: bit === 0b10_0000, plain: bit !== 0b1 };
      expect(fold(START, [first, flagged], NOTHING)).toMatchObject({ events: [], state: { next: 2 }, passedOver: 2 });
    }
  });

  it("counts an append whole or not at all", () => {
    const x = claim("x");
    expect(versions(x, events("x", [{ version: 1, index: 0, size: 2 }, { version: 2, index: 1, size: 2 }]))).toEqual([1, 2]);
    expect(versions(x, events("x", [{ version: 1, index: 0, size: 2 }]), events("x", [{ version: 2, index: 1, size: 2 }]))).toEqual([]);
    expect(versions(x, events("x", [{ version: 2, index: 1, size: 2 }, { version: 1 }]))).toEqual([1]);
    expect(versions(x, events("x", [{ version: 1, index: 0, size: 2 }, { version: 1 }]))).toEqual([1]);
    expect(versions(x, events("x", [{ version: 1, index: 0, size: 2 }, { version: 2, index: 1, size: 2, stream: "order-2" }]))).toEqual([]);
    expect(versions(x, events("x", [{ version: 1, index: 0, size: 2 }, { version: 2, index: 1, size: 3 }]))).toEqual([]);
  });

  it("stops, and says so, where the versions of a stream have a gap under a claim", () => {
    expect(() => folded(claim("x"), events("x", [{ version: 2 }]))).toThrow(expect.objectContaining({ code: "StoreCorrupt", message: expect.stringContaining("version 2 of order-1") as string }));
    expect(() => folded(claim("x"), events("x", [{ version: 1 }, { version: 2 }]), events("x", [{ version: 1 }], {}, "other"))).toThrow(expect.objectContaining({ code: "StoreCorrupt" }));
  });

  it("counts once what stands twice under one claim, in one piece of the log and in two", () => {
    const twice = [claim("x"), events("x", [{ version: 1 }, { version: 2, index: 0, size: 2 }, { version: 3, index: 1, size: 2 }]), events("x", [{ version: 1 }]), events("x", [{ version: 2, index: 0, size: 2 }, { version: 3, index: 1, size: 2 }]), events("x", [{ version: 4 }])];
    expect(versions(...twice)).toEqual([1, 2, 3, 4]);
    const partition = new Partition();
    for (const bytes of twice) partition.append(bytes);
    const first = fold(START, partition.log.slice(0, 2), NOTHING);
    const idAt = (stream: string, version: number): string | undefined => first.events.filter((event) => event.stream === stream && event.version === version).map(({ record }) => marksOf(record).id)[0];
    expect(fold(first.state, partition.log, { versionOf: () => 3, idAt, hasClaim: (nonce) => nonce === "x" }).events.map(({ version }) => version)).toEqual([4]);
  });

  it("takes a claim only where it stands alone in its batch", () => {
    writeClaim(writer, { nonce: "y", writer: "w", producerId: 7, epoch: 3, previous: null });
    writeClaim(writer, { nonce: "z", writer: "w", producerId: 7, epoch: 3, previous: null });
    const two = writer.finish(stamp).batch;
    expect(folded(claim("x"), two).state.claim?.nonce).toBe("x");
    expect(folded(claim("x"), claim("y", { producerId: -1, epoch: -1 })).state.claim?.nonce).toBe("x");
  });

  it("takes a claim once: one that stands again brings nothing back, in one piece of the log and in two", () => {
    const again = [claim("x"), events("x", [{ version: 1 }]), claim("y"), events("y", [{ version: 2 }], {}, "other"), claim("x"), events("x", [{ version: 2 }]), events("y", [{ version: 3 }])];
    expect(folded(...again).state.claim?.nonce).toBe("y");
    expect(versions(...again)).toEqual([1, 2, 3]);
    const partition = new Partition();
    for (const bytes of again) partition.append(bytes);
    const first = fold(START, partition.log.slice(0, 4), NOTHING);
    const rest = fold(first.state, partition.log, { versionOf: () => 2, idAt: () => undefined, hasClaim: (nonce) => nonce === "x" || nonce === "y" });
    expect(rest.state.claim?.nonce).toBe("y");
    expect(rest.events.map(({ version }) => version)).toEqual([3]);
  });

  it("passes over what stands before the place it goes on from, and takes the same in pieces as in one", () => {
    const partition = new Partition();
    for (const bytes of [claim("x"), events("x", [{ version: 1 }, { version: 2 }]), claim("y"), events("x", [{ version: 3 }]), events("y", [{ version: 3 }])]) partition.append(bytes);
    const whole = fold(START, partition.log, NOTHING);
    let state = START;
    const pieces: IndexedEvent[] = [];
    for (const batch of partition.log) {
      const piece = fold(state, [...partition.log.slice(0, partition.log.indexOf(batch)), batch], { versionOf: () => pieces.length, idAt: () => undefined, hasClaim: () => false });
      pieces.push(...piece.events);
      state = piece.state;
    }
    expect(pieces).toEqual(whole.events);
    expect(state).toEqual(whole.state);
  });
});
