/**
 * One partition, read: a tailer that folds the log into the index, and those who wait for it to get somewhere.
 *
 * T1 What is folded goes into the index piece by piece, without a gap; `next` is the first offset that was not looked at. Readers are served from the index alone.
 * T2 What this process wrote and Kafka acknowledged at the expected place is put into the index by the writer (`acceptOwn`), in the same order, and not read again.
 * T3 Before a reader trusts what is here it asks the broker where the log ends and waits until that was folded (`reachEnd`). The question is asked after the reader's
 *    call began: an answer that was under way before does not do. Where another leader than before tells an end that is known, the last record is compared first: a
 *    log that was cut off may have grown again to just that end.
 * T4 OFFSET_OUT_OF_RANGE never moves the reader on its own. A log that begins above what was read is refused by name. A log that ends below it, or holds another
 *    record where the last one stood, was rewound: that is reported, waiting readers are told so, and the lane is built again from the log's start. What was asked
 *    before that says nothing about what is built then. A topic that brokers have not known for `boundMs` is gone.
 * T5 The last record is compared with the log when an index is resumed and whenever the leader's epoch in the log has changed: only then can a log have been cut off.
 *    A record that counts is known by its id or nonce, any other by its leader's epoch: Kafka gives an offset and an epoch to one record alone.
 * T6 Every request has a bound; who waits is told when the log cannot be read and they have waited for `boundMs`. Who has come just now waits for another try.
 * T7 While this process writes, the tailer stands back: the writer sees by the offsets whether anybody else wrote.
 *
 * Longer than an adapter should be: reading, waiting and recognising another log share one state.
 */
import { turns, type Environment, delay } from "../../environment.ts";
import { Aborted, isTidemarkError, StoreCorrupt, StoreRewound, type TidemarkError } from "../../errors.ts";
import { BrokerRefusal, KAFKA_ERROR, type Fetched, type LogEnd, type PartitionLink } from "./cluster.ts";
import { fold, type FoldedBefore } from "./fold.ts";
import { insist, isFinal, pause, storeClosed, toTidemarkError, untilAborted } from "./kafka-error.ts";
import type { Claim, IndexedEvent, LaneState, LogIndex } from "./log-index.ts";
import { batchesIn, eachRecord, type Batch } from "./record-batch.ts";
import { marksOf } from "./record-format.ts";

const FETCH_BYTES = 2 * 1024 * 1024;
const FETCH_WAIT_MS = 500;
/** T7. */
const STAND_BACK_MS = 25;
/** How often it is told how far a long reading has come. */
const REPORT_MS = 5000;

export interface PartitionLogOptions {
  readonly lane: string;
  readonly topicId: string;
  readonly link: PartitionLink;
  readonly index: LogIndex;
  readonly environment: Environment;
  readonly boundMs: number;
  /** The topic's id as it is now; undefined: there is no such topic. */
  readonly topicIdNow: () => Promise<string | undefined>;
}

/** What a tailer asked for, and how often the log had been rewound by then. */
interface Asked {
  readonly next: number;
  readonly rewinds: number;
}

interface Waiting {
  readonly offset: number;
  /** By the elapsed clock. */
  readonly since: number;
  resolve(): void;
  reject(error: Error): void;
}

export class PartitionLog {
  readonly lane: string;
  readonly index: LogIndex;
  readonly #options: PartitionLogOptions;
  readonly #ending = new AbortController();
  readonly #listeners = new Set<() => void>();
  #waiting: Waiting[] = [];
  /** Of the index, for the fold. */
  readonly #before: FoldedBefore;
  #state: LaneState;
  #tail: Promise<void> | undefined;
  #failure: TidemarkError | undefined;
  /** T5: of the last batch that was fetched. */
  #leaderEpoch = -1;
  /** T5: the last record that was folded here. */
  #folded: { readonly offset: number; readonly leaderEpoch: number } | undefined;
  #highWatermark = Number.POSITIVE_INFINITY;
  /** When it was last told how far the reading is, or the reading began; undefined: it is not behind. */
  #reportedAt: number | undefined;
  #rewinds = 0;
  /** Since when brokers have known no such topic. */
  #missingSince: number | undefined;
  #claimSeenAt = Number.NEGATIVE_INFINITY;
  #ownAt = Number.NEGATIVE_INFINITY;
  #wake: (() => void) | undefined;
  /** T3: of the leader that was asked last. */
  #askedEpoch = -1;
  #asking: Promise<LogEnd> | undefined;
  #queued: Promise<LogEnd> | undefined;

  constructor(options: PartitionLogOptions) {
    this.#options = options;
    this.lane = options.lane;
    const { index } = options;
    this.index = index;
    this.#before = {
      versionOf: (stream) => index.versionOf(stream),
      idAt: (stream, version) => index.stream(stream, version, version).map(({ record }) => marksOf(record).id)[0],
      hasClaim: (nonce) => index.hasClaim(this.lane, nonce),
    };
    this.#state = this.#resumed();
  }

  get state(): LaneState {
    return this.#state;
  }

  get claim(): Claim | undefined {
    return this.#state.claim;
  }

  /** Whether everything that was there when the log was last looked at is in the index. */
  get caughtUp(): boolean {
    return this.#state.next >= this.#highWatermark;
  }

  /** How often the log was found rewound (T4): what was built on it before is void. */
  get rewinds(): number {
    return this.#rewinds;
  }

  /** When the claim in force appeared, by the elapsed clock; minus infinity where it was there before we were. */
  get claimSeenAt(): number {
    return this.#claimSeenAt;
  }

  /** Whether it is being read. */
  get started(): boolean {
    return this.#tail !== undefined;
  }

  /** Why it is read no more: for good. */
  get failure(): TidemarkError | undefined {
    return this.#failure;
  }

  start(): void {
    this.#tail ??= this.#run();
  }

  /** Calls back after each change of `state` and `failure`; the result unsubscribes. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when all below `offset` was folded. Errors: StoreUnavailable (T6), StoreRewound, StoreCorrupt, StoreClosed, Aborted. */
  reach(offset: number, signal?: AbortSignal): Promise<void> {
    this.start();
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#state.next >= offset) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const end = (answer: () => void) => (): void => {
        signal?.removeEventListener("abort", onAbort);
        answer();
      };
      const waiting: Waiting = { offset, since: this.#options.environment.clock.elapsed(), resolve: end(resolve), reject: (error) => end(() => reject(error))() };
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((each) => each !== waiting);
        waiting.reject(new Aborted(`reading ${this.lane} was aborted`, { cause: signal?.reason }));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiting);
      this.#wake?.();
    });
  }

  /** T3: resolves with the end of the log, folded up to there. Errors: as reach. */
  async reachEnd(signal?: AbortSignal): Promise<number> {
    this.start();
    const { next } = this.#state;
    const { offset: end, leaderEpoch } = await untilAborted(this.#end(), signal, `reading ${this.lane}`);
    const isOther = this.#askedEpoch >= 0 && leaderEpoch !== this.#askedEpoch;
    if ((end < next || (end === next && isOther)) && this.#failure === undefined) await this.verify();
    this.#askedEpoch = leaderEpoch;
    await this.reach(end, signal);
    return end;
  }

  /** Where the log ends, asked now; nothing above was acknowledged. Errors: StoreUnavailable, StoreRefused; Aborted when the log is closed. */
  async end(): Promise<number> {
    return (await this.#end()).offset;
  }

  #end(): Promise<LogEnd> {
    const { environment, boundMs, link } = this.#options;
    const signal = this.#ending.signal;
    if (this.#failure !== undefined && !signal.aborted) return Promise.reject(this.#failure);
    return insist(
      () => {
        // Those who ask while a question is under way share the next one.
        this.#queued ??= this.#askAfter(this.#asking, link);
        return this.#queued;
      },
      { environment, boundMs, what: `reading the end of ${this.lane}`, signal },
    );
  }

  /** T2: what stands at `from` and was written by this process. False where the log has been read past it already. Errors: those of the index. */
  acceptOwn(from: number, events: readonly IndexedEvent[], lastEventId: string, next: number): boolean {
    if (this.#state.next !== from) return false;
    const last = events[events.length - 1];
    const state: LaneState = { ...this.#state, next, last: last === undefined ? this.#state.last : { offset: last.offset, eventId: lastEventId } };
    this.index.apply(this.lane, { events, claims: [], state });
    this.#ownAt = this.#options.environment.clock.elapsed();
    this.#moved(state);
    return true;
  }

  /** Somebody was told something that cannot be if the log still is what was read: the last record is compared (T5). Errors: StoreUnavailable, StoreRefused. */
  async verify(): Promise<void> {
    const { environment, boundMs } = this.#options;
    const rewinds = this.#rewinds;
    const stands = await insist(() => this.#lastStillStands(), { environment, boundMs, what: `comparing ${this.lane} with what was read of it`, signal: this.#ending.signal });
    if (!stands) this.#rewound("its last record is not where it was", rewinds);
  }

  async close(): Promise<void> {
    this.#ending.abort(storeClosed());
    this.#options.link.close();
    this.#fail(storeClosed());
    await this.#tail;
  }

  #resumed(): LaneState {
    const { lane, topicId, index, environment } = this.#options;
    const fresh: LaneState = { topicId, next: 0, claim: undefined, last: undefined };
    const known = index.lane(lane);
    if (known === undefined) return fresh;
    if (known.topicId === topicId) return known;
    environment.logger.warn({ lane, topicId, indexed: known.topicId }, "the index was built from another topic and is built again");
    index.reset(lane);
    return fresh;
  }

  async #askAfter(before: Promise<unknown> | undefined, link: PartitionLink): Promise<LogEnd> {
    // Also where nothing is under way: `#queued` is set before it is taken.
    await (before ?? Promise.resolve()).catch(() => undefined);
    this.#asking = this.#queued;
    this.#queued = undefined;
    return link.end();
  }

  async #run(): Promise<void> {
    const { environment, link, boundMs, lane } = this.#options;
    const { clock, logger } = environment;
    const ending = this.#ending.signal;
    const turn = turns(clock);
    let checked = false;
    for (let failures = 0; !ending.aborted && this.#failure === undefined; ) {
      await this.#standBack();
      const began = clock.elapsed();
      const asked: Asked = { next: this.#state.next, rewinds: this.#rewinds };
      try {
        if (!checked && !(await this.#lastStillStands())) this.#rewound("its last record is not where the index has it", asked.rewinds);
        checked = true;
        const fetched = await link.fetch({ offset: asked.next, maxWaitMs: FETCH_WAIT_MS, maxBytes: FETCH_BYTES });
        failures = 0;
        this.#missingSince = undefined;
        await this.#take(fetched, asked);
        await turn();
      } catch (error) {
        if (ending.aborted) return;
        if (isTidemarkError(error, "StoreCorrupt") || isTidemarkError(error, "StoreRewound")) {
          logger.error({ lane, error }, "the log cannot be read on");
          return this.#fail(error);
        }
        if (isFinal(error)) return this.#fail(toTidemarkError(error, `reading ${lane}`));
        try {
          await this.#examine(error, asked);
        } catch (worse) {
          logger.error({ lane, error: worse }, "the log cannot be read on");
          return this.#fail(toTidemarkError(worse, `reading ${lane}`));
        }
        const now = clock.elapsed();
        this.#reject(toTidemarkError(error, `reading ${lane}`), ({ since }) => now - since >= boundMs);
        logger.debug({ lane, error }, "the log could not be read and is read again");
        await pause(environment, failures++, ending, now - began);
      }
    }
  }

  /** T7. Waiting readers end it. */
  async #standBack(): Promise<void> {
    const { clock } = this.#options.environment;
    while (this.#waiting.length === 0 && clock.elapsed() - this.#ownAt < STAND_BACK_MS) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await delay(clock, STAND_BACK_MS, AbortSignal.any([woken.signal, this.#ending.signal])).catch(() => undefined);
      this.#wake = undefined;
      if (this.#ending.signal.aborted) return;
    }
  }

  /** T1. */
  async #take({ records, highWatermark, logStart }: Fetched, { next, rewinds }: Asked): Promise<void> {
    if (rewinds !== this.#rewinds) return;
    if (logStart > next) throw beginsAbove(this.lane, logStart, next);
    const batches = [...batchesIn(records)];
    if (await this.#cutOff(batches, rewinds)) return;
    const wasCaughtUp = this.caughtUp;
    const before = this.#state.claim;
    this.#highWatermark = highWatermark;
    const folded = fold(this.#state, batches, this.#before);
    if (folded.state.next > this.#state.next) {
      this.index.apply(this.lane, folded);
      this.#folded = { offset: folded.state.next - 1, leaderEpoch: this.#leaderEpoch };
      if (folded.state.claim !== before) this.#claimSeenAt = wasCaughtUp ? this.#options.environment.clock.elapsed() : Number.NEGATIVE_INFINITY;
      if (folded.passedOver > folded.claims.length) this.#options.environment.logger.debug({ lane: this.lane, records: folded.passedOver }, "records that do not count were passed over");
    }
    this.#moved(folded.state);
    this.#report();
  }

  /** An index that is built from a long log takes its time: it is told how far it is. */
  #report(): void {
    const { clock, logger } = this.#options.environment;
    const { lane } = this;
    const now = clock.elapsed();
    if (this.caughtUp) {
      this.#reportedAt = undefined;
      return;
    }
    this.#reportedAt ??= now;
    if (now - this.#reportedAt < REPORT_MS) return;
    this.#reportedAt = now;
    const { next } = this.#state;
    logger.info({ lane, next, end: this.#highWatermark, percent: Math.floor((100 * next) / this.#highWatermark) }, "the index is being built from the log");
  }

  /** T5. True where the log was rewound. */
  async #cutOff(batches: readonly Batch[], rewinds: number): Promise<boolean> {
    if (batches.every(({ leaderEpoch }) => leaderEpoch === this.#leaderEpoch)) return false;
    if (!(await this.#lastStillStands())) this.#rewound("its last record is not where it was, after another leader took over", rewinds);
    if (rewinds !== this.#rewinds) return true;
    this.#leaderEpoch = batches.at(-1)?.leaderEpoch ?? -1;
    return false;
  }

  /** Errors: BrokerRefusal, RequestLost. */
  async #lastStillStands(): Promise<boolean> {
    const { next, claim, last } = this.#state;
    const { link } = this.#options;
    const folded = this.#folded?.offset === next - 1 ? this.#folded : undefined;
    // Else the last one that counts: it was written here, or stands in an index that is resumed, which does not know what came after it.
    const offset = folded?.offset ?? Math.max(claim?.offset ?? -1, last?.offset ?? -1);
    if (offset < 0) return true;
    let batch: Batch | undefined;
    try {
      [batch] = batchesIn((await link.fetch({ offset, maxWaitMs: 0, maxBytes: 1 })).records);
    } catch (error) {
      if (isOutOfRange(error)) return false;
      throw error;
    }
    if (batch === undefined) {
      // It ends here, or its new leader does not know yet how much of it is replicated: one that does not will not tell the end.
      if ((await link.end()).offset > offset) throw new BrokerRefusal(KAFKA_ERROR.offsetNotAvailable, `offset ${offset} of ${this.lane} cannot be read yet`);
      return false;
    }
    if (folded !== undefined) return batch.leaderEpoch === folded.leaderEpoch;
    let stands = false;
    if (batch.plain) {
      eachRecord(batch, (record, at) => {
        if (at !== offset) return;
        const marks = marksOf(record);
        stands = offset === last?.offset ? marks.id === last.eventId : marks.claim === claim?.nonce;
      });
    }
    return stands;
  }

  /** T4: what an answer that is no data says about the log. Errors: StoreCorrupt, StoreRewound. */
  async #examine(error: unknown, { next, rewinds }: Asked): Promise<void> {
    const outOfRange = isOutOfRange(error);
    if (!outOfRange && !(error instanceof BrokerRefusal && error.errorCode === KAFKA_ERROR.unknownTopicOrPartition)) return;
    const { topicId, topicIdNow, link } = this.#options;
    let end: number;
    let stillOutOfRange = true;
    try {
      const now = await topicIdNow();
      if (now !== undefined && now !== topicId) {
        throw new StoreRewound(`the topic of ${this.lane} was deleted and created again: what was read of it is gone`, { details: { lane: this.lane, expected: topicId, found: now } });
      }
      if (!outOfRange) return this.#missing(now === undefined);
      ({ offset: end } = await link.end());
      // It begins above, or was cut off and has grown again by now: then it is read on, and compared (T5).
      if (end >= next) stillOutOfRange = await link.fetch({ offset: next, maxWaitMs: 0, maxBytes: 1 }).then(() => false, isOutOfRange);
    } catch (failed) {
      if (isTidemarkError(failed)) throw failed;
      return; // not answered either: the log is read again first
    }
    if (end < next) this.#rewound(`it ends at ${end}, and was read up to ${next}`, rewinds);
    else if (stillOutOfRange && rewinds === this.#rewinds) throw beginsAbove(this.lane, undefined, next);
  }

  /** T4: a broker that has just started may not know a topic yet. */
  #missing(missing: boolean): void {
    const { environment, boundMs, topicId } = this.#options;
    if (!missing) return void (this.#missingSince = undefined);
    const now = environment.clock.elapsed();
    this.#missingSince ??= now;
    if (now - this.#missingSince < boundMs) return;
    throw new StoreRewound(`the topic of ${this.lane} does not exist any more (it was deleted, or its broker was started anew without its data): what was read of it is gone`, {
      details: { lane: this.lane, expected: topicId },
    });
  }

  /** `rewinds`: what it was when that was asked which shows it. */
  #rewound(why: string, rewinds: number): void {
    if (rewinds !== this.#rewinds) return;
    const { index, environment, topicId } = this.#options;
    const error = new StoreRewound(`the log of ${this.lane} is not what it was: ${why}. It is read again from its start; what was acknowledged and is gone is lost`, {
      details: { lane: this.lane, next: this.#state.next },
    });
    environment.logger.error({ lane: this.lane, error }, "the log was rewound");
    this.#rewinds++;
    index.reset(this.lane);
    this.#highWatermark = Number.POSITIVE_INFINITY;
    this.#leaderEpoch = -1;
    this.#folded = undefined;
    this.#reject(error);
    this.#moved({ topicId, next: 0, claim: undefined, last: undefined });
  }

  #moved(state: LaneState): void {
    this.#state = state;
    if (this.#waiting.length > 0) {
      const reached = this.#waiting.filter(({ offset }) => offset <= state.next);
      if (reached.length > 0) this.#waiting = this.#waiting.filter(({ offset }) => offset > state.next);
      for (const each of reached) each.resolve();
    }
    for (const listener of this.#listeners) listener();
  }

  #fail(error: TidemarkError): void {
    this.#failure ??= error;
    this.#reject(this.#failure);
    for (const listener of this.#listeners) listener();
  }

  #reject(error: Error, whom: (each: Waiting) => boolean = () => true): void {
    const told = this.#waiting.filter(whom);
    this.#waiting = this.#waiting.filter((each) => !whom(each));
    for (const each of told) each.reject(error);
  }
}

function isOutOfRange(error: unknown): boolean {
  return error instanceof BrokerRefusal && error.errorCode === KAFKA_ERROR.offsetOutOfRange;
}

function beginsAbove(lane: string, logStart: number | undefined, next: number): StoreCorrupt {
  const from = logStart === undefined ? "" : ` at ${logStart}`;
  return new StoreCorrupt(`the log of ${lane} begins${from} above offset ${next}, where reading has to go on: events were deleted (retention?), and no index holds them`, {
    details: { lane, next, ...(logStart === undefined ? {} : { logStart }) },
  });
}
