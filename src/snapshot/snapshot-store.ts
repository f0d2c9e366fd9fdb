/**
 * The port of snapshots. A snapshot is a hint, never a truth: losing, corrupting or mixing them up costs a replay and nothing else.
 */
import type { Position } from "../store/position.ts";

export interface StoredSnapshot {
  readonly stream: string;
  /** Version of the stream's last event that is folded into the state. */
  readonly version: number;
  /** Id of that event: hydration compares it with the log before it believes the snapshot. */
  readonly eventId: string;
  readonly position: Position;
  /** The aggregate's `schemaVersion` of the state. */
  readonly schemaVersion: number;
  /** JSON text of the state. */
  readonly state: string;
  /** JSON text of the window of command ids. */
  readonly window: string;
  /** Fingerprint of `state` and `window`: a damaged snapshot is ignored. */
  readonly checksum: string;
  /** Milliseconds since the epoch. */
  readonly takenAt: number;
}

export interface SnapshotStore {
  load(stream: string, signal?: AbortSignal): Promise<StoredSnapshot | undefined>;
  /** Keeps only the newest of a stream by default: an older version never replaces a newer one. */
  save(snapshots: readonly StoredSnapshot[]): Promise<void>;
  delete(stream: string): Promise<void>;
  close(): Promise<void>;
}
