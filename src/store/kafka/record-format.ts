/**
 * The wire format: how events and claims stand in Kafka's records (docs/wire-formats.md).
 *
 * W1 An event: key = its stream, value = its data (JSON by default), the rest in headers of UTF-8 text. Correlation and causation are absent where they equal the command's id,
 *    `tm-append` (index/size) where the event is alone in its append.
 * W2 A claim: no key, `tm-kind` = claim, `tm-claim` = its nonce, value = JSON that says who made it. Nothing else has a `tm-kind`, but for the stamp, which nobody reads.
 * W3 A reader knows headers by their names, never by their order, and passes over those it does not know.
 * W4 What comes out equals what went in: text that UTF-8 cannot hold (lone surrogates in ids) goes along as JSON in `tm-metadata`, which then tells all of the metadata.
 */
import { StoreCorrupt } from "../../errors.ts";
import type { EventMetadata, StoredEvent } from "../event-store.ts";
import type { IndexedEvent } from "./log-index.ts";
import type { PreparedEvent } from "./prepared-append.ts";
import { atKey, bufferOf, Cursor, type BatchWriter, type Name } from "./record-batch.ts";

const name = (text: string): Name => ({ bytes: Buffer.from(text, "latin1") });

const CLAIM = name("tm-claim");
const VERSION = name("tm-version");
const APPEND = name("tm-append");
const ID = name("tm-id");
const TYPE = name("tm-type");
const TIME = name("tm-time");
const COMMAND = name("tm-command");
const CORRELATION = name("tm-correlation");
const CAUSATION = name("tm-causation");
const FINGERPRINT = name("tm-fingerprint");
const SCHEMA = name("tm-schema");
const TRACEPARENT = name("traceparent");
const USER = name("tm-user");
const METADATA = name("tm-metadata");
const KIND = name("tm-kind");

/** What the caller's own metadata are as JSON; undefined where there are none. Throws what JSON.stringify throws. */
export function userText(metadata: EventMetadata): string | undefined {
  return metadata.user === undefined ? undefined : JSON.stringify(metadata.user);
}

/** Where an event stands in its stream and in its append. */
export interface Place {
  readonly claim: string;
  readonly version: number;
  /** From 0. */
  readonly index: number;
  readonly size: number;
}

/** Adds one event to a batch. */
export function writeEvent(batch: BatchWriter, stream: string, event: PreparedEvent, { claim, version, index, size }: Place): void {
  const { user, inFull } = event;
  const { commandId, correlationId, causationId, fingerprint, schemaVersion, traceparent } = event.metadata;
  const headers =
    6 +
    (size > 1 ? 1 : 0) +
    (correlationId !== commandId ? 1 : 0) +
    (causationId !== commandId ? 1 : 0) +
    (fingerprint !== undefined ? 1 : 0) +
    (schemaVersion !== undefined ? 1 : 0) +
    (traceparent !== undefined ? 1 : 0) +
    (user !== undefined ? 1 : 0) +
    (inFull !== undefined ? 1 : 0);
  batch.beginRecord(stream, event.data, headers);
  batch.header(CLAIM, claim);
  batch.header(VERSION, String(version));
  if (size > 1) batch.header(APPEND, `${index + 1}/${size}`);
  batch.header(ID, event.id);
  batch.header(TYPE, event.type);
  batch.header(TIME, String(event.recordedAt));
  batch.header(COMMAND, commandId);
  if (correlationId !== commandId) batch.header(CORRELATION, correlationId);
  if (causationId !== commandId) batch.header(CAUSATION, causationId);
  if (fingerprint !== undefined) batch.header(FINGERPRINT, fingerprint);
  if (schemaVersion !== undefined) batch.header(SCHEMA, String(schemaVersion));
  if (traceparent !== undefined) batch.header(TRACEPARENT, traceparent);
  if (user !== undefined) batch.header(USER, user);
  if (inFull !== undefined) batch.header(METADATA, inFull);
  batch.endRecord();
}

/** W4: all of the metadata as JSON, where text alone would not hold it. Throws what JSON.stringify throws. */
export function metadataInFull(metadata: EventMetadata): string | undefined {
  const { commandId, correlationId, causationId, fingerprint, traceparent } = metadata;
  for (const text of [commandId, correlationId, causationId, fingerprint, traceparent]) if (text?.isWellFormed() === false) return JSON.stringify(metadata);
  return undefined;
}

/** What a claim says of itself; only the nonce decides anything. */
export interface ClaimText {
  readonly nonce: string;
  /** Who makes it. */
  readonly writer: string;
  readonly producerId: number;
  readonly epoch: number;
  /** Nonce of the claim before it, as far as its writer knew. */
  readonly previous: string | null;
}

export function writeClaim(batch: BatchWriter, claim: ClaimText): void {
  batch.beginRecord(null, JSON.stringify(claim), 2);
  batch.header(KIND, "claim");
  batch.header(CLAIM, claim.nonce);
  batch.endRecord();
}

/** A record whose batch alone matters: it fences the producer id that the batch carries. */
export function writeStamp(batch: BatchWriter): void {
  batch.beginRecord(null, "{}", 1);
  batch.header(KIND, "stamp");
  batch.endRecord();
}

/** The part of a record that the fold looks at. */
export interface Marks {
  readonly stream: string | undefined;
  readonly kind: string | undefined;
  readonly claim: string | undefined;
  readonly id: string | undefined;
  /** 0 where it names none. */
  readonly version: number;
  readonly index: number;
  readonly size: number;
  readonly value: () => string;
}

/** Reads the marks; a record that is no record of ours has few of them, and that is no error. */
export function marksOf(record: Uint8Array): Marks {
  const scan = new MarkScan();
  const bytes = bufferOf(record);
  scan.read(bytes, 0);
  const { version, index, size } = scan;
  return { stream: scan.stream(), kind: scan.kind(), claim: scan.claim(), id: scan.id(), version, index, size, value: () => scan.value() };
}

/** Finds the marks of one record after another; text is made only of what is asked for, and until the next one is read. */
export class MarkScan {
  /** 0 where it names none. */
  version = 0;
  index = 0;
  size = 1;
  #cursor = new Cursor(Buffer.alloc(0));
  readonly #stream = new Span();
  readonly #value = new Span();
  readonly #kind = new Span();
  readonly #claim = new Span();
  readonly #id = new Span();

  /** `start`: where the record's attributes stand. */
  read(bytes: Buffer, start: number): void {
    const cursor = this.#cursor.bytes === bytes ? this.#cursor : (this.#cursor = new Cursor(bytes));
    cursor.at = start + 1;
    cursor.skipVarint();
    cursor.skipVarint();
    this.#stream.take(cursor);
    this.#value.take(cursor);
    this.version = 0;
    this.index = 0;
    this.size = 1;
    this.#kind.forget();
    this.#claim.forget();
    this.#id.forget();
    for (let left = cursor.varint(); left > 0; left--) {
      const length = cursor.varint();
      const at = cursor.at;
      cursor.at += length;
      if (isNamed(bytes, at, length, CLAIM)) this.#claim.take(cursor);
      else if (isNamed(bytes, at, length, ID)) this.#id.take(cursor);
      else if (isNamed(bytes, at, length, KIND)) this.#kind.take(cursor);
      else if (isNamed(bytes, at, length, VERSION)) this.version = wholeIn(cursor);
      else if (isNamed(bytes, at, length, APPEND)) [this.index, this.size] = appendOf(cursor.text());
      else cursor.skipBytes();
    }
  }

  stream(): string | undefined {
    return this.#stream.text(this.#cursor.bytes);
  }

  value(): string {
    return this.#value.text(this.#cursor.bytes) ?? "";
  }

  kind(): string | undefined {
    return this.#kind.text(this.#cursor.bytes);
  }

  claim(): string | undefined {
    return this.#claim.text(this.#cursor.bytes);
  }

  id(): string | undefined {
    return this.#id.text(this.#cursor.bytes);
  }

  /** Whether it is an event, and not a claim or a stamp. */
  get isEvent(): boolean {
    return this.#kind.length < 0 && this.#id.length > 0 && this.#stream.length >= 0;
  }

  /** Whether it names this nonce. */
  names(nonce: Name): boolean {
    return isNamed(this.#cursor.bytes, this.#claim.start, this.#claim.length, nonce);
  }
}

/** A piece of bytes; of length -1 where there is none. */
class Span {
  start = 0;
  length = -1;

  /** After its length. */
  take(cursor: Cursor): void {
    this.length = cursor.varint();
    this.start = cursor.at;
    if (this.length > 0) cursor.at += this.length;
  }

  forget(): void {
    this.length = -1;
  }

  text(bytes: Buffer): string | undefined {
    return this.length < 0 ? undefined : bytes.toString("utf8", this.start, this.start + this.length);
  }
}

function isNamed(bytes: Buffer, at: number, length: number, { bytes: name }: Name): boolean {
  if (length !== name.length) return false;
  // From the end: the names begin alike.
  for (let i = length - 1; i >= 0; i--) if (bytes[at + i] !== name[i]) return false;
  return true;
}

/** A number in digits, after its length; 0 where it is none. */
function wholeIn(cursor: Cursor): number {
  const length = cursor.varint();
  const end = cursor.at + Math.max(0, length);
  let whole = length > 15 ? Number.NaN : 0;
  for (let at = cursor.at; at < end; at++) {
    const digit = (cursor.bytes[at] ?? 0) - 48;
    whole = digit >= 0 && digit <= 9 ? whole * 10 + digit : Number.NaN;
  }
  cursor.at = end;
  return whole > 0 ? whole : 0;
}

function wholeOf(text: string | undefined): number {
  return text !== undefined && /^[1-9][0-9]{0,8}$/.test(text) ? Number(text) : 0;
}

/** Index from 0 and size; [-1, 0], which no append has, where it is not well-formed. */
function appendOf(text: string | undefined): [number, number] {
  const slash = text?.indexOf("/") ?? -1;
  const index = wholeOf(text?.slice(0, slash));
  const size = wholeOf(text?.slice(slash + 1));
  return slash > 0 && index >= 1 && index <= size ? [index - 1, size] : [-1, 0];
}

/** The nonce of a claim as the bytes that records carry. */
export function nonceName(nonce: string): Name {
  return { bytes: Buffer.from(nonce, "utf8") };
}

/** Who wrote a claim, for hints and logs. */
export function writerOf(value: string): string {
  try {
    const { writer } = JSON.parse(value) as { writer?: unknown };
    return typeof writer === "string" ? writer : "";
  } catch {
    return "";
  }
}

/** The event of a record that the fold accepted. Errors: StoreCorrupt. */
export function decodeEvent(lane: string, { stream, version, offset, record }: IndexedEvent): StoredEvent {
  const cursor = atKey(record);
  cursor.skipBytes();
  const data = cursor.text() ?? "";
  let id = "";
  let type = "";
  let recordedAt = 0;
  let inFull: string | undefined;
  const metadata: { -readonly [K in keyof EventMetadata]?: EventMetadata[K] } = {};
  for (let left = cursor.varint(); left > 0; left--) {
    const length = cursor.varint();
    const { bytes, at } = cursor;
    cursor.at += length;
    // No text is made of the names: it would take a third of the time. Those that most records have come first.
    if (isNamed(bytes, at, length, CLAIM) || isNamed(bytes, at, length, VERSION)) cursor.skipBytes();
    else if (isNamed(bytes, at, length, ID)) id = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, TYPE)) type = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, TIME)) recordedAt = Number(cursor.text());
    else if (isNamed(bytes, at, length, COMMAND)) metadata.commandId = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, CORRELATION)) metadata.correlationId = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, CAUSATION)) metadata.causationId = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, FINGERPRINT)) metadata.fingerprint = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, SCHEMA)) metadata.schemaVersion = Number(cursor.text());
    else if (isNamed(bytes, at, length, TRACEPARENT)) metadata.traceparent = cursor.text() ?? "";
    else if (isNamed(bytes, at, length, USER)) metadata.user = parsed(cursor.text(), stream, version) as Record<string, unknown>;
    else if (isNamed(bytes, at, length, METADATA)) inFull = cursor.text();
    else cursor.skipBytes();
  }
  if (id === "" || type === "" || !Number.isSafeInteger(recordedAt)) throw unreadable(stream, version);
  const commandId = metadata.commandId ?? "";
  const full: EventMetadata =
    inFull === undefined
      ? Object.assign(metadata, { commandId, correlationId: metadata.correlationId ?? commandId, causationId: metadata.causationId ?? commandId })
      : (parsed(inFull, stream, version) as EventMetadata);
  return { id, type, data, metadata: full, recordedAt, stream, version, position: { [lane]: offset } };
}

function parsed(text: string | undefined, stream: string, version: number): object {
  try {
    const value = JSON.parse(text ?? "") as unknown;
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // As below.
  }
  throw unreadable(stream, version);
}

function unreadable(stream: string, version: number): StoreCorrupt {
  return new StoreCorrupt(`the headers of version ${version} of ${stream} cannot be read`, { details: { stream, version } });
}
