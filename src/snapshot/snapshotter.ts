/**
 * Takes and writes snapshots off the command path.
 *
 * S1 A snapshot is taken of confirmed state only; what it holds does not change after it was offered.
 * S2 Writing never delays, fails or reorders a command: what cannot be written is dropped, with a warning and a count.
 * S4 A state is saved only as JSON gives it back: one that holds what JSON would change (NaN, Infinity, bigint) is left to replays.
 * S3 The queue holds one snapshot a stream, the newest, and at most `MAX_WAITING`; beyond that the oldest is dropped.
 */
import type { Environment } from "../environment.ts";
import type { Position } from "../store/position.ts";
import { problemOf } from "../aggregate/json.ts";
import { checksumOf } from "./checksum.ts";
import type { SnapshotStore, StoredSnapshot } from "./snapshot-store.ts";

/** State as it is when the snapshot is offered. `state` is frozen; `window` is text already. */
export interface SnapshotOffer {
  readonly stream: string;
  readonly version: number;
  readonly eventId: string;
  readonly position: Position;
  readonly schemaVersion: number;
  readonly state: unknown;
  readonly window: string;
}

const MAX_WAITING = 1000;
const MAX_BATCH = 50;

export class Snapshotter {
  readonly #store: SnapshotStore;
  readonly #environment: Environment;
  readonly #counters: { snapshotsSaved: number; snapshotsFailed: number };
  readonly #waiting = new Map<string, SnapshotOffer>();
  #writing: Promise<void> | undefined;

  constructor(store: SnapshotStore, environment: Environment, counters: { snapshotsSaved: number; snapshotsFailed: number }) {
    this.#store = store;
    this.#environment = environment;
    this.#counters = counters;
  }

  load(stream: string, signal?: AbortSignal): Promise<StoredSnapshot | undefined> {
    return this.#store.load(stream, signal);
  }

  offer(offer: SnapshotOffer): void {
    this.#waiting.delete(offer.stream);
    this.#waiting.set(offer.stream, offer);
    if (this.#waiting.size > MAX_WAITING) {
      const oldest = this.#waiting.keys().next().value;
      if (oldest !== undefined) this.#waiting.delete(oldest);
      this.#counters.snapshotsFailed++;
    }
    this.#writing ??= new Promise<void>((resolve) => this.#environment.clock.immediate(resolve)).then(() => this.#write());
  }

  /** Resolves when everything that was offered is written or given up. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting.values()].slice(0, MAX_BATCH);
      for (const { stream } of batch) this.#waiting.delete(stream);
      let snapshots: readonly StoredSnapshot[] = [];
      try {
        snapshots = batch.map((offer) => this.#stored(offer)).filter((snapshot) => snapshot !== undefined);
        if (snapshots.length > 0) await this.#store.save(snapshots);
        this.#counters.snapshotsSaved += snapshots.length;
      } catch (error) {
        this.#counters.snapshotsFailed += snapshots.length;
        this.#environment.logger.warn({ streams: snapshots.map(({ stream }) => stream), error }, "snapshots could not be saved");
      }
      // Commands first: the next batch waits for another turn.
      await new Promise<void>((resolve) => this.#environment.clock.immediate(resolve));
    }
    this.#writing = undefined;
  }

  /** Nothing for a state that JSON would change (S4). */
  #stored(offer: SnapshotOffer): StoredSnapshot | undefined {
    const problem = problemOf(offer.state);
    if (problem !== undefined) {
      this.#counters.snapshotsFailed++;
      const { stream, version } = offer;
      this.#environment.logger.warn({ stream, version, path: problem.path.join("."), problem: problem.problem }, "a state that JSON cannot hold was not saved as a snapshot");
      return undefined;
    }
    const snapshot = { ...offer, state: JSON.stringify(offer.state), takenAt: this.#environment.clock.now() };
    return { ...snapshot, checksum: checksumOf(snapshot) };
  }
}
