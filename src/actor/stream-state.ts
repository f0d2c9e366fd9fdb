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

  /** Folds the next events of the stream, all of them or none. Errors: StoreCorrupt for a gap, UnknownEventType, EventUnreadable. */
  async fold(events: readonly StoredEvent[], behaviour: Behaviour, codec: Codec): Promise<void> {
    const first = events[0];
    if (first === undefined) return;
    events.forEach((event, index) => {
      if (event.version === this.version + 1 + index) return;
      throw new StoreCorrupt(`${event.stream} goes on with version ${event.version} where ${this.version + 1 + index} was expected`, {
        details: { stream: event.stream, version: event.version, expected: this.version + 1 + index },
      });
    });
    this.state = behaviour.evolve(this.state, await currentForm(events, behaviour, codec), first);
    for (const event of events) this.window.fold(event);
    const last = events[events.length - 1] as StoredEvent;
    this.version = last.version;
    this.position = last.position;
    this.lastEventId = last.id;
  }
}

/** Stored events as the domain knows them: decoded, upcast, frozen. Errors: UnknownEventType, EventUnreadable. */
export async function currentForm(events: readonly StoredEvent[], behaviour: Behaviour, codec: Codec): Promise<DomainEvent[]> {
  const decoding = decode(events, codec);
  const decoded = decoding instanceof Promise ? await decoding : decoding;
  return events.map((event, index) => behaviour.upcast(event.type, event.metadata.schemaVersion ?? 1, decoded[index], event));
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
