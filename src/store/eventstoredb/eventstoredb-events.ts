/**
 * The event store on EventStoreDB.
 *
 * E1 `committed` is answered after the server has answered the append: it stands on a majority of the nodes (S3 of the port).
 * E2 Everything that is sent is bytes before the first of it is (the client hangs on data that it cannot write: its defect 5), and nothing of the caller's is looked at later.
 * E3 `close` lets the appends under way be answered, each within its bound; what was not sent is refused.
 */
import type { Append, AppendOutcome, EventStore, LogPage, ReadLogOptions, ReadStreamOptions, StoreCapabilities, StoreIdentity, StreamSlice } from "../event-store.ts";
import { InvalidArgument } from "../../errors.ts";
import { LogPages } from "../log-pages.ts";
import { categoryOf } from "../stream-name.ts";
import { refuseClosed, refused, validateBatch, type Refusal } from "../validate-append.ts";
import { throwIfAborted, validateLogRead, validateStreamRead } from "../validate-read.ts";
import { AppendChannel } from "./append-channel.ts";
import type { Connection } from "./connection.ts";
import { toTidemarkError } from "./eventstoredb-error.ts";
import { HeadWatch } from "./head-watch.ts";
import { identityOf } from "./identity.ts";
import { LogReads, SNAPSHOT_CATEGORY } from "./log-reads.ts";
import { LogWriter, MAX_IN_FLIGHT, type PreparedAppend } from "./log-writer.ts";
import { PageSource } from "./page-source.ts";
import { StreamReader } from "./stream-reader.ts";
import { encodeEvent, wireBytes } from "./wire.ts";

/** What the server takes in one append, unless it is configured otherwise: data, metadata and the type twice. */
export const MAX_WIRE_BYTES = 1024 * 1024;

const CAPABILITIES: StoreCapabilities = Object.freeze({
  totalOrder: true,
  groupsInFlight: MAX_IN_FLIGHT,
  // With room for what is added to an event on the wire.
  maxAppendBytes: MAX_WIRE_BYTES - 4096,
  // Small: the slowest append of a batch holds back the answers to the others.
  maxAppendsInBatch: 16,
  idempotentAny: false,
  remembersStreams: false, // a stream that was deleted softly goes on with a new event
  inTransaction: false,
  durable: true,
  multiProcess: true,
});

/** Takes one hold of the connection. Makes the log's identity where it has none. Errors: StoreUnavailable, StoreCorrupt. */
export async function eventsOn(connection: Connection): Promise<EventStore> {
  const store = new EventStoreDBEvents(connection.retain());
  try {
    await store.identity();
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

class EventStoreDBEvents implements EventStore {
  readonly capabilities = CAPABILITIES;
  readonly #connection: Connection;
  readonly #channel: AppendChannel;
  readonly #streams: StreamReader;
  readonly #log: LogReads;
  readonly #heads: HeadWatch;
  readonly #writer: LogWriter;
  readonly #pages = new Map<LogPages, PageSource>();
  readonly #writing = new Set<Promise<unknown>>();
  #closed = false;
  #closing: Promise<void> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#channel = new AppendChannel(connection);
    this.#streams = new StreamReader(connection);
    this.#log = new LogReads(connection);
    this.#heads = new HeadWatch(connection, this.#log);
    this.#writer = new LogWriter(connection, this.#channel, this.#streams, async () => (await this.#log.head()).position);
  }

  async identity(signal?: AbortSignal): Promise<StoreIdentity> {
    return { id: await this.#read(() => this.#identity(signal), signal, "reading the store's identity") };
  }

  async append(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    if (this.#closed) return refuseClosed(appends);
    const refusals = validateBatch(appends, CAPABILITIES);
    const writing = Promise.all(
      appends.map((append, index) => {
        const prepared = refusals?.[index] ?? prepare(append);
        return "kind" in prepared ? Promise.resolve(prepared) : this.#writer.write(prepared);
      }),
    );
    this.#writing.add(writing);
    const outcomes = await writing;
    this.#writing.delete(writing);
    return outcomes;
  }

  async readStream(stream: string, options: ReadStreamOptions = {}): Promise<StreamSlice> {
    const read = validateStreamRead(stream, options);
    if (categoryOf(stream) === SNAPSHOT_CATEGORY) throw new InvalidArgument(RESERVED, { details: { stream } });
    return this.#read(() => this.#streams.read(stream, read, options.signal), options.signal, `reading ${stream}`, stream);
  }

  readAll(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#iterate(options, false) };
  }

  subscribe(options: ReadLogOptions = {}): AsyncIterable<LogPage> {
    return { [Symbol.asyncIterator]: () => this.#iterate(options, true) };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#heads.close();
    this.#writer.close();
    for (const [pages, source] of this.#pages) {
      source.end();
      pages.wake();
    }
    // E3.
    await Promise.all(this.#writing);
    this.#channel.close();
    await this.#connection.release();
  }

  #identity(signal?: AbortSignal): Promise<string> {
    return identityOf(this.#connection, this.#channel, this.#streams, signal);
  }

  async #read<T>(work: () => Promise<T>, signal: AbortSignal | undefined, what: string, stream?: string): Promise<T> {
    throwIfAborted(signal, what);
    if (this.#closed) throw this.#connection.closedError();
    try {
      return await work();
    } catch (error) {
      throwIfAborted(signal, what);
      if (this.#closed) throw this.#connection.closedError();
      throw toTidemarkError(error, this.#connection.name, stream);
    }
  }

  #iterate(options: ReadLogOptions, live: boolean): LogPages {
    const read = validateLogRead(options);
    const { signal } = options;
    const connection = this.#connection;
    const source = new PageSource({ connection, reads: this.#log, heads: this.#heads, identity: () => this.#identity(), read, live, signal, onNews: () => pages.wake() });
    const pages: LogPages = new LogPages({
      environment: connection.environment,
      details: { server: connection.name },
      read,
      live,
      signal,
      page: (after) => source.page(after),
      isClosed: () => this.#closed,
      onEnd: () => {
        source.end();
        this.#pages.delete(pages);
      },
    });
    this.#pages.set(pages, source);
    return pages;
  }
}

const RESERVED = `the category ${SNAPSHOT_CATEGORY} is kept for the snapshots of other categories`;

/** E2. */
function prepare({ stream, expected, events }: Append): PreparedAppend | Refusal {
  if (categoryOf(stream) === SNAPSHOT_CATEGORY) return refused("invalid", `stream ${stream}: ${RESERVED}`);
  let encoded: PreparedAppend["events"];
  try {
    encoded = events.map(encodeEvent);
  } catch (cause) {
    return refused("invalid", `stream ${stream}: the metadata cannot be written as JSON`, { cause });
  }
  const bytes = wireBytes(encoded);
  if (bytes > MAX_WIRE_BYTES) return refused("too-large", `stream ${stream}: the append has ${bytes} bytes as EventStoreDB counts them; it takes at most ${MAX_WIRE_BYTES}`);
  return { stream, expected, ids: events.map((event) => event.id), events: encoded };
}
