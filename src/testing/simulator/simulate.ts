/** Simulations for authors of backends and for users: from a seed to a report. */
import { behaviourOf } from "../../aggregate/aggregate.ts";
import { InvalidArgument } from "../../errors.ts";
import { drawsOf } from "./draws.ts";
import { ledger } from "./ledger.ts";
import { leaveOut } from "./minimise.ts";
import { planOf, type Step } from "./plan.ts";
import { portStage, run, type Stage } from "./simulation.ts";
import { simulationDefaults, type SimulationOptions, type SimulationReport } from "./simulation-options.ts";

/** Runs one simulation; what it finds stands in the report. Errors: InvalidArgument, UnsupportedByStore. */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  return simulateOn(portStage, options);
}

/** As `simulate`, on another store than one behind the ports. */
export async function simulateOn(stage: Stage, options: SimulationOptions): Promise<SimulationReport> {
  return run(options, planned(options, stage), stage);
}

/**
 * Looks for a shorter plan that fails as the seed's own does (in the same invariant), and gives the report of the shortest one found: what to read when a seed fails.
 * `tries`: most runs that it takes, default 300. A seed that does not fail gives its report as it is.
 */
export async function minimiseSimulation(options: SimulationOptions, tries = 300): Promise<SimulationReport> {
  return minimiseOn(portStage, options, tries);
}

/** As `minimiseSimulation`, on another store than one behind the ports. */
export async function minimiseOn(stage: Stage, options: SimulationOptions, tries = 300): Promise<SimulationReport> {
  const plan = planned(options, stage);
  let shortest = await run(options, plan, stage);
  const [first] = shortest.violations;
  if (first === undefined) return shortest;
  await leaveOut(
    plan,
    async (fewer) => {
      const report = await run(options, fewer, stage);
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
function planned({ seed, workload = ledger, ...given }: SimulationOptions, { faults }: Stage): Step[] {
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
  return planOf(drawsOf(seed, "plan"), workload, sizes, faults);
}
