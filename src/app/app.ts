/**
 * What users hold: an app over one event store, with handles of aggregates, queries of read models, and a clean end.
 */
import type { AnyAggregate, Args, CommandNames, InputOf, StateOf } from "../aggregate/aggregate.ts";
import type { Recorded } from "../aggregate/recorded.ts";
import type { ActorOptions } from "../actor/actor-options.ts";
import type { Metrics } from "../actor/metrics.ts";
import type { TokenOptions } from "../consistency/token-codec.ts";
import type { Environment } from "../environment.ts";
import type { ReadModel, ReadSide } from "../readmodel/read-model.ts";
import type { Progress, RunnerOptions } from "../readmodel/runner.ts";
import type { ViewStore } from "../readmodel/view-store.ts";
import type { Backend } from "../store/backend.ts";
import type { Codec } from "../store/codec.ts";
import type { Position } from "../store/position.ts";
import type { CallOptions, CommandMiddleware, CommandResult, StateAnswer, StateOptions, UntypedResult } from "./call.ts";

export interface AppOptions {
  /** A URL (`memory:`, `sqlite:orders.db`), which the app opens and closes, or an open backend, which stays its owner's. */
  readonly store: string | Backend;
  /** Where read models live: a URL or an open view store; default the store's own views, or memory where it has none. */
  readonly views?: string | ViewStore;
  readonly aggregates: readonly AnyAggregate[];
  readonly readModels?: readonly ReadModel<unknown>[];
  /** Keys that sign tokens; none: tokens are not signed. */
  readonly tokens?: TokenOptions;
  /** How event data becomes text; default JSON. */
  readonly codec?: Codec;
  /** Around every command: authorisation, tracing. */
  readonly middleware?: CommandMiddleware;
  readonly actors?: Partial<ActorOptions>;
  readonly projections?: Partial<RunnerOptions>;
  /** Clock, randomness and logger; default the machine's own and a silent logger. */
  readonly environment?: Partial<Environment>;
  /** How long `close()` drains before it gives up what is left, in milliseconds. Default 10,000. */
  readonly closeTimeoutMs?: number;
}

/** An aggregate instance: one method for each of its commands. Errors of each: see docs/guide.md, "Errors". */
export type Handle<A> = {
  readonly [K in CommandNames<A>]: (...args: Args<InputOf<A, K>, CallOptions>) => Promise<CommandResult<A, K>>;
} & {
  readonly id: string;
  /** `category-id`. */
  readonly stream: string;
  /** The state as of now, confirmed with the store. Errors: as a command's. */
  state(options?: StateOptions): Promise<StateAnswer<StateOf<A>>>;
};

export type OnStale = "fail" | "serve";

export interface QueryOptions {
  /** The answer has seen what this token names. */
  readonly atLeast?: string;
  /** How long to wait for that, in milliseconds; 0: not at all. Default 5000. */
  readonly timeoutMs?: number;
  /** When the time has passed: fail with `StaleRead` (default), or serve what is there and say so. */
  readonly onStale?: OnStale;
  readonly signal?: AbortSignal;
  /** Ask also for `lastProcessedVersion` of this stream. */
  readonly stream?: string;
}

/** How far behind an answer is. */
export interface Stale {
  /** Places of the log between the answer and what was asked for. */
  readonly events: number;
  /** Age of the newest event that the answer has seen, while there are more. */
  readonly ms: number;
}

export interface Answer<R> {
  readonly value: R;
  /** Everything up to here was seen by the answer. */
  readonly position: Position;
  /** A token of that position: reads that carry it never go back behind this answer. */
  readonly token: string;
  /** Version of the last event of the asked stream that the answer has seen; 0 = none; undefined when no stream was asked for. */
  readonly lastProcessedVersion: number | undefined;
  /** Only when the answer has not seen what the token names. */
  readonly stale: Stale | undefined;
}

export interface HistoryOptions {
  /** First version, default 1; backward default the last. */
  readonly from?: number;
  readonly direction?: "forward" | "backward";
  /** Most events, default 100, at most 1000. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

export interface History<A> {
  readonly events: readonly Recorded<A>[];
  /** Version of the stream when it was read. */
  readonly version: number;
  /** Where to go on, or undefined at the end. */
  readonly next: number | undefined;
}

export interface SubscribeOptions {
  /** Events after what this token names; default from the start; "now" = only what comes (UnsupportedByStore where a store cannot tell its end). */
  readonly after?: string;
  readonly pageSize?: number;
  readonly signal?: AbortSignal;
}

export interface EventPage<A> {
  readonly events: readonly Recorded<A>[];
  readonly through: Position;
  /** A token of `through`: hand it to `after` to go on here. */
  readonly token: string;
  readonly caughtUp: boolean;
}

/** Steers one read model. */
export interface ReadModelControl {
  progress(): Progress;
  /** Stops following after the page under way; queries go on. */
  pause(): Promise<void>;
  /** Follows again, also after a failure. */
  resume(): void;
  /** Builds anew from the start beside live traffic; resolves when the new one answers. Errors: ReadModelStopped, ProjectionFailed. */
  rebuild(): Promise<void>;
  /** Drops builds of older versions; returns how many. */
  dropInactive(): Promise<number>;
  /** Calls back after each commit and each change of state; the result ends it. */
  onAdvance(listener: () => void): () => void;
}

export interface App extends AsyncDisposable {
  /** Identity of the event store. */
  readonly storeId: string;
  /** A handle of one aggregate instance; nothing is read before it is used. Errors: InvalidArgument, UnknownCommand for an aggregate that is not of this app. */
  at<A extends AnyAggregate>(aggregate: A, id: string): Handle<A>;
  /** Calls a command by name, for those who have names and JSON only. Errors: UnknownCommand and those of the command. */
  execute(aggregate: AnyAggregate, id: string, command: string, input: unknown, options?: CallOptions): Promise<UntypedResult>;
  /**
   * Reads a read model. With `atLeast`, a view that has not seen the token's writes is waited for.
   * Errors: StaleRead, ReadModelStopped, Aborted, TokenMalformed, TokenForged, TokenForeign.
   */
  query<V, R>(model: ReadModel<V>, fn: (view: ReadSide<V>) => Promise<R>, options?: QueryOptions): Promise<R>;
  /** As `query`, with where the answer stands. */
  answer<V, R>(model: ReadModel<V>, fn: (view: ReadSide<V>) => Promise<R>, options?: QueryOptions): Promise<Answer<R>>;
  readModel(model: ReadModel<unknown>): ReadModelControl;
  /** The recorded events of one instance, decoded. Errors: InvalidArgument, UnknownEventType, EventUnreadable and those of the store. */
  history<A extends AnyAggregate>(aggregate: A, id: string, options?: HistoryOptions): Promise<History<A>>;
  /** The state as it was at a version, folded from the log. Errors: as history; InvalidArgument for a version that the stream has not reached. */
  stateAt<A extends AnyAggregate>(aggregate: A, id: string, version: number, options?: { readonly signal?: AbortSignal }): Promise<StateAnswer<StateOf<A>>>;
  /** Recorded events of these aggregates in the order of the log, and whatever comes, as pages pulled by the consumer. Ends by throwing: Aborted, AppClosed, StoreRewound. */
  subscribe<const A extends readonly AnyAggregate[]>(aggregates: A, options?: SubscribeOptions): AsyncIterable<EventPage<A[number]>>;
  /** One token that demands what all of these demand. Errors: TokenMalformed, TokenForged. */
  mergeTokens(...tokens: readonly string[]): string;
  metrics(): Metrics;
  /** Refuses new calls, drains what was accepted, flushes snapshots and read models, and stops, all within `closeTimeoutMs`. Idempotent. */
  close(): Promise<void>;
}
