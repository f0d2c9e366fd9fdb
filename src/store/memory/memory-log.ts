/**
 * The log that one or several memory stores share: what the disk is to other backends.
 *
 * M1 Appending is synchronous: between the version check and the last event of an append nothing else runs.
 * M2 What goes in is copied, what stands is frozen: nobody outside can change an event.
 * M3 An event's offset is its index in `events` plus one; its version is its index in its stream plus one.
 * M4 Whoever wants to hear of news is told in the turn of the append, once for each batch.
 */
import { environmentOf } from "../../environment.ts";
import type { Environment } from "../../environment.ts";
import type { Append, AppendOutcome, EventMetadata, NewEvent, StoredEvent } from "../event-store.ts";
import type { Position } from "../position.ts";
import { categoryOf } from "../stream-name.ts";
import { isFlat } from "../validate-append.ts";

/** Most events that a conflict hands back. */
const MAX_MISSING = 1000;

interface MemoryStream {
  readonly category: string;
  readonly events: StoredEvent[];
  /** Version by event id; made when an append first comes without an exact version, kept up from then on. */
  ids: Map<string, number> | undefined;
}

/** Opaque: hand one to several `memoryStore`s and they see the same events, as processes on one database would. */
export class MemoryLog {
  readonly id: string;
  /** @internal */
  readonly events: StoredEvent[] = [];
  /** @internal The category of the event at the same index. */
  readonly categories: string[] = [];
  readonly #streams = new Map<string, MemoryStream>();
  readonly #listeners = new Set<(head: number) => void>();

  /** @internal */
  constructor(id: string) {
    this.id = id;
  }

  /** @internal The events of a stream, in order; do not change the array. */
  stream(stream: string): readonly StoredEvent[] {
    return this.#streams.get(stream)?.events ?? [];
  }

  /** @internal Checks the expected version and appends, in one step (M1). The append was validated. */
  append(append: Append): AppendOutcome {
    const { stream, expected, events } = append;
    const known = this.#streams.get(stream);
    const actual = known?.events.length ?? 0;
    if (typeof expected === "number" || expected === "none") {
      const version = expected === "none" ? 0 : expected;
      if (version !== actual) return standsAlready(known, version, events) ?? conflict(known, version);
    } else {
      const again = known === undefined ? undefined : anyStandsAlready(known, events);
      if (again !== undefined) return again;
      if (expected === "exists" && actual === 0) return { kind: "conflict", actual: 0 };
    }
    const category = known?.category ?? categoryOf(stream);
    const stored = events.map((event, index) => this.#push(stream, category, actual + index + 1, event));
    if (known === undefined) this.#streams.set(stream, { category, events: stored, ids: undefined });
    else {
      for (const event of stored) {
        known.events.push(event);
        known.ids?.set(event.id, event.version);
      }
    }
    return { kind: "committed", version: actual + events.length, position: (stored[stored.length - 1] as StoredEvent).position };
  }

  /** @internal M4. */
  notify(): void {
    for (const listener of this.#listeners) listener(this.events.length);
  }

  /** @internal Calls back with the number of events after each batch; returns what ends it. */
  onNews(listener: (head: number) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #push(stream: string, category: string, version: number, event: NewEvent): StoredEvent {
    const position: Position = Object.freeze({ log: this.events.length + 1 });
    const stored: StoredEvent = Object.freeze({
      id: event.id,
      type: event.type,
      data: event.data,
      metadata: copyOf(event.metadata),
      recordedAt: event.recordedAt,
      stream,
      version,
      position,
    });
    this.events.push(stored);
    this.categories.push(category);
    return stored;
  }
}

/** A log of its own, named by a random id. */
export function memoryLog(environment?: Partial<Environment>): MemoryLog {
  return new MemoryLog(environmentOf(environment).random.uuid());
}

/** An append after `version` whose events stand there already, all of them, is answered as the first time. */
function standsAlready(known: MemoryStream | undefined, version: number, events: readonly NewEvent[]): AppendOutcome | undefined {
  if (known === undefined || known.events.length < version + events.length) return undefined;
  for (let index = 0; index < events.length; index++) {
    if (known.events[version + index]?.id !== events[index]?.id) return undefined;
  }
  const last = known.events[version + events.length - 1] as StoredEvent;
  return { kind: "committed", version: last.version, position: last.position };
}

/** The same where no version was named: found by id. Some of the ids, or in another order: a conflict. */
function anyStandsAlready(known: MemoryStream, events: readonly NewEvent[]): AppendOutcome | undefined {
  const ids = (known.ids ??= new Map(known.events.map((event) => [event.id, event.version])));
  if (!events.some((event) => ids.has(event.id))) return undefined;
  const first = ids.get((events[0] as NewEvent).id);
  return (first === undefined ? undefined : standsAlready(known, first - 1, events)) ?? { kind: "conflict", actual: known.events.length };
}

function conflict(known: MemoryStream | undefined, version: number): AppendOutcome {
  const actual = known?.events.length ?? 0;
  if (known === undefined || actual < version) return { kind: "conflict", actual };
  return { kind: "conflict", actual, missing: known.events.slice(version, version + MAX_MISSING) };
}

/** M2: a frozen copy, as JSON would make it. */
function copyOf(metadata: EventMetadata): EventMetadata {
  const copy: { -readonly [K in keyof EventMetadata]: EventMetadata[K] } = {
    correlationId: metadata.correlationId,
    causationId: metadata.causationId,
    commandId: metadata.commandId,
  };
  if (metadata.fingerprint !== undefined) copy.fingerprint = metadata.fingerprint;
  if (metadata.schemaVersion !== undefined) copy.schemaVersion = metadata.schemaVersion;
  if (metadata.traceparent !== undefined) copy.traceparent = metadata.traceparent;
  const { user } = metadata;
  if (user !== undefined) copy.user = isFlat(user) ? Object.freeze({ ...user }) : frozen(JSON.parse(JSON.stringify(user)) as Record<string, unknown>);
  return Object.freeze(copy);
}

function frozen<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const key of Object.keys(value)) frozen((value as Record<string, unknown>)[key]);
  return Object.freeze(value);
}
