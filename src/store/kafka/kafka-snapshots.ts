/**
 * Snapshots in compacted topics, `<prefix>.<category>.snapshots`: the last one of each stream. A record's key is the stream, its value
 * `{ aggregateId, version, timestamp, state }` as JSON, its headers what belongs to it (docs/wire-formats.md).
 *
 * A snapshot is a hint. Two processes that save for one stream at once can leave the older one last; hydration compares the event id with the log, and reads on from there.
 */
import type { Environment } from "../../environment.ts";
import { Aborted, isTidemarkError } from "../../errors.ts";
import type { SnapshotStore, StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import type { Position } from "../position.ts";
import { categoryOf, idOf } from "../stream-name.ts";
import type { KafkaCluster } from "./cluster.ts";
import { CompactedTopic, type KeyedRecord } from "./compacted-topic.ts";
import { storeClosed } from "./kafka-error.ts";
import { snapshotsTopic, type TopicOptions } from "./topics.ts";

export interface KafkaSnapshotsOptions {
  readonly cluster: KafkaCluster;
  readonly prefix: string;
  readonly topics: TopicOptions;
  readonly environment: Environment;
  readonly boundMs: number;
}

/** Errors: StoreUnavailable, StoreRefused, StoreClosed, Aborted. */
export function kafkaSnapshots(options: KafkaSnapshotsOptions): SnapshotStore {
  const { prefix, environment } = options;
  const ending = new AbortController();
  const opened = new Map<string, CompactedTopic>();

  function topicOf(stream: string): CompactedTopic {
    if (ending.signal.aborted) throw storeClosed();
    const category = categoryOf(stream);
    let topic = opened.get(category);
    if (topic === undefined) opened.set(category, (topic = new CompactedTopic({ ...options, name: snapshotsTopic(prefix, category), fenced: false, ending: ending.signal })));
    return topic;
  }

  async function load(stream: string, signal?: AbortSignal): Promise<StoredSnapshot | undefined> {
    if (signal?.aborted === true) throw new Aborted(`loading the snapshot of ${stream} was aborted`, { cause: signal.reason });
    const record = await topicOf(stream).get(stream, signal);
    if (record === undefined) return undefined;
    const snapshot = snapshotOf(record);
    if (snapshot === undefined) environment.logger.warn({ stream }, "a damaged snapshot is ignored");
    return snapshot;
  }

  async function saveOne(snapshot: StoredSnapshot): Promise<void> {
    const { stream, version } = snapshot;
    const before = await load(stream);
    if (before === undefined || before.version <= version) await topicOf(stream).put(recordOf(snapshot));
  }

  return {
    load,
    async save(snapshots) {
      if (ending.signal.aborted) throw storeClosed();
      const newest = new Map<string, StoredSnapshot>();
      for (const snapshot of snapshots) if ((newest.get(snapshot.stream)?.version ?? 0) <= snapshot.version) newest.set(snapshot.stream, snapshot);
      const results = await Promise.allSettled([...newest.values()].map(saveOne));
      for (const result of results) if (result.status === "rejected") throw result.reason;
    },
    async delete(stream) {
      const topic = topicOf(stream);
      if ((await topic.get(stream)) !== undefined) await topic.put({ key: stream, value: null, headers: new Map() });
    },
    async close() {
      if (ending.signal.aborted) return;
      ending.abort(storeClosed());
      for (const topic of opened.values()) topic.close();
    },
  };
}

/** The state stands last, as the very text that its fingerprint was taken of. No other field can hold this mark: in JSON text its quotes are escaped. */
const STATE_MARK = ',"state":';

function recordOf({ stream, version, eventId, position, schemaVersion, state, window, checksum, takenAt }: StoredSnapshot): KeyedRecord {
  const front = JSON.stringify({ aggregateId: idOf(stream), version, timestamp: takenAt });
  const headers = { "tm-event": eventId, "tm-position": JSON.stringify(position), "tm-schema": String(schemaVersion), "tm-window": window, "tm-checksum": checksum };
  return { key: stream, value: `${front.slice(0, -1)}${STATE_MARK}${state}}`, headers: new Map(Object.entries(headers)) };
}

/** Undefined: it is none of ours. */
function snapshotOf({ key, value, headers }: KeyedRecord): StoredSnapshot | undefined {
  const mark = value?.indexOf(STATE_MARK) ?? -1;
  const [eventId, position, schema, window, checksum] = ["tm-event", "tm-position", "tm-schema", "tm-window", "tm-checksum"].map((name) => headers.get(name));
  if (value === null || mark < 0 || eventId === undefined || position === undefined || schema === undefined || window === undefined || checksum === undefined) return undefined;
  try {
    const { version, timestamp } = JSON.parse(`${value.slice(0, mark)}}`) as { readonly version: number; readonly timestamp: number };
    const state = value.slice(mark + STATE_MARK.length, -1);
    return { stream: key, version, eventId, position: JSON.parse(position) as Position, schemaVersion: Number(schema), state, window, checksum, takenAt: timestamp };
  } catch (error) {
    if (isTidemarkError(error)) throw error;
    return undefined;
  }
}
