/**
 * Snapshots in streams `snapshot-<category>-<id>`, of which the server keeps the last event ($maxCount 1).
 *
 * N1 A snapshot is written on the revision that was read before it, so that an older version never replaces a newer one.
 * N2 The bound of a stream is set before its first event; where an operator has deleted the stream, after the event that brings it back.
 * N3 Deleting writes a mark in place of the snapshot: a stream that the server deletes would lose its bound.
 */
import { AppendTooLarge, StoreClosed } from "../../errors.ts";
import type { SnapshotStore, StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import { throwIfAborted } from "../validate-read.ts";
import { AppendChannel, type ExpectedRevision } from "./append-channel.ts";
import type { Connection } from "./connection.ts";
import { toTidemarkError } from "./eventstoredb-error.ts";
import { MAX_WIRE_BYTES } from "./eventstoredb-events.ts";
import { SNAPSHOT_CATEGORY } from "./log-reads.ts";
import type { RecordedEvent } from "./protocol.ts";
import { isDeletion, StreamReader } from "./stream-reader.ts";
import { encodeEvent, wireBytes, type EncodedEvent } from "./wire.ts";

const TRIES = 8;
/** Snapshots of one call that are saved at once. */
const AT_ONCE = 16;
const TYPE = "tidemark-snapshot";
const MARK = "tidemark-snapshot-deleted";

/** Takes one hold of the connection. Errors: StoreClosed, StoreUnavailable, Aborted, AppendTooLarge. */
export function snapshotsOn(connection: Connection): SnapshotStore {
  connection.retain();
  const channel = new AppendChannel(connection);
  const reader = new StreamReader(connection);
  const { random, clock, logger } = connection.environment;
  let closed = false;

  async function guarded<T>(what: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    throwIfAborted(signal, what);
    if (closed) throw new StoreClosed("the snapshot store is closed", { details: { server: connection.name } });
    try {
      return await work();
    } catch (error) {
      throwIfAborted(signal, what);
      throw toTidemarkError(error, connection.name);
    }
  }

  /** False: the stream is not at that revision. */
  async function put(name: string, expected: ExpectedRevision, event: EncodedEvent): Promise<boolean> {
    const answer = await channel.send({ stream: name, expected, events: [event] }, connection.timeoutMs);
    if (answer.kind === "written") return true;
    if (answer.kind === "refused" && answer.why.kind === "wrong-version") return false;
    throw answer.kind === "refused" ? new Error(`${name} could not be written: ${answer.why.kind}`) : answer.cause;
  }

  /** N1. */
  async function save(snapshot: StoredSnapshot): Promise<void> {
    const name = streamOf(snapshot.stream);
    const event = encoded(snapshot, random.uuid());
    const bytes = wireBytes([event]);
    if (bytes > MAX_WIRE_BYTES) throw new AppendTooLarge(`the snapshot of ${snapshot.stream} has ${bytes} bytes; EventStoreDB takes at most ${MAX_WIRE_BYTES}`, { details: { stream: snapshot.stream, bytes } });
    for (let tries = 0; tries < TRIES; tries++) {
      const standing = await reader.last(name);
      const old = standing === undefined ? undefined : decoded(snapshot.stream, standing);
      if (old !== undefined && old.version > snapshot.version) return;
      const boundLater = standing === undefined && !(await bound(name));
      if (!(await put(name, standing?.revision ?? "no-stream", event))) continue;
      if (boundLater) await bound(name);
      return;
    }
    throw tooManyWriters(snapshot.stream);
  }

  /** N2: false where the stream is deleted, and has no bound. */
  async function bound(name: string): Promise<boolean> {
    const standing = await reader.last(`$$${name}`);
    const text = standing?.data.toString() ?? "{}";
    if (isDeletion(text)) return false;
    const metadata = objectOf(text);
    if (metadata["$maxCount"] !== 1) await put(`$$${name}`, "any", plain("$metadata", { ...metadata, $maxCount: 1 }));
    return true;
  }

  function plain(type: string, data: object): EncodedEvent {
    return { id: random.uuid(), type, json: true, data: Buffer.from(JSON.stringify(data)), metadata: Buffer.alloc(0) };
  }

  return {
    load: (stream, signal) =>
      guarded(`loading the snapshot of ${stream}`, async () => {
        const event = await reader.last(streamOf(stream), signal);
        if (event === undefined) return undefined;
        const snapshot = decoded(stream, event);
        if (snapshot === undefined && event.type !== MARK) logger.warn({ stream, server: connection.name }, "a damaged snapshot is ignored");
        return snapshot;
      }, signal),
    save: (snapshots) =>
      snapshots.length === 0 && !closed
        ? Promise.resolve()
        : guarded("saving snapshots", async () => {
            const all = newest(snapshots);
            for (let first = 0; first < all.length; first += AT_ONCE) await Promise.all(all.slice(first, first + AT_ONCE).map(save));
          }),
    delete: (stream) =>
      guarded(`deleting the snapshot of ${stream}`, async () => {
        const name = streamOf(stream);
        for (let tries = 0; tries < TRIES; tries++) {
          const standing = await reader.last(name);
          if (standing === undefined || standing.type === MARK || (await put(name, standing.revision, plain(MARK, {})))) return;
        }
        throw tooManyWriters(stream);
      }),
    async close() {
      if (closed) return;
      closed = true;
      channel.close();
      await connection.release();
    },
  };

  function encoded({ state, ...rest }: StoredSnapshot, id: string): EncodedEvent {
    const metadata = { correlationId: id, causationId: id, commandId: id };
    const event = encodeEvent({ id, type: TYPE, data: state, metadata, recordedAt: clock.now() });
    return { ...event, metadata: Buffer.from(JSON.stringify(rest)) };
  }
}

function streamOf(stream: string): string {
  return `${SNAPSHOT_CATEGORY}-${stream}`;
}

/** Undefined: it is not what was saved. */
function decoded(stream: string, { data, type, metadata }: RecordedEvent): StoredSnapshot | undefined {
  const { version, eventId, position, schemaVersion, window, checksum, takenAt, stream: saved } = objectOf(metadata.toString());
  const numbers = [version, schemaVersion, takenAt].every(Number.isSafeInteger);
  const texts = [window, checksum, eventId].every((each) => typeof each === "string");
  if (type !== TYPE || saved !== stream || !numbers || !texts || typeof position !== "object" || position === null) return undefined;
  return { stream, version, eventId, position, schemaVersion, state: data.toString(), window, checksum, takenAt } as StoredSnapshot;
}

function newest(snapshots: readonly StoredSnapshot[]): readonly StoredSnapshot[] {
  const kept = new Map<string, StoredSnapshot>();
  for (const one of snapshots) {
    const other = kept.get(one.stream);
    if (other === undefined || one.version >= other.version) kept.set(one.stream, one);
  }
  return [...kept.values()];
}

function tooManyWriters(stream: string): Error {
  return new Error(`other writers were quicker to write a snapshot of ${stream}, ${TRIES} times`);
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
