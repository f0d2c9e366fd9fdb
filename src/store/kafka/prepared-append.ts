/** An append as the writer keeps it: a copy, so that what the caller does with its objects afterwards changes nothing. */
import type { Append, EventMetadata, ExpectedVersion, NewEvent } from "../event-store.ts";
import { metadataInFull, userText } from "./record-format.ts";

export interface PreparedEvent extends Omit<NewEvent, "metadata"> {
  readonly metadata: Omit<EventMetadata, "user">;
  /** The caller's own metadata as JSON. */
  readonly user: string | undefined;
  /** All of the metadata as JSON, where text alone would not hold it. */
  readonly inFull: string | undefined;
}

export interface PreparedAppend {
  readonly stream: string;
  readonly expected: ExpectedVersion;
  readonly events: readonly PreparedEvent[];
  /** About how much memory it holds. */
  readonly bytes: number;
}

/** Of an event beside its data: ids, names, objects. */
const EVENT_BYTES = 512;

/** Throws what JSON.stringify throws. */
export function prepare({ stream, expected, events }: Append): PreparedAppend {
  const prepared = events.map(prepareEvent);
  const bytes = prepared.reduce((sum, { data, user, inFull }) => sum + EVENT_BYTES + data.length + (user?.length ?? 0) + (inFull?.length ?? 0), 0);
  return { stream, expected, events: prepared, bytes };
}

function prepareEvent({ id, type, data, recordedAt, metadata }: NewEvent): PreparedEvent {
  return { id, type, data, recordedAt, metadata: { ...metadata }, user: userText(metadata), inFull: metadataInFull(metadata) };
}
