/**
 * Follows the log for one build of a read model: reads pages, runs the pipeline, commits rows and checkpoint together.
 *
 * F1 A page's rows and the checkpoint after it are one commit, built on the revision that the page was read at. Whoever loses that race
 *    throws its page away, reloads the checkpoint and goes on from there: each event takes effect exactly once, whatever crashes or runs twice.
 * F2 The checkpoint is believed only on the log that it was made on: store identity and last event are compared before reading on (StoreRewound).
 * F3 A page that fails is thrown away and run again one event at a time; the event that still fails is retried with back-off, `attempts` times
 *    in all, and then this read model stops with ProjectionFailed, which names the event. Nothing is ever skipped.
 * F4 What fails outside of the pipeline (StoreUnavailable) is retried with a growing, jittered and bounded pause for as long as it takes;
 *    a write whose outcome nobody knows is settled by reading the checkpoint again.
 * F5 A position that moved over events which do not concern this model is saved within `idleSaveMs`, at most once in that time, or with the next page.
 * F6 After a lost race another process is at work: this one stands by until the checkpoint has stood still for a jittered pause.
 * F7 `stop` lets the page under way finish within its bound, then gives it up; nothing of it is left behind either way.
 * F8 Where the view store knows owners, only the owner reads the log. The others see its commits, and are live once these have passed a place where the log ended.
 *
 * Longer than most files: it is one algorithm, whose invariants rest on each other.
 */
import { isTidemarkError, ProjectionFailed, StoreRewound, StoreUnavailable, type TidemarkError } from "../errors.ts";
import { delay, turns, type Environment } from "../environment.ts";
import type { EventStore, LogPage, StoredEvent } from "../store/event-store.ts";
import { covers, merge, type Position } from "../store/position.ts";
import type { Decoder } from "./decode.ts";
import { runPage } from "./page.ts";
import { Rate } from "./rate.ts";
import type { ReadModel } from "./read-model.ts";
import type { BuildKey, Checkpoint, Claim, OpenPage, OpenView, SavedCheckpoint, TableChanges } from "./view-store.ts";

export interface FollowerOptions {
  /** Most events in a page. */
  readonly pageSize: number;
  /** Runs of a failing event, the first included. */
  readonly attempts: number;
  /** First pause of every back-off, milliseconds; it doubles up to `maxPauseMs`. */
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** F5. */
  readonly idleSaveMs: number;
  /** F7. */
  readonly stopTimeoutMs: number;
  /** Most rows that one page may change. */
  readonly maxStagedRows: number;
}

export interface FollowerPorts {
  readonly store: EventStore;
  readonly decode: Decoder;
  readonly environment: Environment;
  /** After each commit, of this process or another one, and each change of state. */
  readonly changed: () => void;
  /** After a lost race: the build may have been dropped. */
  readonly lost: () => void;
}

export type FollowerState = "idle" | "catching-up" | "live" | "failed";

/** F8: how often whoever stands by looks whether the owner has caught up. */
const OBSERVE_MS = 100;

/** How fast it goes, and what is not yet visible. */
export interface Progressing {
  readonly eventsPerSecond: number;
  readonly lagEvents: number | undefined;
  readonly lagMs: number;
}

/** What moves one build, as a runner holds it: one follower, or one for each shard. */
export interface Following {
  readonly key: BuildKey;
  readonly view: OpenView;
  readonly checkpoint: SavedCheckpoint;
  readonly state: FollowerState;
  readonly error: TidemarkError | undefined;
  readonly running: boolean;
  progress(): Progressing;
  start(): void;
  stop(): Promise<void>;
  lookUp(): Promise<void>;
  close(): Promise<void>;
}

/** One stretch between start and stop. */
interface Run {
  readonly reading: AbortController;
  readonly pages: AbortController;
  readonly done: Promise<void>;
}

export class Follower implements Following {
  readonly key: BuildKey;
  readonly view: OpenView;
  readonly #model: ReadModel<unknown>;
  readonly #ports: FollowerPorts;
  readonly #options: FollowerOptions;
  readonly #rate: Rate;
  readonly #turn: ReturnType<typeof turns>;
  readonly #isMine: ((event: StoredEvent) => boolean) | undefined;
  readonly #unwatch: () => void;
  /** The newest checkpoint that is known, of whichever process: what readers see. */
  #known: SavedCheckpoint;
  /** F1: the checkpoint that this run goes on from; only its own commits move it. */
  #base: SavedCheckpoint;
  #state: FollowerState = "idle";
  #error: TidemarkError | undefined;
  #run: Run | undefined;
  #stopped: Promise<void> = Promise.resolve();
  #committing = false;
  #refreshing = false;
  /** Read from the log and not yet committed. */
  #underWay = 0;
  /** `recordedAt` of the first of these. */
  #oldest = 0;
  #behind = true;
  #lastSave = 0;
  #head: Position | undefined;
  #headAskedAt = Number.NEGATIVE_INFINITY;

  /** `known`: the checkpoint as it was read when the build was opened. `isMine`: which events concern it, of those of the model's aggregates; default all. */
  constructor(model: ReadModel<unknown>, key: BuildKey, view: OpenView, known: SavedCheckpoint, ports: FollowerPorts, options: FollowerOptions, isMine?: (event: StoredEvent) => boolean) {
    this.#model = model;
    this.key = key;
    this.view = view;
    this.#known = known;
    this.#base = known;
    this.#ports = ports;
    this.#options = options;
    this.#isMine = isMine;
    this.#rate = new Rate(ports.environment.clock);
    this.#turn = turns(ports.environment.clock);
    this.#unwatch = view.watch(() => this.#refresh());
  }

  get checkpoint(): SavedCheckpoint {
    return this.#known;
  }

  get state(): FollowerState {
    return this.#state;
  }

  get error(): TidemarkError | undefined {
    return this.#error;
  }

  get running(): boolean {
    return this.#run !== undefined;
  }

  /** Events per second over the last seconds, events read and not yet visible (undefined while their number is unknown), and the age of what is not yet visible. */
  progress(): Progressing {
    const { recordedAt } = this.#known;
    const since = this.#behind ? recordedAt : this.#underWay > 0 ? this.#oldest : undefined;
    const lagMs = since === undefined ? 0 : Math.max(0, this.#ports.environment.clock.now() - since);
    const ahead = this.#head && Object.entries(this.#head).reduce((sum, [lane, offset]) => sum + Math.max(0, offset - (this.#known.position[lane] ?? 0)), 0);
    return { eventsPerSecond: this.#rate.perSecond(), lagEvents: this.#behind ? ahead : this.#underWay, lagMs };
  }

  /** Starts, or starts again after a failure. */
  start(): void {
    if (this.#run !== undefined) return;
    const reading = new AbortController();
    const pages = new AbortController();
    this.#error = undefined;
    this.#behind = true;
    this.#enter("catching-up");
    const done = this.#stopped.then(() => this.#loop(reading.signal, pages.signal));
    this.#run = { reading, pages, done };
  }

  /** F7. Idempotent. */
  stop(): Promise<void> {
    const run = this.#run;
    if (run === undefined) return this.#stopped;
    this.#run = undefined;
    run.reading.abort();
    this.#stopped = this.#ended(run).then(() => {
      if (this.#run === undefined && this.#state !== "failed") this.#enter("idle");
    });
    return this.#stopped;
  }

  /** F7. A view store that never answers is left behind after a second bound. */
  #ended(run: Run): Promise<void> {
    const { clock, logger } = this.#ports.environment;
    return new Promise((resolve) => {
      const abandon = (): void => {
        logger.error({ model: this.#model.name }, "the view store did not answer while the read model stopped");
        resolve();
      };
      const giveUp = (): void => {
        run.pages.abort();
        bound = clock.setTimer(this.#options.stopTimeoutMs, abandon, { keepAlive: true });
      };
      let bound = clock.setTimer(this.#options.stopTimeoutMs, giveUp, { keepAlive: true });
      void run.done.then(() => {
        bound.cancel();
        resolve();
      });
    });
  }

  /** Reads the checkpoint as it stands, whichever process has moved it. Errors: those of the view store; ReadModelStopped when the build was dropped. */
  async lookUp(): Promise<void> {
    this.#publish(await this.view.checkpoint());
  }

  /** Stops, and stops watching. */
  async close(): Promise<void> {
    await this.stop();
    this.#unwatch();
  }

  #enter(state: FollowerState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#ports.changed();
  }

  async #loop(reading: AbortSignal, pages: AbortSignal): Promise<void> {
    let pause = this.#options.firstPauseMs;
    while (!reading.aborted) {
      const revision = this.#known.revision;
      let claim: Claim | undefined;
      try {
        claim = await this.#claim(reading);
        await this.#follow(claim === undefined ? reading : AbortSignal.any([reading, claim.ended]), pages);
        pause = this.#options.firstPauseMs;
        const fenced = claim?.ended.aborted === true;
        claim?.release();
        if (!reading.aborted && !fenced) await this.#standBy(reading);
      } catch (error) {
        const given = claim?.ended.aborted === true && isTidemarkError(error, "Aborted");
        claim?.release();
        if (reading.aborted) return;
        if (given) continue;
        if (this.#isGone(error)) this.#ports.lost();
        else if (!isOutage(error)) return this.#fail(error);
        if (this.#known.revision > revision) pause = this.#options.firstPauseMs;
        this.#ports.environment.logger.warn({ model: this.#model.name, error, retryInMs: pause }, "the read model lost its store or its build and tries again");
        await this.#sleep(pause, reading);
        pause = Math.min(pause * 2, this.#options.maxPauseMs);
      }
    }
  }

  /** F8. */
  async #claim(reading: AbortSignal): Promise<Claim | undefined> {
    if (this.view.claim === undefined) return undefined;
    const waiting = new AbortController();
    void this.#observe(AbortSignal.any([reading, waiting.signal]));
    try {
      return await this.view.claim(reading);
    } finally {
      waiting.abort();
    }
  }

  /** F8: what another process does. Never rejects. */
  async #observe(signal: AbortSignal): Promise<void> {
    let end: Position | undefined;
    while (!signal.aborted && this.#state !== "live") {
      await this.#sleep(OBSERVE_MS, signal);
      if (signal.aborted) return;
      try {
        end ??= await this.#endOfLog(signal);
        this.#publish(await this.view.checkpoint());
      } catch {
        // Tried again; the build's end is found by whoever claims it.
      }
      if (signal.aborted || end === undefined || !covers(this.#known.position, end)) continue;
      this.#behind = false;
      this.#enter("live");
    }
  }

  /** A place where the log ended, once the owner is within a page of it. */
  async #endOfLog(signal: AbortSignal): Promise<Position | undefined> {
    for await (const page of this.#ports.store.readAll({ after: this.#known.position, categories: this.#categories(), pageSize: this.#options.pageSize, signal })) {
      return page.caughtUp ? page.through : undefined;
    }
    return undefined;
  }

  #fail(error: unknown): void {
    const { logger } = this.#ports.environment;
    this.#error = isTidemarkError(error)
      ? error
      : new ProjectionFailed(`read model ${this.#model.name} stopped: ${error instanceof Error ? error.message : String(error)}`, { cause: error, details: { model: this.#model.name } });
    this.#run = undefined;
    logger.error({ model: this.#model.name, error: this.#error }, "the read model stopped");
    this.#enter("failed");
  }

  /** Reads and commits until it is stopped (returns) or loses a race (returns). Everything else is thrown. */
  async #follow(reading: AbortSignal, pages: AbortSignal): Promise<void> {
    const { store } = this.#ports;
    this.#base = await this.view.checkpoint();
    this.#adopt(this.#base);
    const identity = (await store.identity(reading)).id;
    await this.#verify(this.#base, identity, reading);

    const subscription = new AbortController();
    const end = (): void => subscription.abort();
    reading.addEventListener("abort", end, { once: true });
    const log = store
      .subscribe({
        after: this.#base.position,
        categories: this.#categories(),
        pageSize: this.#options.pageSize,
        signal: subscription.signal,
      })
      [Symbol.asyncIterator]();
    let through: Position = this.#base.position;
    let next: Promise<IteratorResult<LogPage>> | undefined;
    try {
      if (reading.aborted) return;
      for (;;) {
        if (next === undefined) {
          next = log.next();
          next.catch(() => undefined);
        }
        if (!covers(this.#base.position, through) && (await this.#idleSaveDue(next))) {
          if ((await this.#commit(new Map(), { ...this.#base, store: identity, position: through })) === "lost") return;
          continue;
        }
        const result = await next;
        next = undefined;
        if (result.done === true) throw new StoreUnavailable("the subscription ended by itself", { retryable: true });
        const page = result.value;
        if (!page.caughtUp) {
          this.#behind = true;
          this.#lookAhead();
        }
        const events = this.#isMine === undefined ? page.events : page.events.filter(this.#isMine);
        if (events.length > 0 && (await this.#process(events, page.through, identity, pages)) === "lost") return;
        through = page.through;
        if (page.caughtUp) {
          this.#behind = false;
          this.#enter("live");
        }
        if (reading.aborted) break;
        await this.#turn(); // a store that answers at once would otherwise keep timers and sockets waiting
      }
    } catch (error) {
      if (!reading.aborted || pages.aborted) throw error;
    } finally {
      reading.removeEventListener("abort", end);
      subscription.abort();
      void Promise.resolve(log.return?.()).catch(() => undefined);
    }
    if (reading.aborted && !covers(this.#base.position, through)) {
      await this.#commit(new Map(), { ...this.#base, store: identity, position: through });
    }
  }

  #categories(): string[] {
    return this.#model.behaviours.map((behaviour) => behaviour.category);
  }

  /** Learns where the log ends, now and then, so that progress can say how much is left. */
  #lookAhead(): void {
    const { store, environment } = this.#ports;
    const now = environment.clock.elapsed();
    if (store.head === undefined || now - this.#headAskedAt < 500) return;
    this.#headAskedAt = now;
    store.head(undefined, this.#categories()).then(
      (head) => (this.#head = head),
      () => undefined,
    );
  }

  /** F2. */
  async #verify(checkpoint: SavedCheckpoint, identity: string, signal: AbortSignal): Promise<void> {
    if (checkpoint.revision === 0) return;
    const { name } = this.#model;
    const remedy = `rebuild the read model (app.readModel(${name}).rebuild()), or bring back the log that it was built from`;
    if (checkpoint.store !== identity) {
      throw new StoreRewound(`read model ${name} was built from store ${checkpoint.store}, but this is store ${identity}: ${remedy}`, {
        details: { model: name, expected: checkpoint.store, found: identity },
      });
    }
    const { last } = checkpoint;
    if (last === undefined) return;
    const slice = await this.#ports.store.readStream(last.stream, { from: last.version, limit: 1, signal });
    const found = slice.events[0];
    const truncated = found === undefined && slice.firstVersion > last.version;
    if (truncated || (found?.version === last.version && found.id === last.eventId)) return;
    throw new StoreRewound(`read model ${name} has seen version ${last.version} of ${last.stream}, which the log does not hold any more (it was restored from an older state): ${remedy}`, {
      details: { model: name, stream: last.stream, version: last.version, eventId: last.eventId },
    });
  }

  /** F5: true when the time has come before the next page. */
  async #idleSaveDue(next: Promise<unknown>): Promise<boolean> {
    const { clock } = this.#ports.environment;
    const wait = this.#lastSave + this.#options.idleSaveMs - clock.elapsed();
    if (wait <= 0) return true;
    return new Promise((resolve) => {
      const timer = clock.setTimer(wait, () => resolve(true));
      const arrived = (): void => {
        timer.cancel();
        resolve(false);
      };
      next.then(arrived, arrived);
    });
  }

  /** F3. */
  async #process(events: readonly StoredEvent[], through: Position, store: string, signal: AbortSignal): Promise<"committed" | "lost"> {
    this.#underWay = events.length;
    this.#oldest = events[0]?.recordedAt ?? 0;
    try {
      if (events.length > 1) {
        try {
          return await this.#attempt(events, through, store, signal);
        } catch (error) {
          if (this.#isOthers(error) || signal.aborted) throw error;
          this.#ports.environment.logger.warn({ model: this.#model.name, events: events.length, error }, "a page failed and is run again one event at a time");
        }
      }
      for (const [index, event] of events.entries()) {
        const upTo = index === events.length - 1 ? through : merge(this.#base.position, event.position);
        if ((await this.#single(event, upTo, store, signal)) === "lost") return "lost";
      }
      return "committed";
    } finally {
      this.#underWay = 0;
    }
  }

  async #single(event: StoredEvent, through: Position, store: string, signal: AbortSignal): Promise<"committed" | "lost"> {
    let pause = this.#options.firstPauseMs;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#attempt([event], through, store, signal);
      } catch (cause) {
        if (this.#isOthers(cause) || signal.aborted) throw cause;
        const where = { model: this.#model.name, stream: event.stream, version: event.version, eventId: event.id, type: event.type, position: event.position };
        if (attempt >= this.#options.attempts) {
          const why = cause instanceof Error ? cause.message : String(cause);
          throw new ProjectionFailed(`read model ${where.model} failed ${attempt} times at ${event.type}, version ${event.version} of ${event.stream}: ${why}`, { cause, details: where });
        }
        this.#ports.environment.logger.warn({ ...where, attempt, error: cause, retryInMs: pause }, "an event failed in the read model and is tried again");
        await delay(this.#ports.environment.clock, this.#jittered(pause), signal);
        pause = Math.min(pause * 2, this.#options.maxPauseMs);
      }
    }
  }

  /** F1: runs the pipeline over the events and commits their effect. */
  async #attempt(events: readonly StoredEvent[], through: Position, store: string, signal: AbortSignal): Promise<"committed" | "lost"> {
    const { clock, logger } = this.#ports.environment;
    const decoding = this.#ports.decode(events);
    const decoded = decoding instanceof Promise ? await decoding : decoding;
    const changes = await runPage(this.#model, decoded, this.view, this.#base.revision, {
      clock,
      signal,
      maxRows: this.#options.maxStagedRows,
      onLateWrite: (error) => logger.error({ model: this.#model.name, error }, "a late write was refused"),
    });
    if (changes === "lost") return changes;
    const last = events[events.length - 1] as StoredEvent;
    const outcome = await this.#commit(changes, {
      position: through,
      store,
      last: { stream: last.stream, version: last.version, eventId: last.id },
      events: this.#base.events + events.length,
      recordedAt: last.recordedAt,
    });
    if (outcome === "committed") this.#rate.add(events.length);
    return outcome;
  }

  async #commit(changes: TableChanges | OpenPage, next: Checkpoint): Promise<"committed" | "lost"> {
    const { revision } = this.#base;
    this.#committing = true;
    try {
      const outcome = isOpenPage(changes) ? await changes.commit(next) : await this.view.commit(changes, next, revision);
      if (outcome === "committed") {
        this.#lastSave = this.#ports.environment.clock.elapsed();
        this.#underWay = Math.max(0, this.#underWay - (next.events - this.#base.events));
        this.#base = { ...next, revision: revision + 1 };
        this.#publish(this.#base);
      }
      return outcome;
    } finally {
      this.#committing = false;
    }
  }

  /** F6. */
  async #standBy(signal: AbortSignal): Promise<void> {
    this.#ports.lost();
    this.#publish(await this.view.checkpoint());
    let pause = this.#options.firstPauseMs;
    for (;;) {
      const { revision } = this.#known;
      await this.#sleep(pause, signal);
      if (signal.aborted) return;
      this.#publish(await this.view.checkpoint());
      if (this.#known.revision === revision) return;
      pause = Math.min(pause * 2, this.#options.maxPauseMs);
    }
  }

  /** Forward only: a slow read never takes back what was committed meanwhile. */
  #publish(checkpoint: SavedCheckpoint): void {
    if (checkpoint.revision > this.#known.revision) this.#adopt(checkpoint);
  }

  #adopt(checkpoint: SavedCheckpoint): void {
    const moved = checkpoint.revision !== this.#known.revision;
    this.#known = checkpoint;
    if (moved) this.#ports.changed();
  }

  /** Takes over what another process has committed. One read at a time; a call meanwhile is made good by one more. */
  #refresh(): void {
    if (this.#committing || this.#refreshing) return;
    this.#refreshing = true;
    this.#ports.environment.clock.immediate(() => {
      this.#refreshing = false;
      this.view.checkpoint().then(
        (checkpoint) => this.#publish(checkpoint),
        (error: unknown) => {
          // F8: whoever stands by would otherwise not hear of it.
          if (this.view.claim !== undefined && this.#run !== undefined && this.#isGone(error)) this.#ports.lost();
        },
      );
    });
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    await delay(this.#ports.environment.clock, this.#jittered(ms), signal).catch(() => undefined);
  }

  /** This build was dropped by another process: whoever owns this follower looks for the one that took its place. */
  #isGone(error: unknown): boolean {
    return isTidemarkError(error, "ReadModelStopped") && error.details["model"] === this.key.model && error.details["build"] === this.key.build;
  }

  /** Not the fault of the events. */
  #isOthers(error: unknown): boolean {
    return isOutage(error) || this.#isGone(error);
  }

  #jittered(ms: number): number {
    return Math.ceil(ms * (0.5 + this.#ports.environment.random.next()));
  }
}

function isOpenPage(changes: TableChanges | OpenPage): changes is OpenPage {
  return "commit" in changes;
}

/** F4. */
function isOutage(error: unknown): boolean {
  return isTidemarkError(error, "StoreUnavailable");
}
