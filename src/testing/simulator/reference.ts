/**
 * The sequential model: what a log says when it is read from its start by one reader, event by event.
 */
import { behaviourOf } from "../../aggregate/aggregate.ts";
import type { Behaviour, Decided } from "../../aggregate/behaviour.ts";
import { derivedId } from "../../actor/command-id.ts";
import type { Clock } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";
import { decoderOf } from "../../readmodel/decode.ts";
import { runTablePage } from "../../readmodel/page.ts";
import type { ReadModel } from "../../readmodel/read-model.ts";
import { jsonCodec } from "../../store/codec.ts";
import type { StoredEvent } from "../../store/event-store.ts";
import { memoryViews } from "../../store/memory/index.ts";
import { offsetOf } from "../../store/position.ts";
import { categoryOf } from "../../store/stream-name.ts";
import type { Wish, Workload } from "./workload.ts";

/** What a decision rests on beside the state. */
export interface DecisionPlace {
  readonly now: number;
  readonly commandId: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** The behaviours of a workload by category. */
export function behavioursOf(workload: Workload): ReadonlyMap<string, Behaviour> {
  return new Map(workload.aggregates.map((aggregate) => [aggregate.name, behaviourOf(aggregate)]));
}

/** The state after each event of a stream; the first entry is the state of an empty stream. */
export function foldAll(events: readonly StoredEvent[], behaviour: Behaviour): unknown[] {
  const states: unknown[] = [behaviour.initial()];
  for (const event of events) {
    const [data] = jsonCodec.decode([event]) as readonly unknown[];
    const current = behaviour.upcast(event.type, event.metadata.schemaVersion ?? 1, data, event);
    states.push(behaviour.evolve(states.at(-1), [current], event));
  }
  return states;
}

/** Decides a wish on the state at a version. Errors: those of the domain. */
export function decideOn(wish: Wish, state: unknown, version: number, place: DecisionPlace): Decided {
  const behaviour = behaviourOf(wish.aggregate);
  const stream = `${wish.aggregate.name}-${wish.id}`;
  let drawn = 0;
  return behaviour.decide(state, wish.command, behaviour.parseInput(wish.command, wish.input), {
    now: place.now,
    id: () => derivedId(stream, place.commandId, drawn++),
    metadata: place.metadata,
    version,
  });
}

export class Reference {
  readonly log: readonly StoredEvent[];
  /** Offset of the end of the log, which can be more than that of its last event. */
  readonly end: number;
  readonly #byStream: Map<string, StoredEvent[]>;
  readonly #states = new Map<string, unknown[]>();
  readonly #behaviours: ReadonlyMap<string, Behaviour>;

  constructor(workload: Workload, log: readonly StoredEvent[], end = 0) {
    this.log = log;
    this.end = end;
    this.#byStream = Map.groupBy(log, (event) => event.stream);
    this.#behaviours = behavioursOf(workload);
  }

  get streams(): ReadonlyMap<string, readonly StoredEvent[]> {
    return this.#byStream;
  }

  events(stream: string): readonly StoredEvent[] {
    return this.#byStream.get(stream) ?? [];
  }

  /** The state of a stream at a version; undefined where it never was at that version. */
  stateAt(stream: string, version: number): unknown {
    let states = this.#states.get(stream);
    if (states === undefined) {
      states = foldAll(this.events(stream), this.#behaviours.get(categoryOf(stream)) as Behaviour);
      this.#states.set(stream, states);
    }
    return states[version];
  }

  /** The rows of a read model after each offset of the log, as text; index 0 is before the first event. */
  async rows(model: ReadModel<unknown>): Promise<readonly string[]> {
    const views = memoryViews();
    const { definition } = model.view;
    if (definition.kind !== "table") throw new InvalidArgument("the simulator runs read models with tables");
    const view = await views.open({ model: model.name, version: model.version, build: 1 }, definition);
    const decode = decoderOf(model.behaviours, jsonCodec);
    const categories = new Set(model.behaviours.map(({ category }) => category));
    const shown: string[] = [textOf([])];
    const never = new AbortController().signal;
    let revision = 0;
    for (const event of this.log) {
      // Where nothing stands, the rows are those of the place before.
      while (shown.length < offsetOf(event.position)) shown.push(shown.at(-1) as string);
      if (categories.has(categoryOf(event.stream))) {
        const changes = await runTablePage(model, definition, await decode([event]), view.reader, { clock: stillClock, signal: never, maxRows: 100_000, onLateWrite: () => undefined });
        await view.commit(changes, { position: event.position, store: "reference", events: revision + 1 }, revision++);
        shown[offsetOf(event.position)] = textOf(await view.reader.find({}, { limit: 10_000 }));
      } else shown[offsetOf(event.position)] = shown[offsetOf(event.position) - 1] as string;
    }
    while (shown.length <= this.end) shown.push(shown.at(-1) as string);
    await views.close();
    return shown;
  }
}

/** Rows as text that is equal for equal rows: the keys of each in order. */
export function textOf(rows: readonly unknown[]): string {
  return JSON.stringify(rows, (_key, value: unknown) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value,
  );
}

/** Nothing of the reference waits. */
const stillClock: Clock = { now: () => 0, elapsed: () => 0, setTimer: () => ({ cancel: () => undefined }), immediate: (task) => queueMicrotask(task) };

