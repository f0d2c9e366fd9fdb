/**
 * What stands in a topic as others read it: a plain consumer of kafkajs, and kcat. Nothing of the store's own reading is used: the reader's rule is applied as
 * docs/wire-formats.md has it.
 */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import type { KafkaMessage } from "kafkajs";
import { plainClient } from "../kafka-stores.ts";

export interface PlainRecord {
  readonly partition: number;
  readonly offset: number;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of its batch, where the reader shows them. */
  readonly producer?: { readonly id: string; readonly epoch: number; readonly transactional: boolean };
}

export interface CountedEvent {
  readonly partition: number;
  readonly offset: number;
  readonly stream: string;
  readonly version: number;
  readonly id: string;
}

interface BatchContext {
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly inTransaction: boolean;
}

/** By partition and offset. Where the log ends is told by a record of our own, which counts for nobody: ends that brokers tell may be below an open transaction. */
export async function readRecords(brokers: readonly string[], topic: string): Promise<readonly PlainRecord[]> {
  const client = plainClient(brokers);
  const admin = client.admin();
  const producer = client.producer({ retry: { retries: 20, initialRetryTime: 50, maxRetryTime: 500 } });
  const consumer = client.consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100, maxBytesPerPartition: 4 * 1024 * 1024 });
  const end = randomUUID();
  const records: PlainRecord[] = [];
  try {
    await Promise.all([admin.connect(), producer.connect(), consumer.connect()]);
    const partitions = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]?.partitions.map(({ partitionId }) => partitionId) ?? [];
    await producer.send({ topic, messages: partitions.map((partition) => ({ partition, key: null, value: end })) });
    const open = new Set(partitions);
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await new Promise<void>((done, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => (restart ? undefined : reject(error)));
      const eachBatch = async ({ batch }: { readonly batch: { readonly partition: number; readonly messages: readonly KafkaMessage[] } }): Promise<void> => {
        for (const message of batch.messages) {
          if (String(message.value) === end) open.delete(batch.partition);
          else if (open.has(batch.partition)) records.push(recordOf(batch.partition, message));
        }
        if (open.size === 0) done();
      };
      consumer.run({ eachBatch, autoCommit: false }).catch(reject);
    });
  } finally {
    await Promise.all([admin.disconnect(), producer.disconnect(), consumer.disconnect()]);
  }
  return records.toSorted((a, b) => a.partition - b.partition || a.offset - b.offset);
}

function recordOf(partition: number, message: KafkaMessage): PlainRecord {
  const { producerId, producerEpoch, inTransaction } = (message as unknown as { readonly batchContext: BatchContext }).batchContext;
  const headers = Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, text]) => [name, String(text)]));
  const producer = { id: String(producerId), epoch: producerEpoch, transactional: inTransaction };
  return { partition, offset: Number(message.offset), key: message.key?.toString() ?? "", headers, producer };
}

/** As kcat prints them. */
export async function readWithKcat(brokers: readonly string[], topic: string): Promise<readonly PlainRecord[]> {
  const args = ["-C", "-q", "-e", "-b", brokers.join(","), "-t", topic, "-o", "beginning", "-X", "isolation.level=read_uncommitted", "-f", "%p\\t%o\\t%k\\t%h\\n"];
  const { stdout } = await promisify(execFile)("kcat", args, { maxBuffer: 1024 * 1024 * 1024 });
  const records = stdout.split("\n").slice(0, -1).map((line): PlainRecord => {
    const [partition = "", offset = "", key = "", headers = ""] = line.split("\t");
    return { partition: Number(partition), offset: Number(offset), key, headers: Object.fromEntries(headers.split(",").map((each) => each.split("=") as [string, string])) };
  });
  return records.toSorted((a, b) => a.partition - b.partition || a.offset - b.offset);
}

export class RuleBroken extends Error {}

/**
 * The reader's rule. `producers`: also the producer id and epoch of the claim's batch are compared, as the store's own readers do.
 * Errors: RuleBroken where rule 5 says stop.
 */
export function countedIn(records: readonly PlainRecord[], producers: boolean): readonly CountedEvent[] {
  const counted: CountedEvent[] = [];
  const streams = new Map<string, string[]>();
  let partition = -1;
  let claim: PlainRecord | undefined;
  let open: PlainRecord[] = [];
  const claims = new Set<string>();
  for (const record of records) {
    const { headers, producer } = record;
    if (record.partition !== partition) {
      partition = record.partition;
      claim = undefined;
      open = [];
    }
    const foreign = producers && (producer?.transactional === true || producer?.id === "-1");
    if (headers["tm-kind"] === "claim" && !foreign) {
      // A nonce claims once.
      if (!claims.has(headers["tm-claim"] ?? "")) claim = record;
      claims.add(headers["tm-claim"] ?? "");
      open = [];
      continue;
    }
    // Rule 1.
    const named = claim !== undefined && record.key !== "" && headers["tm-claim"] === claim.headers["tm-claim"];
    const alike = !producers || (producer?.id === claim?.producer?.id && producer?.epoch === claim?.producer?.epoch);
    if (!named || foreign || !alike) {
      open = [];
      continue;
    }
    // Rule 2.
    const [index = 1, size = 1] = (headers["tm-append"] ?? "1/1").split("/").map(Number);
    if (index === 1) open = [];
    if (open.length !== index - 1 || (index > 1 && open[0]?.key !== record.key)) {
      open = [];
      continue;
    }
    open.push(record);
    if (index < size) continue;
    for (const each of open) count(each);
    open = [];
  }
  return counted;

  /** Rule 5. */
  function count({ key, offset, headers: { "tm-id": id = "", "tm-version": text = "" } }: PlainRecord): void {
    const version = Number(text);
    const ids = streams.get(key) ?? [];
    streams.set(key, ids);
    if (ids[version - 1] === id) return;
    if (version !== ids.length + 1) throw new RuleBroken(`offset ${offset} of partition ${partition} is version ${version} of ${key}, which ends at ${ids.length}`);
    ids.push(id);
    counted.push({ partition, offset, stream: key, version, id });
  }
}
