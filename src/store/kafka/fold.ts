/**
 * The fold: which records of a partition count. Pure; every reader applies it, and all of them come to the same.
 *
 * F1 A record counts only under the last claim before it in its partition: it names that claim's nonce, and its batch carries the claim's producer id and epoch.
 * F2 Transactional, control, compressed and foreign records never count, and are no error.
 * F3 An append counts whole or not at all: its events stand next to each other in one batch, index 1 to size. A piece of one does not count.
 * F4 A claim counts from its own offset on, whoever made it; it stands alone in a batch that carries a producer id and epoch. A nonce claims once: a claim that stands
 *    again (a late copy, where a broker has forgotten its producer) would bring back what its writer has given up as void, and decided anew.
 * F5 Under a claim the versions of a stream are contiguous. That follows from F1 and from how a writer works, so it is asserted, not decided on: where it fails,
 *    the fold stops and says so (StoreCorrupt), for whatever was built on it would be wrong.
 * F6 An append that stands already, the same event ids at the same versions, counts once: where a broker has forgotten a producer, it takes the bytes that a writer
 *    sends again for new ones.
 */
import { StoreCorrupt } from "../../errors.ts";
import type { Claim, IndexedEvent, IndexStep, LaneState } from "./log-index.ts";
import { eachPlace, type Batch, type Name } from "./record-batch.ts";
import { MarkScan, marksOf, nonceName, writerOf } from "./record-format.ts";

export interface Folded extends IndexStep {
  /** Records of writers that count no more, and of foreigners. */
  readonly passedOver: number;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** What was folded before. */
export interface FoldedBefore {
  /** Version of the stream's last event. */
  versionOf(stream: string): number;
  /** Id of the event at that version, which is there. */
  idAt(stream: string, version: number): string | undefined;
  /** Whether a claim of this nonce stands in the partition. */
  hasClaim(nonce: string): boolean;
}

/** Folds whole batches, which begin at `state.next` (what stands before it is passed over). Errors: StoreCorrupt (F5). */
export function fold(state: LaneState, batches: Iterable<Batch>, before: FoldedBefore): Folded {
  const folding = new Folding(state, before);
  for (const batch of batches) folding.add(batch);
  return folding.result();
}

class Folding {
  readonly #state: Writable<LaneState>;
  readonly #before: FoldedBefore;
  readonly #versions = new Map<string, number>();
  readonly #events: IndexedEvent[] = [];
  readonly #claims: Claim[] = [];
  readonly #marks = new MarkScan();
  /** Of the claim in force, as records carry it. */
  #nonce: Name;
  #passedOver = 0;
  /** F3: the append that is being read, as far as it goes. */
  #open: IndexedEvent[] = [];
  #openSize = 0;

  constructor(state: LaneState, before: FoldedBefore) {
    this.#state = { ...state };
    this.#nonce = nonceName(state.claim?.nonce ?? "");
    this.#before = before;
  }

  add(batch: Batch): void {
    const state = this.#state;
    if (batch.lastOffset < state.next) return;
    const before = this.#events.length;
    if (batch.plain && !batch.transactional && !batch.control && batch.producerId >= 0) {
      eachPlace(batch, (start, end, offset) => {
        if (offset >= state.next) this.#record(batch, start, end, offset);
      });
    }
    this.#giveUpOpen();
    this.#passedOver += batch.count - (this.#events.length - before);
    state.next = batch.lastOffset + 1;
  }

  result(): Folded {
    const last = this.#events.at(-1);
    if (last !== undefined) this.#state.last = { offset: last.offset, eventId: marksOf(last.record).id ?? "" };
    return { events: this.#events, claims: this.#claims, state: this.#state, passedOver: this.#passedOver };
  }

  #record(batch: Batch, start: number, end: number, offset: number): void {
    const marks = this.#marks;
    marks.read(batch.bytes, start);
    if (marks.isEvent) return this.#event(batch, start, end, offset);
    this.#giveUpOpen();
    const nonce = marks.kind() === "claim" ? marks.claim() : undefined;
    // F4.
    if (nonce === undefined || batch.count !== 1 || this.#claims.some((claim) => claim.nonce === nonce) || this.#before.hasClaim(nonce)) return;
    this.#nonce = nonceName(nonce);
    this.#state.claim = { nonce, offset, producerId: batch.producerId, epoch: batch.epoch, writer: writerOf(marks.value()) };
    this.#claims.push(this.#state.claim);
  }

  #event(batch: Batch, start: number, end: number, offset: number): void {
    const { claim } = this.#state;
    const { version, index, size } = this.#marks;
    // F1.
    const counts = claim !== undefined && this.#marks.names(this.#nonce) && batch.producerId === claim.producerId && batch.epoch === claim.epoch;
    if (index === 0 || !counts) this.#giveUpOpen();
    if (!counts) return;
    const stream = this.#marks.stream() ?? "";
    const goesOn = index === this.#open.length && (index === 0 || (stream === this.#open[0]?.stream && size === this.#openSize));
    if (!goesOn) return this.#giveUpOpen();
    const event: IndexedEvent = { stream, version, offset, record: batch.bytes.subarray(start, end) };
    if (size === 1) return this.#accept(event, 1);
    this.#open.push(event);
    this.#openSize = size;
    if (this.#open.length < size) return;
    const whole = this.#open;
    this.#open = [];
    for (const each of whole) this.#accept(each, size);
  }

  /** F3. */
  #giveUpOpen(): void {
    if (this.#open.length > 0) this.#open = [];
  }

  #accept(event: IndexedEvent, size: number): void {
    const { stream, version, offset } = event;
    const before = this.#versions.get(stream) ?? this.#before.versionOf(stream);
    if (version === before + 1) {
      this.#versions.set(stream, version);
      this.#events.push(event);
      return;
    }
    // F5, F6. An append of which a part stands already is none that a writer makes: its first event that does not would have a version too high or too low.
    if (version <= before && this.#idAt(stream, version) === marksOf(event.record).id) return;
    throw new StoreCorrupt(`the record at offset ${offset} is version ${version} of ${stream}, which ends at version ${before}: somebody wrote under a claim that is not theirs`, {
      details: { stream, version, actual: before, offset, size },
    });
  }

  #idAt(stream: string, version: number): string | undefined {
    const here = this.#events.find((event) => event.stream === stream && event.version === version);
    return here === undefined ? this.#before.idAt(stream, version) : marksOf(here.record).id;
  }
}
