/**
 * Delta debugging, greedily (after Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): fewer steps of a plan that still fail.
 */

/**
 * The list without every chunk that can be left out, in ever smaller chunks, as far as `tries` runs reach. `fails(items)` holds.
 * A shorter plan draws another schedule, so what is left is small, not always the smallest.
 */
export async function leaveOut<T>(items: readonly T[], fails: (fewer: readonly T[]) => Promise<boolean>, tries: number): Promise<readonly T[]> {
  let current = items;
  let left = tries;
  for (let size = Math.ceil(current.length / 2); left > 0 && current.length > 0; ) {
    const before = current.length;
    // From the end: what comes late is needed least.
    for (let to = current.length; to > 0 && left > 0; to -= size) {
      const fewer = [...current.slice(0, Math.max(0, to - size)), ...current.slice(to)];
      left--;
      if (await fails(fewer)) current = fewer;
    }
    if (size === 1 && current.length === before) break;
    size = Math.max(1, Math.ceil(size / 2));
  }
  return current;
}
