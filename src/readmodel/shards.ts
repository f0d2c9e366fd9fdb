/**
 * A read model that several processes move together: its streams are divided among a fixed number of shards, each with a checkpoint of its own.
 *
 * S1 A stream belongs to one shard for good: the number of shards is part of the build, and the hash (shard-of.ts) never changes. When processes come and go, shards
 *    change hands as they are, and nothing is divided anew; so no event is applied twice or by nobody.
 * S2 Each shard is followed as a read model by itself would be (follower.ts), over the events of its streams.
 * S3 What the read model has seen is what all of its shards have seen.
 */
import type { TidemarkError } from "../errors.ts";
import type { Follower, FollowerState, Following, Progressing } from "./follower.ts";
import { combined, type BuildKey, type OpenView, type SavedCheckpoint } from "./view-store.ts";

/** The followers of all shards of a build, as one. */
export class ShardedFollower implements Following {
  readonly key: BuildKey;
  readonly view: OpenView;
  readonly #shards: readonly Follower[];
  #checkpoint: SavedCheckpoint | undefined;

  constructor(key: BuildKey, view: OpenView, shards: readonly Follower[]) {
    this.key = key;
    this.view = view;
    this.#shards = shards;
  }

  get checkpoint(): SavedCheckpoint {
    const revision = this.#shards.reduce((sum, shard) => sum + shard.checkpoint.revision, 0);
    if (this.#checkpoint?.revision !== revision) this.#checkpoint = combined(this.#shards.map((shard) => shard.checkpoint));
    return this.#checkpoint;
  }

  get state(): FollowerState {
    const states = new Set(this.#shards.map((shard) => shard.state));
    const [only] = states;
    if (states.size === 1 && only !== undefined) return only;
    return states.has("failed") ? "failed" : "catching-up";
  }

  get error(): TidemarkError | undefined {
    return this.#shards.find((shard) => shard.error !== undefined)?.error;
  }

  get running(): boolean {
    return this.#shards.every((shard) => shard.running);
  }

  progress(): Progressing {
    const all = this.#shards.map((shard) => shard.progress());
    const lags = all.map(({ lagEvents }) => lagEvents);
    return {
      eventsPerSecond: all.reduce((sum, one) => sum + one.eventsPerSecond, 0),
      lagEvents: lags.includes(undefined) ? undefined : Math.max(...lags.map((lag) => lag ?? 0)),
      lagMs: Math.max(...all.map(({ lagMs }) => lagMs)),
    };
  }

  start(): void {
    for (const shard of this.#shards) shard.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard.stop()));
  }

  async lookUp(): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard.lookUp()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard.close()));
  }
}
