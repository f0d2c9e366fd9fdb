/**
 * A position is a place in the log: a map from lane to offset, inclusive. Kafka's lanes are its partitions, every other store has the one lane `log`.
 * P1 a lane that is absent stands before the lane's first event. P2 positions are a partial order: there is no total comparison, only `covers`.
 * P3 `merge` is the least upper bound: associative, commutative, idempotent, and it covers both of its arguments; `meet` is the greatest lower bound.
 */
export type Position = Readonly<Record<string, number>>;

/** The position before the first event of every lane. */
export const START: Position = Object.freeze({});

/** The lane of the stores that have only one. */
export const SINGLE_LANE = "log";

/** The position of offset `offset` in a store with one lane. */
export function at(offset: number): Position {
  return { log: offset };
}

/** The offset of a position in a store with one lane; 0 = before the first event. */
export function offsetOf(position: Position): number {
  return position["log"] ?? 0;
}

/** Whether everything up to `target` was seen by someone who has seen everything up to `position`. */
export function covers(position: Position, target: Position): boolean {
  for (const lane in target) {
    const reached = position[lane];
    if (reached === undefined || reached < (target[lane] as number)) return false;
  }
  return true;
}

/** The greatest position that both cover. */
export function meet(a: Position, b: Position): Position {
  if (covers(a, b)) return b;
  if (covers(b, a)) return a;
  const met: Record<string, number> = {};
  for (const lane in a) {
    const other = b[lane];
    if (other !== undefined) met[lane] = Math.min(a[lane] as number, other);
  }
  return met;
}

/** The least position that covers both. */
export function merge(a: Position, b: Position): Position {
  if (covers(a, b)) return a;
  if (covers(b, a)) return b;
  const merged: Record<string, number> = { ...a };
  for (const lane in b) merged[lane] = Math.max(merged[lane] ?? Number.NEGATIVE_INFINITY, b[lane] as number);
  return merged;
}
