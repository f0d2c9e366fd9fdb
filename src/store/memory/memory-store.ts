/**
 * The event store that lives in this process: for tests, for trying things out, and the yardstick of what the framework itself costs.
 * It keeps every promise of the port but durability. Everything it knows stands in a MemoryLog.
 *
 * N1 A page is taken from the log in one turn, when the consumer asks for it: nothing is buffered.
 * N2 Whoever reads the log is told of every append in the turn of the append.
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
import { LogPages } from "../log-pages.ts";
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
  const environment = environmentOf(options.environment);
  return new MemoryStore(options.log ?? memoryLog(environment), maxAppendBytes, environment);
}

class MemoryStore implements EventStore {
  readonly capabilities: StoreCapabilities;
  readonly #log: MemoryLog;
  readonly #environment: Environment;
  /** Those that go on for ever, each with what ends its being told. */
  readonly #subscriptions = new Map<LogPages, () => void>();
  #closed = false;

  constructor(log: MemoryLog, maxAppendBytes: number, environment: Environment) {
    this.#log = log;
    this.#environment = environment;
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
    return { [Symbol.asyncIterator]: () => this.#pages(options, false) };
  }

  subscribe(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#pages(options, true) };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const [pages, forget] of this.#subscriptions) {
      forget();
      pages.wake();
    }
    this.#subscriptions.clear();
  }

  #pages(options: ReadLogOptions, live: boolean): LogPages {
    const read = validateLogRead(options);
    const pages: LogPages = new LogPages({
      environment: this.#environment,
      details: {},
      read,
      live,
      signal: options.signal,
      page: async (after) => pageOf(this.#log, after, read),
      isClosed: () => this.#closed,
      onEnd: () => {
        this.#subscriptions.get(pages)?.();
        this.#subscriptions.delete(pages);
      },
    });
    if (live && !this.#closed) this.#subscriptions.set(pages, this.#log.onNews((head) => pages.wake(head))); // N2
    return pages;
  }

  #assertOpen(): void {
    if (this.#closed) throw new StoreClosed("the store is closed");
  }
}

/** N1. Errors: StoreRewound. */
function pageOf({ events: all, categories }: MemoryLog, after: Position, { categories: wanted, pageSize }: LogRead): LogPage {
  const from = offsetOf(after);
  if (from > all.length) {
    throw new StoreRewound(`position ${from} lies beyond the log's last event (${all.length}): this is not the log it was made on`, { details: { position: after, head: all.length } });
  }
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
  return { events, through: to > from ? (all[to - 1] as StoredEvent).position : after, caughtUp: to === all.length };
}
