/**
 * The port that every event store implements, and its words. One contract suite (testing/) holds all backends to it.
 *
 * S1 Versions of a stream are 1, 2, 3 … without gaps, in every reader's view; 0 = the stream holds nothing.
 * S2 An append is atomic, checks its expected version, and has its own outcome; a neighbour in the batch cannot fail it.
 * S3 `committed` is answered only after the store confirmed durability, as the store's durability setting defines it.
 * S4 `readStream` sees every append that was acknowledged before the call, by any process.
 * S5 The same event ids again, with an exact or `none` expectation that matches what they were first appended on, are answered
 *    `committed` with the original version and never stand twice. For `any` and `exists` the capability `idempotentAny` tells.
 * S6 A definite failure (`conflict`, `refused`) never appears later. Everything else is `unknown`.
 * S7 Pages of a log never skip, never repeat and never reorder a lane; `through` only grows, and says up to where everything was considered.
 */
import type { Position } from "./position.ts";

/** What a caller expects of a stream: an exact version (0 = "none"), or a form. An open union: backends refuse what they do not know. */
export type ExpectedVersion = number | "any" | "none" | "exists";

/** What the framework records with each event; `user` is the caller's own. All of it is JSON. */
export interface EventMetadata {
  readonly correlationId: string;
  readonly causationId: string;
  /** The id of the command that made the event. */
  readonly commandId: string;
  /** Fingerprint of the command's name and input. Present only when the caller chose the `commandId`: then the id stands in the stream's window. */
  readonly fingerprint?: string;
  /** Version of the event's data; absent = 1. */
  readonly schemaVersion?: number;
  /** W3C trace context, where the caller gave it. */
  readonly traceparent?: string;
  readonly user?: Readonly<Record<string, unknown>>;
}

/** An event on its way in. `data` is text: what the codec made of the event's data (JSON by default). */
export interface NewEvent {
  readonly id: string;
  readonly type: string;
  readonly data: string;
  readonly metadata: EventMetadata;
  /** Milliseconds since the epoch, from the writer's clock; equals `now` of the decision. */
  readonly recordedAt: number;
}

/** An event as it stands in the log. Treat it as frozen. */
export interface StoredEvent extends NewEvent {
  readonly stream: string;
  /** Ordinal in the stream, from 1. */
  readonly version: number;
  /** Where it stands: one lane and its offset. */
  readonly position: Position;
}

/** One atomic append to one stream. A batch holds at most one append for each stream. */
export interface Append {
  readonly stream: string;
  readonly expected: ExpectedVersion;
  /** At least one. */
  readonly events: readonly NewEvent[];
}

export type AppendOutcome =
  /** They stand, durably; `version` and `position` are those of the append's last event. */
  | { readonly kind: "committed"; readonly version: number; readonly position: Position }
  /** For certain not written: the stream is at `actual`. `missing` may hold the events after the expected version, contiguous, possibly not all. */
  | { readonly kind: "conflict"; readonly actual: number; readonly missing?: readonly StoredEvent[] }
  /** For certain not written, for a reason that is not the version. */
  | {
      readonly kind: "refused";
      readonly code: RefusalCode;
      readonly message: string;
      readonly retryable: boolean;
      readonly ownerHint?: string;
      readonly cause?: unknown;
    }
  /** Nobody knows yet. */
  | { readonly kind: "unknown"; readonly cause: unknown };

/** Why a store refused: an open union with the names every backend shares. */
export type RefusalCode =
  "closed" | "too-large" | "invalid" | "duplicate-stream" | "disk-full" | "busy" | "not-owner" | "stream-deleted" | "unavailable" | (string & {});

export interface ReadStreamOptions {
  /** First version to read: forward default 1; backward default the last. */
  readonly from?: number;
  readonly direction?: "forward" | "backward";
  /** Most events to return, default 1000; a store may return fewer: follow `next`. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

/** A slice of one stream, in the direction that was asked for. */
export interface StreamSlice {
  readonly events: readonly StoredEvent[];
  /** Version of the stream's last event at the time of the read; 0 = the stream holds nothing. */
  readonly version: number;
  /** First version that is still there; 1 unless the stream was truncated. */
  readonly firstVersion: number;
  /** Where to go on reading, or undefined at the end. */
  readonly next: number | undefined;
}

export interface ReadLogOptions {
  /** Events after this position; default the start. */
  readonly after?: Position;
  /** Only these categories; default all. */
  readonly categories?: readonly string[];
  /** Most events in a page, default 1000. */
  readonly pageSize?: number;
  readonly signal?: AbortSignal;
}

/** A page of the log in its order. */
export interface LogPage {
  readonly events: readonly StoredEvent[];
  /** Everything up to here was considered, filtered events included. */
  readonly through: Position;
  /** Nothing acknowledged before this page was read stands after it. */
  readonly caughtUp: boolean;
}

/** What a backend can do; a contract case may be skipped only through one of these. */
export interface StoreCapabilities {
  /** One lane: the positions of all events are totally ordered. */
  readonly totalOrder: boolean;
  /** How many batches of appends the store takes at once (never two unsettled appends of one stream). */
  readonly groupsInFlight: number;
  /** Most bytes of one append (data and metadata as UTF-8); larger: refused `too-large`. */
  readonly maxAppendBytes: number;
  /** Most appends in one batch. */
  readonly maxAppendsInBatch: number;
  /** Re-appending the same ids with `any` or `exists` never doubles them. */
  readonly idempotentAny: boolean;
  /** An append on version 0 is a conflict on every stream that ever held an event, also where it holds none any more: nobody has to look before. */
  readonly remembersStreams: boolean;
  /** Views can be written in the append's own transaction. */
  readonly inTransaction: boolean;
  /** Events outlive the process. */
  readonly durable: boolean;
  /** Another process can use the same store at the same time. */
  readonly multiProcess: boolean;
}

/** Names one log: a store that was reset has another `id`. */
export interface StoreIdentity {
  /** 12 to 36 characters of [A-Za-z0-9-]. */
  readonly id: string;
}

export interface EventStore {
  readonly capabilities: StoreCapabilities;

  identity(signal?: AbortSignal): Promise<StoreIdentity>;

  /**
   * Appends a batch; the outcomes stand in the order of the appends. Never rejects: what fails the whole call is an outcome of each append.
   * The store sets its own time bound; when it passes, the outcome is `unknown`.
   * `onOutcome`: a store of several lanes calls it with the place of an append and its outcome, once for each and before the whole is answered, so that a lane that
   * waits holds up no other one. Other stores need not call it: what was not told stands in the answer.
   */
  append(appends: readonly Append[], onOutcome?: (index: number, outcome: AppendOutcome) => void): Promise<readonly AppendOutcome[]>;

  /** Errors: StoreUnavailable, StoreClosed, Aborted, StoreCorrupt. A stream that holds nothing is an empty slice. */
  readStream(stream: string, options?: ReadStreamOptions): Promise<StreamSlice>;

  /** Pages up to the end of the log as it was when the last page was read; the last page is `caughtUp`. Always yields at least one page. Errors: as readStream, StoreRewound. */
  readAll(options?: ReadLogOptions): AsyncIterable<LogPage>;

  /**
   * As readAll, then goes on for ever with whatever arrives; yields a page when it has caught up, also an empty one, and moves `through` within 100 ms on a log
   * whose events are all filtered. Reconnects by itself. Ends by throwing: Aborted, StoreClosed, StoreRewound, StoreCorrupt.
   */
  subscribe(options?: ReadLogOptions): AsyncIterable<LogPage>;

  /**
   * Where the log ends; only where it is cheap to tell and offsets count events, nearly. Progress uses it to say how much is left. A store with lanes of its own for
   * each category names those of `categories` alone, where they are given.
   */
  head?(signal?: AbortSignal, categories?: readonly string[]): Promise<Position>;

  /** Idempotent. Appends under way are answered; iterators end with StoreClosed. */
  close(): Promise<void>;
}
