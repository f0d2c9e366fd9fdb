/**
 * The topics of a store: their names, how they are created, and what is demanded of those that are there already.
 * What breaks a promise of the store is refused by name; what weakens it is warned about.
 */
import type { Logger } from "../../environment.ts";
import { StoreRefused } from "../../errors.ts";
import type { NewTopic, TopicDescription } from "./cluster.ts";

export interface TopicOptions {
  /** For new topics; for ever. */
  readonly partitions: number;
  /** -1: the cluster's default. */
  readonly replicationFactor: number;
  /** Undefined: the cluster's default. */
  readonly minInsyncReplicas: number | undefined;
  readonly maxMessageBytes: number;
}

export function eventsTopic(prefix: string, category: string): string {
  return `${prefix}.${category}.events`;
}

/** Compacted: the last snapshot of each stream. */
export function snapshotsTopic(prefix: string, category: string): string {
  return `${prefix}.${category}.snapshots`;
}

/** Compacted: what a read model publishes. */
export function stateTopic(prefix: string, name: string): string {
  return `${prefix}.${name}.state`;
}

/** Holds which categories there are, each with the id of its topic. */
export function storeTopic(prefix: string): string {
  return `${prefix}.store`;
}

export function laneOf(category: string, partition: number): string {
  return `${category}/${partition}`;
}

/** The category of a lane; undefined: it is no lane of a Kafka store. */
export function categoryOfLane(lane: string): { readonly category: string; readonly partition: number } | undefined {
  const match = /^([A-Za-z][A-Za-z0-9_]*)\/(0|[1-9][0-9]{0,8})$/.exec(lane);
  return match === null ? undefined : { category: match[1] as string, partition: Number(match[2]) };
}

export function newTopic(name: string, options: TopicOptions): NewTopic {
  const { partitions, replicationFactor, minInsyncReplicas, maxMessageBytes } = options;
  return {
    name,
    partitions,
    replicationFactor,
    settings: {
      ...DEMANDED,
      "max.message.bytes": String(maxMessageBytes),
      "unclean.leader.election.enable": "false",
      ...(minInsyncReplicas === undefined ? {} : { "min.insync.replicas": String(minInsyncReplicas) }),
    },
  };
}

/** Without one of these events are lost, or the broker forgets who may write. */
const DEMANDED = {
  "cleanup.policy": "delete",
  "retention.ms": "-1",
  "retention.bytes": "-1",
  "message.timestamp.type": "LogAppendTime",
  "compression.type": "producer",
} as const;

const WHY: Readonly<Record<keyof typeof DEMANDED, string>> = {
  "cleanup.policy": "compaction and deletion by age would remove events",
  "retention.ms": "old events would be deleted",
  "retention.bytes": "old events would be deleted",
  "message.timestamp.type": "with the clocks of clients the broker may forget a writer that is at work, and its fence with it",
  "compression.type": "the broker would change the batches that writers send",
};

/** Errors: StoreRefused, which names the setting. */
export function verifyTopic(topic: TopicDescription, settings: ReadonlyMap<string, string>, options: TopicOptions, logger: Logger): void {
  for (const [setting, wanted] of Object.entries(DEMANDED) as [keyof typeof DEMANDED, string][]) {
    const found = settings.get(setting);
    if (found === undefined || found === wanted || (setting === "compression.type" && found === "uncompressed")) continue;
    throw new StoreRefused(`topic ${topic.name} has ${setting}=${found}, and must have ${wanted}: ${WHY[setting]}. Change it with kafka-configs --alter`, {
      details: { reason: "topic-settings", topic: topic.name, setting, found, wanted },
    });
  }
  const warn = (setting: string, found: number | string, wanted: number | string, why: string): void =>
    logger.warn({ topic: topic.name, setting, found, wanted }, `topic ${topic.name} has ${setting} ${found} instead of ${wanted}: ${why}`);
  const { replicationFactor, minInsyncReplicas } = options;
  const replicas = Math.min(...topic.partitions.map((partition) => partition.replicas));
  if (replicationFactor > 0 && replicas < replicationFactor) warn("replication factor", replicas, replicationFactor, "events have fewer copies than were asked for");
  const insync = Number(settings.get("min.insync.replicas") ?? Number.NaN);
  if (minInsyncReplicas !== undefined && insync < minInsyncReplicas) warn("min.insync.replicas", insync, minInsyncReplicas, "a write is acknowledged with fewer copies than were asked for");
  if (settings.get("unclean.leader.election.enable") === "true") warn("unclean.leader.election.enable", "true", "false", "an election can lose acknowledged events");
}

/** Most bytes of a batch that the topic takes. */
export function maxMessageBytesOf(settings: ReadonlyMap<string, string>, options: TopicOptions): number {
  const found = Number(settings.get("max.message.bytes") ?? Number.NaN);
  return Number.isSafeInteger(found) && found > 0 ? found : options.maxMessageBytes;
}
