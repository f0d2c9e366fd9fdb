/**
 * The journal on a file. It survives a kill of the process, not the loss of power: nothing is forced to the disk.
 *
 * J1 An entry is written by one call, whole, before the append is answered: length, checksum (CRC-32), payload.
 * J2 A write that fails is cut off again; when that fails too, the file takes no more.
 * J3 An entry that was cut off by a kill is the last one: it is removed when the file is opened. Damage before it is an error.
 * J4 One server for each file: a lock beside it names the process.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import { crc32 } from "node:zlib";
import { InvalidArgument, StoreCorrupt, StoreUnavailable } from "../../../errors.ts";
import type { Journal, JournalEntry } from "./engine.ts";
import { DELETED, type RecordedEvent } from "./model.ts";

const MAGIC = Buffer.from("tidemark test server for EventStoreDB, log 1\n");
const HEAD_BYTES = 8;

interface EventHead {
  readonly id: string;
  readonly stream: string;
  /** Null for a tombstone. */
  readonly revision: number | null;
  readonly type: string;
  readonly isJson: boolean;
  readonly position: number;
  readonly created: number;
  readonly dataBytes: number;
  readonly metadataBytes: number;
}

interface EntryHead {
  readonly end: number;
  readonly events: readonly EventHead[];
}

/** Files that this process holds. */
const held = new Set<string>();

export class JournalFile implements Journal {
  readonly history: readonly JournalEntry[];
  readonly #path: string;
  readonly #file: number;
  #length: number;
  #broken: unknown;

  /** Errors: StoreCorrupt; StoreUnavailable where another server holds the file. */
  constructor(path: string) {
    this.#path = resolve(path);
    lock(this.#path); // J4
    try {
      this.#file = openSync(this.#path, "a+");
      try {
        const { entries, length } = decodeFile(readWhole(this.#file), this.#path);
        this.history = entries;
        this.#length = length;
        ftruncateSync(this.#file, length); // J3
        if (length === 0) this.#write(MAGIC);
      } catch (error) {
        closeSync(this.#file);
        throw error;
      }
    } catch (error) {
      unlock(this.#path);
      throw error;
    }
  }

  write(entry: JournalEntry): void {
    if (this.#broken !== undefined) throw new StoreUnavailable("the file could not be written to before, and takes nothing more", { cause: this.#broken });
    this.#write(encodeEntry(entry));
  }

  close(): void {
    closeSync(this.#file);
    unlock(this.#path);
  }

  #write(bytes: Buffer): void {
    try {
      let written = 0;
      while (written < bytes.length) written += writeSync(this.#file, bytes, written); // J1
      this.#length += bytes.length;
    } catch (cause) {
      try {
        ftruncateSync(this.#file, this.#length); // J2
      } catch (error) {
        this.#broken = error;
      }
      throw new StoreUnavailable(`cannot write to ${this.#path}`, { cause });
    }
  }
}

function readWhole(file: number): Buffer {
  const { size } = fstatSync(file);
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; ) {
    const read = readSync(file, bytes, at, Math.min(size - at, 2 ** 30), at);
    if (read === 0) return bytes.subarray(0, at);
    at += read;
  }
  return bytes;
}

function decodeFile(bytes: Buffer, path: string): { entries: JournalEntry[]; length: number } {
  const entries: JournalEntry[] = [];
  if (bytes.length < MAGIC.length && MAGIC.subarray(0, bytes.length).equals(bytes)) return { entries, length: 0 };
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new InvalidArgument(`${path} is no log of this server; name another file`);
  let at = MAGIC.length;
  while (bytes.length - at >= HEAD_BYTES) {
    const payloadBytes = bytes.readUInt32LE(at);
    const next = at + HEAD_BYTES + payloadBytes;
    if (next > bytes.length) break; // J3
    const payload = bytes.subarray(at + HEAD_BYTES, next);
    if (crc32(payload) !== bytes.readUInt32LE(at + 4)) {
      if (next === bytes.length) break; // J3
      throw new StoreCorrupt(`${path} is damaged at byte ${at}: restore the file, or delete it to begin anew`, { details: { offset: at } });
    }
    entries.push(decodePayload(payload));
    at = next;
  }
  return { entries, length: at };
}

function encodeEntry({ events, end }: JournalEntry): Buffer {
  const head: EntryHead = {
    end,
    events: events.map(({ id, stream, revision, type, isJson, position, created, data, metadata }) => ({
      id,
      stream,
      revision: revision === DELETED ? null : revision,
      type,
      isJson,
      position,
      created,
      dataBytes: data.length,
      metadataBytes: metadata.length,
    })),
  };
  const text = Buffer.from(JSON.stringify(head));
  const payload: Uint8Array[] = [Buffer.alloc(4), text, ...events.flatMap(({ data, metadata }) => [data, metadata])];
  const bytes = Buffer.concat([Buffer.alloc(HEAD_BYTES), ...payload]);
  bytes.writeUInt32LE(text.length, HEAD_BYTES);
  bytes.writeUInt32LE(bytes.length - HEAD_BYTES, 0);
  bytes.writeUInt32LE(crc32(bytes.subarray(HEAD_BYTES)), 4);
  return bytes;
}

function decodePayload(payload: Buffer): JournalEntry {
  const textBytes = payload.readUInt32LE(0);
  const head = JSON.parse(payload.toString("utf8", 4, 4 + textBytes)) as EntryHead;
  let at = 4 + textBytes;
  const take = (length: number): Uint8Array => payload.subarray(at, (at += length));
  const events = head.events.map(
    ({ dataBytes, metadataBytes, revision, ...event }): RecordedEvent => ({ ...event, revision: revision ?? DELETED, data: take(dataBytes), metadata: take(metadataBytes) }),
  );
  return { events, end: head.end };
}

/** Errors: StoreUnavailable. */
function lock(path: string): void {
  const file = `${path}.lock`;
  const owner = held.has(path) ? process.pid : livingOwner(file);
  if (owner !== undefined) throw new StoreUnavailable(`${path} is held by a server in process ${owner}: stop it, or name another file`, { details: { owner } });
  writeFileSync(file, String(process.pid));
  held.add(path);
}

function unlock(path: string): void {
  held.delete(path);
  rmSync(`${path}.lock`, { force: true });
}

/** Undefined when nobody holds the file; a killed process does not. Its number may have become ours. */
function livingOwner(lockFile: string): number | undefined {
  let owner: number;
  try {
    owner = Number(readFileSync(lockFile, "utf8"));
  } catch {
    return undefined;
  }
  if (!Number.isInteger(owner) || owner <= 0 || owner === process.pid) return undefined;
  try {
    process.kill(owner, 0);
    return owner;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? owner : undefined;
  }
}
