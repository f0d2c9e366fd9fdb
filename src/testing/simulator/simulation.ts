/**
 * One simulation: a plan is carried out by several processes over one store with faults, then everything has to come to rest, and what happened is checked.
 */
import { silentLogger } from "../../environment.ts";
import { UnsupportedByStore } from "../../errors.ts";
import type { Backend } from "../../store/backend.ts";
import type { StoredEvent } from "../../store/event-store.ts";
import { memoryBackend } from "../../store/memory/index.ts";
import { Attacker } from "./attacker.ts";
import { check, type Invariant, type Violation } from "./checker.ts";
import { boundsOf, CLOSE_TIMEOUT_MS, Cluster, type Bounds } from "./cluster.ts";
import { drawsOf, type Draws } from "./draws.ts";
import { Coverage, Faults, portFaults, type FaultKinds } from "./faults.ts";
import { History } from "./history.ts";
import { ledger } from "./ledger.ts";
import { describeStep, type Step } from "./plan.ts";
import { Reference } from "./reference.ts";
import { SimulatedStore, type SimulatedStoreOptions } from "./simulated-store.ts";
import { simulationDefaults, type SimulationOptions, type SimulationReport } from "./simulation-options.ts";
import { Users } from "./users.ts";
import { World } from "./world.ts";
import type { Workload } from "./workload.ts";

/** Simulated milliseconds within which everything comes to rest once nothing goes wrong any more. */
const CALM_MS = 30_000;
const MAX_STEPS = 300_000;
/** Between two reads of states, so that a small registry holds them all. */
const READ_EVERY_MS = 20;

/** What the processes of a simulation stand on: a store, and what can go wrong with it. */
export interface Stage {
  readonly faults: FaultKinds;
  open(options: SimulatedStoreOptions): SimulatedStore;
}

/** A backend behind the ports, whose clients keep and break what the ports say. */
export const portStage: Stage = { faults: portFaults, open: (options) => new SimulatedStore(options) };

/** Runs a plan, whole or shortened, under the schedule of the seed. Errors: UnsupportedByStore. */
export async function run(options: SimulationOptions, plan: readonly Step[], stage: Stage): Promise<SimulationReport> {
  const findings = new Findings();
  const world = new World({
    draws: drawsOf(options.seed, "schedule"),
    logger: options.logger ?? silentLogger,
    onError: (host, error) => findings.failed(`a task on ${host}`, error),
  });
  const { environment } = world.host("store");
  const { backend: make = (): Backend => memoryBackend({ environment }) } = options;
  const backend = await answerOf(world, Promise.resolve(make(environment)));
  if (!backend.events.capabilities.totalOrder) throw new UnsupportedByStore("a simulation needs a backend with one lane", { details: { capability: "totalOrder" } });
  const simulation = new Simulation(options, plan, world, backend, findings, stage);
  await simulation.play();
  return simulation.report();
}

/** What was found so far, each thing once. */
class Findings {
  readonly violations: Violation[] = [];

  violated(invariant: Invariant, what: string): void {
    if (!this.violations.some((violation) => violation.what === what)) this.violations.push({ invariant, what });
  }

  failed(where: string, error: unknown): void {
    this.violated("run", `${where} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}

class Simulation {
  readonly #seed: number;
  readonly #plan: readonly Step[];
  readonly #workload: Workload;
  readonly #findings: Findings;
  readonly #draws: Draws;
  readonly #bounds: Bounds;
  readonly #coverage = new Coverage();
  readonly #faults = new Faults(this.#coverage);
  readonly #world: World;
  readonly #history: History;
  readonly #store: SimulatedStore;
  readonly #cluster: Cluster;
  readonly #users: Users;
  readonly #attacker: Attacker;

  constructor(options: SimulationOptions, plan: readonly Step[], world: World, backend: Backend, findings: Findings, stage: Stage) {
    const { seed, workload = ledger, processes = simulationDefaults.processes } = options;
    this.#seed = seed;
    this.#plan = plan;
    this.#workload = workload;
    this.#findings = findings;
    this.#draws = drawsOf(seed, "run");
    this.#bounds = boundsOf(drawsOf(seed, "bounds"));
    this.#world = world;
    const [coverage, faults, bounds] = [this.#coverage, this.#faults, this.#bounds];
    const history = new History(world.now);
    this.#history = history;
    const store = stage.open({
      world,
      draws: drawsOf(seed, "store"),
      faults,
      backend,
      capabilities: {
        groupsInFlight: Math.min(backend.events.capabilities.groupsInFlight, this.#draws.int(1, 3)),
        maxAppendsInBatch: this.#draws.int(2, 6),
        maxAppendBytes: 1800,
      },
      onMisuse: (what) => findings.violated("port", what),
      count: (what) => coverage.count(what),
    });
    const cluster = new Cluster({
      world,
      store,
      workload,
      processes,
      bounds,
      consumed: history.consumed,
      note: (text) => history.note(world.now, text),
      onError: (where, error) => findings.failed(where, error),
    });
    this.#store = store;
    this.#cluster = cluster;
    this.#users = new Users({ world, store, cluster, workload, history, draws: drawsOf(seed, "users"), coverage });
    this.#attacker = new Attacker(store, cluster, faults);
  }

  /** Everything of the plan, then calm: all is answered, readers catch up, the processes close. */
  async play(): Promise<void> {
    const [world, cluster, store, users] = [this.#world, this.#cluster, this.#store, this.#users];
    cluster.start();
    if (!(await this.#rest(() => cluster.allUp, "the processes did not start"))) return;
    const begun = world.now;
    let next = 0;
    const goOn = (): void => {
      const step = this.#plan[next];
      if (step === undefined) return;
      world.post(Math.max(0, begun + step.at - world.now), () => {
        next++;
        this.#carryOut(step);
        goOn();
      });
    };
    goOn();
    if (!(await this.#rest(() => next === this.#plan.length, "the plan was not carried out"))) return;

    this.#history.note(world.now, "nothing goes wrong any more");
    store.heal();
    cluster.heal();
    if (!(await this.#rest(() => !users.waiting && cluster.allUp && store.late === 0, "not everything was answered once nothing went wrong any more"))) return;
    users.calm = true;
    await this.#readEverything();
    await this.#closeBusy();
  }

  async report(): Promise<SimulationReport> {
    const [world, store, findings] = [this.#world, this.#store, this.#findings];
    const log = await answerOf(world, wholeLog(store.backend));
    const evidence = {
      workload: this.#workload,
      history: this.#history,
      reference: new Reference(this.#workload, log, store.length),
      strangers: this.#attacker.strangers,
      viewCommits: store.viewCommits,
      callBoundMs: this.#callBoundMs(),
    };
    try {
      for (const { invariant, what } of await check(evidence)) findings.violated(invariant, what);
    } catch (error) {
      findings.failed("reading the log from its start", error);
    }
    await answerOf(world, store.backend.close());
    const { counts, faults } = this.#coverage;
    return {
      seed: this.#seed,
      violations: findings.violations,
      coverage: counts,
      commands: counts["commands"] ?? 0,
      faults,
      tokenisedReads: counts["tokenised reads"] ?? 0,
      events: log.length,
      steps: world.steps,
      simulatedMs: Math.round(world.now - this.#history.begun),
      plan: this.#plan.map(describeStep),
      history: this.#history.lines,
    };
  }

  #carryOut(step: Step): void {
    const users = this.#users;
    switch (step.kind) {
      case "command":
        return users.command(step);
      case "again":
        return users.again(step);
      case "state":
        return users.state(step);
      case "history":
        return users.showHistory(step);
      case "read":
        return users.read(step);
      case "steer":
        return users.steer(step);
      case "fault":
        this.#history.note(this.#world.now, `fault: ${step.fault}`);
        return this.#attacker.attack(step);
    }
  }

  /** I5, I6: every process shows everything. */
  async #readEverything(): Promise<void> {
    const [world, cluster, store, users] = [this.#world, this.#cluster, this.#store, this.#users];
    const { aggregates, readModels } = this.#workload;
    for (const running of cluster.running) {
      const everything = users.everything(running);
      readModels.forEach((_, model) => void users.readModel(running, model, everything, { timeoutMs: 20_000, serve: false, asked: undefined }));
      let turn = 0;
      for (const stream of store.versions.keys()) {
        const dash = stream.indexOf("-");
        const aggregate = aggregates.find(({ name }) => name === stream.slice(0, dash));
        if (aggregate !== undefined) world.post(turn++ * READ_EVERY_MS, () => void users.readState(running, { aggregate, id: stream.slice(dash + 1), command: "" }, undefined));
      }
    }
    const due = world.now + store.versions.size * READ_EVERY_MS;
    const consumed = (): boolean => this.#history.consumed.every(({ ids }) => ids.length >= store.events);
    const shown = (): boolean => cluster.running.every(({ app }) => readModels.every((model) => (app.readModel(model).progress().position["log"] ?? 0) >= store.length));
    if (await this.#rest(() => world.now > due && !users.waiting && consumed() && shown(), "readers did not catch up with the end of the log")) return;
    for (const { index, app } of cluster.running) {
      for (const model of readModels) this.#history.note(world.now, `process ${index}: ${model.name} ${JSON.stringify(app.readModel(model).progress())}, the log ends at ${store.length}`);
    }
  }

  /** I6: a process that closes answers first what it has accepted, within its bound, and leaves nothing behind. */
  async #closeBusy(): Promise<void> {
    const [world, users, findings] = [this.#world, this.#users, this.#findings];
    const { running } = this.#cluster;
    let closed = 0;
    const begun = world.now;
    for (const one of running) {
      for (let left = 4; left > 0; left--) void users.last(this.#workload.wish(this.#draws), one, "the last user");
      one.close().then(
        () => closed++,
        (error: unknown) => findings.failed(`closing ${one.host.name}`, error),
      );
    }
    if (!(await this.#rest(() => closed === running.length && !users.waiting, "processes that were closed did not end"))) return;
    if (world.now - begun > CLOSE_TIMEOUT_MS) findings.violated("I6", `closing took ${Math.ceil(world.now - begun)} ms; the bound is ${CLOSE_TIMEOUT_MS}`);
    await world.runUntil(() => running.every(({ host }) => host.waiting === 0), { forMs: 1000, maxSteps: MAX_STEPS });
    for (const { host } of running) if (host.waiting > 0) findings.violated("I6", `${host.name} has closed and left ${host.waiting} timers, immediates or messages behind`);
  }

  /** The hard bound of a call, the interval of the sweep that ends it, and a turn. */
  #callBoundMs(): number {
    const { commandTimeoutMs, idleTimeoutMs } = this.#bounds.actors;
    return commandTimeoutMs + Math.ceil(Math.min(commandTimeoutMs, idleTimeoutMs) / 4) + 20;
  }

  /** Runs on until the condition holds; I6 where it does not within its bound. */
  async #rest(condition: () => boolean, otherwise: string): Promise<boolean> {
    const rested = await this.#world.runUntil(condition, { forMs: CALM_MS, maxSteps: MAX_STEPS });
    if (!rested) this.#findings.violated("I6", [`${otherwise} (after ${this.#world.steps} steps)`, ...this.#users.open].join("; no answer: "));
    return rested;
  }
}

/** Lets the world go on until the server's backend has answered. */
async function answerOf<T>(world: World, work: Promise<T>): Promise<T> {
  let done = false;
  const end = (): void => {
    done = true;
  };
  work.then(end, end);
  if (!(await world.runUntil(() => done, { forMs: CALM_MS, maxSteps: MAX_STEPS }))) throw new Error("the backend under simulation does not answer: what it waits for has to come from the environment that it was given");
  return work;
}

async function wholeLog(backend: Backend): Promise<StoredEvent[]> {
  const log: StoredEvent[] = [];
  for await (const page of backend.events.readAll()) log.push(...page.events);
  return log;
}
