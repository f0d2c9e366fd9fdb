/**
 * What an actor knows for certain of its stream: the fold of the stream's first `version` events, and nothing else (I3).
 */
import type { Behaviour, DomainEvent } from "../aggregate/behaviour.ts";
import { EventUnreadable, isTidemarkError, StoreCorrupt } from "../errors.ts";
import type { Codec } from "../store/codec.ts";
import type { StoredEvent } from "../store/event-store.ts";
import { START, type Position } from "../store/position.ts";
import { CommandWindow, type CommandWindowOptions } from "./command-window.ts";

export class StreamState {
  version = 0;
  /** Frozen. */
  state: unknown;
  /** Of the last event. */
  position: Position = START;
  lastEventId = "";
  window: CommandWindow;

  constructor(initial: unknown, windowOptions: CommandWindowOptions) {
    this.state = initial;
    this.window = new CommandWindow(windowOptions);
  }

  /**
   * Folds the next events of the stream, all of them or none; a promise only when the codec is asynchronous.
   * Errors: StoreCorrupt for a gap, UnknownEventType, EventUnreadable.
   */
  fold(events: readonly StoredEvent[], behaviour: Behaviour, codec: Codec): void | Promise<void> {
    const first = events[0];
    if (first === undefined) return undefined;
    for (let index = 0; index < events.length; index++) {
      const event = events[index] as StoredEvent;
      if (event.version === this.version + 1 + index) continue;
      throw new StoreCorrupt(`${event.stream} goes on with version ${event.version} where ${this.version + 1 + index} was expected`, {
        details: { stream: event.stream, version: event.version, expected: this.version + 1 + index },
      });
    }
    const current = currentForm(events, behaviour, codec);
    if (current instanceof Promise) return current.then((decoded) => this.#take(events, first, decoded, behaviour));
    return this.#take(events, first, current, behaviour);
  }

  #take(events: readonly StoredEvent[], first: StoredEvent, current: readonly DomainEvent[], behaviour: Behaviour): void {
    this.state = behaviour.evolve(this.state, current, first);
    for (const event of events) this.window.fold(event);
    const last = events[events.length - 1] as StoredEvent;
    this.version = last.version;
    this.position = last.position;
    this.lastEventId = last.id;
  }
}

/** Stored events as the domain knows them: decoded, upcast, frozen. Errors: UnknownEventType, EventUnreadable. */
export function currentForm(events: readonly StoredEvent[], behaviour: Behaviour, codec: Codec): DomainEvent[] | Promise<DomainEvent[]> {
  const upcast = (decoded: readonly unknown[]): DomainEvent[] => events.map((event, index) => behaviour.upcast(event.type, event.metadata.schemaVersion ?? 1, decoded[index], event));
  const decoding = decode(events, codec);
  return decoding instanceof Promise ? decoding.then(upcast) : upcast(decoding);
}

function decode(events: readonly StoredEvent[], codec: Codec): readonly unknown[] | Promise<readonly unknown[]> {
  const unreadable = (cause: unknown): Error => {
    if (isTidemarkError(cause)) return cause;
    const { stream, version } = events[0] as StoredEvent;
    return new EventUnreadable(`the events of ${stream} from version ${version} on could not be decoded`, { cause, details: { stream, version } });
  };
  try {
    const decoded = codec.decode(events);
    return decoded instanceof Promise ? decoded.catch((cause: unknown) => Promise.reject(unreadable(cause))) : decoded;
  } catch (cause) {
    throw unreadable(cause);
  }
}
