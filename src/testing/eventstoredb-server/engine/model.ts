/** The words of the engine: what a log of EventStoreDB holds and how an append ends. */

/** Revision of a stream that holds nothing. */
export const NO_STREAM = -1;

/** The server's `long.MaxValue`: the revision of a tombstone, and the `$tb` of a stream that was deleted softly. */
export const DELETED = Number.POSITIVE_INFINITY;

/** Events of one read, and of one step of a catch-up (Enumerator.ReadBatchSize). */
export const PAGE = 32;

export interface ProposedEvent {
  /** A UUID in lower case. */
  readonly id: string;
  readonly type: string;
  readonly isJson: boolean;
  readonly data: Uint8Array;
  readonly metadata: Uint8Array;
}

export interface RecordedEvent extends ProposedEvent {
  readonly stream: string;
  /** From 0; `DELETED` for a tombstone. */
  readonly revision: number;
  /** Commit and prepare position in one: they differ only in transactions of clients before 2021. */
  readonly position: number;
  /** Milliseconds since the epoch. */
  readonly created: number;
}

/** A number is exact; `NO_STREAM` and `"no_stream"` are one. */
export type ExpectedRevision = number | "any" | "no_stream" | "stream_exists";

export type AppendOutcome =
  /** Written now, or earlier by the same ids; `position` is undefined where an earlier event cannot be read any more. */
  | { readonly kind: "success"; readonly revision: number; readonly position: number | undefined }
  | { readonly kind: "wrong-version"; readonly current: number }
  | { readonly kind: "deleted" };

export const SYSTEM_TYPES = { metadata: "$metadata", tombstone: "$streamDeleted", link: "$>" } as const;

export function isMetastream(stream: string): boolean {
  return stream.startsWith("$$");
}

export function metastreamOf(stream: string): string {
  return `$$${stream}`;
}

export function originalOf(metastream: string): string {
  return metastream.slice(2);
}

/**
 * Where a read begins or a checkpoint stands, as one number. Commit and prepare position of an event are equal; a smaller prepare position is a place between
 * the event before it and the one at the commit position, and a half below the latter here.
 */
export function placeOf(commit: number, prepare: number): number {
  return prepare < commit ? commit - 0.5 : commit;
}

export function commitOf(place: number): number {
  return Math.ceil(place);
}

export function prepareOf(place: number): number {
  return Number.isInteger(place) ? place : 0;
}

/** What counts against the size of an append (Event.SizeOnDisk): data, metadata, two bytes for each character of the type. */
export function sizeOf(event: ProposedEvent): number {
  return event.data.length + event.metadata.length + 2 * event.type.length;
}
