/**
 * The event store that lives in this process: for tests, for trying things out, and the yardstick of what the framework itself costs.
 * It keeps every promise of the port but durability. Everything it knows stands in a MemoryLog.
 *
 * N1 A reader takes its page when the consumer asks for it, never before: nothing is buffered.
 * N2 Between "nothing stands after this page" and starting to wait nothing runs, so no append slips through the hand-over to live.
 * N3 A waiting reader is woken by an append, by its signal, by `close()` and by its own `return()`, whichever comes first.
 */
import { environmentOf } from "../../environment.ts";
import type { Environment } from "../../environment.ts";
import { InvalidArgument, StoreClosed, StoreRewound } from "../../errors.ts";
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
import { at, offsetOf } from "../position.ts";
import type { Position } from "../position.ts";
import { refuseClosed, validateBatch } from "../validate-append.ts";
import { throwIfAborted, validateLogRead, validateStreamRead } from "../validate-read.ts";
import type { LogRead } from "../validate-read.ts";
import { memoryLog, type MemoryLog } from "./memory-log.ts";

export interface MemoryStoreOptions {
  /** Share a log between stores, as processes share a database; default a log of its own. */
  readonly log?: MemoryLog;
  /** Most bytes of one append, data and metadata as UTF-8. */
  readonly maxAppendBytes?: number;
  readonly environment?: Partial<Environment>;
}

export const memoryStoreDefaults = { maxAppendBytes: 16 * 1024 * 1024 } as const;

/** Most events that a filtered page looks at, so that a long log never stalls the event loop. */
const MAX_CONSIDERED = 100_000;

/** A new memory store. Errors: InvalidArgument. */
export function memoryStore(options: MemoryStoreOptions = {}): EventStore {
  const maxAppendBytes = options.maxAppendBytes ?? memoryStoreDefaults.maxAppendBytes;
  if (!Number.isSafeInteger(maxAppendBytes) || maxAppendBytes < 1) throw new InvalidArgument("maxAppendBytes must be an integer from 1");
  return new MemoryStore(options.log ?? memoryLog(environmentOf(options.environment)), maxAppendBytes);
}

class MemoryStore implements EventStore {
  readonly capabilities: StoreCapabilities;
  readonly #log: MemoryLog;
  readonly #readers = new Set<LogReader>();
  #closed = false;

  constructor(log: MemoryLog, maxAppendBytes: number) {
    this.#log = log;
    this.capabilities = Object.freeze({
      totalOrder: true,
      groupsInFlight: 16,
      maxAppendBytes,
      maxAppendsInBatch: 1024,
      idempotentAny: true,
      remembersStreams: true,
      inTransaction: false,
      durable: false,
      multiProcess: false,
    });
  }

  async identity(signal?: AbortSignal): Promise<StoreIdentity> {
    throwIfAborted(signal, "reading the store's identity");
    this.#assertOpen();
    return { id: this.#log.id };
  }

  async append(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    if (this.#closed) return refuseClosed(appends);
    const refusals = validateBatch(appends, this.capabilities);
    const outcomes = appends.map((append, index) => refusals?.[index] ?? this.#log.append(append));
    this.#log.notify();
    return outcomes;
  }

  async readStream(stream: string, options: ReadStreamOptions = {}): Promise<StreamSlice> {
    const { backward, from, limit } = validateStreamRead(stream, options);
    throwIfAborted(options.signal, `reading ${stream}`);
    this.#assertOpen();
    const all = this.#log.stream(stream);
    const version = all.length;
    if (backward) {
      const last = Math.min(from ?? version, version);
      const first = Math.max(1, last - limit + 1);
      const events = all.slice(first - 1, last).reverse();
      return { events, version, firstVersion: 1, next: first > 1 ? first - 1 : undefined };
    }
    const first = from ?? 1;
    const events = all.slice(first - 1, first - 1 + limit);
    const next = first + events.length;
    return { events, version, firstVersion: 1, next: next <= version ? next : undefined };
  }

  async head(): Promise<Position> {
    this.#assertOpen();
    return at(this.#log.events.length);
  }

  readAll(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#reader(options, false) };
  }

  subscribe(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#reader(options, true) };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const reader of this.#readers) reader.wake();
    this.#readers.clear();
  }

  #reader(options: ReadLogOptions, live: boolean): LogReader {
    const reader: LogReader = new LogReader(
      this.#log,
      validateLogRead(options),
      live,
      options.signal,
      () => this.#closed,
      () => this.#readers.delete(reader),
    );
    if (!this.#closed) this.#readers.add(reader);
    return reader;
  }

  #assertOpen(): void {
    if (this.#closed) throw new StoreClosed("the store is closed");
  }
}

/** Reads the log page by page, and waits for more when it is `live`. Calls of `next` are answered one after the other. */
class LogReader implements AsyncIterableIterator<LogPage> {
  readonly #log: MemoryLog;
  readonly #read: LogRead;
  readonly #live: boolean;
  readonly #signal: AbortSignal | undefined;
  readonly #isClosed: () => boolean;
  readonly #onEnd: () => void;
  #through: Position;
  /** The last page said that nothing stands after it. */
  #caughtUp = false;
  #ended = false;
  #wake: (() => void) | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(log: MemoryLog, read: LogRead, live: boolean, signal: AbortSignal | undefined, isClosed: () => boolean, onEnd: () => void) {
    this.#log = log;
    this.#read = read;
    this.#live = live;
    this.#signal = signal;
    this.#isClosed = isClosed;
    this.#onEnd = onEnd;
    this.#through = read.after;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<LogPage> {
    return this;
  }

  next(): Promise<IteratorResult<LogPage>> {
    const turn = this.#turn.then(() => this.#step());
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async return(): Promise<IteratorResult<LogPage>> {
    this.#end();
    this.wake();
    return { done: true, value: undefined };
  }

  /** N3. */
  wake(): void {
    this.#wake?.();
  }

  async #step(): Promise<IteratorResult<LogPage>> {
    if (this.#ended || (this.#caughtUp && !this.#live)) {
      this.#end();
      return { done: true, value: undefined };
    }
    try {
      this.#assertGoingOn();
      if (offsetOf(this.#through) > this.#log.events.length) {
        throw new StoreRewound(`position ${offsetOf(this.#through)} lies beyond the log's last event (${this.#log.events.length}): this is not the log it was made on`, {
          details: { position: this.#through, head: this.#log.events.length },
        });
      }
      while (this.#caughtUp && offsetOf(this.#through) === this.#log.events.length) {
        await this.#news();
        if (this.#ended) return { done: true, value: undefined };
        this.#assertGoingOn();
      }
    } catch (error) {
      this.#end();
      throw error;
    }
    return { done: false, value: this.#page() };
  }

  /** N1. */
  #page(): LogPage {
    const { events: all, categories } = this.#log;
    const { categories: wanted, pageSize } = this.#read;
    const from = offsetOf(this.#through);
    let events: StoredEvent[];
    let to: number;
    if (wanted === undefined) {
      events = all.slice(from, from + pageSize);
      to = from + events.length;
    } else {
      events = [];
      const end = Math.min(all.length, from + MAX_CONSIDERED);
      for (to = from; to < end && events.length < pageSize; to++) {
        if (wanted.has(categories[to] as string)) events.push(all[to] as StoredEvent);
      }
    }
    if (to > from) this.#through = (all[to - 1] as StoredEvent).position;
    this.#caughtUp = to === all.length;
    return { events, through: this.#through, caughtUp: this.#caughtUp };
  }

  /** N2: called in the same turn in which the end of the log was seen. N3. */
  #news(): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wake = undefined;
        forget();
        this.#signal?.removeEventListener("abort", wake);
        resolve();
      };
      const forget = this.#log.onNews(wake);
      this.#signal?.addEventListener("abort", wake, { once: true });
      this.#wake = wake;
    });
  }

  #assertGoingOn(): void {
    throwIfAborted(this.#signal, "reading the log");
    if (this.#isClosed()) throw new StoreClosed("the store was closed");
  }

  #end(): void {
    this.#ended = true;
    this.#onEnd();
  }
}
