/**
 * The four requests of Kafka's protocol that are made and read here, because the bytes of a batch must be ours (produce), because it must be fast (fetch), or because
 * kafkajs does not know the version that is needed: ListOffsets 5 (a new leader says when it does not know the end yet), Metadata 10 (topic ids; Kafka 2.8).
 * Names, numbers and layouts are those of Kafka's protocol guide.
 */
import type { Fetched, FetchRequest, LogEnd, PartitionDescription, Produced, TopicDescription } from "./cluster.ts";

/** One request with what reads its answer. */
export interface Call<T> {
  readonly name: string;
  readonly key: number;
  readonly version: number;
  readonly payload: Buffer;
  /** Errors: RangeError where the answer is too short. */
  read(answer: Reader): Answer<T>;
}

/** `errorCode` 0: none. */
export type Answer<T> = { readonly errorCode: 0; readonly value: T } | { readonly errorCode: number; readonly value?: undefined };

const TAGS = 0;

export function produceCall(topic: string, partition: number, batch: Uint8Array, timeoutMs: number): Call<Produced> {
  const writer = new Writer(64 + topic.length * 3 + batch.length).nullString().int16(-1).int32(timeoutMs).int32(1).string(topic).int32(1).int32(partition).bytes(batch);
  return {
    name: "Produce",
    key: 0,
    version: 7,
    payload: writer.done(),
    read(answer) {
      answer.skip(4).string();
      answer.skip(8);
      const errorCode = answer.int16();
      return errorCode === 0 ? { errorCode, value: { baseOffset: answer.int64() } } : { errorCode };
    },
  };
}

/** Isolation level 0: also what is in open transactions, which the fold passes over. */
export function fetchCall(topic: string, partition: number, { offset, maxWaitMs, maxBytes }: FetchRequest): Call<Fetched> {
  const writer = new Writer(128 + topic.length * 3);
  writer.int32(-1).int32(maxWaitMs).int32(1).int32(maxBytes).int8(0).int32(0).int32(-1);
  writer.int32(1).string(topic).int32(1).int32(partition).int32(-1).int64(offset).int64(-1).int32(maxBytes);
  writer.int32(0).string("");
  return {
    name: "Fetch",
    key: 1,
    version: 11,
    payload: writer.done(),
    read(answer) {
      answer.skip(4);
      const failed = answer.int16();
      if (failed !== 0) return { errorCode: failed };
      answer.skip(8).string();
      answer.skip(8);
      const errorCode = answer.int16();
      if (errorCode !== 0) return { errorCode };
      const highWatermark = answer.int64();
      answer.skip(8);
      const logStart = answer.int64();
      const aborted = answer.int32();
      answer.skip(Math.max(0, aborted) * 16 + 4);
      return { errorCode, value: { records: answer.bytes(), highWatermark, logStart } };
    },
  };
}

export function endCall(topic: string, partition: number): Call<LogEnd> {
  const writer = new Writer(64 + topic.length * 3).int32(-1).int8(0).int32(1).string(topic).int32(1).int32(partition).int32(-1).int64(-1);
  return {
    name: "ListOffsets",
    key: 2,
    version: 5,
    payload: writer.done(),
    read(answer) {
      answer.skip(8).string();
      answer.skip(8);
      const errorCode = answer.int16();
      answer.skip(8);
      return errorCode === 0 ? { errorCode, value: { offset: answer.int64(), leaderEpoch: answer.int32() } } : { errorCode };
    },
  };
}

export interface Metadata {
  readonly nodes: readonly { readonly id: number; readonly host: string; readonly port: number }[];
  readonly controller: number;
  readonly topics: readonly TopicDescription[];
}

/** UNKNOWN_TOPIC_OR_PARTITION, and LEADER_NOT_AVAILABLE, which a topic has that is just being made. */
const NOT_THERE = new Set([3, 5]);

/** `topics` undefined: all. Topics that are not there, or not quite, are left out. */
export function metadataCall(topics: readonly string[] | undefined): Call<Metadata> {
  const writer = new Writer(64 + (topics ?? []).reduce((sum, topic) => sum + 24 + topic.length * 3, 0));
  writer.int8(TAGS); // of the request's header, which kafkajs writes without
  if (topics === undefined) writer.varint(0);
  else writer.varint(topics.length + 1);
  for (const topic of topics ?? []) writer.zeros(16).compactString(topic).int8(TAGS);
  writer.int8(0).int8(0).int8(0).int8(TAGS);
  return {
    name: "Metadata",
    key: 3,
    version: 10,
    payload: writer.done(),
    read(answer) {
      answer.tags().skip(4);
      const nodes = answer.compactArray(() => {
        const node = { id: answer.int32(), host: answer.compactString(), port: answer.int32() };
        answer.compactString();
        answer.tags();
        return node;
      });
      answer.compactString();
      const controller = answer.int32();
      let failed = 0;
      const described = answer.compactArray(() => {
        const errorCode = answer.int16();
        const name = answer.compactString();
        const id = answer.uuid();
        answer.skip(1);
        const partitions: PartitionDescription[] = [];
        answer.compactArray(() => {
          answer.skip(2);
          const number = answer.int32();
          const leader = answer.int32();
          answer.skip(4);
          partitions[number] = { leader, replicas: answer.compactArray(() => answer.int32()).length };
          answer.compactArray(() => answer.int32());
          answer.compactArray(() => answer.int32());
          answer.tags();
        });
        answer.skip(4).tags();
        if (errorCode !== 0 && !NOT_THERE.has(errorCode)) failed ||= errorCode;
        return { errorCode, name, id, partitions };
      });
      if (failed !== 0) return { errorCode: failed };
      const topics = described.filter(({ errorCode }) => errorCode === 0).map(({ name, id, partitions }) => ({ name, id, partitions }));
      return { errorCode: 0, value: { nodes, controller, topics } };
    },
  };
}

class Writer {
  readonly #buffer: Buffer;
  #at = 0;

  /** `most`: never fewer bytes than are written. */
  constructor(most: number) {
    this.#buffer = Buffer.allocUnsafe(most);
  }

  done(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  int8(value: number): this {
    this.#at = this.#buffer.writeInt8(value, this.#at);
    return this;
  }

  int16(value: number): this {
    this.#at = this.#buffer.writeInt16BE(value, this.#at);
    return this;
  }

  int32(value: number): this {
    this.#at = this.#buffer.writeInt32BE(value, this.#at);
    return this;
  }

  int64(value: number): this {
    this.#at = this.#buffer.writeBigInt64BE(BigInt(value), this.#at);
    return this;
  }

  zeros(count: number): this {
    this.#buffer.fill(0, this.#at, this.#at + count);
    this.#at += count;
    return this;
  }

  varint(value: number): this {
    let rest = value;
    while (rest > 127) {
      this.#at = this.#buffer.writeUInt8((rest & 127) | 128, this.#at);
      rest >>>= 7;
    }
    this.#at = this.#buffer.writeUInt8(rest, this.#at);
    return this;
  }

  string(text: string): this {
    this.int16(Buffer.byteLength(text));
    this.#at += this.#buffer.write(text, this.#at);
    return this;
  }

  nullString(): this {
    return this.int16(-1);
  }

  compactString(text: string): this {
    this.varint(Buffer.byteLength(text) + 1);
    this.#at += this.#buffer.write(text, this.#at);
    return this;
  }

  bytes(bytes: Uint8Array): this {
    this.int32(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
    return this;
  }
}

export class Reader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  skip(bytes: number): this {
    this.#at += bytes;
    return this;
  }

  int16(): number {
    return this.#buffer.readInt16BE(this.#moved(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#moved(4));
  }

  int64(): number {
    return Number(this.#buffer.readBigInt64BE(this.#moved(8)));
  }

  string(): string {
    return this.#text(this.int16());
  }

  /** Empty where there is none. */
  compactString(): string {
    return this.#text(this.#varint() - 1);
  }

  compactArray<T>(read: () => T): T[] {
    const items: T[] = [];
    for (let left = this.#varint() - 1; left > 0; left--) items.push(read());
    return items;
  }

  uuid(): string {
    const hex = this.#buffer.toString("hex", this.#at, this.#moved(16) + 16);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }

  /** Not copied. */
  bytes(): Buffer {
    const length = Math.max(0, this.int32());
    const start = this.#moved(length);
    if (this.#at > this.#buffer.length) throw new RangeError("the answer is too short");
    return this.#buffer.subarray(start, this.#at);
  }

  tags(): this {
    for (let left = this.#varint(); left > 0; left--) {
      this.#varint();
      this.skip(this.#varint());
    }
    return this;
  }

  #varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#buffer.readUInt8(this.#moved(1));
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  #text(length: number): string {
    if (length <= 0) return "";
    const start = this.#moved(length);
    return this.#buffer.toString("utf8", start, this.#at);
  }

  #moved(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    return at;
  }
}
