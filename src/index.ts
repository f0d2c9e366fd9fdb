/** The public API of the core. Backends have entries of their own: `tidemark/memory`, `tidemark/sqlite`. */
export { aggregate } from "./aggregate/aggregate.ts";
export type {
  Aggregate,
  AnyAggregate,
  Args,
  CommandNames,
  CommandsOf,
  CommandTypes,
  Decide,
  DecidesOn,
  DecisionInputOf,
  Definition,
  EventsOf,
  InputOf,
  RejectionOf,
  ReservedCommandName,
  StateOf,
} from "./aggregate/aggregate.ts";
export { accepted } from "./aggregate/accepted.ts";
export type { PrepareContext, SnapshotPolicy } from "./aggregate/behaviour.ts";
export type { Context, DataOf, Decision, Emitted, EventOf, Reject, Rejected } from "./aggregate/decision.ts";
export type { Frozen, JsonOf, NotJson } from "./aggregate/json.ts";
export type { Recorded, RecordedEvent, RecordedMetadata } from "./aggregate/recorded.ts";
export { event } from "./aggregate/schema.ts";
export type { Schema, SchemaInput, SchemaOutput, SchemaRecipe } from "./aggregate/schema.ts";
export type { Upcasters } from "./aggregate/upcast.ts";

export { actorDefaults } from "./actor/actor-options.ts";
export type { ActorOptions } from "./actor/actor-options.ts";
export { commandWindowDefaults } from "./actor/command-window.ts";
export type { CommandWindowOptions } from "./actor/command-window.ts";
export type { Metrics } from "./actor/metrics.ts";

export type { Answer, App, AppOptions, EventPage, Handle, History, HistoryOptions, OnStale, QueryOptions, ReadModelControl, Stale, SubscribeOptions } from "./app/app.ts";
export type { Accepted, CallOptions, CommandCall, CommandMiddleware, CommandResult, DecidedAt, StateAnswer, StateOptions, UntypedResult } from "./app/call.ts";
export { openStore, openViews } from "./app/open-store.ts";
export type { OpenStoreOptions } from "./app/open-store.ts";
export { tidemark } from "./app/tidemark.ts";

export { tokens } from "./consistency/token-codec.ts";
export type { TokenCodec, TokenKey, TokenOptions } from "./consistency/token-codec.ts";
export type { TokenEntry } from "./consistency/token.ts";

export type { Clock, Environment, Logger, Random, Timer } from "./environment.ts";
export * from "./errors.ts";

export { ofType } from "./readmodel/operators.ts";
export { readModel, table } from "./readmodel/read-model.ts";
export type { ProjectContext, ReadModel, ReadModelDefinition, ReadSide, TableOptions } from "./readmodel/read-model.ts";
export { runnerDefaults } from "./readmodel/runner.ts";
export type { Progress, RunnerOptions, RunnerState } from "./readmodel/runner.ts";
export type { ReadTable, Table } from "./readmodel/staged-table.ts";
export type {
  BuildKey,
  Checkpoint,
  Claim,
  Condition,
  FindOptions,
  OpenOptions,
  OpenPage,
  OpenView,
  Row,
  RowKey,
  SavedCheckpoint,
  SqlAccess,
  SqlDefinition,
  SqlDialect,
  TableChanges,
  TableDefinition,
  TableReader,
  View,
  ViewDefinition,
  ViewStore,
  Where,
} from "./readmodel/view-store.ts";

export type { SnapshotStore, StoredSnapshot } from "./snapshot/snapshot-store.ts";

export type { Backend } from "./store/backend.ts";
export { jsonCodec } from "./store/codec.ts";
export type { Codec, CodecItem, MaybePromise } from "./store/codec.ts";
export type {
  Append,
  AppendOutcome,
  EventMetadata,
  EventStore,
  ExpectedVersion,
  LogPage,
  NewEvent,
  ReadLogOptions,
  ReadStreamOptions,
  RefusalCode,
  StoreCapabilities,
  StoredEvent,
  StoreIdentity,
  StreamSlice,
} from "./store/event-store.ts";
export { covers, merge } from "./store/position.ts";
export type { Position } from "./store/position.ts";
