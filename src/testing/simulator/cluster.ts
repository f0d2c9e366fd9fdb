/**
 * The processes of a simulation: each an app on a host of its own, over the one store. One that dies is followed by a new one on a new host.
 */
import type { ActorOptions } from "../../actor/actor-options.ts";
import type { App } from "../../app/app.ts";
import { tidemark } from "../../app/tidemark.ts";
import type { Backend } from "../../store/backend.ts";
import type { RunnerOptions } from "../../readmodel/runner.ts";
import type { Draws } from "./draws.ts";
import type { Consumed } from "./history.ts";
import type { SimulatedStore } from "./simulated-store.ts";
import type { Host, World } from "./world.ts";
import type { Workload } from "./workload.ts";

/** Bounds of the apps of one simulation. */
export interface Bounds {
  readonly actors: Pick<ActorOptions, "mailboxCapacity" | "maxActors" | "idleTimeoutMs" | "attempts" | "retryPauseMs" | "commandTimeoutMs" | "assumeNewAfter">;
  readonly projections: Pick<RunnerOptions, "pageSize" | "attempts" | "firstPauseMs" | "maxPauseMs" | "idleSaveMs" | "stopTimeoutMs">;
}

/** So small that everything happens often, and other ones in each simulation. */
export function boundsOf(draws: Draws): Bounds {
  return {
    actors: {
      mailboxCapacity: draws.int(3, 10),
      maxActors: draws.int(3, 9),
      idleTimeoutMs: draws.int(40, 400),
      attempts: draws.int(3, 8),
      retryPauseMs: draws.int(1, 8),
      commandTimeoutMs: draws.int(300, 2500),
      assumeNewAfter: draws.pick([0, 1, 32]),
    },
    projections: { pageSize: draws.int(1, 8), attempts: 3, firstPauseMs: draws.int(2, 8), maxPauseMs: draws.int(20, 100), idleSaveMs: draws.int(0, 50), stopTimeoutMs: 500 },
  };
}

export const CLOSE_TIMEOUT_MS = 3000;

/** A process that is up. */
export interface Running {
  readonly index: number;
  readonly host: Host;
  readonly app: App;
  /** Closes the app, and then what it had opened of the store. */
  close(): Promise<void>;
}

interface Place {
  readonly index: number;
  starts: number;
  host: Host | undefined;
  app: App | undefined;
  backend: Backend | undefined;
  closing: boolean;
}

export interface ClusterOptions {
  readonly world: World;
  readonly store: SimulatedStore;
  readonly workload: Workload;
  readonly processes: number;
  readonly bounds: Bounds;
  /** What the consumer of each process has seen; kept over restarts. */
  readonly consumed: Consumed[];
  readonly note: (text: string) => void;
  readonly onError: (where: string, error: unknown) => void;
}

export class Cluster {
  readonly #options: ClusterOptions;
  readonly #places: Place[];

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#places = Array.from({ length: options.processes }, (_, index) => ({ index, starts: 0, host: undefined, app: undefined, backend: undefined, closing: false }));
    for (const { index } of this.#places) options.consumed.push({ process: index, ids: [], token: undefined });
  }

  /** Starts every process that is not up. */
  start(): void {
    for (const place of this.#places) if (place.host === undefined) this.#start(place);
  }

  get allUp(): boolean {
    return this.#places.every((place) => place.app !== undefined && !place.closing);
  }

  get running(): readonly Running[] {
    return this.#places.flatMap((_, index) => this.at(index, true) ?? []);
  }

  /** The process of this index, or the next one that is up and at work; undefined when none is. */
  at(index: number, exactly = false): Running | undefined {
    for (let step = 0; step < (exactly ? 1 : this.#places.length); step++) {
      const place = this.#places[(index + step) % this.#places.length] as Place;
      const { app, host, backend } = place;
      if (app !== undefined && host?.stalled === false) return { index: place.index, host, app, close: () => app.close().then(() => backend?.close()) };
    }
    return undefined;
  }

  /** Ends a process at once; a new one starts after a while. */
  crash(index: number, downMs: number): void {
    const place = this.#places[index] as Place;
    this.#end(place);
    this.#options.world.post(downMs, () => this.start());
  }

  /** Closes a process, and starts a new one when it has closed. */
  restart(index: number): void {
    const place = this.#places[index] as Place;
    const { app, host, backend } = place;
    if (app === undefined || place.closing) return;
    place.closing = true;
    const closed = app.close().then(() => backend?.close());
    closed.then(
      () => {
        if (place.host !== host) return;
        this.#end(place);
        this.#start(place);
      },
      (error: unknown) => this.#options.onError(`closing process ${index}`, error),
    );
  }

  stall(index: number, forMs: number): void {
    this.#places[index]?.host?.stall(forMs);
  }

  jump(index: number, byMs: number): void {
    this.#places[index]?.host?.jump(byMs);
  }

  /** Ends stalls, starts what is down. */
  heal(): void {
    for (const place of this.#places) place.host?.wake();
    this.start();
  }

  #end(place: Place): void {
    place.host?.kill();
    place.host = undefined;
    place.app = undefined;
    place.backend = undefined;
    place.closing = false;
  }

  #start(place: Place): void {
    const { world, store, workload, note } = this.#options;
    const host = world.host(`process ${place.index}.${++place.starts}`);
    place.host = host;
    note(`${host.name} starts`);
    const backend = store.connect(host, place.index);
    place.backend = backend;
    tidemark({
      store: backend,
      aggregates: workload.aggregates,
      readModels: workload.readModels,
      ...this.#options.bounds,
      closeTimeoutMs: CLOSE_TIMEOUT_MS,
      environment: host.environment,
    }).then(
      (app) => {
        if (place.host !== host) return;
        place.app = app;
        note(`${host.name} is up`);
        void this.#consume(place.index, app, host);
      },
      (error: unknown) => {
        if (place.host !== host) return;
        note(`${host.name} did not start: ${String(error)}`);
        this.#end(place);
        world.post(30, () => this.start());
      },
    );
  }

  /** A consumer of all events that goes on where it was when its process starts again. */
  async #consume(index: number, app: App, host: Host): Promise<void> {
    const consumed = this.#options.consumed[index] as Consumed;
    try {
      for await (const page of app.subscribe(this.#options.workload.aggregates, { pageSize: 5, ...(consumed.token !== undefined && { after: consumed.token }) })) {
        if (!host.alive) return;
        for (const event of page.events as readonly { readonly eventId: string }[]) consumed.ids.push(event.eventId);
        consumed.token = page.token;
      }
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (code !== "AppClosed" && code !== "StoreClosed" && code !== "Aborted") this.#options.onError(`the consumer of process ${index}`, error);
    }
  }
}
