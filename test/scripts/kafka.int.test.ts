import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Kafka, logLevel } from "kafkajs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { newTopicPrefix, ownKafkaAvailable, sharedKafka, startKafka, kafkaAvailable, type KafkaCluster } from "../support/kafka.ts";
import { freePorts } from "../../scripts/kafka/free-ports.ts";
import { QUICK_JVM } from "../../scripts/kafka/start-kafka.ts";

const repository = resolve(import.meta.dirname, "../..");
const START_MS = 180_000;

/** Where the launcher puts temporary data in these tests, so that what is left behind is seen. */
const scratch = mkdtempSync(join(tmpdir(), "tidemark-test-"));
const launched: ChildProcess[] = [];

afterEach(() => {
  for (const child of launched.splice(0)) child.kill("SIGKILL");
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Launched {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exited: Promise<unknown[]>;
}

function launch(args: readonly string[], variables: NodeJS.ProcessEnv = {}, command = process.execPath): Launched {
  const script = command === process.execPath ? ["--disable-warning=TimeoutNegativeWarning", "scripts/kafka/main.ts"] : [];
  const child = spawn(command, [...script, ...args], { cwd: repository, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, TMPDIR: scratch, JDK_JAVA_OPTIONS: QUICK_JVM.join(" "), ...variables } });
  launched.push(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  return { child, output: () => output, exited: once(child, "exit") };
}

/** Looked at every few milliseconds. */
async function until(condition: () => boolean, what: () => string, withinMs = START_MS): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`${what()} within ${withinMs} ms`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

const serves = ({ output }: Launched): Promise<void> => until(() => output().includes(" serves at "), () => `the launcher did not serve: ${output()}`);
const left = (): readonly string[] => readdirSync(scratch);

/** Processes whose command line names a folder of these tests. */
function brokerProcesses(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(join(scratch, "tidemark-kafka-"));
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Writes a record and answers its offset. */
async function roundTrip(brokers: readonly string[], replicationFactor = 1, topic = newTopicPrefix()): Promise<string | undefined> {
  const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
  const [admin, producer] = [kafka.admin(), kafka.producer()];
  await Promise.all([admin.connect(), producer.connect()]);
  try {
    await admin.createTopics({ topics: [{ topic, numPartitions: 1, replicationFactor }], waitForLeaders: true });
    const [report] = await producer.send({ topic, acks: -1, messages: [{ value: "hello" }] });
    return report?.baseOffset;
  } finally {
    await Promise.all([admin.disconnect(), producer.disconnect()]);
  }
}

describe.skipIf(!ownKafkaAvailable)("npm run kafka", () => {
  it("prints its address when it serves, and leaves nothing behind when it is told to end", { timeout: START_MS }, async () => {
    const [port] = (await freePorts(1)) as [number];
    const launcher = launch(["--port", String(port)]);
    await serves(launcher);
    expect(launcher.output()).toMatch(new RegExp(`serves at 127\\.0\\.0\\.1:${port}\nAs a store: kafka://127\\.0\\.0\\.1:${port}\n$`));
    expect(await roundTrip([`127.0.0.1:${port}`])).toBe("0");
    expect(brokerProcesses()).toHaveLength(1);
    const second = launch(["--port", String(port)]);
    expect(await second.exited).toEqual([1, null]);
    expect(second.output()).toBe(`port ${port} is in use: choose another with --port\n`);
    launcher.child.kill("SIGTERM");
    expect(await launcher.exited).toEqual([0, null]);
    expect(brokerProcesses()).toEqual([]);
    expect(left()).toEqual([]);
  });

  it.skipIf(!existsSync("/proc/self/cmdline"))("leaves nothing behind when it is killed with its broker running", { timeout: START_MS }, async () => {
    const launcher = launch(["--port", String((await freePorts(1))[0])]);
    await serves(launcher);
    expect(brokerProcesses()).toHaveLength(1);
    launcher.child.kill("SIGKILL");
    await until(() => brokerProcesses().length === 0 && left().length === 0, () => `left behind: ${brokerProcesses().join()} ${left().join()}`, 20_000);
  });

  it("ends when the process that started it is gone", { timeout: START_MS }, async () => {
    const port = String((await freePorts(1))[0]);
    // A shell that waits for it, as npm does.
    const parent = launch(["-c", `"${process.execPath}" --disable-warning=TimeoutNegativeWarning scripts/kafka/main.ts --port ${port} & wait`], {}, "sh");
    await serves(parent);
    parent.child.kill("SIGKILL");
    await until(() => brokerProcesses().length === 0 && left().length === 0, () => `left behind: ${brokerProcesses().join()} ${left().join()}`, 20_000);
  });

  it("says in one line what is missing, and names the compose file", async () => {
    const folder = mkdtempSync(join(scratch, "path-"));
    const noMaven = launch([], { PATH: folder, XDG_CACHE_HOME: folder });
    await noMaven.exited;
    expect(noMaven.output()).toBe("fetching Kafka 4.4.0 from Maven Central, once\nKafka 4.4.0 is fetched by Maven, and there is no mvn on the PATH\nWithout Java and Maven: docker compose -f docs/kafka/compose.yaml up\n");
    mkdirSync(join(folder, "tidemark/kafka-4.4.0"), { recursive: true });
    const noJava = launch([], { PATH: folder, XDG_CACHE_HOME: folder, JAVA_HOME: "" });
    await noJava.exited;
    expect(noJava.output()).toBe("Kafka runs on Java, and there is no java on the PATH\nWithout Java and Maven: docker compose -f docs/kafka/compose.yaml up\n");
    expect(noJava.child.exitCode).toBe(1);
    rmSync(folder, { recursive: true });
    expect(left()).toEqual([]);
  });

  it("fetches the jars once when two start at the same time, and never shows half of them", async () => {
    const folder = mkdtempSync(join(scratch, "cache-"));
    // Stands for Maven: notes each call and fills the folder slowly.
    const maven = `#!/bin/sh\nfor a in "$@"; do case $a in -DoutputDirectory=*) d=\${a#*=};; esac; done\necho call >> "${folder}/calls"\nmkdir "$d"\necho 1 > "$d/a.jar"\n/bin/sleep 0.5\necho 2 > "$d/b.jar"\n`;
    writeFileSync(join(folder, "mvn"), maven, { mode: 0o755 });
    const cache = join(folder, "tidemark");
    mkdirSync(cache);
    // What one that was killed in the middle has left.
    mkdirSync(join(cache, "kafka-9.9.9.part-999999999-x"));
    const both = [1, 2].map(() => launch(["--version", "9.9.9"], { PATH: `${folder}:/bin:/usr/bin`, XDG_CACHE_HOME: folder, JAVA_HOME: folder }));
    await Promise.all(both.map(({ exited }) => exited));
    // Both came as far as a Java that is not there.
    for (const { output } of both) expect(output()).toContain("there is no java");
    expect(readFileSync(join(folder, "calls"), "utf8")).toBe("call\n");
    expect(readdirSync(cache)).toEqual(["kafka-9.9.9"]);
    expect(readdirSync(join(cache, "kafka-9.9.9")).toSorted()).toEqual(["a.jar", "b.jar"]);
    rmSync(folder, { recursive: true });
  });
});

describe.skipIf(!ownKafkaAvailable)("a cluster of a test's own", () => {
  let cluster: KafkaCluster;

  beforeAll(async () => {
    cluster = await startKafka({ brokers: 3, overrides: { "log.segment.bytes": "1048576" } });
  }, START_MS);
  afterAll(() => cluster?.close());

  it("has three replicas, and goes on without one of its nodes, which may come back", { timeout: START_MS }, async () => {
    const [first, second, third] = cluster.nodes as [(typeof cluster.nodes)[0], (typeof cluster.nodes)[0], (typeof cluster.nodes)[0]];
    const topic = newTopicPrefix();
    expect(await roundTrip(cluster.brokers, 3, topic)).toBe("0");
    second.pause();
    second.resume();
    third.pause();
    await third.kill();
    expect(third.pid).toBeUndefined();
    await cluster.serving([first, second]);
    expect(await roundTrip([first.address, second.address], 3, topic)).toBe("1");
    third.start();
    await cluster.serving();
    expect(await roundTrip([third.address], 3, topic)).toBe("2");
  });
});

describe.skipIf(!kafkaAvailable)("the Kafka that the files of a run share", () => {
  it("is the same for all who ask, and serves", { timeout: START_MS }, async () => {
    const [one, other] = await Promise.all([sharedKafka(), sharedKafka()]);
    expect(one).toEqual(other);
    expect(await roundTrip(one)).toBe("0");
  });
});
