/**
 * The event store on one SQLite file.
 *
 * E1 `committed` is answered after COMMIT, which with `synchronous=full` has flushed the write-ahead log (S3 of the port).
 * E2 What failed before COMMIT was rolled back and is a definite refusal. A failure of COMMIT is `unknown`, but for a full disk: then the
 *    frame that carries the commit mark was not written, so no recovery can find it (S6 of the port).
 * E3 A subscription is woken by appends of this store at once, and by those of others through `ChangeWatch`.
 * E4 Between two pages the event loop gets its turn.
 */
import { isTidemarkError, StoreClosed } from "../../errors.ts";
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
import { at, type Position } from "../position.ts";
import { refuseClosed, refused, validateBatch, type Refusal } from "../validate-append.ts";
import { throwIfAborted, validateLogRead, validateStreamRead } from "../validate-read.ts";
import { ChangeWatch } from "./change-watch.ts";
import { LogReader } from "./log-reader.ts";
import { LogWriter, type PreparedAppend } from "./log-writer.ts";
import { CommitFailed, isBusy, SQLITE, sqliteCode, toTidemarkError } from "./sqlite-error.ts";
import { BUSY_BOUND_MS, type SqliteFile } from "./sqlite-file.ts";

const CAPABILITIES: StoreCapabilities = Object.freeze({
  totalOrder: true,
  groupsInFlight: 1,
  maxAppendBytes: 16 * 1024 * 1024,
  maxAppendsInBatch: 1024,
  idempotentAny: false,
  remembersStreams: true,
  inTransaction: false,
  durable: true,
  multiProcess: true,
});

/** Takes over one hold of the file. */
export function eventsOn(file: SqliteFile): EventStore {
  return new SqliteEvents(file.retain());
}

class SqliteEvents implements EventStore {
  readonly capabilities = CAPABILITIES;
  readonly #file: SqliteFile;
  readonly #reader: LogReader;
  readonly #writer: LogWriter;
  readonly #changes: ChangeWatch;
  readonly #subscriptions = new Set<LogPages>();
  #closed = false;

  constructor(file: SqliteFile) {
    this.#file = file;
    this.#reader = new LogReader(file);
    this.#writer = new LogWriter(file, this.#reader);
    this.#changes = new ChangeWatch(file);
  }

  async identity(signal?: AbortSignal): Promise<StoreIdentity> {
    return { id: await this.#read(() => this.#reader.identity(), signal, "reading the store's identity") };
  }

  async append(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    if (this.#closed) return refuseClosed(appends);
    const refusals = validateBatch(appends, CAPABILITIES);
    const outcomes: (AppendOutcome | undefined)[] = refusals ?? [];
    const prepared: PreparedAppend[] = [];
    const places: number[] = [];
    appends.forEach((append, index) => {
      if (refusals?.[index] !== undefined) return;
      try {
        // Before the lock is taken: nothing of the caller's can throw in the middle of a transaction.
        prepared.push({ ...append, metadata: append.events.map((event) => metadataText(event.metadata)) });
        places.push(index);
      } catch (cause) {
        outcomes[index] = refused("invalid", `stream ${append.stream}: the metadata cannot be written as JSON`, { cause });
      }
    });
    if (prepared.length > 0) {
      const written = await this.#write(prepared);
      written.forEach((outcome, index) => (outcomes[places[index] ?? 0] = outcome));
    }
    return outcomes as AppendOutcome[];
  }

  async readStream(stream: string, options: ReadStreamOptions = {}): Promise<StreamSlice> {
    const read = validateStreamRead(stream, options);
    return this.#read(() => this.#reader.slice(stream, read), options.signal, `reading ${stream}`);
  }

  async head(signal?: AbortSignal): Promise<Position> {
    return this.#read(() => at(this.#reader.head()), signal, "reading the end of the log");
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
    this.#changes.close();
    for (const pages of this.#subscriptions) pages.wake();
    this.#file.release();
  }

  /** E1, E2. Never rejects. */
  async #write(appends: readonly PreparedAppend[]): Promise<AppendOutcome[]> {
    let outcomes: AppendOutcome[];
    try {
      outcomes = await this.#file.whenFree(() => {
        this.#assertOpen();
        return this.#writer.write(appends);
      });
    } catch (error) {
      return appends.map(() => outcomeOf(error, this.#file.path));
    }
    // E3.
    if (outcomes.some((outcome) => outcome.kind === "committed")) for (const pages of this.#subscriptions) pages.wake();
    return outcomes;
  }

  async #read<T>(work: () => T, signal: AbortSignal | undefined, what: string): Promise<T> {
    try {
      return await this.#file.whenFree(() => {
        throwIfAborted(signal, what);
        this.#assertOpen();
        return work();
      }, signal);
    } catch (error) {
      throwIfAborted(signal, what);
      throw toTidemarkError(error, this.#file.path);
    }
  }

  #pages(options: ReadLogOptions, live: boolean): LogPages {
    const read = validateLogRead(options);
    let unwatch: (() => void) | undefined;
    const file = this.#file;
    let begun = false;
    const pages: LogPages = new LogPages({
      environment: file.environment,
      details: { file: file.path },
      read,
      live,
      signal: options.signal,
      page: async (after) => {
        // E4.
        if (begun) await new Promise<void>((resolve) => file.environment.clock.immediate(resolve));
        begun = true;
        return this.#read(() => this.#reader.page(after, read.categories, read.pageSize), options.signal, "reading the log");
      },
      isClosed: () => this.#closed,
      onEnd: () => {
        unwatch?.();
        this.#subscriptions.delete(pages);
      },
    });
    if (live && !this.#closed) {
      this.#subscriptions.add(pages);
      unwatch = this.#changes.add(() => pages.wake());
    }
    return pages;
  }

  #assertOpen(): void {
    if (this.#closed) throw new StoreClosed("the store is closed", { details: { file: this.#file.path } });
  }
}

/** E2: what a failed batch means for each of its appends. */
function outcomeOf(error: unknown, path: string): AppendOutcome {
  if (error instanceof CommitFailed && sqliteCode(error) !== SQLITE.FULL) return { kind: "unknown", cause: error };
  return refusalOf(error, path);
}

function refusalOf(error: unknown, path: string): Refusal {
  if (isTidemarkError(error, "StoreClosed")) return refused("closed", "the store was closed; nothing was written", { cause: error });
  if (isBusy(error)) return refused("busy", `${path} was locked by another process for ${BUSY_BOUND_MS} ms; nothing was written`, { retryable: true, cause: error });
  const cause = toTidemarkError(error, path);
  switch (sqliteCode(error)) {
    case SQLITE.FULL:
      return refused("disk-full", `there is no room left for ${path}; nothing was written`, { cause });
    case SQLITE.CORRUPT:
    case SQLITE.NOTADB:
      return refused("corrupt", cause.message, { cause });
    case SQLITE.READONLY:
      return refused("unavailable", `${path} cannot be written to: ${cause.message}`, { cause });
    default:
      return refused("unavailable", cause.message, { retryable: true, cause });
  }
}
