/**
 * What a partition says, folded from its batches one by one by the rule of ADR 14, written down here a second time: the measure of the simulation is not the fold under test.
 */
import { batchesIn, eachRecord, type Batch } from "../../../../src/store/kafka/record-batch.ts";
import { decodeEvent, marksOf, type Marks } from "../../../../src/store/kafka/record-format.ts";
import type { StoredEvent } from "../../../../src/store/event-store.ts";

interface Reign {
  readonly nonce: string;
  readonly producerId: number;
  readonly epoch: number;
  /** Of the claim before. */
  readonly formerProducerId: number | undefined;
  /** Its owner has written. */
  served: boolean;
}

export class LogTruth {
  readonly events: StoredEvent[] = [];
  readonly versions = new Map<string, number>();
  /** What no partition may say. */
  readonly faults: string[] = [];
  /** Batches of former owners that stand although the owner of their time had written already: what the broker's fence is for. */
  readonly intruders: string[] = [];
  /** Records that do not count. */
  voids = 0;
  #reign: Reign | undefined;
  readonly #nonces = new Set<string>();

  get nonce(): string | undefined {
    return this.#reign?.nonce;
  }

  /** Whole batches, each once; the offset after the last of them, undefined where there is none. */
  add(bytes: Buffer): number | undefined {
    let next: number | undefined;
    for (const batch of batchesIn(bytes)) {
      this.#batch(batch);
      next = batch.lastOffset + 1;
    }
    return next;
  }

  #batch(batch: Batch): void {
    const records: { readonly marks: Marks; readonly record: Buffer; readonly offset: number }[] = [];
    eachRecord(batch, (record, offset) => records.push({ marks: marksOf(record), record, offset }));
    const { producerId, epoch } = batch;
    const [first] = records;
    if (records.length === 1 && producerId >= 0 && first?.marks.kind === "claim" && first.marks.claim !== undefined) {
      // A nonce claims once.
      if (this.#nonces.has(first.marks.claim)) return;
      this.#nonces.add(first.marks.claim);
      this.#reign = { nonce: first.marks.claim, producerId, epoch, formerProducerId: this.#reign?.producerId, served: false };
      return;
    }
    const reign = this.#reign;
    const isEvent = ({ kind, id, stream }: Marks): boolean => kind === undefined && id !== undefined && stream !== undefined;
    const inForce = reign !== undefined && producerId === reign.producerId && epoch === reign.epoch;
    for (let at = 0; at < records.length; ) {
      const { marks } = records[at] as (typeof records)[number];
      const append = records.slice(at, at + marks.size);
      const whole =
        inForce && append.length === marks.size && append.every((each, index) => isEvent(each.marks) && each.marks.claim === reign.nonce && each.marks.index === index && each.marks.size === marks.size && each.marks.stream === marks.stream);
      if (whole) {
        reign.served = true;
        for (const { marks: own, record, offset } of append) this.#event(own, record, offset);
      } else this.voids++;
      at += whole ? marks.size : 1;
    }
    if (reign?.served === true && !inForce && records.some(({ marks }) => isEvent(marks)) && (producerId === reign.producerId || producerId === reign.formerProducerId)) {
      this.intruders.push(`a batch of producer ${producerId}, epoch ${epoch}, stands at offset ${first?.offset}, where the owner with producer ${reign.producerId}, epoch ${reign.epoch} had written already`);
    }
  }

  #event(marks: Marks, record: Buffer, offset: number): void {
    const stream = marks.stream as string;
    const before = this.versions.get(stream) ?? 0;
    if (marks.version <= before) {
      // Sent again, to a broker that had forgotten its producer.
      const standing = this.events.find((event) => event.stream === stream && event.version === marks.version);
      if (standing?.id !== marks.id) this.faults.push(`offset ${offset} holds another version ${marks.version} of ${stream}`);
      return;
    }
    if (marks.version !== before + 1) this.faults.push(`offset ${offset} holds version ${marks.version} of ${stream} after version ${before}`);
    this.versions.set(stream, marks.version);
    const event = decodeEvent("log", { stream, version: marks.version, offset, record: Buffer.from(record) });
    this.events.push(event);
  }
}
