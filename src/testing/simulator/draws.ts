/** What a simulation draws from its seed: whole numbers, chances and choices. */
import { seededRandom } from "../manual-environment.ts";

export interface Draws {
  /** In [0, 1). */
  next(): number;
  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number;
  /** True in `share` of all draws. */
  chance(share: number): boolean;
  /** One of the items, which are at least one. */
  pick<T>(items: readonly T[]): T;
}

/** Draws of their own for each purpose of a simulation: what one purpose draws never moves another one. */
export function drawsOf(seed: number, purpose: string): Draws {
  let mixed = seed | 0;
  for (let index = 0; index < purpose.length; index++) mixed = Math.imul(mixed ^ purpose.charCodeAt(index), 0x01000193) ^ (mixed >>> 15);
  const random = seededRandom(mixed);
  const next = (): number => random.next();
  return {
    next,
    int: (least, most) => least + Math.floor(next() * (most - least + 1)),
    chance: (share) => next() < share,
    pick: (items) => items[Math.floor(next() * items.length)] as (typeof items)[number],
  };
}
