/** A broker with TLS, SASL and an authorizer: what the printed rights allow, and what is refused without them. */
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import kafkajs, { type AclEntry, type SASLOptions } from "kafkajs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../../src/cli/run.ts";
import type { Append, AppendOutcome, EventStore } from "../../../src/store/event-store.ts";
import type { Backend } from "../../../src/store/backend.ts";
import { openStore } from "../../../src/app/open-store.ts";
import { kafkaBackend, kafkaState } from "../../../src/store/kafka/index.ts";
import { component } from "../../support/components.ts";
import { ownKafkaAvailable, startKafka, type KafkaCluster } from "../../support/kafka.ts";

const START_MS = 180_000;
const SECRET = "secret";
const folder = mkdtempSync(join(tmpdir(), "tidemark-tls-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(!ownKafkaAvailable || !component("javac").available)("a Kafka with TLS, SASL and an authorizer", () => {
  let cluster: KafkaCluster;
  let ca: string;
  const opened: Backend[] = [];

  beforeAll(async () => {
    ca = makeKeys();
    cluster = await startKafka({
      overrides: secured(),
      // How the first administrators of a cluster with SCRAM come into being.
      formatArguments: ["orders", "reader"].flatMap((name) => ["--add-scram", `SCRAM-SHA-512=[name=${name},password=${SECRET}]`]),
      client: { ssl: { ca: [ca] }, sasl: plain("admin") },
    });
  }, START_MS);
  afterEach(() => Promise.all(opened.splice(0).map((backend) => backend.close())));
  afterAll(() => cluster?.close());

  const plain = (username: string): SASLOptions => ({ mechanism: "plain", username, password: SECRET });
  const scram = (username: string): SASLOptions => ({ mechanism: "scram-sha-512", username, password: SECRET });

  function storeOf(sasl: SASLOptions, topicPrefix: string): Backend {
    const backend = kafkaBackend({ brokers: cluster.brokers, ssl: { ca: [ca] }, sasl, topicPrefix, partitions: 2, replicationFactor: 1, requestTimeoutMs: 2000, appendTimeoutMs: 3000 });
    opened.push(backend);
    return backend;
  }

  /** Grants what the command line prints. */
  async function grant(...args: readonly string[]): Promise<void> {
    let printed = "";
    expect(await run(["kafka", "acls", ...args], (text) => (printed += text), {})).toBe(0);
    const acl = printed.trim().split("\n").flatMap(entriesOf);
    const admin = new kafkajs.Kafka({ brokers: [...cluster.brokers], ssl: { ca: [ca] }, sasl: plain("admin"), logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.createAcls({ acl });
    await admin.disconnect();
  }

  it("lets a service with the printed rights do all that it does, and stops it without them", { timeout: START_MS }, async () => {
    const before = storeOf(scram("orders"), "shop");
    expect(await before.events.append([appendOf("order-1", 0)])).toMatchObject([{ kind: "refused" }]);
    await grant("--topic-prefix", "shop", "--principal", "User:orders");
    const { events, snapshots } = storeOf(scram("orders"), "shop");
    expect(await appended(events, appendOf("order-1", 0))).toMatchObject({ kind: "committed", version: 1 });
    expect((await events.readStream("order-1")).events).toHaveLength(1);
    const snapshot = { stream: "order-1", version: 1, eventId: "e", position: {}, schemaVersion: 1, state: "{}", window: "[]", checksum: "c", takenAt: 1 };
    await snapshots?.save([snapshot]);
    expect(await snapshots?.load("order-1")).toEqual(snapshot);
    const state = kafkaState<number>({ brokers: cluster.brokers, ssl: { ca: [ca] }, sasl: scram("orders"), topicPrefix: "shop", name: "totals", partitions: 1, replicationFactor: 1 });
    await state.put("k", 1, 1);
    expect(await state.get("k")).toMatchObject({ state: 1 });
    await state.close();
    // The prefix ends at its dot.
    expect(await storeOf(scram("orders"), "shop2").events.append([appendOf("order-1", 0)])).toMatchObject([{ kind: "refused" }]);
  });

  it("lets a reader read, and write nothing", { timeout: START_MS }, async () => {
    await grant("--topic-prefix", "shop3", "--principal", "User:orders", "--category", "order");
    await grant("--topic-prefix", "shop3", "--principal", "User:reader", "--category", "order", "--read-only");
    const writer = storeOf(plain("orders"), "shop3").events;
    expect(await appended(writer, appendOf("order-1", 0))).toMatchObject({ kind: "committed" });
    // Rights for one category are no rights for another one.
    expect(await writer.append([appendOf("cart-1", 0)])).toMatchObject([{ kind: "refused" }]);
    const reader = storeOf(plain("reader"), "shop3").events;
    expect((await reader.readStream("order-1")).version).toBe(1);
    expect(await reader.append([appendOf("order-1", 1)])).toMatchObject([{ kind: "refused" }]);
    expect((await writer.readStream("order-1")).version).toBe(1);
  });

  it("is reached by a URL, and refuses a wrong password and a certificate of strangers by name", { timeout: START_MS }, async () => {
    const address = cluster.brokers.join(",");
    const url = (password: string, parameters: string): string => `kafka://admin:${password}@${address}/?topicPrefix=url&partitions=1&requestTimeoutMs=1000&sasl=plain${parameters}`;
    const strangers = await openStore(url(SECRET, "&tls=true"));
    opened.push(strangers);
    await expect(strangers.events.readStream("order-1")).rejects.toThrow(/self-signed certificate/);
    const wrong = kafkaBackend({ brokers: cluster.brokers, ssl: { ca: [ca] }, sasl: { ...plain("admin"), password: "wrong" } as SASLOptions, requestTimeoutMs: 1000 });
    opened.push(wrong);
    await expect(wrong.events.readStream("order-1")).rejects.toThrow(/[Aa]uthentication/);
  });
});

/** Keys for the broker, signed by themselves; the certificate. */
function makeKeys(): string {
  const store = join(folder, "broker.p12");
  const password = ["-storepass", "changeit", "-storetype", "PKCS12", "-keystore", store, "-alias", "broker"];
  execFileSync("keytool", ["-genkeypair", "-keyalg", "EC", "-dname", "CN=localhost", "-validity", "2", "-ext", "SAN=IP:127.0.0.1,DNS:localhost", "-ext", "BC=ca:true", ...password], { stdio: "ignore" });
  execFileSync("keytool", ["-exportcert", "-rfc", "-file", join(folder, "ca.pem"), ...password], { stdio: "ignore" });
  return readFileSync(join(folder, "ca.pem"), "utf8");
}

function secured(): Record<string, string> {
  const store = join(folder, "broker.p12");
  const users = ["admin", "orders", "reader"].map((name) => `user_${name}="${SECRET}"`).join(" ");
  return {
    "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.clients.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="${SECRET}" ${users};`,
    "listener.name.clients.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "ssl.keystore.location": store,
    "ssl.keystore.password": "changeit",
    "ssl.keystore.type": "PKCS12",
    "ssl.truststore.location": store,
    "ssl.truststore.password": "changeit",
    "ssl.truststore.type": "PKCS12",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    // The controller's listener knows nobody by name.
    "super.users": "User:admin;User:ANONYMOUS",
  };
}

/** A command of kafka-acls.sh as what kafkajs takes. */
function entriesOf(command: string): readonly AclEntry[] {
  const words = command.split(" ").map((word) => word.replaceAll("'", ""));
  const after = (option: string): readonly string[] => words.flatMap((word, index) => (word === option ? [words[index + 1] ?? ""] : []));
  const [topic] = after("--topic");
  const [transactionalId] = after("--transactional-id");
  const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;
  const operations: Readonly<Record<string, number>> = { Read: AclOperationTypes.READ, Write: AclOperationTypes.WRITE, Create: AclOperationTypes.CREATE, DescribeConfigs: AclOperationTypes.DESCRIBE_CONFIGS };
  return after("--operation").map((operation) => ({
    resourceType: topic === undefined ? AclResourceTypes.TRANSACTIONAL_ID : AclResourceTypes.TOPIC,
    resourceName: topic ?? transactionalId ?? "",
    resourcePatternType: after("--resource-pattern-type")[0] === "prefixed" ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL,
    principal: after("--allow-principal")[0] ?? "",
    host: "*",
    operation: operations[operation] ?? 0,
    permissionType: AclPermissionTypes.ALLOW,
  }));
}

function appendOf(stream: string, expected: number): Append {
  const id = randomUUID();
  return { stream, expected, events: [{ id, type: "Happened", data: "{}", metadata: { correlationId: id, causationId: id, commandId: id }, recordedAt: 1 }] };
}

/** Rights take a moment to reach the broker. */
async function appended(store: EventStore, append: Append): Promise<AppendOutcome | undefined> {
  for (let attempt = 1; ; attempt++) {
    const [outcome] = await store.append([append]);
    if (outcome?.kind === "committed" || attempt === 20) return outcome;
  }
}
