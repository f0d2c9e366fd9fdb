/**
 * What a backend hands to the app: its event store, and where it has them, the stores of snapshots and of views.
 */
import type { SnapshotStore } from "../snapshot/snapshot-store.ts";
import type { ViewStore } from "../readmodel/view-store.ts";
import type { EventStore } from "./event-store.ts";

export interface Backend {
  readonly events: EventStore;
  readonly snapshots?: SnapshotStore;
  readonly views?: ViewStore;
  /** Closes all of it. Idempotent. */
  close(): Promise<void>;
}
