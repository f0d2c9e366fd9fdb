/**
 * Processes that fight for one partition on a model of Kafka where everything goes wrong at random: answers and requests are lost, requests come late, errors are
 * answered for what stands, the coordinator forgets, the broker forgets its producers, with a fence and without. Each seed can be run again.
 *
 * I1 what was acknowledged stands once, where it was said to; I2 versions are contiguous for every reader; I4 what failed for certain never appears.
 */
import { describe, expect, it } from "vitest";
import { systemRandom } from "../../../src/environment.ts";
import type { AppendOutcome, EventStore, NewEvent } from "../../../src/store/event-store.ts";
import { BrokerRefusal, KAFKA_ERROR, RequestLost } from "../../../src/store/kafka/cluster.ts";
import { seededRandom } from "../../../src/testing/index.ts";
import { appendOf, foreignBatch, ModelWorld, newEvent, TOPIC, TRANSACTIONAL_ID } from "./model-world.ts";

const SEEDS = Number(process.env["TIDEMARK_KAFKA_SEEDS"] ?? 20);
const CODES = [KAFKA_ERROR.notLeaderOrFollower, KAFKA_ERROR.requestTimedOut, KAFKA_ERROR.notEnoughReplicas, KAFKA_ERROR.notEnoughReplicasAfterAppend, KAFKA_ERROR.outOfOrderSequence, KAFKA_ERROR.invalidProducerEpoch];
const PRE_CHECKED = new Set<number>([KAFKA_ERROR.notEnoughReplicas]);

interface Sent {
  readonly stream: string;
  readonly events: readonly NewEvent[];
  readonly outcome: AppendOutcome;
}

async function run(seed: number): Promise<void> {
  const world = new ModelWorld(seed);
  const { clock } = world.environment;
  const random = seededRandom(seed * 7919);
  const chance = (share: number): boolean => random.next() < share;
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
  const later = (ms: number): Promise<void> => new Promise((resolve) => void clock.setTimer(ms, resolve));
  world.kafka.fenced = chance(0.5);
  let calm = false;

  world.kafka.aroundProduce = async (call, apply) => {
    if (call.topic !== TOPIC || calm) return apply();
    if (chance(0.1)) await later(Math.floor(random.next() * 300));
    if (!chance(0.25)) return apply();
    const lost = (): never => {
      throw new RequestLost("no answer", { sent: true });
    };
    switch (Math.floor(random.next() * 5)) {
      case 0:
        return lost();
      case 1:
        apply();
        return lost();
      case 2: {
        // It comes late: after the client has given it up.
        void later(Math.floor(random.next() * 2000)).then(() => {
          try {
            apply();
          } catch {
            // fenced meanwhile
          }
        });
        return lost();
      }
      case 3: {
        const code = pick(CODES);
        if (!PRE_CHECKED.has(code) && chance(0.5)) apply();
        throw new BrokerRefusal(code, `error ${code}`);
      }
      default:
        throw new RequestLost("not sent", { sent: false });
    }
  };
  world.kafka.aroundInit = async (_, apply) => {
    if (!calm && chance(0.2)) throw new BrokerRefusal(KAFKA_ERROR.coordinatorNotAvailable, "not now");
    return apply();
  };
  world.kafka.beforeRead = (topic) => {
    if (!calm && topic === TOPIC && chance(0.03)) throw new RequestLost("no answer", { sent: true });
  };

  const options = { minHoldMs: pick([0, 20, 200]), requestTimeoutMs: 1000, appendTimeoutMs: 3000 };
  const stores = ["a", "b", "c"].map((name) => world.store(name, options));
  const sent: Sent[] = [];
  const known = new Map<string, number>();

  const writer = async (store: EventStore): Promise<void> => {
    for (let step = 0; step < 14; step++) {
      const stream = `order-${Math.floor(random.next() * 3)}`;
      const events = Array.from({ length: chance(0.3) ? 2 : 1 }, () => newEvent());
      const expected = chance(0.15) ? ("any" as const) : (known.get(stream) ?? 0);
      const append = appendOf(stream, expected, events);
      const [outcome] = (await store.append([append])) as [AppendOutcome];
      sent.push({ stream, events, outcome });
      if (outcome.kind === "committed") known.set(stream, Math.max(known.get(stream) ?? 0, outcome.version));
      if (outcome.kind === "conflict") known.set(stream, outcome.actual);
      // Whoever does not know asks again with the same events, perhaps another process.
      if (outcome.kind === "unknown" && expected !== "any") {
        const [again] = (await pick(stores).append([append])) as [AppendOutcome];
        if (again.kind === "committed") sent.push({ stream, events, outcome: again });
      }
      if (chance(0.2)) await later(Math.floor(random.next() * 200));
    }
  };
  const trouble = async (): Promise<void> => {
    for (let step = 0; step < 6; step++) {
      await later(200 + Math.floor(random.next() * 1500));
      const partition = world.kafka.topic(TOPIC)?.partitions[0];
      if (partition === undefined) continue;
      if (chance(0.3)) world.kafka.forgetTransactionalId(TRANSACTIONAL_ID);
      if (chance(0.3)) partition.producers.clear();
      if (chance(0.3)) world.kafka.setTransactionalId(TRANSACTIONAL_ID, { producerId: 1000, epoch: Math.floor(random.next() * 3) });
      if (chance(0.3)) world.kafka.append(TOPIC, 0, foreignBatch());
    }
  };
  await world.when(Promise.all([...stores.map(writer), trouble()]), 3_600_000);
  calm = true;
  await clock.advance(5000);

  const { events, ids } = world.standing();
  expect(new Set(ids).size).toBe(ids.length);
  const places = new Map(events.map((event) => [event.id, event]));
  for (const { stream, events: own, outcome } of sent) {
    if (outcome.kind === "committed") {
      own.forEach(({ id }, index) => expect(places.get(id)).toMatchObject({ stream, version: outcome.version - own.length + 1 + index }));
      expect(places.get(own.at(-1)?.id ?? "")?.position).toEqual(outcome.position);
    } else if (outcome.kind !== "unknown") {
      for (const { id } of own) if (sent.every((other) => other.outcome.kind !== "committed" || other.events !== own)) expect(places.has(id)).toBe(false);
    } else {
      const standing = own.filter(({ id }) => places.has(id)).length;
      expect([0, own.length]).toContain(standing);
    }
  }
  for (const store of stores) {
    for (const stream of ["order-0", "order-1", "order-2"]) {
      const read = await world.read(store, stream);
      expect(read.map(({ id }) => id)).toEqual(events.filter((event) => event.stream === stream).map(({ id }) => id));
      expect(read.map(({ version }) => version)).toEqual(read.map((_, index) => index + 1));
    }
  }
  await world.close();
}

describe("processes that fight for a partition while everything goes wrong", () => {
  const first = Math.floor(systemRandom.next() * 1_000_000);

  it("lose nothing where a claim arrives again after it was replaced, and the broker has forgotten its producer (seed 676685)", () => run(676_685));

  it.each(Array.from({ length: SEEDS }, (_, index) => (index < 10 ? index + 1 : first + index)))("lose nothing, double nothing and invent nothing (seed %i)", async (seed) => {
    await run(seed);
  });
});

