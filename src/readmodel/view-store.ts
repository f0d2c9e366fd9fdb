/**
 * The port of views and checkpoints: where a read model's result lives, and where it stands.
 *
 * V1 The changes of a page and its checkpoint commit in one atomic step, or not at all.
 * V2 A commit names the revision it builds on; when another process has moved the checkpoint meanwhile, the commit is `lost` and nothing is written.
 * V3 Readers see committed pages only, and a revision is visible together with its rows.
 * V4 Rows are copied in and out as JSON: nothing keeps a reference to what it was given.
 */
import type { LateWrite } from "../errors.ts";
import { meet, type Position } from "../store/position.ts";

/** One physical build of one version of a read model. A rebuild is the next `build`, made beside the one that answers. */
export interface BuildKey {
  readonly model: string;
  readonly version: number;
  readonly build: number;
}

export interface Checkpoint {
  /** Everything up to here is in the view. */
  readonly position: Position;
  /** Identity of the event store that was read. */
  readonly store: string;
  /** The last event that was handed to the pipeline: compared with the log when the runner starts again, so that a restored log is recognised. */
  readonly last?: { readonly stream: string; readonly version: number; readonly eventId: string };
  /** Events handed to the pipeline since the start of this build. */
  readonly events: number;
  /** `recordedAt` of the last of them, milliseconds since the epoch. */
  readonly recordedAt?: number;
}

export interface SavedCheckpoint extends Checkpoint {
  /** Grows by one with each commit; 0 = never committed. */
  readonly revision: number;
}

/** A table of rows, described once and realised by whichever view store is used. */
export interface TableDefinition {
  readonly kind: "table";
  readonly name: string;
  /** The row's field that identifies it: text or number. */
  readonly key: string;
  /** Fields with an index; `where` and `orderBy` take these, the key and `columns`, and are fast on these. */
  readonly indexes: readonly string[];
  /** Further fields that SQL sees as columns of their own. */
  readonly columns: readonly string[];
}

/** Tables that the caller makes and writes to in SQL, through a connection of the page's own transaction. */
export interface SqlDefinition {
  readonly kind: "sql";
  /** Which view stores can hold it. */
  readonly dialect: SqlDialect;
  /** Statements that make the tables of a build. */
  readonly create: string;
  /** Makes what pipelines and queries hold of a connection, whose type the dialect decides. */
  readonly open: (connection: never) => unknown;
}

export type SqlDialect = "postgres";
export type ViewDefinition = TableDefinition | SqlDefinition;

/** Where a result lives; `T` is what the pipeline holds of it. */
export interface View<T> {
  readonly definition: ViewDefinition;
  readonly "~view"?: T;
}

export type RowKey = string | number;
export type Row = Readonly<Record<string, unknown>>;

/** Comparison of one field: equality (null matches absent), membership, or a range. */
export type Condition<T> = T | { readonly in: readonly T[] } | { readonly gt?: T; readonly gte?: T; readonly lt?: T; readonly lte?: T };
export type Where<R> = { readonly [K in keyof R]?: Condition<R[K]> };
export interface FindOptions<R> {
  /** Default: by key, ascending. Ties are broken by key, ascending. */
  readonly orderBy?: readonly { readonly field: keyof R & string; readonly direction?: "asc" | "desc" }[];
  /** Default 1000. */
  readonly limit?: number;
  readonly offset?: number;
}

/** What a backend must be able to read of one table; the staging of writes (staged-table.ts) is built on top, once for all backends. */
export interface TableReader {
  get(key: RowKey): Promise<Row | undefined>;
  find(where: Where<Row>, options: FindOptions<Row>): Promise<readonly Row[]>;
  count(where: Where<Row>): Promise<number>;
  /** Reads of the backend's own language, where it has one. */
  readonly sql?: (text: string, ...parameters: readonly unknown[]) => Promise<readonly Row[]>;
}

/** The net effect of a page: for each key the row it ends with, or null where it is deleted. */
export type TableChanges = ReadonlyMap<RowKey, Row | null>;

/** A page whose writes go to the store as they are made, in a transaction that its commit ends. */
export interface OpenPage {
  /** What the pipeline holds. */
  readonly held: unknown;
  /** Whether a statement has not been answered yet. */
  readonly busy: boolean;
  /** Waits for the statements under way. Errors: the first one that failed. */
  settle(): Promise<void>;
  /** Why the page failed, where it knows better than the pipeline, which may wrap errors or swallow them. "lost" as of a commit. */
  verdict(error: unknown): { readonly error: unknown } | "lost";
  /** No further statements are taken; the page waits for its commit. */
  seal(): void;
  /** V1, V2; once, after `seal`. */
  commit(next: Checkpoint): Promise<"committed" | "lost">;
  /** Rolls back what is not committed. Idempotent. */
  discard(): void;
}

/** What a view has whose definition is SQL. */
export interface SqlAccess {
  /** V2 holds from the first statement on: it waits for whoever commits, and a page on a revision that is not the last is lost before it has written anything. */
  page(onRevision: number, options: { readonly timeoutMs: number; readonly onLateWrite: (error: LateWrite) => void }): OpenPage;
  /** Calls `query` with what can only read, in one snapshot. */
  read<R>(query: (held: unknown) => Promise<R>): Promise<R>;
}

/** The right to move a view's checkpoint, where only one process has it at a time. */
export interface Claim {
  /** Aborts when the right was lost, or is to be given up: finish the page, then release. */
  readonly ended: AbortSignal;
  /** Idempotent. */
  release(): void;
}

export interface OpenView {
  /** Of a table; where the definition is SQL there is `sql`. */
  readonly reader: TableReader;
  readonly sql?: SqlAccess;
  /** Only where it was opened in several: what moves it, while the view itself is only read. */
  readonly shards?: readonly OpenView[];
  checkpoint(): Promise<SavedCheckpoint>;
  /** V1, V2. */
  commit(changes: TableChanges, next: Checkpoint, onRevision: number): Promise<"committed" | "lost">;
  /**
   * Waits until no other process has the right to move the checkpoint, and takes it: from then on commits of whoever had it before are `lost`. Absent where the
   * store cannot tell who is there: then V2 alone decides. Errors: Aborted, ReadModelStopped when the build was dropped.
   */
  claim?(signal: AbortSignal): Promise<Claim>;
  /** Calls back when the checkpoint may have moved, by this process or another one; may call too often, never too seldom (within 100 ms across processes). */
  watch(listener: () => void): () => void;
}

export interface OpenOptions {
  /** A build of another version is only read: its table, key and columns stay as they are, whatever the definition says. */
  readonly asItStands?: boolean;
  /** In how many parts it is moved, each with a checkpoint of its own; ignored by stores that have no `claim`. A build keeps the number it was made with. */
  readonly shards?: number;
}

export interface ViewStore {
  /** The kind of SQL that views of it may be written in; undefined: tables only. */
  readonly dialect?: SqlDialect;
  /** The builds of a model that exist, the one that answers queries marked. */
  builds(model: string): Promise<readonly (BuildKey & { readonly active: boolean })[]>;
  /** Makes the build's table if it is missing (or its indexes, when they changed) and opens it. A definition in SQL comes only where `dialect` says so. */
  open(key: BuildKey, definition: ViewDefinition, options?: OpenOptions): Promise<OpenView>;
  /** From now on this build answers; atomic, in all processes. */
  activate(key: BuildKey): Promise<void>;
  /** Forgets a build: rows and checkpoint. Idempotent; views of it that are still open find their commits `lost` and their reads rejected with ReadModelStopped. */
  drop(key: BuildKey): Promise<void>;
  close(): Promise<void>;
}

/** What all shards of a build have seen together. */
export function combined(checkpoints: readonly SavedCheckpoint[]): SavedCheckpoint {
  const [first, ...others] = checkpoints;
  if (first === undefined) throw new RangeError("a read model has one shard at least");
  let { position, store, events, revision } = first;
  let recordedAt = first.recordedAt ?? 0;
  for (const other of others) {
    position = meet(position, other.position);
    store ||= other.store;
    events += other.events;
    revision += other.revision;
    recordedAt = Math.max(recordedAt, other.recordedAt ?? 0);
  }
  return { position, store, events, revision, ...(recordedAt > 0 && { recordedAt }) };
}
