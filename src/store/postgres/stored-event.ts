/** Rows of the log as events. */
import type { StoredEvent } from "../event-store.ts";
import { metadataOf } from "../metadata-text.ts";
import { at } from "../position.ts";
import type { Cell } from "./database.ts";

/** Most bytes of data and metadata in one answer; the event that passes it is the last one, and there is always one. */
export const MAX_ANSWER_BYTES = 8 * 1024 * 1024;
/** Most events in one answer. */
export const MAX_ANSWER_EVENTS = 10_000;

/** The columns of an event, in the order of `storedEvent`. */
export const EVENT_COLUMNS = ["version", "position", "id", "type", "recorded_at", "metadata", "data"] as const;

/** The event in the cells from `first` on. */
export function storedEvent(stream: string, cells: readonly Cell[], first: number): StoredEvent {
  return {
    id: cells[first + 2] as string,
    type: cells[first + 3] as string,
    data: cells[first + 6] as string,
    metadata: metadataOf(cells[first + 5] as string),
    recordedAt: Number(cells[first + 4]),
    stream,
    version: Number(cells[first]),
    position: at(Number(cells[first + 1])),
  };
}
