/**
 * The local index: what the fold accepted of the log, kept so that streams can be read. It can always be built again from the log.
 * The memory index is one implementation; a file can be another.
 *
 * X1 `apply` is one step: events, claims and the new state of the lane become visible together, or (when it throws) not at all. A durable index keeps them in one transaction.
 * X2 Steps of a lane come in the order of its offsets, without a gap: `apply` begins at the lane's `next`. Nobody calls it with less than whole batches.
 * X3 Versions of a stream come as 1, 2, 3 …; all events of a stream are in one lane. The fold has checked that: an index need not.
 * X4 All calls are synchronous, and bounded by what they are asked for.
 * X5 Records are kept as the bytes they are in the log; whoever reads them decodes them (`record-format.ts`). Nobody changes them.
 */

/** A claim of a partition: from its offset on, and up to the next claim, only records that name its nonce count. */
export interface Claim {
  readonly nonce: string;
  /** Where it stands. */
  readonly offset: number;
  /** Of the batch that it came in. */
  readonly producerId: number;
  readonly epoch: number;
  /** Who made it, as they call themselves. */
  readonly writer: string;
}

/** An event that counts. */
export interface IndexedEvent {
  readonly stream: string;
  readonly version: number;
  readonly offset: number;
  /** The record, from its attributes on to the end of its headers. X5. */
  readonly record: Uint8Array;
}

/** How far a lane was folded. */
export interface LaneState {
  /** The topic's id as the cluster drew it: an index of another one is of no use. */
  readonly topicId: string;
  /** The first offset that was not looked at; 0 at the start. */
  readonly next: number;
  /** The claim in force at `next`. */
  readonly claim: Claim | undefined;
  /** The last event that was accepted: on resuming it is compared with the log. */
  readonly last: { readonly offset: number; readonly eventId: string } | undefined;
}

/** What one piece of the log adds to the index. */
export interface IndexStep {
  /** In the order of their offsets. */
  readonly events: readonly IndexedEvent[];
  /** All of the piece, in the order of their offsets; the last one is that of `state.claim`. */
  readonly claims: readonly Claim[];
  /** The lane after it. */
  readonly state: LaneState;
}

export interface LogIndex {
  /** Undefined: nothing of it was ever applied. */
  lane(lane: string): LaneState | undefined;
  /** X1, X2. Errors: whatever storage throws; then nothing of the step stands. */
  apply(lane: string, step: IndexStep): void;
  /** Forgets all of a lane, its events included: it is folded again from the start. */
  reset(lane: string): void;
  /** Version of the stream's last event; 0 = it holds nothing. */
  versionOf(stream: string): number;
  /** The events of a stream from version `first` to `last`, both included and both within 1 to `versionOf`, ascending; possibly fewer, never none. */
  stream(stream: string, first: number, last: number): readonly IndexedEvent[];
  /** Events of a lane from offset `from` on and below `to`, ascending, at most `most`; possibly fewer, but none only where there is none. */
  log(lane: string, from: number, to: number, most: number): readonly IndexedEvent[];
  /** The claim in force at an offset (that of the last claim at or below it), or undefined before the first one. */
  claimAt(lane: string, offset: number): Claim | undefined;
  /** Whether a claim of this nonce is among those of the lane. */
  hasClaim(lane: string, nonce: string): boolean;
  /** Saves what is to be saved. Idempotent; nothing else is called afterwards. */
  close(): void;
}
