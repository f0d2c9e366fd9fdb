/**
 * Reads of read models that are as fresh as the caller asks.
 *
 * Q1 Position and rows belong together: the checkpoint is taken before the rows are read, of the same build, so an answer has seen at least its `position`.
 * Q2 A wait ends by whichever comes first: covered, time passed, aborted, the read model stopped. A token that the model cannot have to wait for is covered at once.
 * Q3 A position counts only in the log that it was reached in: what was built from another one, or from this one before it was restored, has seen nothing.
 */
import { requirementOf, placesBehind, waitForPosition } from "../consistency/freshness.ts";
import type { TokenCodec } from "../consistency/token-codec.ts";
import { AppClosed, InvalidArgument, isTidemarkError, StaleRead } from "../errors.ts";
import type { Environment } from "../environment.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import type { ReadModel, ReadSide } from "../readmodel/read-model.ts";
import type { Runner } from "../readmodel/runner.ts";
import type { EventStore } from "../store/event-store.ts";
import { covers, START, type Position } from "../store/position.ts";
import { assertStreamName, categoryOf } from "../store/stream-name.ts";
import type { Answer, QueryOptions } from "./app.ts";

const DEFAULT_TIMEOUT_MS = 5000;
const NAMES: OptionNames<QueryOptions> = { atLeast: true, timeoutMs: true, onStale: true, signal: true, stream: true };
/** Events looked at from the end of a stream before the place is searched for. */
const NEAR = 16;

export interface QueryPorts {
  readonly runners: ReadonlyMap<string, Runner<unknown>>;
  readonly store: EventStore;
  readonly storeId: string;
  readonly tokens: TokenCodec;
  readonly environment: Environment;
  readonly isClosed: () => boolean;
}

export class Queries {
  readonly #ports: QueryPorts;

  constructor(ports: QueryPorts) {
    this.#ports = ports;
  }

  /** Errors: InvalidArgument for a read model that is not of this app. */
  runner<V>(model: ReadModel<V>): Runner<V> {
    const runner = this.#ports.runners.get(model.name);
    if (runner?.model !== (model as ReadModel<unknown>)) throw new InvalidArgument(`read model ${model.name} is not one of this app: name it in readModels`, { details: { model: model.name } });
    return runner as unknown as Runner<V>;
  }

  async answer<V, R>(model: ReadModel<V>, fn: (view: ReadSide<V>) => Promise<R>, options: QueryOptions = {}): Promise<Answer<R>> {
    const { environment, storeId, tokens } = this.#ports;
    assertKnown(options, NAMES, "a query");
    const { atLeast, timeoutMs = DEFAULT_TIMEOUT_MS, onStale = "fail", signal, stream } = options;
    if (this.#ports.isClosed()) throw new AppClosed("the app is closed: no query is answered any more", { details: { model: model.name } });
    if (!(timeoutMs >= 0 && timeoutMs < 2 ** 31)) throw new InvalidArgument("timeoutMs must be a number of milliseconds from 0");
    if (onStale !== "fail" && onStale !== "serve") throw new InvalidArgument('onStale must be "fail" or "serve"');
    if (stream !== undefined) assertStreamName(stream);
    const runner = this.runner(model);
    const categories = model.behaviours.map(({ category }) => category);
    const target = atLeast === undefined ? {} : requirementOf(tokens.decode(atLeast), storeId, categories);
    if (!covers(this.#seen(runner), target)) await this.#wait(runner, target, { timeoutMs, signal, clock: environment.clock }, onStale === "serve");

    const position = this.#seen(runner);
    const behind = covers(position, target) ? undefined : { events: placesBehind(position, target), ms: runner.progress().lagMs };
    if (behind !== undefined && onStale === "fail") {
      const message = `read model ${model.name} is ${behind.events} places of the log behind the token after ${timeoutMs} ms`;
      throw new StaleRead(message, { retryable: true, details: { model: model.name, ...behind, position } });
    }
    const read = runner.pinned();
    const processed = stream === undefined ? undefined : await this.#lastProcessed(stream, position, categories, signal);
    const value = await read(fn);
    const token = tokens.encode(categories.map((category) => ({ store: storeId, category, version: 0, position })));
    return { value, position, token, lastProcessedVersion: processed, stale: behind };
  }

  /** Q3. */
  #seen(runner: Runner<unknown> | Runner<never>): Position {
    const { position, revision, store } = runner.checkpoint();
    const isOther = (revision > 0 && store !== this.#ports.storeId) || isTidemarkError(runner.error, "StoreRewound");
    return isOther ? START : position;
  }

  async #wait(runner: Runner<unknown> | Runner<never>, target: Position, options: Parameters<typeof waitForPosition>[2], serve: boolean): Promise<void> {
    const source = { position: () => this.#seen(runner), failure: () => runner.failure(), onAdvance: (listener: () => void) => runner.onAdvance(listener) };
    try {
      await waitForPosition(source, target, options);
    } catch (error) {
      if (!(serve && isTidemarkError(error, "ReadModelStopped"))) throw error;
    }
  }

  /** The version of the stream's last event within a position: near the end first, then by bisection, since a stream's events stand in the order of their versions. */
  async #lastProcessed(stream: string, position: Position, categories: readonly string[], signal: AbortSignal | undefined): Promise<number | undefined> {
    if (!categories.includes(categoryOf(stream))) return undefined;
    const { store } = this.#ports;
    const bounded = signal === undefined ? {} : { signal };
    const end = await store.readStream(stream, { direction: "backward", limit: NEAR, ...bounded });
    for (const event of end.events) if (covers(position, event.position)) return event.version;
    let low = 0;
    let high = (end.events.at(-1)?.version ?? 1) - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const event = (await store.readStream(stream, { from: middle, limit: 1, ...bounded })).events[0];
      if (event === undefined || covers(position, event.position)) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
