/**
 * Composes the parts into an app, and takes them apart again.
 */
import { behaviourOf, type AnyAggregate } from "../aggregate/aggregate.ts";
import { actorOptions } from "../actor/actor-options.ts";
import { Beginnings } from "../actor/beginnings.ts";
import { Committer } from "../actor/committer.ts";
import { newCounters } from "../actor/metrics.ts";
import { Registry } from "../actor/registry.ts";
import { tokens as tokenCodec } from "../consistency/token-codec.ts";
import { environmentOf, type Environment } from "../environment.ts";
import { AppClosed, InvalidArgument, UnknownCommand } from "../errors.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import { createRunner, type Runner } from "../readmodel/runner.ts";
import type { ViewStore } from "../readmodel/view-store.ts";
import { Snapshotter } from "../snapshot/snapshotter.ts";
import type { Backend } from "../store/backend.ts";
import { boundedCodec } from "../store/bounded-codec.ts";
import { jsonCodec } from "../store/codec.ts";
import { streamName } from "../store/stream-name.ts";
import type { App, AppOptions, Handle } from "./app.ts";
import type { UntypedResult } from "./call.ts";
import { Calls, Target } from "./calls.ts";
import { handlesOf } from "./handle.ts";
import { readHistory, readStateAt, subscribeTo, type LogReadPorts } from "./log-reads.ts";
import { openStore, openViews } from "./open-store.ts";
import { Queries } from "./queries.ts";

const DEFAULT_CLOSE_TIMEOUT_MS = 10_000;

/**
 * Opens an app over one event store: its aggregates can be called, its read models follow the log.
 * Errors: InvalidArgument, and those of `openStore` and of the store. What was opened by then is closed again.
 */
export async function tidemark(options: AppOptions): Promise<App> {
  assertOptions(options);
  const environment = environmentOf(options.environment);
  const { closeTimeoutMs = DEFAULT_CLOSE_TIMEOUT_MS } = options;
  if (typeof closeTimeoutMs !== "number" || !(closeTimeoutMs > 0)) throw new InvalidArgument("closeTimeoutMs must be above 0", { details: { option: "closeTimeoutMs" } });
  assertDistinct("aggregate", options.aggregates.map(({ name }) => name));
  assertDistinct("read model", (options.readModels ?? []).map(({ name }) => name));
  const bounds = actorOptions(options.actors);
  const tokens = tokenCodec(options.tokens);
  const codec = options.codec === undefined || options.codec === jsonCodec ? jsonCodec : boundedCodec(options.codec, environment.clock, bounds.commandTimeoutMs);

  const owned: { close(): Promise<void> }[] = [];
  const runners = new Map<string, Runner<unknown>>();
  const closeOwned = async (): Promise<void> => {
    for (const part of owned.toReversed()) await part.close();
  };
  try {
    const backend = await openBackend(options, owned);
    const views = (options.readModels ?? []).length === 0 ? undefined : await openViewStore(options, backend, owned);
    const store = backend.events;
    const { id: storeId } = await store.identity();

    const counters = newCounters();
    const ending = new AbortController();
    const closing = new AbortController();
    const registry = new Registry(bounds, environment, counters, ending);
    const committer = new Committer(store, environment.clock, counters);
    const snapshotter = backend.snapshots === undefined ? undefined : new Snapshotter(backend.snapshots, environment, counters);
    const calls = new Calls({ registry, tokens, storeId, environment, middleware: options.middleware });
    const kinds = new Map(
      options.aggregates.map((aggregate) => {
        const behaviour = behaviourOf(aggregate);
        const beginnings = new Beginnings(store.capabilities.remembersStreams ? bounds.assumeNewAfter : Number.POSITIVE_INFINITY);
        const ports = { behaviour, store, committer, snapshotter: behaviour.snapshot && snapshotter, codec, environment, options: bounds, beginnings, counters, ending: ending.signal };
        return [behaviour, { ports, handle: handlesOf(behaviour, calls) }] as const;
      }),
    );
    if (views !== undefined) {
      for (const model of options.readModels ?? []) runners.set(model.name, createRunner(model, { store, views, environment, codec }, options.projections));
      for (const runner of runners.values()) await runner.start();
    }
    const isClosed = (): boolean => closing.signal.aborted;
    const queries = new Queries({ runners, store, storeId, tokens, environment, isClosed });
    const logReads: LogReadPorts = { store, storeId, tokens, codec, clock: environment.clock, closing: closing.signal };

    const kindOf = (aggregate: AnyAggregate): NonNullable<ReturnType<typeof kinds.get>> => {
      const kind = kinds.get(behaviourOf(aggregate));
      if (kind === undefined) throw new UnknownCommand(`aggregate ${aggregate.name} is not one of this app: name it in aggregates`, { details: { category: aggregate.name } });
      return kind;
    };
    const targetOf = (aggregate: AnyAggregate, id: string): Target => new Target(id, streamName(aggregate.name, id), kindOf(aggregate).ports, { tokens, storeId });
    const assertOpen = (): void => {
      if (isClosed()) throw new AppClosed("the app is closed");
    };

    let closed: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      const until = environment.clock.elapsed() + closeTimeoutMs;
      const left = (): number => Math.max(1, until - environment.clock.elapsed());
      const closed = new AppClosed("the app is closed: no command is taken any more");
      const draining = registry.close(closeTimeoutMs);
      closing.abort(closed);
      calls.close(closed);
      const drained = await draining;
      if (!drained) environment.logger.error({ closeTimeoutMs }, "commands were given up when the app closed");
      const flushed = await within(Promise.all([snapshotter?.flush(), ...[...runners.values()].map((runner) => runner.stop())]), left(), environment.clock);
      if (!flushed) environment.logger.error({ closeTimeoutMs }, "snapshots or read models did not stop in time when the app closed");
      if (!(await within(closeOwned(), left(), environment.clock))) environment.logger.error({ closeTimeoutMs }, "the store did not close in time");
    };

    const app: App = {
      storeId,
      at: <A extends AnyAggregate>(aggregate: A, id: string) => {
        const { handle } = kindOf(aggregate);
        return handle(targetOf(aggregate, id)) as unknown as Handle<A>;
      },
      execute(aggregate, id, command, input, callOptions) {
        try {
          return calls.command(targetOf(aggregate, id), command, input, callOptions);
        } catch (error) {
          return Promise.reject<UntypedResult>(error as Error);
        }
      },
      query: async (model, fn, queryOptions) => (await queries.answer(model, fn, queryOptions)).value,
      answer: (model, fn, queryOptions) => queries.answer(model, fn, queryOptions),
      readModel: (model) => queries.runner(model),
      async history(aggregate, id, historyOptions = {}) {
        assertOpen();
        return readHistory(aggregate, id, historyOptions, logReads);
      },
      async stateAt(aggregate, id, version, { signal } = {}) {
        assertOpen();
        return readStateAt(aggregate, id, version, signal, logReads);
      },
      subscribe: (aggregates, subscribeOptions = {}) => subscribeTo(aggregates, subscribeOptions, logReads),
      mergeTokens: (...texts) => tokens.merge(...texts),
      metrics() {
        const { failedCommands, residentActors, residentBytes, waitingCommands } = registry;
        return { ...counters, commandsFailed: failedCommands, residentActors, residentBytes, waitingCommands };
      },
      close: () => (closed ??= stop()),
      [Symbol.asyncDispose]: () => app.close(),
    };
    return app;
  } catch (error) {
    await Promise.allSettled([...runners.values()].map((runner) => runner.stop()));
    await closeOwned().catch(() => undefined);
    throw error;
  }
}

async function openBackend(options: AppOptions, owned: { close(): Promise<void> }[]): Promise<Backend> {
  if (typeof options.store !== "string") return options.store;
  const backend = await openStore(options.store, environmentOption(options));
  owned.push(backend);
  return backend;
}

async function openViewStore(options: AppOptions, backend: Backend, owned: { close(): Promise<void> }[]): Promise<ViewStore> {
  const { views } = options;
  if (views === undefined && backend.views !== undefined) return backend.views;
  if (views !== undefined && typeof views !== "string") return views;
  const opened = await openViews(views ?? "memory:", environmentOption(options));
  owned.push(opened);
  return opened;
}

function environmentOption({ environment }: AppOptions): { environment?: NonNullable<AppOptions["environment"]> } {
  return environment === undefined ? {} : { environment };
}

const OPTIONS: OptionNames<AppOptions> = {
  store: true,
  views: true,
  aggregates: true,
  readModels: true,
  tokens: true,
  codec: true,
  middleware: true,
  actors: true,
  projections: true,
  environment: true,
  closeTimeoutMs: true,
};
const ENVIRONMENT: OptionNames<Environment> = { clock: true, random: true, logger: true };

/** For those whom the compiler does not help. */
function assertOptions(options: AppOptions): void {
  assertKnown(options, OPTIONS, "tidemark()");
  assertKnown(options.environment, ENVIRONMENT, "environment");
  const { store, aggregates, middleware } = options;
  if (typeof store !== "string" && typeof (store as Partial<Backend> | undefined)?.events?.append !== "function") throw new InvalidArgument("the option store is a URL or an open backend", { details: { option: "store" } });
  if (!Array.isArray(aggregates)) throw new InvalidArgument("the option aggregates is a list", { details: { option: "aggregates" } });
  if (middleware !== undefined && typeof middleware !== "function") throw new InvalidArgument("the option middleware is one function; several are one that calls them in turn", { details: { option: "middleware" } });
}

function assertDistinct(what: string, names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new InvalidArgument(`two ${what}s are called ${twice}`, { details: { name: twice } });
}

/** Whether the work ended in time; what fails after that is nobody's any more. */
function within(work: Promise<unknown>, boundMs: number, clock: ReturnType<typeof environmentOf>["clock"]): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(boundMs, () => resolve(false), { keepAlive: true });
    work.then(
      () => {
        timer.cancel();
        resolve(true);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error as Error);
      },
    );
  });
}
