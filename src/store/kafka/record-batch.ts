/**
 * Record batches of format 2, written and read here: a batch is encoded once and sent again as the same bytes, and reading is fast.
 *
 * Layout of a batch (numbers are big-endian): base offset 8, length 4 (of all after it), leader epoch 4, magic 1, CRC-32C 4 (of all after it), attributes 2,
 * last offset delta 4, base timestamp 8, max timestamp 8, producer id 8, producer epoch 2, base sequence 4, number of records 4, records.
 * A record: length, attributes 1, timestamp delta, offset delta, key, value, number of headers, headers; lengths and numbers are zigzag variable-length integers.
 */
import { StoreCorrupt } from "../../errors.ts";
import { crc32c } from "./crc32c.ts";

/** Bytes of a batch before its records. */
export const BATCH_OVERHEAD = 61;
/** Bytes before the part that its length counts. */
const LENGTH_END = 12;
const CRC_START = 17;
const CRC_END = 21;

const COMPRESSION = 0b111;
const TRANSACTIONAL = 0b1_0000;
const CONTROL = 0b10_0000;

/** What a batch says of the producer that made it. */
export interface BatchStamp {
  readonly producerId: number;
  readonly epoch: number;
  /** Sequence number of its first record. */
  readonly sequence: number;
  /** Milliseconds since the epoch; the topics' `LogAppendTime` replaces it. */
  readonly timestamp: number;
}

/** Text whose bytes are known, as header names are. */
export interface Name {
  readonly bytes: Buffer;
}

/** Writes one batch after another into a buffer of its own. */
export class BatchWriter {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #at = BATCH_OVERHEAD;
  #record = 0;
  #count = 0;
  #ends: number[] = [];

  /** Records so far. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the batch so far. */
  get size(): number {
    return this.#at;
  }

  /** Forgets all records after the first `count`. */
  truncate(count: number): void {
    this.#count = count;
    this.#ends.length = count;
    this.#at = count === 0 ? BATCH_OVERHEAD : (this.#ends[count - 1] as number);
  }

  /** Begins a record; its headers follow, exactly as many as are announced, then `endRecord`. `key` null: none; `value` null: a tombstone. */
  beginRecord(key: string | null, value: string | null, headers: number): void {
    this.#record = this.#at;
    this.#reserve(32);
    // Room for the length, which takes two bytes for most records.
    this.#at += 2;
    this.#buffer[this.#at++] = 0;
    this.#varint(0);
    this.#varint(this.#count);
    if (key === null) this.#varint(-1);
    else this.#text(key);
    if (value === null) this.#varint(-1);
    else this.#text(value);
    this.#varint(headers);
  }

  header(name: Name, value: string): void {
    const { bytes } = name;
    this.#reserve(bytes.length + 5);
    this.#varint(bytes.length);
    bytes.copy(this.#buffer, this.#at);
    this.#at += bytes.length;
    this.#text(value);
  }

  endRecord(): void {
    const body = this.#record + 2;
    const length = this.#at - body;
    const width = varintWidth(length);
    if (width !== 2) {
      this.#reserve(8);
      this.#buffer.copyWithin(this.#record + width, body, this.#at);
    }
    this.#at = this.#record;
    this.#varint(length);
    this.#at += length;
    this.#count++;
    this.#ends.push(this.#at);
  }

  /** The finished batch, in memory of its own, and the records in it, each from its attributes on. The writer begins anew. */
  finish(stamp: BatchStamp): { readonly batch: Buffer; readonly records: readonly Buffer[] } {
    const size = this.#at;
    const batch = Buffer.allocUnsafeSlow(size);
    this.#buffer.copy(batch, BATCH_OVERHEAD, BATCH_OVERHEAD, size);
    batch.writeBigInt64BE(0n, 0);
    batch.writeInt32BE(size - LENGTH_END, 8);
    batch.writeInt32BE(-1, 12);
    batch[16] = 2;
    batch.writeInt16BE(0, 21);
    batch.writeInt32BE(this.#count - 1, 23);
    batch.writeBigInt64BE(BigInt(stamp.timestamp), 27);
    batch.writeBigInt64BE(BigInt(stamp.timestamp), 35);
    batch.writeBigInt64BE(BigInt(stamp.producerId), 43);
    batch.writeInt16BE(stamp.epoch, 51);
    batch.writeInt32BE(stamp.sequence, 53);
    batch.writeInt32BE(this.#count, 57);
    batch.writeUInt32BE(crc32c(batch, CRC_END), CRC_START);
    const records: Buffer[] = [];
    let start = BATCH_OVERHEAD;
    for (const end of this.#ends) {
      records.push(batch.subarray(start + varintWidth(lengthAt(batch, start)), end));
      start = end;
    }
    this.truncate(0);
    return { batch, records };
  }

  #text(value: string): void {
    const length = Buffer.byteLength(value);
    this.#reserve(length + 5);
    this.#varint(length);
    if (length === value.length) this.#buffer.write(value, this.#at, length, "latin1");
    else this.#buffer.write(value, this.#at, length, "utf8");
    this.#at += length;
  }

  #varint(value: number): void {
    let rest = ((value << 1) ^ (value >> 31)) >>> 0;
    while (rest > 127) {
      this.#buffer[this.#at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.#buffer[this.#at++] = rest;
  }

  #reserve(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

function varintWidth(value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0;
  return zigzag < 1 << 7 ? 1 : zigzag < 1 << 14 ? 2 : zigzag < 1 << 21 ? 3 : zigzag < 1 << 28 ? 4 : 5;
}

function lengthAt(bytes: Buffer, at: number): number {
  return new Cursor(bytes, at).varint();
}

/** Reads on through bytes. */
export class Cursor {
  readonly bytes: Buffer;
  at: number;

  constructor(bytes: Buffer, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  varint(): number {
    let value = 0;
    let shift = 0;
    let byte: number;
    do {
      byte = this.bytes[this.at++] ?? malformed("a number runs past the end");
      value |= (byte & 127) << shift;
      shift += 7;
    } while (byte > 127);
    return (value >>> 1) ^ -(value & 1);
  }

  /** A number of up to 64 bits that nobody needs. */
  skipVarint(): void {
    while ((this.bytes[this.at++] ?? malformed("a number runs past the end")) > 127);
  }

  /** Text after its length; undefined where there is none (length -1). */
  text(): string | undefined {
    const length = this.varint();
    if (length < 0) return undefined;
    const start = this.at;
    this.at += length;
    return this.bytes.toString("utf8", start, this.at);
  }

  skipBytes(): void {
    const length = this.varint();
    if (length > 0) this.at += length;
  }
}

/** One batch as it stands in the log. */
export interface Batch {
  readonly baseOffset: number;
  /** Of its last record, also where compaction or an abort has left nothing of it. */
  readonly lastOffset: number;
  readonly leaderEpoch: number;
  readonly producerId: number;
  readonly epoch: number;
  readonly sequence: number;
  /** LogAppendTime, where the topic has it; milliseconds since the epoch. */
  readonly timestamp: number;
  readonly transactional: boolean;
  readonly control: boolean;
  /** Plain: format 2, uncompressed. What is not plain was not written by a Tidemark writer. */
  readonly plain: boolean;
  /** How many records it says it holds. */
  readonly count: number;
  /** The whole batch. */
  readonly bytes: Buffer;
}

/** The whole batches in what a fetch returned; a piece at the end is left out. Errors: StoreCorrupt where a check sum is wrong. */
export function* batchesIn(records: Buffer): Generator<Batch> {
  for (let at = 0; at + BATCH_OVERHEAD <= records.length; ) {
    const size = LENGTH_END + records.readInt32BE(at + 8);
    if (size <= LENGTH_END) malformed("a batch has no length");
    if (at + size > records.length) return;
    yield batchAt(records.subarray(at, at + size));
    at += size;
  }
}

function batchAt(bytes: Buffer): Batch {
  const baseOffset = Number(bytes.readBigInt64BE(0));
  const format = bytes[16] as number;
  if (format < 2) return foreignOfOldFormat(baseOffset, bytes);
  if (crc32c(bytes, CRC_END) !== bytes.readUInt32BE(CRC_START)) malformed(`the check sum of the batch at offset ${baseOffset} is wrong`);
  const attributes = bytes.readInt16BE(21);
  return {
    baseOffset,
    lastOffset: baseOffset + bytes.readInt32BE(23),
    leaderEpoch: bytes.readInt32BE(12),
    producerId: Number(bytes.readBigInt64BE(43)),
    epoch: bytes.readInt16BE(51),
    sequence: bytes.readInt32BE(53),
    timestamp: Number(bytes.readBigInt64BE(35)),
    transactional: (attributes & TRANSACTIONAL) !== 0,
    control: (attributes & CONTROL) !== 0,
    plain: format === 2 && (attributes & COMPRESSION) === 0,
    count: bytes.readInt32BE(57),
    bytes,
  };
}

function foreignOfOldFormat(offset: number, bytes: Buffer): Batch {
  const none = { leaderEpoch: -1, producerId: -1, epoch: -1, sequence: -1, timestamp: -1, count: 0 };
  return { baseOffset: offset, lastOffset: offset, ...none, transactional: false, control: false, plain: false, bytes };
}

/** Calls back with each record of a plain batch: its bytes from the attributes on, and its offset. Errors: StoreCorrupt. */
export function eachRecord(batch: Batch, visit: (record: Buffer, offset: number) => void): void {
  eachPlace(batch, (start, end, offset) => visit(batch.bytes.subarray(start, end), offset));
}

/** The same with the place of each record in the batch's bytes instead of a view of them, which costs as much as reading it. */
export function eachPlace(batch: Batch, visit: (start: number, end: number, offset: number) => void): void {
  const { bytes, baseOffset } = batch;
  const cursor = new Cursor(bytes, BATCH_OVERHEAD);
  for (let index = 0; index < batch.count; index++) {
    const length = cursor.varint();
    const start = cursor.at;
    const end = start + length;
    if (length <= 0 || end > bytes.length) malformed(`a record of the batch at offset ${baseOffset} runs past its end`);
    cursor.at++;
    cursor.skipVarint();
    visit(start, end, baseOffset + cursor.varint());
    cursor.at = end;
  }
}

/** The same memory as a Buffer. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Makes a cursor stand at the record's key. */
export function atKey(record: Uint8Array): Cursor {
  const cursor = new Cursor(bufferOf(record), 1);
  cursor.skipVarint();
  cursor.skipVarint();
  return cursor;
}

function malformed(why: string): never {
  throw new StoreCorrupt(`the log holds what cannot be read: ${why}`);
}
