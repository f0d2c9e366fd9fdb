/**
 * The engine of the test server: one writer over one log, without any protocol. It follows StorageWriterService and IndexWriter.
 *
 * E1 What an append writes is handed to the journal whole, before anything of it can be read or is answered.
 * E2 A soft delete writes `$tb` into the metadata stream and nothing else; the next append goes on with the numbering, and moves `$tb` behind it.
 * E3 Listeners hear of each event in the order of the log, after all that was written with it can be read.
 */
import type { Clock, Random } from "../../../environment.ts";
import { checkAppend, type Verdict } from "./check-append.ts";
import { EventLog } from "./event-log.ts";
import { KnownIds } from "./known-ids.ts";
import { DELETED, isMetastream, metastreamOf, NO_STREAM, originalOf, SYSTEM_TYPES, type AppendOutcome, type ExpectedRevision, type ProposedEvent, type RecordedEvent } from "./model.ts";
import { softDeletion, withTruncateBefore } from "./stream-metadata.ts";

/** What one append wrote. */
export interface JournalEntry {
  readonly events: readonly RecordedEvent[];
  /** Where the log ends after it. */
  readonly end: number;
}

export interface Journal {
  /** Returns when the entry would outlive the process; throws when nothing of it would. */
  write(entry: JournalEntry): void;
}

export interface EngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Bytes of recent ids that `any` is deduplicated by. */
  readonly knownIdsBytes: number;
  readonly journal?: Journal;
  /** What the journal held. */
  readonly history?: readonly JournalEntry[];
}

export type CommitListener = (event: RecordedEvent) => void;

export class Engine {
  readonly log: EventLog;
  readonly #options: EngineOptions;
  readonly #known: KnownIds;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #journal: Journal | undefined;
  readonly #listeners = new Set<CommitListener>();

  constructor(options: EngineOptions, log = new EventLog()) {
    const { clock, random, knownIdsBytes, journal, history = [] } = options;
    this.log = log;
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
    this.#known = new KnownIds(knownIdsBytes);
    this.#journal = journal;
    for (const { events, end } of history) this.log.add(events, end);
  }

  /** The same log after a restart: the ids that were written lately are forgotten. */
  reopened(): Engine {
    return new Engine({ ...this.#options, history: [] }, this.log);
  }

  /** Milliseconds since the epoch. */
  now(): number {
    return this.#clock.now();
  }

  uuid(): string {
    return this.#random.uuid();
  }

  /** Calls back for each event from now on; the function that is returned ends it. */
  onCommit(listener: CommitListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  append(stream: string, expected: ExpectedRevision, proposed: readonly ProposedEvent[]): AppendOutcome {
    const verdict = checkAppend(this.log, this.#known, stream, expected, proposed.map((event) => event.id));
    if (verdict.kind !== "write") return this.#unwritten(stream, verdict);
    const batch = this.#batch();
    // An append without events is a record too, that nobody can read.
    const position = proposed.length === 0 ? batch.skip() : proposed.map((event, index) => batch.add(stream, verdict.current + 1 + index, event)).at(-1);
    if (verdict.undelete) this.#undelete(batch, stream, verdict.current + 1);
    else if (isMetastream(stream) && this.log.isSoftDeleted(originalOf(stream))) {
      const original = originalOf(stream);
      this.#undelete(batch, original, this.log.lastRevision(original) + 1, proposed.at(-1)?.data);
    }
    this.#commit(batch);
    return { kind: "success", revision: verdict.current + proposed.length, position };
  }

  /** Deletes softly: readers find no stream, the log keeps its events, an append opens it again. */
  delete(stream: string, expected: ExpectedRevision): AppendOutcome {
    const id = this.uuid();
    const verdict = checkAppend(this.log, this.#known, stream, expected, [id]);
    if (verdict.kind !== "write") return this.#unwritten(stream, verdict);
    const metastream = metastreamOf(stream);
    const revision = this.log.lastRevision(metastream);
    if (verdict.current === NO_STREAM && revision === NO_STREAM) return { kind: "wrong-version", current: NO_STREAM };
    const batch = this.#batch();
    const position = batch.add(metastream, revision + 1, metadataEvent(id, softDeletion())); // E2
    this.#commit(batch);
    return { kind: "success", revision: verdict.current, position };
  }

  /** Deletes for ever, also a stream that never was. */
  tombstone(stream: string, expected: ExpectedRevision): AppendOutcome {
    const id = this.uuid();
    const verdict = checkAppend(this.log, this.#known, stream, expected, [id]);
    if (verdict.kind !== "write") return this.#unwritten(stream, verdict);
    const batch = this.#batch();
    const position = batch.add(stream, DELETED, { id, type: SYSTEM_TYPES.tombstone, isJson: false, data: new Uint8Array(), metadata: new Uint8Array() });
    this.#commit(batch);
    return { kind: "success", revision: DELETED, position };
  }

  #unwritten(stream: string, verdict: Exclude<Verdict, { kind: "write" }>): AppendOutcome {
    if (verdict.kind !== "repeated") return verdict;
    // The position is looked up by a read, which does not see what was truncated or deleted.
    const { revision } = verdict;
    const readable = !this.log.isSoftDeleted(stream) && revision >= this.log.firstRevision(stream, this.now());
    return { kind: "success", revision, position: readable ? this.log.eventAt(stream, revision)?.position : undefined };
  }

  /** Moves `$tb` from "deleted" to where the stream goes on; `raw` is metadata of the same batch. */
  #undelete(batch: Batch, stream: string, from: number, raw: Uint8Array | undefined = this.log.metadataEventOf(stream)?.data): void {
    const data = raw === undefined ? undefined : withTruncateBefore(raw, from);
    if (data === undefined) return;
    const metastream = metastreamOf(stream);
    batch.add(metastream, batch.nextRevision(metastream) ?? this.log.lastRevision(metastream) + 1, metadataEvent(this.uuid(), data));
  }

  #batch(): Batch {
    return new Batch(this.log.end, this.now());
  }

  #commit({ events, end }: Batch): void {
    this.#journal?.write({ events, end }); // E1
    this.log.add(events, end);
    for (const event of events) this.#known.put(event.id, event.stream, event.revision);
    for (const event of events) {
      for (const listener of this.#listeners) listener(event); // E3
    }
  }
}

/** Events on their way into the log, with positions as in a log of bytes. */
class Batch implements JournalEntry {
  readonly events: RecordedEvent[] = [];
  end: number;
  readonly #created: number;

  constructor(end: number, created: number) {
    this.end = end;
    this.#created = created;
  }

  add(stream: string, revision: number, event: ProposedEvent): number {
    const position = this.end;
    this.events.push({ ...event, stream, revision, position, created: this.#created });
    this.end += 74 + stream.length + event.type.length + event.data.length + event.metadata.length;
    return position;
  }

  skip(): number {
    const position = this.end;
    this.end += 74;
    return position;
  }

  nextRevision(stream: string): number | undefined {
    const last = this.events.findLast((event) => event.stream === stream)?.revision;
    return last === undefined ? undefined : last + 1;
  }
}

function metadataEvent(id: string, data: Uint8Array): ProposedEvent {
  return { id, type: SYSTEM_TYPES.metadata, isJson: true, data, metadata: new Uint8Array() };
}
