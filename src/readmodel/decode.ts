/** From stored events to what pipelines and readers see: decoded, upcast, frozen. */
import type { Behaviour } from "../aggregate/behaviour.ts";
import { EventUnreadable, isTidemarkError } from "../errors.ts";
import type { Codec } from "../store/codec.ts";
import type { StoredEvent } from "../store/event-store.ts";
import { idOf } from "../store/stream-name.ts";
import type { AnyRecorded } from "./read-model.ts";

export type Decoder = (events: readonly StoredEvent[]) => AnyRecorded[] | Promise<AnyRecorded[]>;

/** Makes the decoder of the given aggregates. Its errors: UnknownEventType, EventUnreadable. */
export function decoderOf(behaviours: readonly Behaviour[], codec: Codec): Decoder {
  const byCategory = new Map(behaviours.map((behaviour) => [behaviour.category, behaviour]));

  function record(stored: StoredEvent, decoded: unknown): AnyRecorded {
    const { stream, version, metadata } = stored;
    const category = stream.slice(0, stream.indexOf("-"));
    const behaviour = byCategory.get(category);
    if (behaviour === undefined) throw new EventUnreadable(`${stream} belongs to no aggregate of this reader`, { details: { stream, version, type: stored.type } });
    const { type, data } = behaviour.upcast(stored.type, metadata.schemaVersion ?? 1, decoded, stored);
    return Object.freeze({
      type,
      data,
      category,
      id: idOf(stream),
      stream,
      version,
      eventId: stored.id,
      position: stored.position,
      recordedAt: new Date(stored.recordedAt),
      metadata,
    });
  }

  function recordAll(events: readonly StoredEvent[], decoded: readonly unknown[]): AnyRecorded[] {
    return events.map((event, index) => record(event, decoded[index]));
  }

  function unreadable(events: readonly StoredEvent[], cause: unknown): Error {
    if (isTidemarkError(cause)) return cause;
    const first = events[0];
    const where = first === undefined ? "an event" : events.length === 1 ? `${first.type} in ${first.stream} at version ${first.version}` : `${events.length} events from ${first.stream} on`;
    return new EventUnreadable(`${where} could not be decoded`, { cause, ...(events.length === 1 && first !== undefined && { details: { stream: first.stream, version: first.version, type: first.type } }) });
  }

  return (events) => {
    try {
      const decoded = codec.decode(events);
      if (!(decoded instanceof Promise)) return recordAll(events, decoded);
      return decoded.then(
        (data) => recordAll(events, data),
        (cause: unknown) => Promise.reject(unreadable(events, cause)),
      );
    } catch (cause) {
      throw unreadable(events, cause);
    }
  };
}
