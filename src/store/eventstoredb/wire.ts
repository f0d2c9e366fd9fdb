/**
 * Events as EventStoreDB keeps them. Data is the codec's text as it is, marked as JSON where it is JSON. Metadata is JSON with EventStoreDB's own names for correlation
 * and causation (`$correlationId`, `$causationId`), so that its projections and tools find them; docs/eventstoredb.md shows it.
 */
import { hash } from "node:crypto";
import type { RecordedEvent } from "./protocol.ts";
import type { EventMetadata, NewEvent, StoredEvent } from "../event-store.ts";
import { at } from "../position.ts";

/** An event as it is sent: all bytes are made before anything is. */
export interface EncodedEvent {
  readonly id: string;
  readonly type: string;
  readonly json: boolean;
  readonly data: Buffer;
  readonly metadata: Buffer;
}

/** EventStoreDB knows events by UUIDs, and refuses the empty one. */
const UUID = /^(?!00000000-0000-0000-0000-000000000000)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** What JSON.stringify throws passes through. */
export function encodeEvent(event: NewEvent): EncodedEvent {
  const id = wireId(event.id);
  return {
    id,
    type: event.type,
    json: isJson(event.data),
    data: Buffer.from(event.data),
    metadata: Buffer.from(metadataText(event, id)),
  };
}

/** Bytes of an append as the server counts them against its limit. */
export function wireBytes(events: readonly EncodedEvent[]): number {
  let bytes = 0;
  for (const { data, metadata, type } of events) bytes += data.length + metadata.length + 2 * type.length;
  return bytes;
}

/** An id that is no UUID goes as one that is made of it; the id itself stands in the metadata. */
export function wireId(id: string): string {
  if (UUID.test(id)) return id;
  const digest = hash("sha1", `tidemark event ${id}`, "hex");
  const variant = ((Number.parseInt(digest.slice(16, 18), 16) & 0x3f) | 0x80).toString(16);
  return `${digest.slice(0, 8)}-${digest.slice(8, 12)}-5${digest.slice(13, 16)}-${variant}${digest.slice(18, 20)}-${digest.slice(20, 32)}`;
}

function metadataText(event: NewEvent, wire: string): string {
  const { correlationId, causationId, commandId, ...rest } = event.metadata;
  const text = JSON.stringify({
    $correlationId: correlationId,
    $causationId: causationId,
    // Most commands are their own cause.
    commandId: commandId === causationId ? undefined : commandId,
    ...rest,
    recordedAt: event.recordedAt,
    eventId: event.id === wire ? undefined : event.id,
  });
  return text;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** An event of the log. Those that others have written lack what only we write: it is made of what is there. */
export function decodeEvent(event: RecordedEvent): StoredEvent {
  const { eventId, recordedAt, metadata } = decodeMetadata(event.metadata, event.id);
  return {
    id: eventId,
    type: event.type,
    data: event.data.toString(),
    metadata,
    recordedAt: recordedAt ?? event.createdAt,
    stream: event.stream,
    version: event.revision + 1,
    position: at(event.commit),
  };
}

function decodeMetadata(bytes: Buffer, id: string): { readonly eventId: string; readonly recordedAt: number | undefined; readonly metadata: EventMetadata } {
  const { $correlationId, $causationId, commandId, recordedAt, eventId, ...rest } = parsed(bytes);
  const causation = typeof $causationId === "string" ? $causationId : id;
  return {
    eventId: typeof eventId === "string" ? eventId : id,
    recordedAt: Number.isSafeInteger(recordedAt) ? (recordedAt as number) : undefined,
    metadata: {
      ...rest,
      correlationId: typeof $correlationId === "string" ? $correlationId : id,
      causationId: causation,
      commandId: typeof commandId === "string" ? commandId : causation,
    },
  };
}

function parsed(bytes: Buffer): Readonly<Record<string, unknown>> {
  if (bytes.length === 0) return {};
  try {
    const value = JSON.parse(bytes.toString()) as unknown;
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
