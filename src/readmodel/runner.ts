/**
 * Runs one read model: chooses the build that answers queries, has it follow the log, and builds new ones beside it.
 *
 * R1 Queries are answered by one build at a time; `checkpoint()` and `reader()` taken in one turn belong to the same build.
 * R2 The very first build answers from the start. A higher version is built beside the active one and takes over when it has caught up; a lower version
 *    (a process that still runs older code, or a roll-back) follows and answers from its own build and never takes the place of the active one.
 *    Builds of other versions are opened as they stand: what this version would change of them, the processes of theirs still need.
 * R3 A rebuild is the next build of the same version, made beside live traffic. At the hand-over the old build stops, the new one passes the place where
 *    the old one stands (its store is asked: another process may have moved it), and only then it answers. Then the old one is dropped.
 * R4 Another process may have activated or dropped builds: after a lost race, or a read that failed, the builds are looked at again. A query whose build was
 *    dropped goes on in the one that took its place only once that has passed the place where the query began. A build that was dropped while it was made is
 *    given up for the one that is active: another process has done the same work.
 * R5 Failure of one read model is its own: others go on, and its error is kept and told to those who wait.
 *
 * Longer than most files: choosing, building, handing over and telling about it share one small state and are read together.
 */
import { InvalidArgument, isTidemarkError, ReadModelStopped, StaleRead, UnsupportedByStore, type TidemarkError } from "../errors.ts";
import { delay, type Environment } from "../environment.ts";
import { jsonCodec, type Codec } from "../store/codec.ts";
import { assertKnown } from "../known-options.ts";
import type { EventStore, StoredEvent } from "../store/event-store.ts";
import { covers, type Position } from "../store/position.ts";
import { decoderOf } from "./decode.ts";
import { Follower, type FollowerOptions, type Following } from "./follower.ts";
import type { ReadModel, ReadSide } from "./read-model.ts";
import { shardOf } from "./shard-of.ts";
import { ShardedFollower } from "./shards.ts";
import { readTable } from "./staged-table.ts";
import type { BuildKey, OpenView, SavedCheckpoint, SqlAccess, TableReader, ViewStore } from "./view-store.ts";

export interface RunnerPorts {
  readonly store: EventStore;
  readonly views: ViewStore;
  readonly environment: Environment;
  readonly codec?: Codec;
}

export type RunnerOptions = FollowerOptions;

export const runnerDefaults: RunnerOptions = Object.freeze({
  pageSize: 1000,
  attempts: 5,
  firstPauseMs: 50,
  maxPauseMs: 1000,
  idleSaveMs: 50,
  stopTimeoutMs: 5000,
  maxStagedRows: 50_000,
});

/** How long a query whose build was dropped waits for the one that took its place, milliseconds. */
const HAND_OVER_MS = 5000;
/** Builds that may be dropped under one query, where several processes rebuild at once. */
const MOST_DROPPED = 8;

export type RunnerState = "catching-up" | "live" | "paused" | "stopped" | "failed" | "rebuilding";

export interface Progress {
  readonly state: RunnerState;
  /** Everything up to here is visible to queries. */
  readonly position: Position;
  /** Events handed to the pipeline since the start of the build that answers. */
  readonly events: number;
  /** Events not yet visible, at most (those of other categories are counted while catching up); undefined where the store cannot tell. */
  readonly lagEvents: number | undefined;
  /** Age of the newest visible event while there are more; 0 when caught up. */
  readonly lagMs: number;
  /** Over the last seconds. */
  readonly eventsPerSecond: number;
  readonly error: TidemarkError | undefined;
}

export interface Runner<V> {
  readonly model: ReadModel<V>;
  /** Opens the builds and starts to follow. Errors: those of the view store. */
  start(): Promise<void>;
  /** Finishes the page under way within `stopTimeoutMs`, saves the position, stops. Idempotent; for good. */
  stop(): Promise<void>;
  /** Stops following after the page under way; queries go on. */
  pause(): Promise<void>;
  /** Follows again, also after a failure. */
  resume(): void;
  /** Builds the view anew from the start of the log beside the live one; resolves when the new one answers. Errors: ReadModelStopped, ProjectionFailed. */
  rebuild(): Promise<void>;
  /** Drops the builds that neither answer nor are being built: older versions. Returns how many. */
  dropInactive(): Promise<number>;
  progress(): Progress;
  /** Of the build that answers. Errors: ReadModelStopped before `start`. */
  checkpoint(): SavedCheckpoint;
  /** Of the build that answers. */
  position(): Position;
  /** Why waiting makes no sense: failed, paused, stopped; undefined while it follows. */
  failure(): TidemarkError | undefined;
  readonly error: TidemarkError | undefined;
  /** The table of the build that answers. Errors: ReadModelStopped before `start`, InvalidArgument for a view in SQL. */
  reader(): ReadSide<V>;
  /** Pins the build that answers now, and reads it: a table, or a view in SQL in one snapshot. Errors: as `reader`, InvalidArgument for SQL that PostgreSQL refuses. */
  pinned(): <R>(query: (view: ReadSide<V>) => Promise<R>) => Promise<R>;
  /** Calls back after each commit and each change of state; returns how to end it. */
  onAdvance(listener: () => void): () => void;
}

/** Makes the runner of a read model; nothing happens before `start()`. Errors: UnsupportedByStore, InvalidArgument. */
export function createRunner<V>(model: ReadModel<V>, ports: RunnerPorts, options: Partial<RunnerOptions> = {}): Runner<V> {
  assertKnown(options, runnerDefaults, "projections");
  const merged = { ...runnerDefaults, ...options };
  for (const [name, value] of Object.entries(merged)) {
    if (!Number.isFinite(value) || value < 0 || (value === 0 && name !== "idleSaveMs")) throw new InvalidArgument(`${name} must be a number above 0`, { details: { option: name } });
  }
  if (model.needs === "totalOrder" && !ports.store.capabilities.totalOrder) {
    throw new UnsupportedByStore(`read model ${model.name} needs a total order of all events, which this store does not have`, { details: { capability: "totalOrder", model: model.name } });
  }
  const { definition } = model.view;
  if (definition.kind === "sql" && definition.dialect !== ports.views.dialect) {
    throw new UnsupportedByStore(`read model ${model.name} is written in SQL of ${definition.dialect}, which this view store does not speak: use a table(), or keep views in ${definition.dialect}`, {
      details: { capability: "dialect", model: model.name, needed: definition.dialect },
    });
  }
  return new ModelRunner(model, ports, merged);
}

class ModelRunner<V> implements Runner<V> {
  readonly model: ReadModel<V>;
  readonly #ports: RunnerPorts;
  readonly #options: RunnerOptions;
  readonly #decode: ReturnType<typeof decoderOf>;
  readonly #listeners = new Set<() => void>();
  /** R1. */
  #serving: Following | undefined;
  /** R2, R3: what is being built beside it. */
  #building: Following | undefined;
  /** R4: was dropped by another process while it was made. */
  #superseded: Following | undefined;
  #rebuild: Promise<void> | undefined;
  #error: TidemarkError | undefined;
  #starting: Promise<void> | undefined;
  #paused = false;
  #stopping: Promise<void> | undefined;
  #looking: Promise<void> | undefined;
  #nextLook: Promise<void> | undefined;

  constructor(model: ReadModel<V>, ports: RunnerPorts, options: RunnerOptions) {
    this.model = model;
    this.#ports = ports;
    this.#options = options;
    this.#decode = decoderOf(model.behaviours, ports.codec ?? jsonCodec);
  }

  start(): Promise<void> {
    this.#starting ??= this.#chooseBuilds().then(
      () => this.#changed(),
      (error: unknown) => {
        this.#starting = undefined;
        throw error;
      },
    );
    return this.#starting;
  }

  stop(): Promise<void> {
    this.#stopping ??= Promise.all([this.#serving?.close(), this.#building?.close()]).then(() => this.#changed());
    this.#changed();
    return this.#stopping;
  }

  async pause(): Promise<void> {
    this.#paused = true;
    await Promise.all([this.#serving?.stop(), this.#building?.stop()]);
    this.#changed();
  }

  resume(): void {
    if (this.#stopping !== undefined) return;
    this.#paused = false;
    this.#error = undefined;
    if (this.#serving !== undefined && this.#follows(this.#serving)) this.#serving.start();
    this.#building?.start();
    this.#changed();
  }

  rebuild(): Promise<void> {
    this.#rebuild ??= this.#runRebuild().finally(() => {
      this.#rebuild = undefined;
      this.#changed();
    });
    this.#rebuild.catch(() => undefined);
    return this.#rebuild;
  }

  async dropInactive(): Promise<number> {
    let dropped = 0;
    for (const build of await this.#ports.views.builds(this.model.name)) {
      if (build.active || isKey(build, this.#serving?.key) || isKey(build, this.#building?.key)) continue;
      await this.#ports.views.drop(build);
      dropped++;
    }
    return dropped;
  }

  progress(): Progress {
    const following = this.#building !== undefined && this.#rebuild === undefined ? this.#building : this.#serving;
    const { eventsPerSecond, lagEvents, lagMs } = following?.progress() ?? { eventsPerSecond: 0, lagEvents: undefined, lagMs: 0 };
    return {
      state: this.#state(),
      position: this.#serving?.checkpoint.position ?? {},
      events: this.#serving?.checkpoint.events ?? 0,
      lagEvents,
      lagMs,
      eventsPerSecond: this.#rebuild === undefined ? eventsPerSecond : eventsPerSecond + (this.#building?.progress().eventsPerSecond ?? 0),
      error: this.error,
    };
  }

  checkpoint(): SavedCheckpoint {
    return this.#answering().checkpoint;
  }

  position(): Position {
    return this.#answering().checkpoint.position;
  }

  get error(): TidemarkError | undefined {
    return this.#error ?? this.#serving?.error ?? (this.#rebuild === undefined ? this.#building?.error : undefined);
  }

  failure(): TidemarkError | undefined {
    const state = this.#state();
    if (state !== "failed" && state !== "paused" && state !== "stopped") return undefined;
    const { error } = this;
    const { name } = this.model;
    return new ReadModelStopped(`read model ${name} is ${state}${error === undefined ? "" : `: ${error.message}`}`, { details: { model: name, state }, ...(error && { cause: error }) });
  }

  reader(): ReadSide<V> {
    const read = this.#pin();
    const of = <T>(operation: (reader: TableReader) => Promise<T>): Promise<T> => read((view) => operation(view.reader));
    const { reader: pinned } = this.#answering().view;
    const { definition } = this.model.view;
    if (definition.kind !== "table") throw new InvalidArgument(`read model ${this.model.name} has no table of rows: it is read in SQL`, { details: { model: this.model.name } });
    const reader: TableReader = {
      get: (key) => of((table) => table.get(key)),
      find: (where, options) => of((table) => table.find(where, options)),
      count: (where) => of((table) => table.count(where)),
      ...(pinned.sql && { sql: (text, ...parameters) => of((table) => (table.sql as NonNullable<TableReader["sql"]>)(text, ...parameters)) }),
    };
    return readTable(reader, definition) as unknown as ReadSide<V>;
  }

  pinned(): <R>(query: (view: ReadSide<V>) => Promise<R>) => Promise<R> {
    if (this.model.view.definition.kind === "table") {
      const reader = this.reader();
      return (query) => query(reader);
    }
    const read = this.#pin();
    return (query) => read((view) => (view.sql as SqlAccess).read((held) => query(held as ReadSide<V>)));
  }

  /** R4: only a build that was dropped under the query is looked for again. */
  #pin(): <T>(operation: (view: OpenView) => Promise<T>) => Promise<T> {
    const pinned = this.#answering();
    const { position } = pinned.checkpoint;
    return async (operation) => {
      for (let build = pinned, dropped = 0; ; dropped++) {
        try {
          return await operation(build.view);
        } catch (error) {
          if (this.#stopping !== undefined || isTidemarkError(error, "InvalidArgument") || dropped === MOST_DROPPED) throw error;
          await this.#lookAgain().catch(() => undefined);
          // Its own build may have been activated a moment ago, and not answer yet.
          if (this.#serving === build && this.#building !== undefined && isTidemarkError(error, "ReadModelStopped")) {
            await this.#within(undefined, () => this.#serving !== build || this.#building === undefined);
          }
          const successor = this.#serving;
          if (successor === undefined || successor === build) throw error;
          await this.#reaches(successor, position);
          build = successor;
        }
      }
    };
  }

  onAdvance(listener: () => void): () => void {
    // An own function, so that the same listener may be given twice.
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  #state(): RunnerState {
    if (this.#stopping !== undefined || this.#serving === undefined) return "stopped";
    if (this.error !== undefined) return "failed";
    if (this.#paused) return "paused";
    if (this.#rebuild !== undefined) return "rebuilding";
    return this.#building === undefined && this.#serving.state === "live" ? "live" : "catching-up";
  }

  #answering(): Following {
    if (this.#serving === undefined) throw new ReadModelStopped(`read model ${this.model.name} was not started`, { details: { model: this.model.name } });
    return this.#serving;
  }

  /** Builds of other versions are read, never followed: this process does not have their code. */
  #follows(follower: Following): boolean {
    return follower.key.version === this.model.version;
  }

  /** R2. */
  async #chooseBuilds(): Promise<void> {
    const { name: model, version } = this.model;
    const builds = await this.#ports.views.builds(model);
    const active = builds.find((build) => build.active);
    const newest = Math.max(1, ...builds.filter((build) => build.version === version).map((build) => build.build));
    const own = { model, version, build: active?.version === version ? active.build : newest };
    if (active !== undefined && active.version < version) {
      await this.#serve(active);
      const next = await this.#open(own);
      this.#building = next;
      if (this.#stopping !== undefined) return next.close();
      if (!this.#paused) next.start();
      void this.#takeOver(next);
      return;
    }
    await this.#serve(own);
    if (active === undefined) await this.#ports.views.activate(own);
  }

  async #serve(key: BuildKey): Promise<void> {
    const follower = await this.#open(key);
    this.#serving = follower;
    if (this.#stopping !== undefined) return follower.close();
    if (this.#follows(follower) && !this.#paused) follower.start();
  }

  async #open(key: BuildKey): Promise<Following> {
    const { model, version, build } = key;
    const { definition } = this.model.view;
    const view = await this.#ports.views.open({ model, version, build }, definition, { asItStands: version !== this.model.version, shards: this.model.shards });
    const ports = {
      store: this.#ports.store,
      decode: this.#decode,
      environment: this.#ports.environment,
      changed: () => this.#changed(),
      lost: () => void this.#lookAgain().catch((error: unknown) => this.#ports.environment.logger.warn({ model, error }, "the builds of the read model could not be listed")),
    };
    const follow = async (part: OpenView, isMine?: (event: StoredEvent) => boolean): Promise<Follower> =>
      new Follower(this.model, { model, version, build }, part, await part.checkpoint(), ports, this.#options, isMine);
    const { shards } = view;
    if (shards === undefined) return follow(view);
    const followers = await Promise.all(shards.map((shard, index) => follow(shard, ({ stream }) => shardOf(stream, shards.length) === index)));
    return new ShardedFollower({ model, version, build }, view, followers);
  }

  /** R2. */
  async #takeOver(next: Following): Promise<void> {
    try {
      await this.#until(next, () => next.state === "live");
      await this.#handOverInTheEnd(next);
    } catch (error) {
      this.#followOn();
      if (this.#stopping !== undefined || this.#superseded === next) return;
      this.#error = next.error ?? (isTidemarkError(error) ? error : new ReadModelStopped(`the new version of read model ${this.model.name} could not take over`, { cause: error }));
      this.#changed();
      // Resumed after a failure it may still take over.
      await this.#until(undefined, () => next.running).catch(() => undefined);
      if (this.#stopping === undefined && this.#building === next) void this.#takeOver(next);
    }
  }

  /** As `#handOver`, and an outage of the view store is waited out. */
  async #handOverInTheEnd(next: Following): Promise<void> {
    const { firstPauseMs, maxPauseMs } = this.#options;
    const { logger, clock, random } = this.#ports.environment;
    for (let pause = firstPauseMs; ; pause = Math.min(pause * 2, maxPauseMs)) {
      try {
        return await this.#handOver(next);
      } catch (error) {
        if (this.#stopping !== undefined || next.error !== undefined || !isTidemarkError(error, "StoreUnavailable")) throw error;
        logger.warn({ model: this.model.name, error, retryInMs: pause }, "the new version could not take over and tries again");
      }
      await delay(clock, Math.ceil(pause * (0.5 + random.next())));
    }
  }

  /** R3: answers from `next` as soon as it has passed the place where the build that answers now stands. */
  async #handOver(next: Following): Promise<void> {
    for (;;) {
      // What answers now is then another process's work, and nothing takes its place.
      if (this.#superseded === next) throw this.#madeElsewhere();
      const old = this.#answering();
      if (this.#follows(old)) await old.stop();
      if (await this.#knowsItsPlace(old)) {
        await this.#until(next, () => this.#serving !== old || hasPassed(next, old));
        // Once more, since it may have been moved meanwhile.
        if (this.#serving !== old || !((await this.#knowsItsPlace(old)) && hasPassed(next, old))) continue;
      } else if (this.#serving !== old) continue;
      return this.#swap(next);
    }
  }

  /** The build that answers was stopped for a hand-over that did not come about. */
  #followOn(): void {
    const serving = this.#serving;
    if (this.#stopping !== undefined || this.#paused || serving === undefined || serving.error !== undefined || !this.#follows(serving)) return;
    serving.start();
  }

  #madeElsewhere(): ReadModelStopped {
    const { name: model } = this.model;
    return new ReadModelStopped(`another process has rebuilt read model ${model}`, { details: { model } });
  }

  /** Reads a build's place; false when it was dropped. */
  async #knowsItsPlace(follower: Following): Promise<boolean> {
    try {
      await follower.lookUp();
      return true;
    } catch (error) {
      if (!isTidemarkError(error, "ReadModelStopped")) throw error;
      await this.#lookAgain();
      return false;
    }
  }

  /** R3. */
  async #runRebuild(): Promise<void> {
    const { name: model, version } = this.model;
    const { views, environment } = this.#ports;
    this.#answering();
    if (this.#stopping !== undefined) throw new ReadModelStopped(`read model ${model} is stopped`, { details: { model } });
    if (this.#building !== undefined) throw new ReadModelStopped(`version ${version} of read model ${model} is being built already`, { details: { model, version } });
    const builds = await views.builds(model);
    const next = await this.#open({ model, version, build: Math.max(0, ...builds.filter((build) => build.version === version).map((build) => build.build)) + 1 });
    this.#building = next;
    if (!this.#paused) next.start();
    this.#changed();
    try {
      await this.#until(next, () => next.state === "live");
      await this.#handOver(next);
    } catch (error) {
      this.#followOn();
      if (this.#superseded === next) return;
      if (this.#building === next) this.#building = undefined;
      await next.close();
      if (this.#stopping === undefined) {
        await views.drop(next.key).catch((cause: unknown) => environment.logger.warn({ model, error: cause }, "an unfinished build could not be dropped"));
      }
      throw next.error ?? error;
    }
    for (const build of await views.builds(model)) {
      if (build.version === version && build.build < next.key.build) await views.drop(build);
    }
  }

  /** Resolves when the condition holds; looked at after every change. Rejects when the build fails or the runner stops. */
  #until(follower: Following | undefined, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.#stopping !== undefined) reject(new ReadModelStopped(`read model ${this.model.name} was stopped`, { details: { model: this.model.name } }));
        else if (follower?.error !== undefined) reject(follower.error);
        else if (follower !== undefined && this.#superseded === follower) reject(this.#madeElsewhere());
        else if (condition()) resolve();
        else return;
        end();
      };
      const end = this.onAdvance(look);
      look();
    });
  }

  async #swap(next: Following): Promise<void> {
    const builds = await this.#ports.views.builds(this.model.name);
    if (!builds.some((build) => build.active && build.version > next.key.version)) await this.#ports.views.activate(next.key);
    const old = this.#serving;
    this.#serving = next;
    this.#building = undefined;
    this.#error = undefined;
    this.#changed();
    await old?.close();
  }

  /** R4. One look at a time, and none that began before the call: its answer may be older than what the caller has seen. Those who ask meanwhile share the next one. */
  #lookAgain(): Promise<void> {
    this.#nextLook ??= (this.#looking ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        this.#looking = this.#nextLook;
        this.#nextLook = undefined;
        return this.#look();
      })
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#nextLook;
  }

  async #look(): Promise<void> {
    const serving = this.#serving;
    const building = this.#building;
    if (serving === undefined || this.#stopping !== undefined) return;
    const builds = await this.#ports.views.builds(this.model.name);
    if (this.#serving !== serving || this.#building !== building || this.#stopping !== undefined) return;
    const active = builds.find((build) => build.active);
    const stands = (follower: Following): boolean => builds.some((build) => isKey(build, follower.key));
    if (building !== undefined && stands(building)) {
      // What is being made goes on; until it is ready, the active build answers.
      if (stands(serving) || active === undefined || isKey(active, building.key)) return;
      await this.#serve(active);
    } else {
      const moved = active !== undefined && active.version === this.model.version && !isKey(active, serving.key);
      if (building === undefined && stands(serving) && !moved) return;
      this.#superseded = building;
      this.#building = undefined;
      await this.#chooseBuilds();
      await building?.close();
    }
    this.#changed();
    await serving.close();
  }

  /** R4. Errors: StaleRead. */
  async #reaches(follower: Following, position: Position): Promise<void> {
    if (await this.#within(follower, () => covers(follower.checkpoint.position, position))) return;
    throw new StaleRead(`read model ${this.model.name} was rebuilt by another process, and is not yet where this query began`, {
      retryable: true,
      details: { model: this.model.name, position: follower.checkpoint.position },
    });
  }

  /** Whether the condition comes to hold within HAND_OVER_MS. Rejects as `#until`. */
  async #within(follower: Following | undefined, condition: () => boolean): Promise<boolean> {
    let late = false;
    const timer = this.#ports.environment.clock.setTimer(HAND_OVER_MS, () => {
      late = true;
      this.#changed();
    });
    await this.#until(follower, () => late || condition()).finally(() => timer.cancel());
    return condition();
  }

  #changed(): void {
    for (const listener of Array.from(this.#listeners)) {
      try {
        listener();
      } catch (error) {
        this.#ports.environment.logger.error({ model: this.model.name, error }, "a listener of the read model failed");
      }
    }
  }
}

/** Whether what `old` answered is answered by `next`; nothing can be said of another log. */
function hasPassed(next: Following, old: Following): boolean {
  const comparable = old.error?.code !== "StoreRewound" && old.checkpoint.store === next.checkpoint.store;
  return !comparable || covers(next.checkpoint.position, old.checkpoint.position);
}

function isKey(build: BuildKey, key: BuildKey | undefined): boolean {
  return key !== undefined && build.version === key.version && build.build === key.build;
}
