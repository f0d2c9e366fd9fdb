/**
 * Reads of the log itself, decoded: one stream's history, its state at a version, and a subscription to whole categories.
 */
import { behaviourOf, type AnyAggregate, type StateOf } from "../aggregate/aggregate.ts";
import type { Recorded } from "../aggregate/recorded.ts";
import { commandWindowDefaults } from "../actor/command-window.ts";
import { StreamState } from "../actor/stream-state.ts";
import { requirementOf } from "../consistency/freshness.ts";
import type { TokenCodec } from "../consistency/token-codec.ts";
import { AppClosed, InvalidArgument, UnsupportedByStore } from "../errors.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import { turns, type Clock } from "../environment.ts";
import { decoderOf } from "../readmodel/decode.ts";
import type { Codec } from "../store/codec.ts";
import type { EventStore, ReadStreamOptions, StreamSlice } from "../store/event-store.ts";
import { START, type Position } from "../store/position.ts";
import { streamName } from "../store/stream-name.ts";
import type { EventPage, History, HistoryOptions, SubscribeOptions } from "./app.ts";
import type { StateAnswer } from "./call.ts";

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;

export interface LogReadPorts {
  readonly store: EventStore;
  readonly storeId: string;
  readonly tokens: TokenCodec;
  readonly codec: Codec;
  readonly clock: Clock;
  /** Aborts when the app closes. */
  readonly closing: AbortSignal;
}

const HISTORY: OptionNames<HistoryOptions> = { from: true, direction: true, limit: true, signal: true };

export async function readHistory<A extends AnyAggregate>(aggregate: A, id: string, options: HistoryOptions, ports: LogReadPorts): Promise<History<A>> {
  assertKnown(options, HISTORY, "history()");
  const { from, direction = "forward", limit = DEFAULT_LIMIT, signal } = options;
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_LIMIT) throw new InvalidArgument(`limit must be a whole number from 1 to ${MAX_LIMIT}`, { details: { option: "limit" } });
  const behaviour = behaviourOf(aggregate);
  const stream = streamName(behaviour.category, id);
  const slice = await readSlice(stream, { direction, limit, ...(from === undefined ? {} : { from }) }, signal, ports);
  const events = await decoderOf([behaviour], ports.codec)(slice.events);
  return { events: events as unknown as readonly Recorded<A>[], version: slice.version, next: slice.next };
}

export async function readStateAt<A extends AnyAggregate>(aggregate: A, id: string, version: number, signal: AbortSignal | undefined, ports: LogReadPorts): Promise<StateAnswer<StateOf<A>>> {
  if (!Number.isSafeInteger(version) || version < 0) throw new InvalidArgument("the version must be a whole number from 0", { details: { version } });
  const behaviour = behaviourOf(aggregate);
  const stream = streamName(behaviour.category, id);
  const state = new StreamState(behaviour.initial(), commandWindowDefaults);
  const turn = turns(ports.clock);
  while (state.version < version) {
    const slice = await readSlice(stream, { from: state.version + 1, limit: Math.min(MAX_LIMIT, version - state.version) }, signal, ports);
    if (slice.events.length === 0) throw new InvalidArgument(`${stream} is at version ${slice.version}; it has no version ${version}`, { details: { stream, version, actual: slice.version } });
    await state.fold(slice.events, behaviour, ports.codec);
    await turn();
  }
  const entry = { store: ports.storeId, category: behaviour.category, id, version: state.version, position: state.position };
  return { state: state.state as StateOf<A>, version: state.version, token: ports.tokens.encode([entry]) };
}

/** A read that the app's end cuts off says so, and not that its caller aborted it. */
async function readSlice(stream: string, options: ReadStreamOptions, signal: AbortSignal | undefined, ports: LogReadPorts): Promise<StreamSlice> {
  try {
    return await ports.store.readStream(stream, { ...options, signal: untilClosed(signal, ports) });
  } catch (error) {
    throw ports.closing.aborted && signal?.aborted !== true ? new AppClosed("the app was closed: nothing is read any more", { details: { stream }, cause: error }) : error;
  }
}

/** `return()` of its iterator answers at once, also while it waits for the next page. */
export function subscribeTo<A extends AnyAggregate>(aggregates: readonly A[], options: SubscribeOptions, ports: LogReadPorts): AsyncIterable<EventPage<A>> {
  return {
    [Symbol.asyncIterator]() {
      const left = new AbortController();
      const pages = pagesOf(aggregates, options, ports, left.signal);
      return {
        next: () => pages.next(),
        async return() {
          left.abort();
          return pages.return(undefined);
        },
      };
    },
  };
}

async function* pagesOf<A extends AnyAggregate>(aggregates: readonly A[], options: SubscribeOptions, ports: LogReadPorts, left: AbortSignal): AsyncGenerator<EventPage<A>, undefined> {
  const behaviours = aggregates.map((aggregate) => behaviourOf(aggregate));
  const categories = behaviours.map(({ category }) => category);
  if (categories.length === 0) throw new InvalidArgument("a subscription names at least one aggregate");
  const { store, storeId, tokens, closing } = ports;
  const decode = decoderOf(behaviours, ports.codec);
  const { pageSize } = options;
  try {
    const after = await startOf(options.after, categories, ports);
    const signal = AbortSignal.any([untilClosed(options.signal, ports), left]);
    for await (const { events, through, caughtUp } of store.subscribe({ after, categories, signal, ...(pageSize === undefined ? {} : { pageSize }) })) {
      const token = tokens.encode(categories.map((category) => ({ store: storeId, category, version: 0, position: through })));
      yield { events: (await decode(events)) as unknown as readonly Recorded<A>[], through, token, caughtUp };
    }
  } catch (error) {
    if (left.aborted) return undefined;
    throw closing.aborted ? new AppClosed("the app was closed: the subscription ends", { cause: error }) : error;
  }
  return undefined;
}

function untilClosed(signal: AbortSignal | undefined, { closing }: LogReadPorts): AbortSignal {
  return signal === undefined ? closing : AbortSignal.any([signal, closing]);
}

async function startOf(after: string | undefined, categories: readonly string[], ports: LogReadPorts): Promise<Position> {
  if (after === undefined) return START;
  if (after !== "now") return requirementOf(ports.tokens.decode(after), ports.storeId, categories);
  if (ports.store.head === undefined) throw new UnsupportedByStore('this store cannot tell where its log ends: subscribe from a token instead of "now"', { details: { capability: "head" } });
  return ports.store.head(ports.closing, categories);
}
