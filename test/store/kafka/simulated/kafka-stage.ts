/**
 * The simulator's processes on the Kafka store itself: each has a store of its own, and all of them the one model of Kafka behind a simulated network. Views and
 * snapshots are in another database, as the simulator has it.
 *
 * One category in one partition, for the checker knows one lane: the lane of the partition is called `log` here.
 */
import type { Backend } from "../../../../src/store/backend.ts";
import type { AppendOutcome, EventStore, LogPage, ReadLogOptions, StoredEvent } from "../../../../src/store/event-store.ts";
import { kafkaStore, memoryIndex, type LogIndex } from "../../../../src/store/kafka/index.ts";
import type { Position } from "../../../../src/store/position.ts";
import type { FaultKind } from "../../../../src/testing/simulator/faults.ts";
import { ledger } from "../../../../src/testing/simulator/ledger.ts";
import { describeSimulation, minimiseOn, simulateOn } from "../../../../src/testing/simulator/simulate.ts";
import { SimulatedStore, type SimulatedStoreOptions } from "../../../../src/testing/simulator/simulated-store.ts";
import type { Stage } from "../../../../src/testing/simulator/simulation.ts";
import type { SimulationReport } from "../../../../src/testing/simulator/simulation-options.ts";
import type { Workload } from "../../../../src/testing/simulator/workload.ts";
import type { Host } from "../../../../src/testing/simulator/world.ts";
import { kafkaFaults, LANE, SimulatedKafka } from "./simulated-kafka.ts";

const [Account] = ledger.aggregates as [Workload["aggregates"][number]];
const [balances] = ledger.readModels as [Workload["readModels"][number]];

/** The accounts of the ledger alone. */
export const accounts: Workload = {
  aggregates: [Account],
  readModels: [balances],
  wish(draws) {
    for (;;) {
      const wish = ledger.wish(draws);
      if (wish.aggregate === Account) return wish;
    }
  },
};

export const kafkaStage: Stage = { faults: kafkaFaults, open: (options) => new KafkaSimulation(options) };

/** One run of the processes on the model of Kafka; what the log itself must not say is among the violations. */
export function simulateKafka(seed: number): Promise<SimulationReport> {
  return simulateOn(kafkaStage, { seed, workload: accounts });
}

/** A shorter plan that fails as the seed does, as text. */
export async function explainKafka(seed: number): Promise<{ readonly violations: number; readonly text: string }> {
  const report = await minimiseOn(kafkaStage, { seed, workload: accounts }, 120);
  return { violations: report.violations.length, text: describeSimulation(report) };
}

class KafkaSimulation extends SimulatedStore {
  readonly #options: SimulatedStoreOptions;
  readonly #kafka: SimulatedKafka;
  /** What processes have kept of the log, by place: of some it outlives a crash. */
  readonly #indexes = new Map<number, LogIndex>();
  readonly #bounds;

  constructor(options: SimulatedStoreOptions) {
    const { world, draws, faults, count, backend } = options;
    const kafka: SimulatedKafka = new SimulatedKafka({ world, draws, faults, count, clock: world.host("brokers").environment.clock, onProgress: () => progress() });
    super({ ...options, backend: { ...backend, events: { ...backend.events, capabilities: backend.events.capabilities, readAll: () => wholeLog(kafka) } as EventStore } });
    const progress = (): void => this.#progress();
    this.#options = options;
    this.#kafka = kafka;
    this.#bounds = { minHoldMs: draws.pick([0, 5, 30]), requestTimeoutMs: draws.int(100, 200), appendTimeoutMs: draws.int(300, 900) };
  }

  override connect(host: Host, place: number): Backend {
    const client = super.connect(host);
    const cluster = this.#kafka.connect(host, this.#bounds.requestTimeoutMs);
    const { environment, name: owner } = host;
    const events = kafkaStore({ cluster, topicPrefix: "sim", partitions: 1, owner, index: this.#indexOf(place), environment, ...this.#bounds });
    return {
      ...client,
      events: asOneLane(events),
      close: async () => {
        await client.close();
        await events.close();
      },
    };
  }

  override attack(fault: FaultKind, size: number): boolean {
    return this.#kafka.attack(fault, size);
  }

  override heal(): void {
    super.heal();
    this.#kafka.heal();
  }

  #progress(): void {
    const { truth, end } = this.#kafka;
    for (const [stream, version] of truth.versions) this.versions.set(stream, version);
    this.events = truth.events.length;
    this.length = Math.max(0, end - 1);
    this.late = this.#kafka.late;
    for (const fault of truth.faults.splice(0)) this.#options.onMisuse(fault);
    // Without what brokers knew of producers the claims alone keep former owners out.
    for (const intruder of truth.intruders.splice(0)) if (!this.#kafka.forgot) this.#options.onMisuse(intruder);
  }

  /** Every other process keeps its index, as a file would. */
  #indexOf(place: number): LogIndex {
    if (place % 2 === 0) return memoryIndex();
    const kept = this.#indexes.get(place) ?? memoryIndex();
    this.#indexes.set(place, kept);
    return {
      lane: (lane) => kept.lane(lane),
      apply: (lane, step) => kept.apply(lane, step),
      reset: (lane) => kept.reset(lane),
      versionOf: (stream) => kept.versionOf(stream),
      stream: (stream, first, last) => kept.stream(stream, first, last),
      log: (lane, from, to, most) => kept.log(lane, from, to, most),
      claimAt: (lane, offset) => kept.claimAt(lane, offset),
      hasClaim: (lane, nonce) => kept.hasClaim(lane, nonce),
      close: () => undefined,
    };
  }
}

async function* wholeLog({ truth, end }: SimulatedKafka): AsyncGenerator<LogPage> {
  yield { events: truth.events, through: { log: end - 1 }, caughtUp: true };
}

function renamed(position: Position, from: string, to: string): Position {
  const { [from]: offset, ...others } = position;
  return offset === undefined ? position : { ...others, [to]: offset };
}

function asOneLane(store: EventStore): EventStore {
  const outward = (position: Position): Position => renamed(position, LANE, "log");
  const event = (stored: StoredEvent): StoredEvent => ({ ...stored, position: outward(stored.position) });
  const outcome = (one: AppendOutcome): AppendOutcome => (one.kind === "committed" ? { ...one, position: outward(one.position) } : one);
  const inward = (options: ReadLogOptions = {}): ReadLogOptions => (options.after === undefined ? options : { ...options, after: renamed(options.after, "log", LANE) });
  const pages = (inner: AsyncIterable<LogPage>): AsyncIterable<LogPage> => ({
    [Symbol.asyncIterator]() {
      const iterator = inner[Symbol.asyncIterator]();
      return {
        async next() {
          const { done, value } = (await iterator.next()) as IteratorResult<LogPage, undefined>;
          return done === true ? { done, value: undefined } : { done: false, value: { ...value, events: value.events.map(event), through: outward(value.through) } };
        },
        return: async () => (await iterator.return?.()) ?? { done: true, value: undefined },
      };
    },
  });
  const { head } = store;
  return {
    capabilities: { ...store.capabilities, totalOrder: true },
    identity: (signal) => store.identity(signal),
    append: async (appends, onOutcome) => (await store.append(appends, onOutcome && ((index, one) => onOutcome(index, outcome(one))))).map(outcome),
    readStream: async (stream, options) => {
      const slice = await store.readStream(stream, options);
      return { ...slice, events: slice.events.map(event) };
    },
    readAll: (options) => pages(store.readAll(inward(options))),
    subscribe: (options) => pages(store.subscribe(inward(options))),
    ...(head && { head: async (signal?: AbortSignal, categories?: readonly string[]) => outward(await head.call(store, signal, categories)) }),
    close: () => store.close(),
  };
}
