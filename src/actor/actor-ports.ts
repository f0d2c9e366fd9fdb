import type { Behaviour } from "../aggregate/behaviour.ts";
import type { Environment } from "../environment.ts";
import type { Snapshotter } from "../snapshot/snapshotter.ts";
import type { Codec } from "../store/codec.ts";
import type { EventStore } from "../store/event-store.ts";
import type { ActorOptions } from "./actor-options.ts";
import type { Beginnings } from "./beginnings.ts";
import type { Committer } from "./committer.ts";
import type { Counters } from "./metrics.ts";

/** What all actors of one kind of aggregate share. */
export interface ActorPorts {
  readonly behaviour: Behaviour;
  readonly store: EventStore;
  readonly committer: Committer;
  readonly snapshotter: Snapshotter | undefined;
  readonly codec: Codec;
  readonly environment: Environment;
  readonly options: ActorOptions;
  readonly beginnings: Beginnings;
  readonly counters: Counters;
  /** Aborts when the app gives up what is left. */
  readonly ending: AbortSignal;
}
