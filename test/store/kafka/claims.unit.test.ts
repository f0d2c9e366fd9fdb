/** The claim protocol on a model of Kafka, one rule after the other (partition-writer.ts, P1 to P10). */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AppendOutcome } from "../../../src/store/event-store.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost, type Produced } from "../../../src/store/kafka/cluster.ts";
import { marksOf } from "../../../src/store/kafka/record-format.ts";
import { eachRecord, type Batch } from "../../../src/store/kafka/record-batch.ts";
import type { ProduceCall } from "./model-kafka.ts";
import { appendOf, foreignBatch, ModelWorld, newEvent, TOPIC, TRANSACTIONAL_ID } from "./model-world.ts";

let world: ModelWorld;

beforeEach(() => {
  world = new ModelWorld();
});

afterEach(async () => {
  world.kafka.aroundProduce = (_, apply) => apply();
  world.kafka.aroundInit = (_, apply) => apply();
  world.kafka.beforeRead = () => undefined;
  await world.close();
});

const lost = (): never => {
  throw new RequestLost("no answer", { sent: true });
};
const refusal = (code: number): never => {
  throw new BrokerRefusal(code, `error ${code}`);
};

/** Ids of the events, or the kind, of a batch's records. */
function contentOf(batch: Batch): string[] {
  const content: string[] = [];
  eachRecord(batch, (record) => {
    const { kind, id } = marksOf(record);
    content.push(kind ?? id ?? "");
  });
  return content;
}

const isEvents = ({ topic, batch }: ProduceCall): boolean => topic === TOPIC && !contentOf(batch).some((each) => each === "claim" || each === "stamp");

/** Does something around the next batch of events, and nothing around the later ones. */
function aroundNext(act: (apply: () => Produced, call: ProduceCall) => Promise<Produced> | Produced, which: (call: ProduceCall) => boolean = isEvents): void {
  let done = false;
  world.kafka.aroundProduce = (call, apply) => {
    if (done || !which(call)) return apply();
    done = true;
    return act(apply, call);
  };
}

const sentEvents = (): ProduceCall[] => world.kafka.produced.filter(isEvents);

describe("a partition", () => {
  it("is claimed once, and from then on each group is one request whose records name the claim", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    await world.commit(store, 1);
    const outcomes = await world.when(store.append([appendOf("order-1", 2), appendOf("order-2", 0, [newEvent(), newEvent()]), appendOf("order-3", "any")]));
    expect(outcomes.map(({ kind }) => kind)).toEqual(["committed", "committed", "committed"]);
    expect(world.kafka.produced.filter(({ topic }) => topic === TOPIC).map(({ batch }) => [batch.count, batch.sequence])).toEqual([[1, 0], [1, 1], [1, 2], [4, 3]]);
    expect(world.standing().claims).toMatchObject([{ offset: 0, writer: "a", producerId: 1000, epoch: 0 }]);
    expect(world.standing().events).toHaveLength(6);
  });

  it("is read after it was claimed: what its former owner wrote until then is seen (P1)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(b, 0);
    expect(await world.read(a)).toHaveLength(1);
    const late = newEvent();
    world.kafka.aroundInit = async (_, apply) => {
      const identity = apply();
      world.kafka.aroundInit = (_id, next) => next();
      expect(await b.append([appendOf("order-1", 1, [late])])).toMatchObject([{ kind: "committed" }]);
      return identity;
    };
    expect(await world.append(a, 1)).toEqual({ kind: "conflict", actual: 2 });
    expect(world.standing().ids.at(-1)).toBe(late.id);
  });

  it("is not ours where another's record stands at our claim's offset: then nothing is written, and it is claimed anew (P2)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    // The coordinator has lost its log: it gives out the same producer id and epoch once more, and the broker takes the second claim for the first.
    world.kafka.aroundInit = (_, apply) => {
      world.kafka.aroundInit = (_id, next) => next();
      return { ...apply(), epoch: 0 };
    };
    await world.commit(b, 1);
    const claims = world.standing().claims;
    expect(claims.map(({ writer, epoch }) => [writer, epoch])).toEqual([["a", 0], ["b", 2]]);
    expect(world.records()).toEqual(["claim", expect.any(String), "claim", expect.any(String)]);
    await world.commit(a, 2);
  });

  it("is not ours where a later claim stands already when we have read ours (P2)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(b, 0);
    const own = newEvent();
    aroundNext(
      async (apply) => {
        const produced = apply();
        expect(await b.append([appendOf("order-1", 1, [own])])).toMatchObject([{ kind: "committed" }]);
        return produced;
      },
      ({ client, batch }) => client === "a" && contentOf(batch)[0] === "claim",
    );
    expect(await world.append(a, "any")).toMatchObject({ kind: "committed", version: 3 });
    expect(world.standing().claims.map(({ writer }) => writer)).toEqual(["b", "a", "b", "a"]);
    expect(world.records()).toHaveLength(world.standing().ids.length + 4);
  });

  it("whose producer id was forgotten: the old one is stamped, so that the broker keeps its writer out (P3)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    world.kafka.forgetTransactionalId(TRANSACTIONAL_ID);
    await world.commit(b, 1);
    expect(world.standing().claims.map(({ producerId }) => producerId)).toEqual([1000, 1001]);
    expect(world.records()).toEqual(["claim", expect.any(String), "claim", "stamp", expect.any(String)]);
    expect(world.kafka.partition(TOPIC).producers.get(1000)).toMatchObject({ epoch: 32_767 });
    const before = world.records().length;
    expect(await world.append(a, 1)).toEqual({ kind: "conflict", actual: 2 });
    // What the former owner sent was rejected by the broker: nothing of it is in the log but its new claim.
    expect(world.records().slice(before)).toEqual(["claim"]);
  });

  it("does nothing before the old id is stamped: a claim that finds no connection for it leaves the stamp to the next (P3)", async () => {
    const [a, b] = [world.store("a"), world.store("b", { appendTimeoutMs: 2000 })];
    await world.commit(a, 0);
    world.kafka.forgetTransactionalId(TRANSACTIONAL_ID);
    let away = true;
    world.kafka.aroundProduce = async ({ topic, client, batch }, apply) => {
      if (away && topic === TOPIC && client === "b" && contentOf(batch).includes("stamp")) throw new RequestLost("no connection", { sent: false });
      return apply();
    };
    expect(await world.append(b, 1)).toMatchObject({ kind: "refused", code: "unavailable", retryable: true });
    expect(world.records()).not.toContain("stamp");
    away = false;
    await world.commit(b, 1);
    const stamped = world.records().indexOf("stamp");
    expect(stamped).toBeGreaterThan(0);
    expect(world.records().slice(stamped + 1)).toEqual([expect.any(String)]);
    expect(world.kafka.partition(TOPIC).producers.get(1000)).toMatchObject({ epoch: 32_767 });
  });

  it("is open to all where the coordinator forgot its id while somebody was claiming: the id that is given out now is not fenced (P3)", async () => {
    const [a, b, c] = [world.store("a"), world.store("b"), world.store("c")];
    await world.commit(c, 0);
    // a has drawn an epoch of the old id; b draws one of the new id and claims; then comes the claim of a, before b has stamped the old id.
    let told = (): void => undefined;
    const claimed = new Promise<void>((resolve) => (told = resolve));
    let stands = (): void => undefined;
    const late = new Promise<void>((resolve) => (stands = resolve));
    const sent = { a: 0, b: 0 };
    let other: Promise<unknown> | undefined;
    world.kafka.aroundProduce = async ({ topic, client }, apply) => {
      if (topic !== TOPIC || (client !== "a" && client !== "b")) return apply();
      const turn = ++sent[client];
      if (client === "a" && turn === 1) {
        world.kafka.forgetTransactionalId(TRANSACTIONAL_ID);
        other = b.append([appendOf("order-2", 0)]);
        await claimed;
      }
      if (client === "b" && turn === 2) await late;
      const produced = apply();
      if (client === "b") told();
      else stands();
      return produced;
    };
    await world.commit(a, 1);
    const drawn = world.kafka.initProducerId(TRANSACTIONAL_ID);
    const { producers } = world.kafka.partition(TOPIC);
    expect(drawn.producerId).toBe(1001);
    expect(producers.get(1001)?.epoch).toBeLessThanOrEqual(drawn.epoch);
    expect(producers.get(1000)).toMatchObject({ epoch: 32_767 });
    await world.when(Promise.resolve(other));
  });

  it("is claimed on when all epochs of an id are used up", async () => {
    world.kafka.lastEpoch = 2;
    const stores = [world.store("a"), world.store("b")] as const;
    for (let version = 0; version < 8; version++) await world.commit(stores[(version % 2) as 0 | 1], version);
    const { claims } = world.standing();
    // Before the old id is stamped another epoch of the new one is drawn (P3).
    expect(claims.map(({ producerId, epoch }) => [producerId, epoch])).toEqual([[1000, 0], [1000, 1], [1000, 2], [1001, 0], [1001, 2], [1002, 0], [1002, 2], [1003, 0]]);
    expect(world.records().filter((each) => each === "stamp")).toHaveLength(3);
  });

  it("is claimed anew after an hour, also by an owner at rest, and not where another has it (P8)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    await world.environment.clock.advance(3_600_000);
    expect(world.standing().claims.map(({ writer, epoch }) => [writer, epoch])).toEqual([["a", 0], ["a", 1]]);
    await world.commit(b, 1);
    await world.environment.clock.advance(3_600_000);
    expect(world.standing().claims.map(({ writer }) => writer)).toEqual(["a", "a", "b", "b"]);
    await world.commit(a, 2);
  });

  it("that was just taken over is left alone for a while, then taken back (P9)", async () => {
    const options = { minHoldMs: 1000 };
    const [a, b] = [world.store("a", options), world.store("b", options)];
    const { clock } = world.environment;
    await world.commit(a, 0);
    await world.read(b);
    const began = clock.elapsed();
    await world.commit(b, 1);
    expect(clock.elapsed() - began).toBeLessThan(1700);
    const taken = clock.elapsed();
    await world.commit(a, 2);
    expect(clock.elapsed() - taken).toBeGreaterThanOrEqual(900);
    expect(clock.elapsed() - taken).toBeLessThan(1700);
  });

  it("that this process is not to claim is refused, with the name of who has it", async () => {
    const [a, b] = [world.store("a"), world.store("b", { claimOnly: ["order/7"] })];
    await world.commit(a, 0);
    expect(await world.append(b, 1)).toMatchObject({ kind: "refused", code: "not-owner", retryable: true, ownerHint: "a" });
    expect(await world.read(b)).toHaveLength(1);
  });
});

describe("a batch", () => {
  it("whose answer is lost is sent again as the same bytes, and stands once (P4)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    aroundNext((apply) => {
      apply();
      return lost();
    });
    await world.commit(store, 1, [newEvent(), newEvent()]);
    const [, first, second] = sentEvents();
    expect(second?.batch.bytes.equals(first?.batch.bytes as Buffer)).toBe(true);
    expect(world.standing().ids).toHaveLength(3);
  });

  it("that is sent again takes in nothing of what came meanwhile (P4)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    let meanwhile: Promise<readonly AppendOutcome[]> | undefined;
    aroundNext((apply) => {
      apply();
      meanwhile = store.append([appendOf("order-2", 0), appendOf("order-3", 0)]);
      return lost();
    });
    await world.commit(store, 1);
    expect(await world.when(meanwhile as Promise<readonly AppendOutcome[]>)).toMatchObject([{ kind: "committed" }, { kind: "committed" }]);
    expect(sentEvents().map(({ batch }) => batch.count)).toEqual([1, 1, 1, 2]);
    expect(world.standing().ids).toHaveLength(4);
  });

  it("that stands behind a record of somebody else's is committed where it stands (P5)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    world.kafka.append(TOPIC, 0, foreignBatch());
    const outcome = await world.append(store, 1);
    expect(outcome).toEqual({ kind: "committed", version: 2, position: { "order/0": 3 } });
    expect(await world.read(store)).toMatchObject([{ version: 1 }, { version: 2, position: { "order/0": 3 } }]);
    await world.commit(store, 2);
    expect(world.standing().claims).toHaveLength(1);
  });

  it.each([
    ["on what its stream held", 1, { kind: "conflict", actual: 2 }],
    ["on any version", "any" as const, { kind: "committed", version: 3 }],
  ])("that a broker without a fence takes after another's claim counts for nothing: it is decided anew, %s (P5, P7)", async (_, expected, answer) => {
    world.kafka.fenced = false;
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    const theirs = newEvent();
    const mine = newEvent();
    aroundNext(async (apply) => {
      // Another process takes the partition over while our batch is on its way.
      expect(await world.when(b.append([appendOf("order-1", 1, [theirs])]))).toMatchObject([{ kind: "committed" }]);
      return apply();
    }, (call) => isEvents(call) && call.client === "a");
    const appending = a.append([appendOf("order-1", expected, [mine])]);
    expect(await world.when(appending)).toMatchObject([answer]);
    const { ids } = world.standing();
    expect(ids.filter((id) => id === mine.id)).toHaveLength(expected === "any" ? 1 : 0);
    expect(ids[1]).toBe(theirs.id);
    expect(world.records().filter((each) => each === mine.id)).toHaveLength(expected === "any" ? 2 : 1);
  });

  it("that stands, and whose owner was fenced before it heard of it, is committed (P6)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    const mine = newEvent();
    aroundNext(async (apply) => {
      apply();
      expect(await b.append([appendOf("order-2", 0)])).toMatchObject([{ kind: "committed" }]);
      return lost();
    });
    expect(await world.append(a, 1, [mine])).toMatchObject({ kind: "committed", version: 2 });
    expect(world.standing().ids.filter((id) => id === mine.id)).toHaveLength(1);
    expect(world.records().filter((each) => each === mine.id)).toHaveLength(1);
  });

  it("that was lost on its way, and whose owner was fenced, is written once under a new claim (P6, P7)", async () => {
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    const mine = newEvent();
    aroundNext(async () => {
      expect(await b.append([appendOf("order-2", 0)])).toMatchObject([{ kind: "committed" }]);
      return lost();
    });
    expect(await world.append(a, 1, [mine])).toMatchObject({ kind: "committed", version: 2 });
    expect(world.records().filter((each) => each === mine.id)).toHaveLength(1);
  });

  it.each([
    ["NOT_LEADER_OR_FOLLOWER", KAFKA_ERROR.notLeaderOrFollower],
    ["REQUEST_TIMED_OUT", KAFKA_ERROR.requestTimedOut],
    ["NOT_ENOUGH_REPLICAS_AFTER_APPEND", KAFKA_ERROR.notEnoughReplicasAfterAppend],
    ["OUT_OF_ORDER_SEQUENCE", KAFKA_ERROR.outOfOrderSequence],
    ["INVALID_PRODUCER_EPOCH", KAFKA_ERROR.invalidProducerEpoch],
    ["an error of tomorrow", 4711],
  ])("that stands although it was answered with %s is committed, once (P6)", async (_, code) => {
    const store = world.store("a");
    await world.commit(store, 0);
    const mine = newEvent();
    aroundNext((apply) => {
      apply();
      return refusal(code);
    });
    expect(await world.append(store, 1, [mine])).toMatchObject({ kind: "committed", version: 2 });
    expect(world.records().filter((each) => each === mine.id)).toHaveLength(1);
    await world.commit(store, 2);
  });

  it.each([
    ["too large", KAFKA_ERROR.messageTooLarge, "too-large", false],
    ["not allowed", KAFKA_ERROR.topicAuthorizationFailed, "unavailable", false],
    ["not to the broker's liking", KAFKA_ERROR.invalidRecord, "invalid", false],
  ])("that the broker finds %s is refused for good, and the next one goes on (P6)", async (_, code, name, retryable) => {
    const store = world.store("a");
    await world.commit(store, 0);
    aroundNext(() => refusal(code));
    expect(await world.append(store, 1)).toMatchObject({ kind: "refused", code: name, retryable });
    await world.commit(store, 1);
    expect(world.standing().ids).toHaveLength(2);
  });

  it("is refused when there are not enough replicas for as long as an append may take, and waits for them before (P6)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    const { clock } = world.environment;
    const since = clock.elapsed();
    world.kafka.aroundProduce = (call, apply) => (isEvents(call) && clock.elapsed() - since < 5000 ? refusal(KAFKA_ERROR.notEnoughReplicas) : apply());
    await world.commit(store, 1);
    world.kafka.aroundProduce = (call, apply) => (isEvents(call) ? refusal(KAFKA_ERROR.notEnoughReplicas) : apply());
    expect(await world.append(store, 2)).toMatchObject({ kind: "refused", code: "unavailable", retryable: true });
    expect(world.standing().ids).toHaveLength(2);
  });

  it.each([
    ["NOT_ENOUGH_REPLICAS", KAFKA_ERROR.notEnoughReplicas],
    ["MESSAGE_TOO_LARGE", KAFKA_ERROR.messageTooLarge],
    ["INVALID_PRODUCER_EPOCH", KAFKA_ERROR.invalidProducerEpoch],
    ["OUT_OF_ORDER_SEQUENCE", KAFKA_ERROR.outOfOrderSequence],
  ])("of which something is unknown is never refused, not even with %s (P6)", async (_, code) => {
    const store = world.store("a");
    await world.commit(store, 0);
    const mine = newEvent();
    let tries = 0;
    world.kafka.aroundProduce = (call, apply) => {
      if (!isEvents(call) || !contentOf(call.batch).includes(mine.id)) return apply();
      if (tries++ > 0) return refusal(code);
      apply();
      return lost();
    };
    expect(await world.append(store, 1, [mine])).toMatchObject({ kind: "committed", version: 2 });
    expect(tries).toBeGreaterThan(1);
    expect(world.records().filter((each) => each === mine.id)).toHaveLength(1);
  });

  it("that nobody answers is unknown after a while, is settled all the same, and never stands twice (P10)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    const mine = newEvent();
    let silent = true;
    world.kafka.aroundProduce = (call, apply) => (silent && isEvents(call) ? lost() : apply());
    world.kafka.beforeRead = () => {
      if (silent) lost();
    };
    expect(await world.append(store, 1, [mine])).toMatchObject({ kind: "unknown" });
    const waited = store.append([appendOf("order-9", 0)]);
    silent = false;
    expect(await world.when(waited)).toMatchObject([{ kind: "committed" }]);
    const again = await world.append(store, 1, [mine]);
    expect(again).toMatchObject({ kind: "committed", version: 2 });
    expect(world.standing().ids.filter((id) => id === mine.id)).toHaveLength(1);
  });

  it("that was never sent is refused after a while, and never stands (P10)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    world.kafka.aroundProduce = (call, apply) => {
      if (isEvents(call)) throw new RequestLost("refused", { sent: false });
      return apply();
    };
    expect(await world.append(store, 1)).toMatchObject({ kind: "refused", code: "unavailable", retryable: true });
    world.kafka.aroundProduce = (_, apply) => apply();
    await world.commit(store, 1);
    expect(world.standing().ids).toHaveLength(2);
  });

  it("holds as much as the topic takes: what is more goes into the next, what never fits is refused by name", async () => {
    const store = world.store("a", { maxMessageBytes: 16 * 1024 });
    const data = JSON.stringify("x".repeat(5000));
    const outcomes = await world.when(store.append(Array.from({ length: 7 }, (_, index) => appendOf(`order-${index}`, 0, [newEvent({ data })]))));
    expect(outcomes.every(({ kind }) => kind === "committed")).toBe(true);
    expect(sentEvents().map(({ batch }) => batch.count)).toEqual([3, 3, 1]);
    for (const { batch } of sentEvents()) expect(batch.bytes.length).toBeLessThanOrEqual(16 * 1024);
    const small = Array.from({ length: 200 }, () => newEvent({ data: "1" }));
    expect(await world.append(store, 1, small, "order-1")).toMatchObject({ kind: "refused", code: "too-large", retryable: false, message: expect.stringContaining("max.message.bytes") as string });
  });

  it("of one partition waits for no other partition's, and each outcome is told when it is there", async () => {
    const store = world.store("a", { partitions: 2 });
    const [left, right] = ["order-1", "order-2", "order-3", "order-4"].map((stream) => appendOf(stream, 0));
    const streams = await world.when(Promise.all([left, right].map(async (append) => store.append([append as never]))));
    const lanes = streams.map(([outcome]) => (outcome?.kind === "committed" ? Object.keys(outcome.position)[0] : ""));
    expect(new Set(lanes).size).toBe(2);
    const stuck = Number(lanes[0]?.split("/")[1]);
    let release: () => void = () => undefined;
    world.kafka.aroundProduce = (call, apply) => {
      if (call.topic !== TOPIC || call.partition !== stuck) return apply();
      return new Promise<Produced>((_, reject) => (release = () => reject(new RequestLost("the bound passed", { sent: true }))));
    };
    const told: (readonly [number, string])[] = [];
    const both = store.append([appendOf("order-1", 1), appendOf("order-2", 1)], (index, outcome) => told.push([index, outcome.kind]));
    await world.environment.clock.advance(50);
    expect(told).toEqual([[1, "committed"]]);
    expect((await world.when(both)).map(({ kind }) => kind)).toEqual(["unknown", "committed"]);
    expect(told).toEqual([[1, "committed"], [0, "unknown"]]);
    world.kafka.aroundProduce = (_, apply) => apply();
    release();
  });
});

describe("a log that lost what it held", () => {
  it("is told, and read again from its start, when a batch stands below the expected end (P5)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    await world.commit(store, 1);
    world.kafka.cutOff(TOPIC, 0, 2);
    const outcome = await world.append(store, 2);
    expect(outcome).toEqual({ kind: "conflict", actual: 1 });
    expect(world.environment.logger.lines.some(({ level, message }) => level === "error" && message.includes("rewound"))).toBe(true);
    await world.commit(store, 1);
    expect((await world.read(store)).map(({ id }) => id)).toEqual(world.standing().ids);
    // It was found before anything more was written.
    expect(world.standing().claims).toHaveLength(2);
  });
});

describe("a broker that has forgotten its producers", () => {
  it("takes what is sent again for new: it counts once all the same, where it stands first", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    aroundNext((apply) => {
      apply();
      world.kafka.partition(TOPIC).producers.clear();
      return lost();
    });
    expect(await world.append(store, 1)).toEqual({ kind: "committed", version: 2, position: { "order/0": 2 } });
    expect(world.records()).toHaveLength(4);
    await world.commit(store, 2);
    expect((await world.read(store)).map(({ id }) => id)).toEqual(world.standing().ids);
  });

  it("and whose highest epoch was used by somebody: epochs are drawn until the coordinator gives out another id", async () => {
    world.kafka.lastEpoch = 40;
    const [a, b] = [world.store("a"), world.store("b")];
    await world.commit(a, 0);
    world.kafka.partition(TOPIC).producers.set(1000, { epoch: 32_767, last: 0, recent: [] });
    await world.commit(b, 1);
    expect(world.standing().claims.at(-1)).toMatchObject({ producerId: 1001, writer: "b" });
  });
});

describe("an answer below the expected end", () => {
  it("is no commit: the broker has taken the batch for another one, and it is written under a new claim (P5)", async () => {
    const store = world.store("a");
    await world.commit(store, 0);
    const mine = newEvent();
    aroundNext(() => ({ baseOffset: 1 }));
    expect(await world.append(store, 1, [mine])).toMatchObject({ kind: "committed", version: 2, position: { "order/0": 3 } });
    expect(world.records().filter((each) => each === mine.id)).toHaveLength(1);
    expect(world.standing().claims).toHaveLength(2);
  });
});
