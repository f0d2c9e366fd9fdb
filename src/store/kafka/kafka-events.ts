/**
 * The event store on Kafka: a topic for each category, a claim for each partition that is written to, an index that the log was folded into.
 *
 * E1 `committed` is answered after every in-sync replica has the batch (acks=all), and the batch is known to count (S3 of the port).
 * E2 Partitions do not wait for each other: each has its writer and its connections, and `onOutcome` tells each append's outcome as soon as it is there.
 * E3 `readStream` asks the broker where the partition ends after the call began (S4 of the port), also where this process owns the partition: another may have taken
 *    it a moment ago.
 * E4 Categories are opened when they are first used; the topic of a category is created by its first append.
 * E5 `close` lets what was sent be answered, within the bound of a request.
 */
import { Aborted, isTidemarkError } from "../../errors.ts";
import type {
  Append,
  AppendOutcome,
  EventStore,
  LogPage,
  ReadLogOptions,
  ReadStreamOptions,
  StoreCapabilities,
  StoredEvent,
  StoreIdentity,
  StreamSlice,
} from "../event-store.ts";
import { LogPages } from "../log-pages.ts";
import type { Position } from "../position.ts";
import { categoryOf } from "../stream-name.ts";
import { refuseClosed, refused, validateBatch, type Refusal } from "../validate-append.ts";
import { throwIfAborted, validateLogRead, validateStreamRead, type StreamRead } from "../validate-read.ts";
import { openCategory, type Category, type CategoryOptions } from "./category.ts";
import { storeClosed, toTidemarkError, untilAborted } from "./kafka-error.ts";
import type { IndexedEvent, LogIndex } from "./log-index.ts";
import { PageSource } from "./page-source.ts";
import type { PartitionLog } from "./partition-log.ts";
import { prepare, type PreparedAppend } from "./prepared-append.ts";
import { decodeEvent } from "./record-format.ts";

/** A slice of a stream is bounded in events and in bytes of records. */
const MAX_SLICE_EVENTS = 10_000;
const MAX_SLICE_BYTES = 8 * 1024 * 1024;
/** Events that are asked of the index at once when a stream is read backward. */
const BACKWARD_STEP = 200;

export interface KafkaEventsOptions extends CategoryOptions {
  readonly maxAppendBytes: number;
  /** Ends what is repeated until it succeeds. */
  readonly closing: AbortController;
}

/** More than commands that an app lets wait by default: a partition that does not answer must not use up the groups of the others. Each partition bounds what waits for it. */
const MAX_GROUPS = 16_384;

export class KafkaEvents implements EventStore {
  readonly capabilities: StoreCapabilities;
  readonly #options: KafkaEventsOptions;
  readonly #open = new Map<string, Category>();
  readonly #opening = new Map<string, Promise<Category | undefined>>();
  readonly #subscriptions = new Set<LogPages>();
  #closed = false;
  #closing: Promise<void> | undefined;

  constructor(options: KafkaEventsOptions) {
    this.#options = options;
    this.capabilities = Object.freeze({
      totalOrder: false,
      groupsInFlight: MAX_GROUPS,
      maxAppendBytes: options.maxAppendBytes,
      maxAppendsInBatch: 1024,
      idempotentAny: false,
      remembersStreams: true,
      inTransaction: false,
      durable: true,
      multiProcess: true,
    });
  }

  async identity(signal?: AbortSignal): Promise<StoreIdentity> {
    return { id: await this.#read(() => this.#options.storeTopic.identity(), signal, "reading the store's identity") };
  }

  append(appends: readonly Append[], onOutcome?: (index: number, outcome: AppendOutcome) => void): Promise<readonly AppendOutcome[]> {
    if (this.#closed) return Promise.resolve(refuseClosed(appends));
    const refusals = validateBatch(appends, this.capabilities);
    return new Promise((resolve) => {
      const outcomes: AppendOutcome[] = [];
      let left = appends.length;
      const settle = (index: number, outcome: AppendOutcome): void => {
        outcomes[index] = outcome;
        onOutcome?.(index, outcome);
        if (--left === 0) resolve(outcomes);
      };
      if (left === 0) resolve(outcomes);
      for (let index = 0; index < appends.length; index++) {
        const refusal = refusals?.[index];
        if (refusal !== undefined) settle(index, refusal);
        else this.#send(appends[index] as Append, (outcome) => settle(index, outcome));
      }
    });
  }

  async readStream(stream: string, options: ReadStreamOptions = {}): Promise<StreamSlice> {
    const read = validateStreamRead(stream, options);
    const { signal } = options;
    return this.#read(
      async () => {
        const category = await this.#category(categoryOf(stream), false);
        if (category === undefined) return { events: [], version: 0, firstVersion: 1, next: undefined };
        const log = category.logOf(stream);
        await log.reachEnd(signal); // E3
        return sliceOf(stream, read, log);
      },
      signal,
      `reading ${stream}`,
    );
  }

  /** Where the lanes end: of these categories, or of all. Offsets count claims too. */
  async head(signal?: AbortSignal, categories?: readonly string[]): Promise<Position> {
    return this.#read(
      async () => {
        const lanes = await this.#lanesOf(categories === undefined ? undefined : new Set(categories));
        const ends = await Promise.all(lanes.map(async (log) => [log.lane, (await log.end()) - 1] as const));
        return Object.fromEntries(ends.filter(([, last]) => last >= 0));
      },
      signal,
      "reading the end of the log",
    );
  }

  readAll(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#pages(options, false) };
  }

  subscribe(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#pages(options, true) };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { cluster, index, closing } = this.#options;
    this.#closed = true;
    this.#wake();
    closing.abort();
    await Promise.all([...this.#opening.values()].map((opening) => opening.catch(() => undefined)));
    await Promise.all([...this.#open.values()].map((category) => category.close()));
    await cluster.close();
    index.close();
  }

  /** Copies the append before it returns: what is the caller's may change afterwards. */
  #send(append: Append, settle: (outcome: AppendOutcome) => void): void {
    let prepared: PreparedAppend;
    try {
      prepared = prepare(append);
    } catch (cause) {
      return settle(refused("invalid", `stream ${append.stream}: the metadata cannot be written as JSON`, { cause }));
    }
    const { stream } = prepared;
    const name = categoryOf(stream);
    const category = this.#open.get(name);
    if (category !== undefined) return category.writerOf(stream).append(prepared, settle);
    this.#category(name, true).then(
      (opened) => {
        if (this.#closed || opened === undefined) settle(refused("closed", "the store was closed; nothing was written"));
        else opened.writerOf(stream).append(prepared, settle);
      },
      (error: unknown) => settle(this.#closed ? refused("closed", "the store was closed; nothing was written") : refusalOf(name, error)),
    );
  }

  /** E4. Errors: as openCategory. */
  async #category(name: string, create: boolean): Promise<Category | undefined> {
    for (;;) {
      const open = this.#open.get(name);
      if (open !== undefined) return open;
      const opening = this.#opening.get(name);
      if (opening === undefined) return this.#begin(name, create);
      const opened = await opening;
      // Whoever was first may only have looked.
      if (opened !== undefined || !create) return opened;
    }
  }

  #begin(name: string, create: boolean): Promise<Category | undefined> {
    const opening = openCategory(name, create, this.#options)
      .then((category) => {
        if (category === undefined) return undefined;
        this.#open.set(name, category);
        for (const log of category.lanes) log.onChange(() => this.#wake());
        this.#wake();
        return category;
      })
      .finally(() => this.#opening.delete(name));
    this.#opening.set(name, opening);
    return opening;
  }

  #wake(): void {
    for (const pages of this.#subscriptions) pages.wake();
  }

  async #lanesOf(categories: ReadonlySet<string> | undefined): Promise<readonly PartitionLog[]> {
    const known = await this.#options.storeTopic.categories();
    const names = [...known.keys()].filter((name) => categories === undefined || categories.has(name));
    const opened = await Promise.all(names.map((name) => this.#category(name, false)));
    return opened.flatMap((category) => category?.lanes ?? []);
  }

  *#opened(categories: ReadonlySet<string> | undefined): Iterable<PartitionLog> {
    for (const category of this.#open.values()) if (categories === undefined || categories.has(category.name)) yield* category.lanes;
  }

  *#followed(): Iterable<PartitionLog> {
    for (const log of this.#opened(undefined)) if (log.started) yield log;
  }

  async #read<T>(work: () => Promise<T>, signal: AbortSignal | undefined, what: string): Promise<T> {
    throwIfAborted(signal, what);
    if (this.#closed) throw storeClosed();
    try {
      return await untilAborted(work(), signal, what);
    } catch (error) {
      if (signal?.aborted === true) throw error instanceof Aborted ? error : new Aborted(`${what} was aborted`, { cause: signal.reason });
      if (this.#closed) throw storeClosed();
      throw toTidemarkError(error, what);
    }
  }

  #pages(options: ReadLogOptions, live: boolean): LogPages {
    const { environment } = this.#options;
    const { signal } = options;
    const read = validateLogRead(options);
    const source = new PageSource({
      environment,
      read,
      live,
      signal,
      lanesOf: (categories) => this.#lanesOf(categories),
      opened: (categories) => this.#opened(categories),
      followed: () => this.#followed(),
      onNews: () => pages.wake(),
    });
    const pages: LogPages = new LogPages({
      environment,
      details: {},
      read,
      live,
      signal,
      page: () => source.page(),
      isClosed: () => this.#closed,
      onEnd: () => {
        source.end();
        this.#subscriptions.delete(pages);
      },
    });
    if (live && !this.#closed) this.#subscriptions.add(pages);
    return pages;
  }
}

function sliceOf(stream: string, { backward, from, limit }: StreamRead, { index, lane }: PartitionLog): StreamSlice {
  const version = index.versionOf(stream);
  const most = Math.min(limit, MAX_SLICE_EVENTS);
  const decode = (event: IndexedEvent): StoredEvent => decodeEvent(lane, event);
  if (backward) {
    const last = Math.min(from ?? version, version);
    const events = backwardFrom(index, stream, last, most).map(decode);
    const next = last - events.length;
    return { events, version, firstVersion: 1, next: next >= 1 ? next : undefined };
  }
  const first = from ?? 1;
  const events = forwardFrom(index, stream, first, Math.min(version, first + most - 1)).map(decode);
  const next = first + events.length;
  return { events, version, firstVersion: 1, next: next <= version ? next : undefined };
}

function forwardFrom(index: LogIndex, stream: string, first: number, last: number): IndexedEvent[] {
  const events: IndexedEvent[] = [];
  let bytes = 0;
  while (first + events.length <= last) {
    const found = index.stream(stream, first + events.length, last);
    for (const event of found) {
      events.push(event);
      bytes += event.record.length;
      if (bytes > MAX_SLICE_BYTES) return events;
    }
    if (found.length === 0) break;
  }
  return events;
}

function backwardFrom(index: LogIndex, stream: string, last: number, most: number): IndexedEvent[] {
  const events: IndexedEvent[] = [];
  const least = Math.max(1, last - most + 1);
  let bytes = 0;
  for (let to = last; to >= least; to -= BACKWARD_STEP) {
    const step = forwardFrom(index, stream, Math.max(least, to - BACKWARD_STEP + 1), to);
    for (const event of step.reverse()) {
      events.push(event);
      bytes += event.record.length;
      if (bytes > MAX_SLICE_BYTES) return events;
    }
  }
  return events;
}

/** An append whose category could not be opened was not sent. */
function refusalOf(category: string, error: unknown): Refusal {
  const cause = toTidemarkError(error, `opening category ${category}`);
  const reason = cause.details["reason"];
  const code = isTidemarkError(cause, "StoreRewound") ? "rewound" : typeof reason === "string" ? reason : "unavailable";
  return refused(code, `${cause.message}; nothing was written`, { retryable: cause.retryable, cause });
}
