/** What a simulation is about: a domain, its read models, and what its users do. */
import type { AnyAggregate } from "../../aggregate/aggregate.ts";
import type { ReadModel } from "../../readmodel/read-model.ts";
import type { Draws } from "./draws.ts";

/** One thing that a user asks for. */
export interface Wish {
  readonly aggregate: AnyAggregate;
  readonly id: string;
  readonly command: string;
  readonly input?: unknown;
}

/**
 * A domain under simulation. The checker repeats every decision: commands depend on state, input and `context` alone, rejections and no-ops not on `context.now`,
 * and no command has a `prepare`. Views hold at most 10,000 rows.
 */
export interface Workload {
  readonly aggregates: readonly AnyAggregate[];
  /** Their pipelines depend on events and view alone. */
  readonly readModels: readonly ReadModel<unknown>[];
  /** Draws what the next user asks for. A few instances that many users share find more than many instances. */
  readonly wish: (draws: Draws) => Wish;
}
