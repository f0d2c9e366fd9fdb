/**
 * A real Kafka cluster on this machine: KRaft, every node broker and controller, data in a temporary folder unless one is given.
 *
 * C1 It resolves when every node has answered that it knows all the others: what is asked then is served.
 * C2 `close` leaves no process and, where the data was temporary, no folder; the same holds when this process dies (guardian.ts).
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Kafka, logLevel, type KafkaConfig } from "kafkajs";
import { classArchive } from "./class-archive.ts";
import { freePorts, isFree, PortInUse } from "./free-ports.ts";
import { guardian } from "./guardian.ts";
import { DEFAULT_VERSION, kafkaJars } from "./jars.ts";
import { formatNode, kafkaNode, whyItFailed, type KafkaNode, type NodeSetup } from "./kafka-node.ts";
import { KafkaUnavailable } from "./kafka-unavailable.ts";

export interface StartKafkaOptions {
  /** Number of nodes, default 1. With three: replication factor 3, min.insync.replicas 2. */
  readonly brokers?: number;
  /** Default: DEFAULT_VERSION. */
  readonly version?: string;
  /** Port of the first node; the others follow it. Default: free ones. */
  readonly port?: number;
  /** Folder for the data, which stays. Default: a temporary one, which is removed. */
  readonly data?: string;
  /** Properties of the servers, over those that are set here. */
  readonly overrides?: Readonly<Record<string, string>>;
  /** Default: those for running long. */
  readonly jvmOptions?: readonly string[];
  /** More arguments of the first format, such as `--add-scram`. */
  readonly formatArguments?: readonly string[];
  /** How a client connects, where overrides ask for more than an address. */
  readonly client?: Pick<KafkaConfig, "ssl" | "sasl">;
  /** Lets a single node whose data is thrown away write the archive of classes when it is closed, which takes some seconds, once (class-archive.ts). */
  readonly writesClassArchive?: boolean;
  /** How long the cluster may take until it serves, milliseconds. Default 120,000. */
  readonly startTimeoutMs?: number;
  readonly onDownload?: (version: string) => void;
  /** Called when a node ends without having been asked to. */
  readonly onUnexpectedEnd?: (node: KafkaNode) => void;
  readonly signal?: AbortSignal;
}

export interface KafkaCluster {
  readonly version: string;
  /** `host:port` of every node. */
  readonly brokers: readonly string[];
  readonly nodes: readonly KafkaNode[];
  /** Resolves when each of these nodes (default: all) answers and knows these and no others: until a killed one is given up, seconds after its end, clients are still sent to it. */
  serving(nodes?: readonly KafkaNode[]): Promise<void>;
  /** Stops everything. Idempotent. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** For tests: less memory, and a start in half the time at the price of slower code. */
export const QUICK_JVM: readonly string[] = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

const LASTING_JVM: readonly string[] = ["-Xmx1g"];

/** Writing takes seconds, on a busy machine many. */
const ARCHIVE_TIMEOUT_MS = 60_000;

/** What stands in the data folder of a cluster, so that it is started again as it was. */
interface Identity {
  readonly clusterId: string;
  readonly brokers: number;
}

/** Starts a cluster. Errors: KafkaUnavailable and PortInUse, in one line. */
export async function startKafka(options: StartKafkaOptions = {}): Promise<KafkaCluster> {
  const { brokers = 1, version = DEFAULT_VERSION, overrides = {}, jvmOptions = LASTING_JVM, formatArguments = [], startTimeoutMs = 120_000, signal } = options;
  const jars = await kafkaJars(version, { ...(signal === undefined ? {} : { signal }), onDownload: () => options.onDownload?.(version) });
  const temporary = options.data === undefined ? mkdtempSync(join(tmpdir(), "tidemark-kafka-")) : undefined;
  const folder = temporary ?? resolve(options.data ?? "");
  const watcher = guardian(temporary);
  const archive = classArchive(jars, folder);
  const writesArchive = options.writesClassArchive === true && temporary !== undefined && brokers === 1 && archive.optionsToWrite.length > 0;
  const nodes: KafkaNode[] = [];
  let started = false;
  let closing: Promise<void> | undefined;

  const close = (): Promise<void> => (closing ??= stopAll());

  async function stopAll(): Promise<void> {
    if (temporary === undefined) await stopInOrder();
    else {
      if (writesArchive && started) await nodes[0]?.stop(ARCHIVE_TIMEOUT_MS);
      // Data that is thrown away needs no orderly end.
      await Promise.all(nodes.map((node) => node.kill()));
      archive.keep();
    }
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
    await watcher.dismiss();
  }

  /** One after the other, while there is a quorum of controllers that lets the next one go. The rest is killed: it finds its data again when it starts. */
  async function stopInOrder(): Promise<void> {
    const quorum = Math.floor(nodes.length / 2) + 1;
    for (const [index, node] of nodes.toReversed().entries()) await (nodes.length - index >= quorum ? node.stop() : node.kill());
  }

  try {
    const { clusterId } = identityOf(folder, brokers);
    const [ports, controllerPorts] = await portsOf(brokers, options.port);
    const setups = ports.map((port, index): NodeSetup => {
      const id = index + 1;
      return {
        id,
        version,
        folder: join(folder, `node-${id}`),
        port,
        controllerPort: controllerPorts[index] as number,
        controllerPorts,
        overrides,
        jars,
        jvmOptions: [...jvmOptions, ...archive.options, ...(writesArchive ? archive.optionsToWrite : [])],
        formatJvmOptions: archive.options,
        guardian: watcher,
        onUnexpectedEnd: (node) => {
          if (started && closing === undefined) options.onUnexpectedEnd?.(node);
        },
      };
    });
    await Promise.all(setups.map((setup) => formatNode(setup, clusterId, formatArguments, signal)));
    nodes.push(...setups.map(kafkaNode));
    for (const node of nodes) node.start();
    const serving = async (asked: readonly KafkaNode[] = nodes): Promise<void> => {
      const deadline = performance.now() + startTimeoutMs;
      for (const node of asked) {
        while (!(await knows(node.address, asked, options.client))) {
          signal?.throwIfAborted();
          const plan = setups[node.id - 1] as NodeSetup;
          if (node.pid === undefined) throw new KafkaUnavailable(whyItFailed(plan, node.logTail()));
          if (performance.now() > deadline) throw new KafkaUnavailable(`node ${node.id} of Kafka ${version} did not serve within ${startTimeoutMs} ms: ${node.logTail()}`);
          await delay(25);
        }
      }
    };
    await serving();
    started = true;
    return { version, brokers: nodes.map((node) => node.address), nodes, serving, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The first start writes it down; every other one must agree. */
function identityOf(folder: string, brokers: number): Identity {
  const file = join(folder, "cluster.json");
  if (existsSync(file)) {
    const identity = JSON.parse(readFileSync(file, "utf8")) as Identity;
    if (identity.brokers !== brokers) throw new KafkaUnavailable(`the data in ${folder} is of a cluster with ${identity.brokers} brokers, not ${brokers}`);
    return identity;
  }
  const identity: Identity = { clusterId: randomBytes(16).toString("base64url"), brokers };
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, JSON.stringify(identity));
  return identity;
}

async function portsOf(brokers: number, first: number | undefined): Promise<readonly [readonly number[], readonly number[]]> {
  const free = await freePorts(2 * brokers);
  if (first === undefined) return [free.slice(0, brokers), free.slice(brokers)];
  const wanted = Array.from({ length: brokers }, (_, index) => first + index);
  for (const port of wanted) if (!(await isFree(port))) throw new PortInUse(port);
  return [wanted, free.slice(brokers)];
}

/** C1. Whether the node at this address answers and knows these nodes, no others, and their controller. */
async function knows(address: string, nodes: readonly KafkaNode[], client: StartKafkaOptions["client"]): Promise<boolean> {
  const admin = new Kafka({ ...client, brokers: [address], clientId: "tidemark-launcher", logLevel: logLevel.NOTHING, connectionTimeout: 1000, requestTimeout: 2000, retry: { retries: 0 } }).admin();
  try {
    await admin.connect();
    const { brokers, controller } = await admin.describeCluster();
    const known = new Set(brokers.map(({ nodeId }) => nodeId));
    return known.size === nodes.length && nodes.every(({ id }) => known.has(id)) && controller !== null && known.has(controller);
  } catch {
    return false;
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}
