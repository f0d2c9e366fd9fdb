/** What a simulation is given, and what it comes to. */
import type { Environment, Logger } from "../../environment.ts";
import type { Backend } from "../../store/backend.ts";
import type { Violation } from "./checker.ts";
import type { Workload } from "./workload.ts";

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
