/**
 * One simulation: a plan and a schedule drawn from a seed, a run of several processes over one store with faults, and a check of all that happened.
 */
import { behaviourOf } from "../../aggregate/aggregate.ts";
import { silentLogger, type Environment, type Logger } from "../../environment.ts";
import { InvalidArgument, UnsupportedByStore } from "../../errors.ts";
import type { Backend } from "../../store/backend.ts";
import type { StoredEvent } from "../../store/event-store.ts";
import { memoryBackend } from "../../store/memory/index.ts";
import { check, type Invariant, type Stranger, type Violation } from "./checker.ts";
import { boundsOf, CLOSE_TIMEOUT_MS, Cluster, type Bounds } from "./cluster.ts";
import { drawsOf, type Draws } from "./draws.ts";
import { Coverage, Faults, type ArmedFault } from "./faults.ts";
import { History } from "./history.ts";
import { leaveOut } from "./minimise.ts";
import { describeStep, planOf, type Step } from "./plan.ts";
import { decideOn, foldAll, Reference } from "./reference.ts";
import { SimulatedStore } from "./simulated-store.ts";
import { streamOf, Users } from "./users.ts";
import { World } from "./world.ts";
import { ledger, type Wish, type Workload } from "./workload.ts";

export interface SimulationOptions {
  /** Decides everything: the same seed is the same run. */
  readonly seed: number;
  /** The domain, its read models and its users; default a ledger of a few contended accounts. */
  readonly workload?: Workload;
  /** Makes the server's backend; time and randomness come from `environment`. Default: in memory. It has one lane (`totalOrder`). */
  readonly backend?: (environment: Environment) => Backend | Promise<Backend>;
  readonly processes?: number;
  /** Commands in the plan, repetitions not counted. */
  readonly commands?: number;
  /** Reads of read models in the plan. */
  readonly reads?: number;
  /** Faults in the plan. */
  readonly faults?: number;
  /** Gets what the processes log. */
  readonly logger?: Logger;
}

export const simulationDefaults = Object.freeze({ processes: 3, commands: 200, reads: 90, faults: 60 });

export interface SimulationReport {
  readonly seed: number;
  /** Empty: the invariants held. */
  readonly violations: readonly Violation[];
  /** How often each command, answer, fault and branch was met. */
  readonly coverage: Readonly<Record<string, number>>;
  /** Commands called, repetitions included. */
  readonly commands: number;
  /** Faults that took effect. */
  readonly faults: number;
  readonly tokenisedReads: number;
  readonly events: number;
  /** Steps of the schedule, and simulated milliseconds. */
  readonly steps: number;
  readonly simulatedMs: number;
  /** What was tried, one line each. */
  readonly plan: readonly string[];
  /** What happened, one line each. */
  readonly history: readonly string[];
}

/** Simulated milliseconds within which everything comes to rest once nothing goes wrong any more. */
const CALM_MS = 30_000;
const MAX_STEPS = 300_000;

/** Runs one simulation; what it finds stands in the report. Errors: InvalidArgument, UnsupportedByStore. */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  return run(options, planned(options));
}

/**
 * Looks for a shorter plan that fails as the seed's own does (in the same invariant), and gives the report of the shortest one found: what to read when a seed fails.
 * `tries`: most runs that it takes, default 300. A seed that does not fail gives its report as it is.
 */
export async function minimiseSimulation(options: SimulationOptions, tries = 300): Promise<SimulationReport> {
  const plan = planned(options);
  let shortest = await run(options, plan);
  const [first] = shortest.violations;
  if (first === undefined) return shortest;
  await leaveOut(
    plan,
    async (fewer) => {
      const report = await run(options, fewer);
      const fails = report.violations.some(({ invariant }) => invariant === first.invariant);
      if (fails) shortest = report;
      return fails;
    },
    tries,
  );
  return shortest;
}

/** A report as text: the seed, what was violated, the plan and the history. */
export function describeSimulation(report: SimulationReport): string {
  const { seed, violations, plan, history } = report;
  if (violations.length === 0) return `seed ${seed}: ${report.commands} commands, ${report.faults} faults, ${report.tokenisedReads} tokenised reads, ${report.events} events; nothing was violated`;
  return [
    `seed ${seed} violates:`,
    ...violations.map(({ invariant, what }) => `  ${invariant}: ${what}`),
    "",
    `what was tried (${plan.length} steps):`,
    ...plan.map((line) => `  ${line}`),
    "",
    "what happened:",
    ...history.map((line) => `  ${line}`),
  ].join("\n");
}

/** The plan that a seed stands for. Errors: InvalidArgument. */
function planned({ seed, workload = ledger, ...given }: SimulationOptions): Step[] {
  const sizes = { ...simulationDefaults, ...given };
  for (const [name, value, least] of [["seed", seed, Number.MIN_SAFE_INTEGER], ["processes", sizes.processes, 1], ["commands", sizes.commands, 0], ["reads", sizes.reads, 0], ["faults", sizes.faults, 0]] as const) {
    if (!Number.isSafeInteger(value) || value < least) throw new InvalidArgument(`${name} of a simulation must be a whole number${least < 0 ? "" : ` from ${least}`}`, { details: { option: name } });
  }
  for (const aggregate of workload.aggregates) {
    const { commands, prepare } = behaviourOf(aggregate);
    const prepared = commands.find((command) => prepare(command) !== undefined);
    if (prepared !== undefined) {
      throw new InvalidArgument(`${aggregate.name}.${prepared} has a \`prepare\`: its decisions cannot be repeated by the checker of a simulation`, { details: { category: aggregate.name, command: prepared } });
    }
  }
  return planOf(drawsOf(seed, "plan"), workload, sizes);
}

/** Runs a plan, whole or shortened, under the schedule of the seed. */
async function run(options: SimulationOptions, plan: readonly Step[]): Promise<SimulationReport> {
  const simulation = new Simulation(options, plan);
  await simulation.open();
  await simulation.play();
  return simulation.report();
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #workload: Workload;
  readonly #plan: readonly Step[];
  readonly #violations: Violation[] = [];
  readonly #coverage = new Coverage();
  readonly #faults = new Faults(this.#coverage);
  readonly #draws: Draws;
  readonly #bounds: Bounds;
  readonly #world: World;
  readonly #history: History;
  readonly #strangers: Stranger[] = [];
  #store: SimulatedStore | undefined;
  #cluster: Cluster | undefined;
  #users: Users | undefined;

  constructor(options: SimulationOptions, plan: readonly Step[]) {
    this.#options = options;
    this.#plan = plan;
    this.#workload = options.workload ?? ledger;
    this.#draws = drawsOf(options.seed, "run");
    this.#bounds = boundsOf(drawsOf(options.seed, "bounds"));
    this.#world = new World({
      draws: drawsOf(options.seed, "schedule"),
      logger: options.logger ?? silentLogger,
      onError: (host, error) => this.#failed(`a task on ${host}`, error),
    });
    this.#history = new History(this.#world.now);
  }

  async open(): Promise<void> {
    const world = this.#world;
    const { environment } = world.host("store");
    const { backend: make = (): Backend => memoryBackend({ environment }) } = this.#options;
    const backend = await this.#until(Promise.resolve(make(environment)));
    const { totalOrder, groupsInFlight } = backend.events.capabilities;
    if (!totalOrder) throw new UnsupportedByStore("a simulation needs a backend with one lane", { details: { capability: "totalOrder" } });
    this.#store = new SimulatedStore({
      world,
      draws: drawsOf(this.#options.seed, "store"),
      faults: this.#faults,
      backend,
      capabilities: { groupsInFlight: Math.min(groupsInFlight, this.#draws.int(1, 3)), maxAppendsInBatch: this.#draws.int(2, 6), maxAppendBytes: 1800 },
      onMisuse: (what) => this.#violated("port", what),
      count: (what) => this.#coverage.count(what),
    });
    this.#cluster = new Cluster({
      world,
      store: this.#store,
      workload: this.#workload,
      processes: this.#options.processes ?? simulationDefaults.processes,
      bounds: this.#bounds,
      consumed: this.#history.consumed,
      note: (text) => this.#history.note(world.now, text),
      onError: (where, error) => this.#failed(where, error),
    });
    this.#users = new Users({
      world,
      store: this.#store,
      cluster: this.#cluster,
      workload: this.#workload,
      history: this.#history,
      draws: drawsOf(this.#options.seed, "users"),
      coverage: this.#coverage,
    });
  }

  /** Everything of the plan, then calm: all is answered, readers catch up, the processes close. */
  async play(): Promise<void> {
    const [world, store, cluster, users] = this.#parts();
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

  /** I5, I6: every process sees everything. */
  async #readEverything(): Promise<void> {
    const [, store, cluster, users] = this.#parts();
    for (const running of cluster.running) {
      const everything = users.everything(running);
      this.#workload.readModels.forEach((_, model) => void users.readModel(running, model, everything, { timeoutMs: 20_000, serve: false, asked: undefined }));
      let turn = 0;
      for (const stream of store.versions.keys()) {
        const dash = stream.indexOf("-");
        const aggregate = this.#workload.aggregates.find(({ name }) => name === stream.slice(0, dash));
        // A few at a time: more than a small registry holds would be refused.
        if (aggregate !== undefined) this.#world.post(turn++ * 20, () => void users.readState(running, { aggregate, id: stream.slice(dash + 1), command: "" }, undefined));
      }
    }
    const consumed = (): boolean => this.#history.consumed.every(({ ids }) => ids.length >= store.length);
    const shown = (): boolean => cluster.running.every(({ app }) => this.#workload.readModels.every((model) => (app.readModel(model).progress().position["log"] ?? 0) >= store.length));
    const due = this.#world.now + store.versions.size * 20;
    const rested = await this.#rest(() => this.#world.now > due && !users.waiting && consumed() && shown(), "readers did not catch up with the end of the log");
    if (rested) return;
    for (const { index, app } of cluster.running) {
      for (const model of this.#workload.readModels) this.#history.note(this.#world.now, `process ${index}: ${model.name} ${JSON.stringify(app.readModel(model).progress())}, the log ends at ${store.length}`);
    }
  }

  /** A process that closes answers first what it has accepted, and leaves nothing behind. */
  async #closeBusy(): Promise<void> {
    const [world, , cluster, users] = this.#parts();
    const { running } = cluster;
    let closed = 0;
    const begun = world.now;
    for (const one of running) {
      const wishes: Wish[] = [];
      while (wishes.length < 4) wishes.push(this.#workload.wish(this.#draws));
      for (const wish of wishes) void users.last(wish, one, "the last user");
      one.app.close().then(
        () => closed++,
        (error: unknown) => this.#failed(`closing ${one.host.name}`, error),
      );
    }
    const done = await this.#rest(() => closed === running.length && !users.waiting, "processes that were closed did not end");
    if (done && world.now - begun > CLOSE_TIMEOUT_MS) this.#violated("I6", `closing took ${Math.ceil(world.now - begun)} ms; the bound is ${CLOSE_TIMEOUT_MS}`);
    if (!done) return;
    if (!(await world.runUntil(() => running.every(({ host }) => host.waiting === 0), { forMs: 1000, maxSteps: MAX_STEPS }))) {
      for (const { host } of running) if (host.waiting > 0) this.#violated("I6", `${host.name} has closed and left ${host.waiting} timers, immediates or messages behind`);
    }
  }

  #carryOut(step: Step): void {
    const [, , , users] = this.#parts();
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
        return this.#wrong(step);
    }
  }

  #wrong(step: Extract<Step, { readonly kind: "fault" }>): void {
    const [world, store, cluster] = this.#parts();
    const { fault, process, ms, times } = step;
    this.#history.note(world.now, `fault: ${fault}`);
    switch (fault) {
      case "crash":
        cluster.crash(process, 20 + ms * 300);
        break;
      case "restart":
        cluster.restart(process);
        break;
      case "stall":
        cluster.stall(process, 20 + ms * ms * 900);
        break;
      case "clock-jump":
        cluster.jump(process, ms < 0.5 ? -ms * 4000 : (ms - 0.5) * 40_000);
        break;
      case "store-crash":
        store.crash(10 + ms * 200);
        break;
      case "slow-store":
        store.slow(2 + ms * 20, 30 + ms * 150);
        break;
      case "second-writer":
        void this.#intrude(step.wish);
        return;
      default:
        return this.#faults.arm(fault satisfies ArmedFault, times);
    }
    this.#faults.happened(fault);
  }

  /** Somebody decides well, and appends without the app. */
  async #intrude(wish: Wish): Promise<void> {
    const [world, store] = this.#parts();
    const stream = streamOf(wish);
    const id = `stranger-${this.#strangers.length}`;
    const stranger: Stranger = { id, wish, metadata: { user: id } };
    this.#strangers.push(stranger);
    const { events } = await store.backend.events.readStream(stream);
    const states = foldAll(events, behaviourOf(wish.aggregate));
    const now = Math.floor(world.now);
    const decided = decideOn(wish, states.at(-1), events.length, { now, commandId: id, metadata: stranger.metadata });
    if (!decided.ok || decided.events.length === 0) return;
    const metadata = { correlationId: id, causationId: id, commandId: id, user: stranger.metadata };
    const [outcome] = await store.execute([
      { stream, expected: events.length, events: decided.events.map(({ type, data }, index) => ({ id: `${id}-${index}`, type, data: JSON.stringify(data), metadata, recordedAt: now })) },
    ]);
    if (outcome?.kind === "committed") this.#faults.happened("second-writer");
  }

  async report(): Promise<SimulationReport> {
    const [world, store] = this.#parts();
    const log = await this.#until(wholeLog(store.backend));
    const reference = new Reference(this.#workload, log);
    if (this.#violations.length === 0 || !this.#violations.every(({ invariant }) => invariant === "run")) {
      const found = await check({ workload: this.#workload, history: this.#history, reference, strangers: this.#strangers, viewCommits: store.viewCommits, callBoundMs: this.#callBoundMs() });
      this.#violations.push(...found);
    }
    await this.#until(store.backend.close());
    const { counts } = this.#coverage;
    return {
      seed: this.#options.seed,
      violations: this.#violations,
      coverage: counts,
      commands: counts["commands"] ?? 0,
      faults: this.#coverage.faults,
      tokenisedReads: counts["tokenised reads"] ?? 0,
      events: log.length,
      steps: world.steps,
      simulatedMs: Math.round(world.now - this.#history.begun),
      plan: this.#plan.map(describeStep),
      history: this.#history.lines,
    };
  }

  /** The hard bound of a call, the interval of the sweep that ends it, and a turn. */
  #callBoundMs(): number {
    const { commandTimeoutMs, idleTimeoutMs } = this.#bounds.actors;
    return commandTimeoutMs + Math.ceil(Math.min(commandTimeoutMs, idleTimeoutMs) / 4) + 20;
  }

  /** Runs on until the condition holds; I6 where it does not within its bound. */
  async #rest(condition: () => boolean, otherwise: string): Promise<boolean> {
    const rested = await this.#world.runUntil(condition, { forMs: CALM_MS, maxSteps: MAX_STEPS });
    if (!rested) this.#violated("I6", [`${otherwise} (after ${this.#world.steps} steps)`, ...(this.#users?.open ?? [])].join("; no answer: "));
    return rested;
  }

  /** Lets the server's own work go on while something of it is awaited. */
  async #until<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const end = (): void => {
      done = true;
    };
    work.then(end, end);
    if (!(await this.#world.runUntil(() => done, { forMs: CALM_MS, maxSteps: MAX_STEPS }))) throw new Error("the backend does not answer");
    return work;
  }

  #violated(invariant: Invariant, what: string): void {
    if (!this.#violations.some((violation) => violation.what === what)) this.#violations.push({ invariant, what });
  }

  #failed(where: string, error: unknown): void {
    this.#violated("run", `${where} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }

  #parts(): [World, SimulatedStore, Cluster, Users] {
    if (this.#store === undefined || this.#cluster === undefined || this.#users === undefined) throw new Error("the simulation was not opened");
    return [this.#world, this.#store, this.#cluster, this.#users];
  }
}

async function wholeLog(backend: Backend): Promise<StoredEvent[]> {
  const log: StoredEvent[] = [];
  for await (const page of backend.events.readAll()) log.push(...page.events);
  return log;
}
