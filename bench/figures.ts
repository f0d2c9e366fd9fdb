/** The figures of a benchmark: what was measured, what it is compared with, and whether the goal holds. */

/** Which way is better. */
export type Better = "more" | "less";

export interface Result {
  readonly case: string;
  readonly unit: string;
  readonly tidemark: number;
  readonly reference: number;
  /** What the reference is; "goal" where the goal is absolute. */
  readonly referenceName: string;
  /** How many times better than the reference. */
  readonly ratio: number;
  /** The least ratio; null: told for information. */
  readonly goal: number | null;
  readonly holds: boolean;
}

export interface Comparison {
  readonly case: string;
  readonly unit: string;
  readonly better: Better;
  readonly tidemark: number;
  readonly reference: number;
  readonly referenceName: string;
  /** The least ratio; none: told for information. */
  readonly goal?: number;
}

/** A figure beside a reference that was measured in the same run. */
export function compared({ better, tidemark, reference, goal, ...rest }: Comparison): Result {
  const ratio = better === "more" ? tidemark / reference : reference / tidemark;
  return { case: rest.case, unit: rest.unit, tidemark, reference, referenceName: rest.referenceName, ratio, goal: goal ?? null, holds: goal === undefined || ratio >= goal };
}

/** A figure beside an absolute goal. */
export function against(goal: number, figure: { readonly case: string; readonly unit: string; readonly better: Better; readonly tidemark: number }): Result {
  return compared({ ...figure, reference: goal, referenceName: "goal", goal: 1 });
}

/** The middle of the values, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** The value below which the given share (0 to 1) of the values lies, interpolated between neighbours. */
export function percentile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError("there is no percentile of nothing");
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)] as number;
  const above = sorted[Math.ceil(place)] as number;
  return below + (above - below) * (place - Math.floor(place));
}
