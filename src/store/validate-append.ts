/**
 * What every backend refuses before it touches its storage, so that all of them refuse the same with the same words.
 * Answers are outcomes, never errors: `append` does not reject.
 */
import { isTidemarkError } from "../errors.ts";
import type { Append, AppendOutcome, EventMetadata, NewEvent, RefusalCode } from "./event-store.ts";
import { assertStreamName } from "./stream-name.ts";

/** The longest event type, in UTF-16 units. */
export const MAX_EVENT_TYPE_LENGTH = 200;
/** The longest event id, in UTF-16 units. */
export const MAX_EVENT_ID_LENGTH = 200;
/** The longest correlation, causation or command id, fingerprint or traceparent, in UTF-16 units. */
export const MAX_METADATA_TEXT_LENGTH = 1024;

/** The part of a store's capabilities that bounds an append. */
export interface AppendLimits {
  /** Most bytes of one append: data and metadata as UTF-8. */
  readonly maxAppendBytes: number;
  readonly maxAppendsInBatch: number;
}

export type Refusal = Extract<AppendOutcome, { kind: "refused" }>;

/** A refusal in the shape of an outcome; for certain nothing was written. */
export function refused(code: RefusalCode, message: string, options: { readonly retryable?: boolean; readonly cause?: unknown } = {}): Refusal {
  const refusal = { kind: "refused", code, message, retryable: options.retryable ?? false } as const;
  return options.cause === undefined ? refusal : { ...refusal, cause: options.cause };
}

/** The answer to every append of a batch that came after `close()`. */
export function refuseClosed(appends: readonly Append[]): Refusal[] {
  return appends.map(() => refused("closed", "the store is closed; nothing was written"));
}

/**
 * For each append of a batch why it is refused, or undefined where it may go on; undefined for the whole when nothing is refused.
 * The first append of a stream goes on, a second one is refused `duplicate-stream`; appends beyond `maxAppendsInBatch` are refused `too-large`.
 */
export function validateBatch(appends: readonly Append[], limits: AppendLimits): (Refusal | undefined)[] | undefined {
  let refusals: (Refusal | undefined)[] | undefined;
  const streams = appends.length > 1 ? new Set<string>() : undefined;
  for (let index = 0; index < appends.length; index++) {
    const append = appends[index] as Append;
    let refusal: Refusal | undefined;
    if (index >= limits.maxAppendsInBatch) {
      refusal = refused("too-large", `a batch holds at most ${limits.maxAppendsInBatch} appends; this is number ${index + 1}`, { retryable: true });
    } else if (streams?.has(append.stream) === true) {
      refusal = refused("duplicate-stream", `a batch holds at most one append for each stream; there is an earlier one for ${shown(append.stream)}`, { retryable: true });
    } else {
      refusal = validateAppend(append, limits);
      if (refusal === undefined) streams?.add(append.stream);
    }
    if (refusal !== undefined) (refusals ??= Array<Refusal | undefined>(appends.length).fill(undefined))[index] = refusal;
  }
  return refusals;
}

/** Why one append is refused (`invalid` or `too-large`), or undefined. */
export function validateAppend(append: Append, limits: AppendLimits): Refusal | undefined {
  const { stream, expected, events } = append;
  try {
    assertStreamName(stream);
  } catch (cause) {
    if (isTidemarkError(cause)) return refused("invalid", cause.message, { cause });
    return refused("invalid", "the stream's name must be text", { cause });
  }
  if (typeof expected === "number" ? !(Number.isSafeInteger(expected) && expected >= 0) : expected !== "any" && expected !== "none" && expected !== "exists") {
    return refused("invalid", `stream ${shown(stream)}: the expected version must be an integer from 0, "any", "none" or "exists", not ${shown(String(expected))}`);
  }
  if (!Array.isArray(events) || events.length === 0) return refused("invalid", `stream ${shown(stream)}: an append holds at least one event`);

  for (const event of events as readonly NewEvent[]) {
    const flaw = flawOf(event);
    if (flaw !== undefined) return refused("invalid", `stream ${shown(stream)}: ${flaw}`);
  }
  if (events.length > 1 && new Set(events.map((event: NewEvent) => event.id)).size < events.length) {
    return refused("invalid", `stream ${shown(stream)}: two events of the append have the same id`);
  }
  // Only an append that comes near the limit, or whose metadata is nested, is measured.
  if (appendBound(events) <= limits.maxAppendBytes) return undefined;
  let bytes: number;
  try {
    bytes = appendBytes(events);
  } catch (cause) {
    return refused("invalid", `stream ${shown(stream)}: the metadata cannot be written as JSON`, { cause });
  }
  if (bytes <= limits.maxAppendBytes) return undefined;
  return refused("too-large", `stream ${shown(stream)}: the append has ${bytes} bytes of data and metadata; the store takes at most ${limits.maxAppendBytes}`);
}

/** Bytes of an append as the limit counts them: data and metadata (as JSON), in UTF-8. */
export function appendBytes(events: readonly NewEvent[]): number {
  let bytes = 0;
  for (const event of events) bytes += Buffer.byteLength(event.data) + Buffer.byteLength(JSON.stringify(event.metadata));
  return bytes;
}

/** Cheap, and never below `appendBytes`; infinite where the metadata of the caller's own is not flat. */
export function appendBound(events: readonly NewEvent[]): number {
  let bound = 0;
  for (const event of events) bound += 3 * event.data.length + metadataBound(event.metadata);
  return bound;
}

function flawOf(event: NewEvent): string | undefined {
  if (typeof event !== "object" || event === null) return "an event must be an object";
  if (!isText(event.type, 1, MAX_EVENT_TYPE_LENGTH)) return `an event's type must be well-formed text of 1 to ${MAX_EVENT_TYPE_LENGTH} characters without NUL`;
  if (!isText(event.id, 1, MAX_EVENT_ID_LENGTH)) return `an event's id must be well-formed text of 1 to ${MAX_EVENT_ID_LENGTH} characters without NUL`;
  if (!isText(event.data, 0, Number.POSITIVE_INFINITY)) return `the data of a ${event.type} must be well-formed text without NUL (what the codec made of it)`;
  if (!Number.isSafeInteger(event.recordedAt)) return `recordedAt of a ${event.type} must be whole milliseconds since the epoch`;
  const metadata: EventMetadata = event.metadata;
  if (typeof metadata !== "object" || metadata === null) return `the metadata of a ${event.type} must be an object`;
  if (!isShort(metadata.correlationId) || !isShort(metadata.causationId) || !isShort(metadata.commandId)) {
    return `correlationId, causationId and commandId of a ${event.type} must be text of at most ${MAX_METADATA_TEXT_LENGTH} characters`;
  }
  if ((metadata.fingerprint !== undefined && !isShort(metadata.fingerprint)) || (metadata.traceparent !== undefined && !isShort(metadata.traceparent))) {
    return `fingerprint and traceparent of a ${event.type} must be text of at most ${MAX_METADATA_TEXT_LENGTH} characters`;
  }
  if (metadata.schemaVersion !== undefined && !Number.isSafeInteger(metadata.schemaVersion)) return `schemaVersion of a ${event.type} must be an integer`;
  if (metadata.user !== undefined && (typeof metadata.user !== "object" || metadata.user === null || Array.isArray(metadata.user))) {
    return `metadata.user of a ${event.type} must be an object`;
  }
  return undefined;
}

/** Whether the caller's own metadata is a plain object of JSON's simple values: then a spread is a copy, and its size is cheap to bound. */
export function isFlat(user: Readonly<Record<string, unknown>>): boolean {
  const prototype: unknown = Object.getPrototypeOf(user);
  if (prototype !== Object.prototype && prototype !== null) return false;
  for (const key in user) {
    const value = user[key];
    if (typeof value !== "string" && typeof value !== "boolean" && value !== null && !Number.isFinite(value)) return false;
  }
  return true;
}

/** Never below the bytes of the metadata's JSON; infinite (measure it) where that is not cheap. A character takes at most six bytes when escaped. */
function metadataBound(metadata: EventMetadata): number {
  let characters = 0;
  if (metadata.user !== undefined) {
    if (!isFlat(metadata.user)) return Number.POSITIVE_INFINITY;
    for (const key in metadata.user) {
      const value = metadata.user[key];
      characters += 6 + key.length + (typeof value === "string" ? value.length : 24);
    }
  }
  characters +=
    metadata.correlationId.length +
    metadata.causationId.length +
    metadata.commandId.length +
    (metadata.fingerprint?.length ?? 0) +
    (metadata.traceparent?.length ?? 0);
  return 256 + 6 * characters;
}

/** Metadata is written as JSON, which escapes what plain text could not hold: only its size matters. */
function isShort(value: unknown): boolean {
  return typeof value === "string" && value.length <= MAX_METADATA_TEXT_LENGTH;
}

function isText(value: unknown, least: number, most: number): value is string {
  return typeof value === "string" && value.length >= least && value.length <= most && !value.includes("\0") && value.isWellFormed();
}

function shown(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
