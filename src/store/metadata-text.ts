/**
 * Metadata as the text that databases keep: JSON in which correlation and causation id stand only where they are not the command's own id.
 * For most events that is a third of the row.
 */
import type { EventMetadata } from "./event-store.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What JSON.stringify throws passes through. */
export function metadataText(metadata: EventMetadata): string {
  const { commandId } = metadata;
  if (namesItsCommandAlone(metadata)) return `{"commandId":${JSON.stringify(commandId)}}`;
  const kept: Partial<Mutable<EventMetadata>> = { ...metadata };
  if (kept.correlationId === commandId) delete kept.correlationId;
  if (kept.causationId === commandId) delete kept.causationId;
  return JSON.stringify(kept);
}

/** Most events do: they need no object on the way. */
function namesItsCommandAlone(metadata: EventMetadata): boolean {
  for (const key in metadata) {
    if (key === "commandId") continue;
    if ((key !== "correlationId" && key !== "causationId") || metadata[key] !== metadata.commandId) return false;
  }
  return true;
}

export function metadataOf(text: string): EventMetadata {
  const metadata = JSON.parse(text) as Mutable<EventMetadata>;
  if (metadata.correlationId === undefined) metadata.correlationId = metadata.commandId;
  if (metadata.causationId === undefined) metadata.causationId = metadata.commandId;
  return metadata;
}
