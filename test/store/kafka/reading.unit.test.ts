/** Reading on a model of Kafka: the tailer's rules (partition-log.ts, T1 to T7), pages of several lanes, and the topics that a store demands. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EventStore, LogPage, ReadLogOptions } from "../../../src/store/event-store.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost } from "../../../src/store/kafka/cluster.ts";
import { memoryIndex } from "../../../src/store/kafka/index.ts";
import type { LogIndex } from "../../../src/store/kafka/log-index.ts";
import { appendOf, foreignBatch, ModelWorld, newEvent, TOPIC } from "./model-world.ts";

let world: ModelWorld;

beforeEach(() => {
  world = new ModelWorld();
});

afterEach(async () => {
  world.kafka.beforeRead = () => undefined;
  world.kafka.beforeAnswer = () => undefined;
  await world.close();
});

const coded = (code: string, word = ""): unknown => expect.objectContaining({ code, message: expect.stringContaining(word) as string });

/** An index that outlives the store that it is given to. */
function kept(index: LogIndex = memoryIndex()): LogIndex {
  return {
    lane: (lane) => index.lane(lane),
    apply: (lane, step) => index.apply(lane, step),
    reset: (lane) => index.reset(lane),
    versionOf: (stream) => index.versionOf(stream),
    stream: (stream, first, last) => index.stream(stream, first, last),
    log: (lane, from, to, most) => index.log(lane, from, to, most),
    claimAt: (lane, offset) => index.claimAt(lane, offset),
    hasClaim: (lane, nonce) => index.hasClaim(lane, nonce),
    close: () => undefined,
  };
}

const rewindsTold = (): number => world.environment.logger.lines.filter(({ level, message }) => level === "error" && message.includes("rewound")).length;

/** Holds back what a client is answered, until the result is called. */
function holdBack(client: string, what: "topics" | "fetch"): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  world.kafka.beforeAnswer = (asking, asked) => (asking === client && asked === what ? promise : undefined);
  return async () => {
    world.kafka.beforeAnswer = () => undefined;
    resolve();
    await world.environment.clock.advance(10);
  };
}

async function pagesOf(store: EventStore, options: ReadLogOptions = {}): Promise<LogPage[]> {
  const pages: LogPage[] = [];
  for await (const page of store.readAll(options)) pages.push(page);
  return pages;
}

const errorOf = (promise: Promise<unknown>): Promise<unknown> => world.when(promise.then(() => undefined, (error: unknown) => error));

describe("a log that begins above its start", () => {
  it("is refused by name, and nothing is read from where it begins (T4)", async () => {
    const a = world.store("a");
    for (let version = 0; version < 3; version++) await world.commit(a, version);
    const log = world.kafka.partition(TOPIC);
    log.start = 2;
    log.batches = log.batches.slice(2);
    const fresh = world.store("b");
    expect(await errorOf(fresh.readStream("order-1"))).toEqual(coded("StoreCorrupt", "retention"));
    expect(await errorOf(pagesOf(fresh))).toEqual(coded("StoreCorrupt"));
    expect(await world.append(fresh, 0)).toMatchObject({ kind: "refused", code: "corrupt", retryable: false });
    expect(await world.read(a)).toHaveLength(3);
  });

  it("is read on with an index that holds what is gone", async () => {
    const index = kept();
    const a = world.store("a", { index });
    for (let version = 0; version < 3; version++) await world.commit(a, version);
    await world.when(a.close());
    const log = world.kafka.partition(TOPIC);
    log.start = 2;
    log.batches = log.batches.slice(2);
    const again = world.store("b", { index });
    expect(await world.read(again)).toHaveLength(3);
    await world.commit(again, 3);
  });
});

describe("an index that is resumed", () => {
  it("goes on where it was, and asks for nothing before that", async () => {
    const index = kept();
    const a = world.store("a", { index });
    for (let version = 0; version < 3; version++) await world.commit(a, version);
    await world.when(a.close());
    const next = index.lane("order/0")?.next ?? 0;
    expect(next).toBe(4);
    const b = world.store("b", { index });
    expect(await world.read(b)).toHaveLength(3);
    await world.commit(b, 3);
    expect(index.lane("order/0")).toMatchObject({ next: 6, claim: { writer: "b", offset: 4 } });
    expect(index.claimAt("order/0", 3)).toMatchObject({ writer: "a" });
  });

  it("whose last event is not in the log any more is built again, and that is said aloud (T5)", async () => {
    const index = kept();
    const a = world.store("a", { index });
    for (let version = 0; version < 3; version++) await world.commit(a, version);
    await world.when(a.close());
    // The log was restored from an older state, and went on differently up to beyond where the index ends.
    world.kafka.cutOff(TOPIC, 0, 2);
    const other = world.store("other");
    for (let version = 1; version < 5; version++) await world.commit(other, version);
    const b = world.store("b", { index });
    await errorOf(b.readStream("order-1"));
    expect((await world.read(b)).map(({ id }) => id)).toEqual(world.standing().ids);
    expect(world.environment.logger.lines.some(({ level, message }) => level === "error" && message.includes("rewound"))).toBe(true);
  });

  it("of a topic that was deleted and created again is refused, with what to do", async () => {
    const index = kept();
    const a = world.store("a", { index });
    await world.commit(a, 0);
    await world.when(a.close());
    world.kafka.delete(TOPIC);
    world.kafka.create({ name: TOPIC, partitions: 1, replicationFactor: 1, settings: { "message.timestamp.type": "LogAppendTime" } });
    const b = world.store("b", { index });
    expect(await errorOf(b.readStream("order-1"))).toEqual(coded("StoreRewound", "deleted and created again"));
    expect(await world.append(b, 0)).toMatchObject({ kind: "refused", code: "rewound" });
  });

  it("of a topic that is gone while it is read and written is refused once it has been gone for the bound of a request", async () => {
    const a = world.store("a", { requestTimeoutMs: 2000, appendTimeoutMs: 20_000 });
    await world.commit(a, 0);
    const following = (async () => {
      for await (const page of a.subscribe()) if (page.events.some(({ version }) => version === 9)) return;
    })();
    await world.environment.clock.advance(100);
    world.kafka.delete(TOPIC);
    const began = world.environment.clock.elapsed();
    expect(await errorOf(following)).toEqual(coded("StoreRewound", "does not exist any more"));
    expect(world.environment.clock.elapsed() - began).toBeLessThan(4000);
    expect(await errorOf(a.readStream("order-1"))).toEqual(coded("StoreRewound", "does not exist any more"));
    expect(await world.append(a, 1)).toMatchObject({ kind: "refused", code: "rewound" });
  });
});

describe("a tailer", () => {
  /** A writer and a reader that has read all of its two events. */
  async function inStep() {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    await world.commit(a, 1);
    expect(await world.read(b)).toHaveLength(2);
    return { a, b };
  }

  it("finds that a log was cut off when another leader's batches come, and tells those who follow it (T5)", async () => {
    const { b } = await inStep();
    const following = (async () => {
      for await (const page of b.subscribe()) if (page.events.some(({ version }) => version === 9)) return;
    })();
    await world.environment.clock.advance(100);
    // Unclean: the last event is gone, and before b looks again the log is longer than it was.
    world.kafka.beforeRead = () => {
      throw new RequestLost("no leader", { sent: true });
    };
    world.kafka.cutOff(TOPIC, 0, 2);
    await world.environment.clock.advance(50);
    world.kafka.beforeRead = () => undefined;
    const c = world.store("c");
    for (let version = 1; version < 4; version++) await world.commit(c, version);
    expect(await errorOf(following)).toEqual(coded("StoreRewound"));
    expect((await world.read(b)).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("that is answered out of range, while a reader finds the log cut off, does not take it for one whose beginning was deleted (T4)", async () => {
    const { b } = await inStep();
    const answer = holdBack("b", "topics");
    world.kafka.cutOff(TOPIC, 0, 2);
    await world.environment.clock.advance(10);
    const read = world.read(b);
    await world.environment.clock.advance(10);
    expect(rewindsTold()).toBe(1);
    await answer();
    expect((await read).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("that is answered out of range finds that the log was cut off, also when it has grown again by then (T4)", async () => {
    const { a, b } = await inStep();
    await world.when(a.close());
    const answer = holdBack("b", "topics");
    world.kafka.cutOff(TOPIC, 0, 2);
    await world.environment.clock.advance(10);
    const c = world.store("c");
    for (let version = 1; version < 4; version++) await world.commit(c, version);
    await answer();
    expect(rewindsTold()).toBe(1);
    expect((await world.read(b)).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("does not fold what it had asked for before a reader found the log cut off (T4)", async () => {
    const { a, b } = await inStep();
    const answer = holdBack("b", "fetch");
    await world.commit(a, 2);
    world.kafka.cutOff(TOPIC, 0, 2);
    const read = world.read(b);
    await world.environment.clock.advance(10);
    expect(rewindsTold()).toBe(1);
    await answer();
    expect((await read).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("finds that a log was cut off also where nothing but a claim was lost (T5)", async () => {
    const [a, b, reader] = [world.store("a"), world.store("b"), world.store("reader")];
    await world.commit(a, 0);
    world.kafka.aroundProduce = ({ batch, client }, apply) => {
      if (client === "b" && batch.sequence > 0) throw new BrokerRefusal(KAFKA_ERROR.invalidRecord, "not these");
      return apply();
    };
    expect(await world.append(b, 1)).toMatchObject({ kind: "refused" });
    expect(world.records().at(-1)).toBe("claim");
    expect(await world.read(reader)).toHaveLength(1);
    world.kafka.beforeRead = () => {
      throw new RequestLost("no leader", { sent: true });
    };
    world.kafka.cutOff(TOPIC, 0, 2);
    await world.environment.clock.advance(50);
    world.kafka.beforeRead = () => undefined;
    const c = world.store("c");
    await world.commit(c, 1);
    await errorOf(reader.readStream("order-1"));
    expect((await world.read(reader)).map(({ id }) => id)).toEqual(world.standing().ids);
    expect(world.standing().ids).toHaveLength(2);
  });

  it("finds that a log was cut off also when it has grown again to just where it was read (T3)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    await world.commit(a, 1);
    await world.commit(a, 2);
    await world.when(a.close());
    expect(await world.read(b)).toHaveLength(3);
    const answer = holdBack("b", "fetch");
    world.kafka.cutOff(TOPIC, 0, 2);
    const c = world.store("c");
    await world.commit(c, 1);
    expect(world.kafka.partition(TOPIC).end).toBe(4);
    const read = world.read(b);
    await world.environment.clock.advance(10);
    await answer();
    expect((await read).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("takes no log for cut off whose new leader does not know yet how much of it is replicated (T5)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    await world.commit(store, 1);
    const log = world.kafka.partition(TOPIC);
    log.leaderEpoch++;
    log.highWatermark = 2;
    world.kafka.beforeRead = (_topic, _partition, what) => {
      if (what === "end") throw new BrokerRefusal(KAFKA_ERROR.offsetNotAvailable, "not yet");
    };
    world.kafka.aroundProduce = () => {
      throw new BrokerRefusal(KAFKA_ERROR.outOfOrderSequence, "who are you?");
    };
    const appended = store.append([appendOf("order-1", 2)]);
    await world.environment.clock.advance(300);
    world.kafka.reached(log, log.end);
    world.kafka.beforeRead = () => undefined;
    world.kafka.aroundProduce = (_, apply) => apply();
    expect(await world.when(appended)).toMatchObject([{ kind: "committed", version: 3 }]);
    expect(rewindsTold()).toBe(0);
  });

  it("tells readers after a while that the log cannot be read, and goes on when it can (T6)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    await world.environment.clock.advance(1000);
    for (const broken of ["fetch", "end"] as const) {
      world.kafka.beforeRead = (_topic, _partition, what) => {
        if (what === broken) throw new RequestLost("no answer", { sent: true });
      };
      // The log has gone on: what is here does not do.
      world.kafka.append(TOPIC, 0, foreignBatch());
      expect(await errorOf(store.readStream("order-1"))).toEqual(coded("StoreUnavailable"));
    }
    world.kafka.beforeRead = () => undefined;
    expect((await world.read(store)).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("asks for the end of the log after a reader's call began, not before (T3)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    await world.read(b);
    // A question that is under way: its answer comes when the log has gone on already, and does not do for those who ask later.
    const early = b.readStream("order-1");
    await a.append([appendOf("order-1", 1)]);
    const late = b.readStream("order-1");
    await world.when(early);
    expect((await world.when(late)).version).toBe(2);
  });

  it("does not read again what this process wrote (T2, T7)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    await world.environment.clock.advance(2000);
    let reads = 0;
    world.kafka.beforeRead = (topic) => void (topic === TOPIC && reads++);
    for (let version = 1; version < 50; version++) await store.append([appendOf("order-1", version)]);
    expect(reads).toBeLessThan(10);
    expect(await world.read(store)).toHaveLength(50);
  });
});

describe("pages of several lanes", () => {
  it("name every lane that was read to its end, claims included, and go on from there", async () => {
    const store = world.store("a", { partitions: 3 });
    for (let stream = 1; stream <= 6; stream++) await world.commit(store, 0, [newEvent()], `order-${stream}`);
    const pages = await world.when(pagesOf(store, { pageSize: 2 }));
    const { through } = pages.at(-1) as LogPage;
    const lanes = Object.keys(through).sort();
    for (const lane of lanes) expect(through[lane]).toBe(world.kafka.partition(TOPIC, Number(lane.split("/")[1])).end - 1);
    expect(pages.flatMap(({ events }) => events)).toHaveLength(6);
    await world.commit(store, 1, [newEvent()], "order-1");
    const rest = await world.when(pagesOf(store, { after: through }));
    expect(rest.flatMap(({ events }) => events)).toMatchObject([{ stream: "order-1", version: 2 }]);
  });

  it("end where they are asked to, and their head is that of the categories asked for", async () => {
    const store = world.store("a");
    await world.commit(store, 0, [newEvent()], "order-1");
    await world.commit(store, 0, [newEvent()], "cart-1");
    expect(await world.when(store.head?.(undefined, ["cart"]) as Promise<unknown>)).toEqual({ "cart/0": 1 });
    expect(await world.when(store.head?.() as Promise<unknown>)).toEqual({ "order/0": 1, "cart/0": 1 });
    const [page] = await world.when(pagesOf(store, { categories: ["cart"] }));
    expect(page?.events).toMatchObject([{ stream: "cart-1" }]);
  });
});

describe("a topic that is there already", () => {
  const create = (settings: Readonly<Record<string, string>>): void =>
    world.kafka.create({ name: TOPIC, partitions: 2, replicationFactor: 1, settings: { "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "LogAppendTime", "compression.type": "producer", ...settings } });

  it.each([
    ["cleanup.policy", "compact"],
    ["cleanup.policy", "compact,delete"],
    ["retention.ms", "604800000"],
    ["retention.bytes", "1000000"],
    ["message.timestamp.type", "CreateTime"],
    ["compression.type", "zstd"],
  ])("is refused with %s=%s, by name", async (setting, value) => {
    create({ [setting]: value });
    const store = world.store("a");
    expect(await world.append(store, 0)).toMatchObject({ kind: "refused", code: "topic-settings", retryable: false, message: expect.stringContaining(`${setting}=${value}`) as string });
    expect(await errorOf(store.readStream("order-1"))).toEqual(coded("StoreRefused", setting));
    expect(world.kafka.partition(TOPIC).end).toBe(0);
  });

  it("is used with its own number of partitions and its own bound, and warned about where it holds less safely", async () => {
    create({ "max.message.bytes": "20000", "min.insync.replicas": "1", "unclean.leader.election.enable": "true" });
    const store = world.store("a", { partitions: 12, replicationFactor: 3, minInsyncReplicas: 2 });
    await world.commit(store, 0);
    expect(await world.append(store, 1, [newEvent({ data: JSON.stringify("x".repeat(25_000)) })])).toMatchObject({ kind: "refused", code: "too-large" });
    const warned = world.environment.logger.lines.filter(({ level }) => level === "warn").map(({ message }) => message);
    for (const word of ["replication factor", "min.insync.replicas", "unclean.leader.election.enable"]) expect(warned.some((message) => message.includes(word))).toBe(true);
  });

  it("that got more partitions is refused: streams would be looked for in the wrong ones", async () => {
    const a = world.store("a");
    await world.commit(a, 0);
    const topic = world.kafka.topic(TOPIC);
    topic?.partitions.push({ topic: TOPIC, partition: 1, batches: [], end: 0, highWatermark: 0, start: 0, producers: new Map(), leaderEpoch: 0, waiting: new Set() });
    const b = world.store("b");
    expect(await errorOf(b.readStream("order-1"))).toEqual(coded("StoreRefused", "partitions"));
  });

  it("whose settings may not be read is used, with a warning", async () => {
    create({});
    const client = world.kafka.client("a");
    client.topicSettings = async () => {
      throw new BrokerRefusal(KAFKA_ERROR.topicAuthorizationFailed, "not allowed");
    };
    await world.commit(world.store("a", { cluster: client }), 0);
    expect(world.environment.logger.lines.some(({ level, message }) => level === "warn" && message.includes("could not be verified"))).toBe(true);
  });
});
