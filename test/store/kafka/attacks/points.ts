/** Points of the write protocol at which a process kills or stops itself: the seam to the cluster with one call that does not go as usual. */
import net from "node:net";
import type { KafkaCluster, PartitionLink } from "../../../../src/store/kafka/cluster.ts";

export const points = ["before init", "init answered", "claim to be sent", "claim sent", "claim answered", "batch to be sent", "batch sent", "batch answered"] as const;

export interface Fate {
  readonly point: (typeof points)[number];
  /** Which time the point is come to, from 1. */
  readonly time: number;
  readonly signal: "SIGKILL" | "SIGSTOP";
}

/** The process meets its fate as it uses the cluster. */
export function fated(cluster: KafkaCluster, { point, time, signal }: Fate): KafkaCluster {
  let left = time;
  const come = (to: string): boolean => to === point && --left === 0;
  // Nothing runs between the signal and its effect.
  const meet = (): void => void process.kill(process.pid, signal);
  const link = (inner: PartitionLink): PartitionLink => ({
    fetch: (request) => inner.fetch(request),
    end: () => inner.end(),
    close: () => inner.close(),
    async produce(batch, boundMs) {
      const what = Buffer.from(batch).includes('"nonce"') ? "claim" : "batch";
      if (come(`${what} to be sent`)) meet();
      if (come(`${what} sent`)) whenWritten(Buffer.from(batch), meet);
      const produced = await inner.produce(batch, boundMs);
      if (come(`${what} answered`)) meet();
      return produced;
    },
  });
  return {
    topics: (names) => cluster.topics(names),
    createTopic: (topic) => cluster.createTopic(topic),
    topicSettings: (topic) => cluster.topicSettings(topic),
    partition: (topic, partition) => (topic.endsWith(".store") ? cluster.partition(topic, partition) : link(cluster.partition(topic, partition))),
    close: () => cluster.close(),
    async initProducerId(transactionalId) {
      if (come("before init")) meet();
      const identity = await cluster.initProducerId(transactionalId);
      if (come("init answered")) meet();
      return identity;
    },
  };
}

/** Calls back once, when bytes that hold these were handed to the kernel. */
function whenWritten(bytes: Buffer, then: () => void): void {
  const { prototype } = net.Socket;
  const write = prototype.write;
  prototype.write = function (this: net.Socket, ...args: unknown[]): boolean {
    const [data] = args;
    const taken = Reflect.apply(write, this, args) as boolean;
    if (Buffer.isBuffer(data) && data.includes(bytes)) {
      prototype.write = write;
      // Written at once where the socket is connected and its buffer has room; else when it is.
      if (this.writableLength === 0) then();
      else this.once("drain", then);
    }
    return taken;
  } as typeof write;
}

/** Connections of this process to these ports of this machine go to others instead: brokers tell addresses that a proxy cannot change. */
export function detour(ports: Readonly<Record<string, number>>): void {
  const connect = net.connect.bind(net) as (options: net.TcpNetConnectOpts, onConnect?: () => void) => net.Socket;
  (net as { connect: unknown }).connect = (options: net.TcpNetConnectOpts, onConnect?: () => void) => connect({ ...options, port: ports[options.port] ?? options.port }, onConnect);
}
