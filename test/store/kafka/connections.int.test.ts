/** Connections to a real broker that break while nobody waits for an answer, and to what is no broker. */
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../../src/environment.ts";
import { kafkaBackend } from "../../../src/store/kafka/index.ts";
import { kafkajsCluster } from "../../../src/store/kafka/kafkajs-cluster.ts";
import { kafkaAvailable, newTopicPrefix, sharedKafka } from "../../support/kafka.ts";
import { proxyTo, type Proxy } from "../../support/proxy.ts";
import { until } from "./attacks/writer.ts";
import { deleteTopics } from "./kafka-stores.ts";

describe.skipIf(!kafkaAvailable)("a connection to a broker", () => {
  let brokers: readonly string[];
  let proxy: Proxy | undefined;

  beforeAll(async () => {
    brokers = await sharedKafka();
  }, 120_000);
  afterEach(async () => {
    await proxy?.close();
    proxy = undefined;
  });

  it("that breaks while it is idle is made again once, however many ask at the same time, and none is left open", async () => {
    proxy = await proxyTo(`tcp://${brokers[0]}`);
    const cluster = kafkajsCluster({ brokers: [new URL(proxy.url).host], clientId: "test", requestTimeoutMs: 5000, clock: systemClock });
    const prefix = newTopicPrefix();
    const ask = (): Promise<unknown> => Promise.all([1, 2, 3].map((number) => cluster.initProducerId(`${prefix}.${number}`)));
    // A broker that has just started has to make its coordinator first.
    await until("the coordinator answers", () => ask().then(() => true, () => false));
    const before = proxy.accepted;
    const open = proxy.open();
    proxy.reset();
    await until("the connections are gone", () => proxy?.open() === 0);
    await ask();
    expect(proxy.accepted - before).toBeLessThanOrEqual(3);
    await cluster.close();
    await until("the connections are closed", () => proxy?.open() === 0, 5000);
    expect(open).toBeGreaterThan(0);
  });

  it("that several calls for a partition need at once stays with one of them, and none is left open", async () => {
    const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
    const before = sockets();
    const cluster = kafkajsCluster({ brokers, clientId: "test", requestTimeoutMs: 5000, clock: systemClock });
    const prefix = newTopicPrefix();
    const topic = `${prefix}.several`;
    await cluster.createTopic({ name: topic, partitions: 1, replicationFactor: -1, settings: {} });
    const link = cluster.partition(topic, 0);
    const look = (): Promise<unknown> => Promise.all([1, 2, 3].map(() => link.fetch({ offset: 0, maxWaitMs: 0, maxBytes: 1 })));
    await until("the partition has a leader", () => link.end().then(() => true, () => false));
    await look();
    await cluster.close();
    await until("the connections are closed", () => sockets() <= before, 5000);
    await deleteTopics(brokers, prefix);
  });

  it("that wants a login or TLS of a listener without them is refused with what to leave out, and none is left open", async () => {
    proxy = await proxyTo(`tcp://${brokers[0]}`);
    const options = { brokers: [new URL(proxy.url).host], requestTimeoutMs: 1000, topicPrefix: newTopicPrefix() };
    const login = kafkaBackend({ ...options, sasl: { mechanism: "plain", username: "someone", password: "secret" } });
    await expect(login.events.identity()).rejects.toMatchObject({ code: "StoreRefused", retryable: false, message: expect.stringContaining("it takes no SASL: leave `sasl` out") });
    const secure = kafkaBackend({ ...options, ssl: true });
    await expect(secure.events.identity()).rejects.toMatchObject({ message: expect.stringContaining("it does not speak TLS: leave `tls` (`ssl`) out") });
    await until("the connections are closed", () => proxy?.open() === 0, 5000);
    await Promise.all([login.close(), secure.close()]);
  });

  it("over which a topic cannot be created as it was asked for says why", async () => {
    const backend = kafkaBackend({ brokers, requestTimeoutMs: 1000, topicPrefix: newTopicPrefix(), replicationFactor: 100 });
    await expect(backend.events.identity()).rejects.toThrow(/[Rr]eplication.factor/);
    await backend.close();
  });
});

describe("a connection to what is no broker", () => {
  it("says where it went, and what may listen there", async () => {
    const server = createServer((socket) => socket.once("data", () => socket.end())).listen(0, "127.0.0.1");
    await once(server, "listening");
    const broker = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const cluster = kafkajsCluster({ brokers: [broker], clientId: "test", requestTimeoutMs: 5000, clock: systemClock });
    await expect(cluster.topics()).rejects.toThrow(`connecting to ${broker} failed: it closed the connection without an answer: no Kafka broker listens there, or one that wants TLS or SASL`);
    await cluster.close();
    server.close();
  });
});
