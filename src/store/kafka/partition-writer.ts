/**
 * The one writer of a partition in this process: claims the partition and writes groups of appends, fenced, one round trip each (docs/adr/0014-kafka-claims.md).
 *
 * Claims in the log decide who writes: a record counts only under the last claim before it (`fold.ts`). The broker's check of the producer epoch keeps most of what
 * would not count out of the log.
 *
 * P1 Claim, then read, then write: a new epoch of the partition's transactional id, one claim record in it, the log read up to that record. Nothing else is written
 *    before. (A predecessor may write until the claim stands, and what it wrote must be seen.)
 * P2 The record at the claim's offset must be our claim, known by its nonce, and no later claim may stand after it. If not, the answer was another's: begin again at P1.
 * P3 Where the claim before ours has another producer id, that id is not fenced by our epoch: one stamp, in the highest epoch of that id, fences it before we write. Our own id is never stamped,
 *    and none that the coordinator may give out: where it does not give ours any more, ours is the old one, and it begins again at P1. (Else a slow opener would lock everybody out.)
 * P4 One batch is under way at a time. It is encoded once; what is sent again is the same bytes with the same sequence number, never a group formed anew.
 * P5 Versions are checked against the index when the batch is formed, at the end of the log that is then known. The batch is committed when the broker's base offset is
 *    that end: nothing came in between. If it is not, the log is read past the batch, and its events are looked for by their ids. A conflict is answered only after the
 *    end of the log was asked, and read up to: another may have taken the partition, and the caller may know more than we do.
 * P6 A failure is definite only where the broker named a code of `DEFINITE` and nothing about the batch was unknown before. After anything unknown every later
 *    error of that batch is unknown too: it is settled by sending the same bytes again while the epoch is ours, or by a new claim and a look at the log before it.
 * P7 A batch under an old claim that is not in the log when a new claim has been read never counts: its appends, where somebody still waits, are decided anew.
 * P8 A partition is claimed anew every hour (the coordinator forgets an id that was not used for days) and before its sequence numbers run out.
 * P9 Whoever finds another's fresh claim leaves it alone for `minHoldMs`, with jitter, before taking over: two who fight make progress in turns. It is courtesy; nothing rests on it.
 * P10 Every append is answered within `appendTimeoutMs`: refused where it was never sent, `unknown` where it may stand. What is under way goes on being settled.
 *
 * Longer than an adapter should be: one protocol, whose steps share one state and are read together.
 */
import { delay, type Environment, type Timer } from "../../environment.ts";
import { isTidemarkError } from "../../errors.ts";
import type { AppendOutcome } from "../event-store.ts";
import { refused, type Refusal } from "../validate-append.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost, type KafkaCluster, type PartitionLink, type ProducerIdentity } from "./cluster.ts";
import { insist, isFinal, LONGEST_PAUSE_MS, pause, toTidemarkError } from "./kafka-error.ts";
import type { Claim, IndexedEvent } from "./log-index.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { PreparedAppend } from "./prepared-append.ts";
import { BatchWriter } from "./record-batch.ts";
import { marksOf, writeClaim, writeEvent, writeStamp } from "./record-format.ts";

export interface PartitionWriterOptions {
  readonly cluster: KafkaCluster;
  readonly link: PartitionLink;
  readonly log: PartitionLog;
  readonly transactionalId: string;
  /** How this process calls itself in its claims. */
  readonly writer: string;
  /** Most bytes of a batch, as the topic has it. */
  readonly maxBatchBytes: number;
  readonly minHoldMs: number;
  readonly appendTimeoutMs: number;
  /** Longest wait for one answer. */
  readonly requestTimeoutMs: number;
  readonly environment: Environment;
  /** This process may take the partition. */
  readonly mayClaim: boolean;
}

/** P6: the broker checked before it appended, and appended nothing. */
const DEFINITE = new Set<number>([
  KAFKA_ERROR.messageTooLarge,
  KAFKA_ERROR.invalidTopic,
  KAFKA_ERROR.recordListTooLarge,
  KAFKA_ERROR.notEnoughReplicas,
  KAFKA_ERROR.invalidRequiredAcks,
  KAFKA_ERROR.topicAuthorizationFailed,
  KAFKA_ERROR.clusterAuthorizationFailed,
  KAFKA_ERROR.invalidTimestamp,
  KAFKA_ERROR.unsupportedVersion,
  KAFKA_ERROR.unsupportedForMessageFormat,
  KAFKA_ERROR.invalidRecord,
]);

/** Our epoch or our sequence numbers are no longer what the broker expects: only a new claim can tell what stands. */
const OUT = new Set<number>([KAFKA_ERROR.outOfOrderSequence, KAFKA_ERROR.duplicateSequence, KAFKA_ERROR.invalidProducerEpoch, KAFKA_ERROR.unknownProducerId]);

/** What the code of a refusal says where a partition cannot be taken at all. */
const REFUSALS: Readonly<Record<string, string>> = { StoreCorrupt: "corrupt", StoreRewound: "rewound", StoreRefused: "refused" };

/** P3. */
const HIGHEST_EPOCH = 32_767;
/** P8. No batch holds as many records as are left after the last sequence number. */
const REOPEN_MS = 3_600_000;
const LAST_SEQUENCE = 2 ** 31 - 2 ** 24;
/** Appends that may wait, and their bytes. */
const MAX_WAITING = 20_000;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;
const MAX_BATCH_EVENTS = 10_000;
/** Claims in a row that were fenced, after which it is no race that was lost: somebody used a high epoch of the id. */
const MAX_FENCED = 8;
/** How many epochs are then drawn before the next claim is tried: all 32,767 of the id, at worst, until the coordinator gives out another id. */
const EPOCHS_AT_ONCE = 256;
/** How often a batch of which something is unknown is sent again before a new claim is to settle it. */
const MAX_RESENDS = 8;

interface Pending {
  readonly append: PreparedAppend;
  readonly deadline: number;
  readonly settle: (outcome: AppendOutcome) => void;
  answered: boolean;
}

/** What we hold while the partition is ours. */
interface Held extends ProducerIdentity {
  readonly nonce: string;
  /** Of the next record. */
  sequence: number;
  readonly rewinds: number;
}

interface Entry {
  readonly pending: Pending;
  /** The stream's version before it. */
  readonly after: number;
}

interface Group {
  readonly entries: readonly Entry[];
  readonly events: readonly { readonly stream: string; readonly version: number }[];
  readonly batch: Buffer;
  readonly records: readonly Buffer[];
  /** P5: where the log ended when it was formed. */
  readonly end: number;
  readonly held: Held;
}

type Sent =
  | { readonly kind: "stands"; readonly baseOffset: number }
  /** For certain not written. */
  | { readonly kind: "refused"; readonly error: unknown }
  /** Nobody knows; the epoch may be gone. */
  | { readonly kind: "out"; readonly error: unknown };

export class PartitionWriter {
  readonly #options: PartitionWriterOptions;
  readonly #batch = new BatchWriter();
  #queue: Pending[] = [];
  #queuedBytes = 0;
  /** Sent, and not settled. */
  #underWay: readonly Entry[] = [];
  #held: Held | undefined;
  /** P3: ids of claims before ours that are still to be fenced; a claim that could not do it leaves it to the next. */
  readonly #unstamped = new Set<number>();
  /** Claims in a row that the broker did not take. */
  #fenced = 0;
  #running: Promise<void> | undefined;
  #closed = false;
  #timer: Timer | undefined;
  #reopening: Timer | undefined;
  #reopenDue = false;
  /** Why the queue does not move, for those whose time is over. */
  #obstacle: Refusal | undefined;
  readonly #ending = new AbortController();

  constructor(options: PartitionWriterOptions) {
    this.#options = options;
  }

  /** Answers once, within `appendTimeoutMs` (P10). The append was validated. */
  append(append: PreparedAppend, settle: (outcome: AppendOutcome) => void): void {
    if (this.#closed) return settle(refused("closed", "the store is closed; nothing was written"));
    const { appendTimeoutMs, environment, log } = this.#options;
    const { bytes } = append;
    if (this.#queue.length >= MAX_WAITING || this.#queuedBytes + bytes > MAX_WAITING_BYTES) {
      return settle(refused("busy", `${this.#queue.length} appends wait for ${log.lane} already; nothing was written`, { retryable: true }));
    }
    const deadline = environment.clock.elapsed() + appendTimeoutMs;
    this.#queue.push({ append, deadline, settle, answered: false });
    this.#queuedBytes += bytes;
    this.#timer ??= environment.clock.setTimer(appendTimeoutMs, () => this.#sweep(), { keepAlive: true });
    this.#pump();
  }

  /** What waits is refused; what is under way is answered. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#ending.abort();
    this.#reopening?.cancel();
    const waiting = this.#queue;
    this.#queue = [];
    for (const pending of waiting) this.#answer(pending, refused("closed", "the store was closed; nothing was written"));
    await this.#running;
    for (const { pending } of this.#underWay) this.#answer(pending, { kind: "unknown", cause: new Error("the store was closed before Kafka had answered") });
    this.#timer?.cancel();
  }

  #pump(): void {
    this.#running ??= this.#run()
      .catch((error: unknown) => this.#options.environment.logger.error({ lane: this.#options.log.lane, error }, "the writer of a partition failed"))
      .finally(() => {
        this.#running = undefined;
        if (!this.#closed && this.#queue.length > 0) this.#pump();
      });
  }

  async #run(): Promise<void> {
    // The end of the turn: what is appended together goes together.
    await Promise.resolve();
    while (!this.#closed && (this.#queue.length > 0 || this.#reopenDue)) {
      const held = this.#holds();
      if (held === undefined) {
        await this.#open();
        continue;
      }
      const { group, conflicts } = this.#form(held);
      await Promise.all([group === undefined ? undefined : this.#write(group), conflicts ? this.#confirm() : undefined]);
    }
  }

  /** P5: answers what waits and needs no write, as the log is now. Errors: none; what cannot be confirmed waits. */
  async #confirm(): Promise<void> {
    const { log, environment } = this.#options;
    try {
      await this.#answerKnown();
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      environment.logger.warn({ lane: log.lane, error }, "the end of the log could not be read to confirm a conflict");
      if (log.failure !== undefined) this.#held = undefined;
      await pause(environment, 5, this.#ending.signal);
    }
  }

  async #answerKnown(): Promise<void> {
    const { log } = this.#options;
    const asked = [...this.#queue];
    await log.reachEnd(this.#ending.signal);
    for (const pending of asked) {
      if (pending.answered) continue;
      const known = this.#known(pending.append);
      if (known !== undefined) this.#answer(pending, known);
    }
    this.#queue = this.#queue.filter((pending) => !pending.answered);
  }

  /** What we hold, if the partition still is ours as far as the log was read (P2). */
  #holds(): Held | undefined {
    const { log } = this.#options;
    const held = this.#held;
    if (held === undefined || log.failure !== undefined || this.#reopenDue || log.claim?.nonce !== held.nonce || log.rewinds !== held.rewinds) return undefined;
    return held.sequence > LAST_SEQUENCE ? undefined : held;
  }

  // ---- taking the partition

  /** One attempt to make the partition ours; afterwards it is, or the obstacle is known. `settling`: also where nobody waits. */
  async #open(settling = false): Promise<void> {
    const { log, environment, mayClaim, writer } = this.#options;
    this.#held = undefined;
    const hourly = this.#reopenDue && this.#queue.length === 0;
    this.#reopenDue = false;
    try {
      // What needs no write is answered without taking the partition from anybody.
      await this.#answerKnown();
      if (this.#queue.length === 0 && !settling && !hourly) return;
      const claim = log.claim;
      if (!mayClaim) return this.#refuseAll(notOwner(log.lane, claim, "this process is not to claim it"));
      if (hourly && claim?.writer !== writer) return;
      if (await this.#leaveAlone(claim)) return;
      const held = await this.#claim();
      if (held === undefined) return;
      this.#held = held;
      this.#obstacle = undefined;
      this.#reopening?.cancel();
      this.#reopening = environment.clock.setTimer(REOPEN_MS, () => {
        this.#reopenDue = true;
        this.#pump();
      });
    } catch (error) {
      const rewound = log.failure === undefined && isTidemarkError(error, "StoreRewound");
      if (this.#ending.signal.aborted || rewound) return;
      const cause = toTidemarkError(error, `taking ${log.lane}`);
      this.#obstacle = refused(REFUSALS[cause.code] ?? "unavailable", `${log.lane} could not be taken: ${cause.message}; nothing was written`, { retryable: cause.retryable, cause });
      environment.logger.warn({ lane: log.lane, error: cause }, "a partition could not be taken");
      if (!cause.retryable) return this.#refuseAll(this.#obstacle);
      await pause(environment, 5, this.#ending.signal);
    }
  }

  /** P9. True when something changed meanwhile and it is to be looked at again. */
  async #leaveAlone(claim: Claim | undefined): Promise<boolean> {
    const { log, minHoldMs, environment, writer } = this.#options;
    if (claim === undefined || claim.writer === writer) return false;
    const { clock, random } = environment;
    const left = Math.ceil(minHoldMs * (1 + random.next() / 2) - (clock.elapsed() - log.claimSeenAt));
    if (!(left > 0)) return false;
    this.#obstacle = notOwner(log.lane, claim, "it was taken over just now");
    await delay(clock, left, this.#ending.signal).catch(() => undefined);
    return log.claim?.nonce !== claim.nonce;
  }

  /** P1, P2, P3. Undefined: another was faster, or the answer was another's. Whether a later claim stands already is seen by whoever wants to write. */
  async #claim(): Promise<Held | undefined> {
    const { cluster, log, environment, transactionalId, requestTimeoutMs, writer } = this.#options;
    const { random, logger } = environment;
    const signal = this.#ending.signal;
    const draw = (): Promise<ProducerIdentity> => insist(() => cluster.initProducerId(transactionalId), { environment, boundMs: requestTimeoutMs, what: `a new epoch for ${log.lane}`, signal });
    const first = await draw();
    let identity = first;
    if (this.#fenced >= MAX_FENCED) for (let drawn = 1; drawn < EPOCHS_AT_ONCE && identity.producerId === first.producerId; drawn++) identity = await draw();
    const nonce = nonceOf(random.uuid());
    writeClaim(this.#batch, { nonce, writer, ...identity, previous: log.claim?.nonce ?? null });
    const sent = await this.#send(this.#finish(identity, 0));
    if (sent.kind === "refused") throw sent.error;
    if (sent.kind === "out") {
      logger.info({ lane: log.lane, error: sent.error }, "the broker knows a newer epoch than our claim's; it is tried again with the next");
      if (++this.#fenced < MAX_FENCED) await pause(environment, 1, signal);
      return undefined;
    }
    this.#fenced = 0;
    const { baseOffset } = sent;
    await log.reach(baseOffset + 1, signal);
    if (log.index.claimAt(log.lane, baseOffset)?.nonce !== nonce) {
      logger.warn({ lane: log.lane, offset: baseOffset }, "the record at our claim's offset is not our claim; it is tried again with a new epoch");
      return undefined;
    }
    const before = baseOffset === 0 ? undefined : log.index.claimAt(log.lane, baseOffset - 1);
    if (before !== undefined) this.#unstamped.add(before.producerId);
    this.#unstamped.delete(identity.producerId);
    for (const producerId of this.#unstamped) {
      if ((await draw()).producerId !== identity.producerId) return undefined; // P3
      await this.#stamp(producerId);
      this.#unstamped.delete(producerId);
    }
    logger.info({ lane: log.lane, offset: baseOffset, ...identity, from: before?.writer }, "a partition was taken");
    return { ...identity, nonce, sequence: 1, rewinds: log.rewinds };
  }

  /** P3. What a broker refuses was stamped before, or nothing of it is left to fence: the claims decide in any case. Errors: RequestLost. */
  async #stamp(producerId: number): Promise<void> {
    const { log, environment } = this.#options;
    writeStamp(this.#batch);
    const sent = await this.#send(this.#finish({ producerId, epoch: HIGHEST_EPOCH }, 0));
    if (sent.kind === "stands") return log.reach(sent.baseOffset + 1, this.#ending.signal);
    if (!(sent.error instanceof BrokerRefusal)) throw sent.error;
    environment.logger.info({ lane: log.lane, producerId, error: sent.error }, "the producer id of a claim before ours could not be stamped");
  }

  #finish(identity: ProducerIdentity, sequence: number): Buffer {
    return this.#batch.finish({ ...identity, sequence, timestamp: this.#options.environment.clock.now() }).batch;
  }

  // ---- groups

  /** P5. `group` undefined: there is nothing to write. `conflicts`: some wait to be confirmed. */
  #form(held: Held): { readonly group: Group | undefined; readonly conflicts: boolean } {
    const { log, maxBatchBytes, environment } = this.#options;
    const entries: Entry[] = [];
    const events: { stream: string; version: number }[] = [];
    const streams = new Set<string>();
    const left: Pending[] = [];
    let full = false;
    let conflicts = false;
    for (const pending of this.#queue) {
      if (pending.answered) continue;
      const { stream } = pending.append;
      // A second append of a stream waits for what becomes of the first.
      if (full || streams.has(stream)) {
        left.push(pending);
        continue;
      }
      const after = log.index.versionOf(stream);
      const known = this.#known(pending.append);
      if (known !== undefined) {
        if (known.kind === "committed") this.#answer(pending, known);
        else {
          conflicts = true;
          left.push(pending);
        }
        continue;
      }
      const before = this.#batch.count;
      const size = pending.append.events.length;
      pending.append.events.forEach((event, index) => writeEvent(this.#batch, stream, event, { claim: held.nonce, version: after + index + 1, index, size }));
      if (this.#batch.size > maxBatchBytes) {
        const bytes = this.#batch.size;
        this.#batch.truncate(before);
        if (before === 0) {
          this.#answer(pending, refused("too-large", `stream ${stream}: the append takes ${bytes} bytes as records; the topic takes at most ${maxBatchBytes} in a batch (max.message.bytes)`));
          continue;
        }
        full = true;
        left.push(pending);
        continue;
      }
      full = this.#batch.count >= MAX_BATCH_EVENTS;
      streams.add(stream);
      entries.push({ pending, after });
      for (let index = 1; index <= size; index++) events.push({ stream, version: after + index });
    }
    this.#queue = left;
    if (entries.length === 0) {
      this.#batch.truncate(0);
      return { group: undefined, conflicts };
    }
    const { batch, records } = this.#batch.finish({ ...held, timestamp: environment.clock.now() });
    return { group: { entries, events, batch, records, end: log.state.next, held }, conflicts };
  }

  /** The answer that needs no write: a conflict, or that the same events stand already (S5 of the port). */
  #known({ stream, expected, events }: PreparedAppend): AppendOutcome | undefined {
    if (expected === "any") return undefined;
    const version = this.#options.log.index.versionOf(stream);
    if (expected === "exists") return version > 0 ? undefined : { kind: "conflict", actual: 0 };
    const exact = expected === "none" ? 0 : expected;
    if (exact === version) return undefined;
    return this.#standing(stream, exact, events.map(({ id }) => id)) ?? { kind: "conflict", actual: version };
  }

  /** `committed`, where these events stand after that version. */
  #standing(stream: string, after: number, ids: readonly string[]): AppendOutcome | undefined {
    const { index, lane } = this.#options.log;
    const last = after + ids.length;
    if (index.versionOf(stream) < last) return undefined;
    let offset = 0;
    for (let version = after + 1; version <= last; ) {
      const found = index.stream(stream, version, last);
      if (found.length === 0) return undefined;
      for (const event of found) {
        if (marksOf(event.record).id !== ids[version - after - 1]) return undefined;
        offset = event.offset;
        version++;
      }
    }
    return { kind: "committed", version: last, position: { [lane]: offset } };
  }

  async #write(group: Group): Promise<void> {
    this.#underWay = group.entries;
    group.held.sequence += group.records.length;
    try {
      const sent = await this.#send(group.batch, Math.min(...group.entries.map(({ pending }) => pending.deadline)));
      if (sent.kind === "refused") return this.#refuse(group, sent.error);
      if (sent.kind === "stands" && sent.baseOffset === group.end && this.#accept(group)) return this.#commit(group);
      // P5: somebody wrote in between, or the tailer was faster.
      const isRead = sent.kind === "stands" && sent.baseOffset >= group.end && (await this.#hasRead(sent.baseOffset + group.records.length, group.held));
      if (isRead || (await this.#outOf(group, sent))) this.#settle(group);
      else {
        this.#held = undefined;
        for (const { pending } of group.entries) this.#answer(pending, { kind: "unknown", cause: this.#options.log.failure ?? new Error("the store was closed before Kafka had answered") });
      }
    } finally {
      if (!this.#closed) this.#underWay = [];
    }
  }

  /** P5: nothing came in between. */
  #accept({ held, end, events, records, entries }: Group): boolean {
    const { log, environment } = this.#options;
    if (log.rewinds !== held.rewinds || log.claim?.nonce !== held.nonce) return false;
    const indexed = events.map(({ stream, version }, index): IndexedEvent => ({ stream, version, offset: end + index, record: records[index] as Buffer }));
    const lastId = entries.at(-1)?.pending.append.events.at(-1)?.id ?? "";
    try {
      return log.acceptOwn(end, indexed, lastId, end + records.length);
    } catch (error) {
      environment.logger.error({ lane: log.lane, error }, "the index did not take what was written; it is read from the log");
      return false;
    }
  }

  #commit({ entries, end }: Group): void {
    const { lane } = this.#options.log;
    let next = end;
    for (const { pending, after } of entries) {
      const count = pending.append.events.length;
      next += count;
      this.#answer(pending, { kind: "committed", version: after + count, position: { [lane]: next - 1 } });
    }
  }

  /** Waits until the log has been read up to `offset`; false where that does not come to pass. */
  async #hasRead(offset: number, held: Held): Promise<boolean> {
    const { log, environment } = this.#options;
    for (let failures = 0; !this.#closed && log.failure === undefined && log.rewinds === held.rewinds; failures++) {
      try {
        await log.reach(offset, this.#ending.signal);
        return log.rewinds === held.rewinds;
      } catch (error) {
        environment.logger.warn({ lane: log.lane, error }, "the log could not be read to settle a batch; it is tried again");
        await pause(environment, failures, this.#ending.signal);
      }
    }
    return false;
  }

  /** P6, P7: only a claim that stands after the batch, and was read, can tell what became of it. False where the store is closed before, or the log cannot be read. */
  async #outOf({ held }: Group, sent: Sent): Promise<boolean> {
    const { log, environment } = this.#options;
    this.#held = undefined;
    const fenced = sent.kind === "out" && sent.error instanceof BrokerRefusal && sent.error.errorCode === KAFKA_ERROR.invalidProducerEpoch;
    environment.logger[fenced ? "info" : "warn"]({ lane: log.lane, outcome: sent }, "what became of a batch is told by a new claim and the log before it");
    // The broker may have lost what it held: then the index is no measure any more.
    await log.verify().catch((error: unknown) => environment.logger.warn({ lane: log.lane, error }, "the log could not be compared with what was read of it"));
    for (let failures = 2; !this.#closed && log.failure === undefined; failures++) {
      if (log.rewinds === held.rewinds && log.claim?.nonce !== held.nonce) return true;
      await this.#open(true);
      if (this.#holds() !== undefined) return true;
      await pause(environment, failures, this.#ending.signal);
    }
    return false;
  }

  /** The log has been read past whatever can count of the group. */
  #settle({ entries }: Group): void {
    const again: Pending[] = [];
    for (const { pending, after } of entries) {
      const { stream, events } = pending.append;
      const standing = this.#standing(stream, after, events.map(({ id }) => id));
      if (standing !== undefined) this.#answer(pending, standing);
      else if (!pending.answered) again.push(pending); // P7
    }
    this.#queue = [...again, ...this.#queue];
  }

  #refuse({ entries, held, records }: Group, error: unknown): void {
    // The broker has not counted them.
    held.sequence -= records.length;
    const outcome = this.#refusalOf(error);
    for (const { pending } of entries) this.#answer(pending, outcome);
  }

  #refusalOf(error: unknown): Refusal {
    const { lane } = this.#options.log;
    const code = error instanceof BrokerRefusal ? error.errorCode : undefined;
    const message = error instanceof Error ? error.message : String(error);
    if (code === KAFKA_ERROR.messageTooLarge || code === KAFKA_ERROR.recordListTooLarge) {
      return refused("too-large", `the batch for ${lane} is larger than its topic takes (max.message.bytes was lowered?): ${message}; nothing was written`, { cause: error });
    }
    if (code === KAFKA_ERROR.invalidRecord || code === KAFKA_ERROR.invalidTimestamp) return refused("invalid", `Kafka does not take the records for ${lane}: ${message}; nothing was written`, { cause: error });
    return refused("unavailable", `${lane} takes no writes now: ${message}; nothing was written`, { retryable: !isFinal(error), cause: error });
  }

  /** P4, P6. The same bytes, until it is known what became of them, or that only a claim can tell. Nothing that is not on its way is sent once `until` is near (P10). */
  async #send(batch: Buffer, until = this.#options.environment.clock.elapsed() + this.#options.appendTimeoutMs): Promise<Sent> {
    const { link, requestTimeoutMs, environment } = this.#options;
    const isLate = (): boolean => this.#closed || environment.clock.elapsed() + LONGEST_PAUSE_MS >= until;
    let doubt = false;
    let resends = 0;
    for (let failures = 0; ; failures++) {
      let error: unknown;
      try {
        return { kind: "stands", baseOffset: (await link.produce(batch, requestTimeoutMs)).baseOffset };
      } catch (caught) {
        error = caught;
      }
      if (error instanceof BrokerRefusal) {
        const { errorCode } = error;
        if (OUT.has(errorCode)) return { kind: "out", error };
        if (!DEFINITE.has(errorCode)) doubt = true;
        else if (!doubt && (errorCode !== KAFKA_ERROR.notEnoughReplicas || isLate())) return { kind: "refused", error };
      } else if (!(error instanceof RequestLost)) throw error;
      else if (error.sent) doubt = true;
      if (!doubt && isLate()) return { kind: "refused", error };
      if (doubt && (this.#closed || resends++ >= MAX_RESENDS)) return { kind: "out", error };
      environment.logger.debug({ lane: this.#options.log.lane, error }, "a batch is sent again");
      await pause(environment, failures, this.#ending.signal);
    }
  }

  // ---- answers

  #answer(pending: Pending, outcome: AppendOutcome): void {
    if (pending.answered) return;
    pending.answered = true;
    this.#queuedBytes -= pending.append.bytes;
    pending.settle(outcome);
  }

  #refuseAll(outcome: Refusal): void {
    const waiting = this.#queue;
    this.#queue = [];
    for (const pending of waiting) this.#answer(pending, outcome);
  }

  /** P10. */
  #sweep(): void {
    const { clock } = this.#options.environment;
    const { lane } = this.#options.log;
    this.#timer = undefined;
    const now = clock.elapsed();
    let next = Number.POSITIVE_INFINITY;
    const isOver = (pending: Pending): boolean => {
      if (pending.answered) return false;
      if (pending.deadline <= now) return true;
      next = Math.min(next, pending.deadline);
      return false;
    };
    for (const { pending } of this.#underWay) {
      if (isOver(pending)) this.#answer(pending, { kind: "unknown", cause: new Error(`Kafka has not told in time what became of an append to ${lane}`) });
    }
    for (const pending of this.#queue) {
      if (isOver(pending)) this.#answer(pending, this.#obstacle ?? refused("unavailable", `${lane} did not take the append in time; nothing was written`, { retryable: true }));
    }
    this.#queue = this.#queue.filter((pending) => !pending.answered);
    if (next < Number.POSITIVE_INFINITY) this.#timer = clock.setTimer(Math.ceil(next - now), () => this.#sweep(), { keepAlive: true });
  }
}

function notOwner(lane: string, claim: Claim | undefined, why: string): Refusal {
  const refusal = refused("not-owner", `${lane} is not ours to write: ${why}; nothing was written`, { retryable: true });
  return claim === undefined || claim.writer === "" ? refusal : { ...refusal, ownerHint: claim.writer };
}

/** 22 characters: every record carries it. */
function nonceOf(uuid: string): string {
  return Buffer.from(uuid.replaceAll("-", ""), "hex").toString("base64url");
}
