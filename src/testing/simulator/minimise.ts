/**
 * Delta debugging (Zeller and Hildebrandt, 2002): the fewest steps of a failing plan that still fail.
 */

/** A list from which no chunk can be left out without `fails` becoming false, as far as `tries` runs can tell. `fails(items)` holds. */
export async function minimise<T>(items: readonly T[], fails: (fewer: readonly T[]) => Promise<boolean>, tries: number): Promise<readonly T[]> {
  let current = items;
  let left = tries;
  for (let size = Math.ceil(current.length / 2); size >= 1 && left > 0; ) {
    let shorter: readonly T[] | undefined;
    // From the end: what comes late is needed least.
    for (let from = Math.floor((current.length - 1) / size) * size; from >= 0 && shorter === undefined && left > 0; from -= size) {
      const fewer = [...current.slice(0, from), ...current.slice(from + size)];
      left--;
      if (await fails(fewer)) shorter = fewer;
    }
    if (shorter !== undefined) {
      current = shorter;
      size = Math.min(size, Math.ceil(current.length / 2));
    } else size = size === 1 ? 0 : Math.ceil(size / 2);
  }
  return current;
}
