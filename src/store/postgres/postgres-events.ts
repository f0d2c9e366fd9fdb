/**
 * The event store on one PostgreSQL database.
 *
 * E1 `committed` is answered after the server has answered the commit, which with `synchronous_commit` on (its default) has flushed the log (S3 of the port).
 * E2 A subscription is woken by appends of this store at once, and by those of others through the listener: the append tells them, or where appends commit
 *    side by side, the announcer afterwards.
 * E3 `close` lets the appends under way be answered, each within its bound.
 * E4 Whoever catches up has one page read ahead, and never more.
 */
import { StoreClosed } from "../../errors.ts";
import type {
  Append,
  AppendOutcome,
  EventStore,
  LogPage,
  ReadLogOptions,
  ReadStreamOptions,
  StoreCapabilities,
  StoreIdentity,
  StreamSlice,
} from "../event-store.ts";
import { LogPages } from "../log-pages.ts";
import { metadataText } from "../metadata-text.ts";
import { at, offsetOf, type Position } from "../position.ts";
import { refuseClosed, refused, validateBatch } from "../validate-append.ts";
import { throwIfAborted, validateLogRead, validateStreamRead } from "../validate-read.ts";
import { Announcer } from "./announcer.ts";
import type { Database } from "./database.ts";
import type { Listener } from "./listener.ts";
import { eventsChannel } from "./log-names.ts";
import { LogReader } from "./log-reader.ts";
import type { LogShape } from "./log-shape.ts";
import { LogWriter, type PreparedAppend } from "./log-writer.ts";
import { Partitions } from "./partitions.ts";
import { toTidemarkError } from "./postgres-error.ts";
import { readingAhead } from "./read-ahead.ts";
import { MAX_ANSWER_EVENTS } from "./stored-event.ts";
import { StreamReader } from "./stream-reader.ts";

const CAPABILITIES: StoreCapabilities = Object.freeze({
  totalOrder: true,
  groupsInFlight: 2,
  maxAppendBytes: 16 * 1024 * 1024,
  maxAppendsInBatch: 1024,
  idempotentAny: false,
  remembersStreams: true,
  inTransaction: false,
  durable: true,
  multiProcess: true,
});

/** Appends that commit side by side share a flush of the disk. */
const SIDE_BY_SIDE: StoreCapabilities = Object.freeze({ ...CAPABILITIES, groupsInFlight: 4 });

/** Takes one hold of the database. */
export function eventsOn(db: Database, schema: string, shape: LogShape, listener: Listener): EventStore {
  return new PostgresEvents(db.retain(), schema, shape, listener);
}

class PostgresEvents implements EventStore {
  readonly capabilities: StoreCapabilities;
  readonly #db: Database;
  readonly #channel: string;
  readonly #writer: LogWriter;
  readonly #streams: StreamReader;
  readonly #log: LogReader;
  readonly #listener: Listener;
  readonly #announcer: Announcer | undefined;
  readonly #partitions: Partitions | undefined;
  readonly #subscriptions = new Set<LogPages>();
  readonly #writing = new Set<Promise<AppendOutcome[]>>();
  #unlisten: (() => void) | undefined;
  #closed = false;
  #closing: Promise<void> | undefined;

  constructor(db: Database, schema: string, shape: LogShape, listener: Listener) {
    const { commitOrder, eventsPerPartition } = shape;
    this.capabilities = commitOrder === "horizon" ? SIDE_BY_SIDE : CAPABILITIES;
    this.#db = db;
    this.#channel = eventsChannel(schema);
    this.#partitions = eventsPerPartition === undefined ? undefined : new Partitions(db, schema, eventsPerPartition);
    this.#announcer = commitOrder === "horizon" ? new Announcer(db, this.#channel) : undefined;
    this.#writer = new LogWriter(db, schema, shape, this.#partitions);
    this.#streams = new StreamReader(db, schema, shape);
    this.#log = new LogReader(db, schema, shape);
    this.#listener = listener;
  }

  async identity(signal?: AbortSignal): Promise<StoreIdentity> {
    return { id: await this.#read(() => this.#log.identity(signal), signal, "reading the store's identity") };
  }

  async append(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    if (this.#closed) return refuseClosed(appends);
    const refusals = validateBatch(appends, this.capabilities);
    const outcomes: (AppendOutcome | undefined)[] = refusals ?? [];
    const prepared: PreparedAppend[] = [];
    const places: number[] = [];
    appends.forEach((append, index) => {
      if (refusals?.[index] !== undefined) return;
      try {
        prepared.push({ ...append, metadata: append.events.map((event) => metadataText(event.metadata)) });
        places.push(index);
      } catch (cause) {
        outcomes[index] = refused("invalid", `stream ${append.stream}: the metadata cannot be written as JSON`, { cause });
      }
    });
    if (prepared.length === 0) return outcomes as AppendOutcome[];
    const writing = this.#writer.write(prepared);
    this.#writing.add(writing);
    const written = await writing;
    this.#writing.delete(writing);
    let head = 0;
    written.forEach((outcome, index) => {
      outcomes[places[index] ?? 0] = outcome;
      if (outcome.kind === "committed") head = Math.max(head, offsetOf(outcome.position));
    });
    if (head === 0) return outcomes as AppendOutcome[];
    // E2.
    for (const pages of this.#subscriptions) pages.wake(head);
    this.#announcer?.tell(head);
    this.#partitions?.ahead(head);
    return outcomes as AppendOutcome[];
  }

  async readStream(stream: string, options: ReadStreamOptions = {}): Promise<StreamSlice> {
    const read = validateStreamRead(stream, options);
    return this.#read(() => this.#streams.read(stream, read, options.signal), options.signal, `reading ${stream}`);
  }

  readAll(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#pages(options, false) };
  }

  subscribe(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#pages(options, true) };
  }

  async head(signal?: AbortSignal): Promise<Position> {
    return at(await this.#read(() => this.#log.head(signal), signal, "reading the end of the log"));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#unlisten?.();
    for (const pages of this.#subscriptions) pages.wake();
    // E3.
    await Promise.all(this.#writing);
    await this.#announcer?.close();
    await this.#db.release();
  }

  async #read<T>(work: () => Promise<T>, signal: AbortSignal | undefined, what: string): Promise<T> {
    throwIfAborted(signal, what);
    if (this.#closed) throw new StoreClosed("the store is closed", { details: { database: this.#db.name } });
    try {
      return await work();
    } catch (error) {
      throwIfAborted(signal, what);
      throw toTidemarkError(error, this.#db.name);
    }
  }

  #pages(options: ReadLogOptions, live: boolean): LogPages {
    const read = validateLogRead(options);
    const pages: LogPages = new LogPages({
      environment: this.#db.environment,
      details: { database: this.#db.name },
      read,
      live,
      signal: options.signal,
      // E4.
      page: readingAhead((after) => this.#read(() => this.#log.page(after, read, options.signal), options.signal, "reading the log"), Math.min(read.pageSize, MAX_ANSWER_EVENTS)),
      isClosed: () => this.#closed,
      onEnd: () => this.#subscriptions.delete(pages),
    });
    if (live && !this.#closed) {
      this.#subscriptions.add(pages);
      this.#unlisten ??= this.#listener.add(this.#channel, (payload) => {
        const head = payload === undefined ? undefined : Number(payload);
        for (const each of this.#subscriptions) each.wake(head);
      });
    }
    return pages;
  }
}
