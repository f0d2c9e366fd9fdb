/** Values that are looked at; the rest is extrapolated. */
const SAMPLE = 2000;

/** About how many bytes plain data takes in memory. Large data is sampled: the estimate then rests on its first values. */
export function estimateBytes(value: unknown): number {
  let seen = 0;
  const walk = (inner: unknown): number => {
    seen++;
    switch (typeof inner) {
      case "string":
        return 24 + inner.length;
      case "number":
        return 8;
      case "object":
        break;
      default:
        return 4;
    }
    if (inner === null) return 4;
    let bytes = 32;
    let looked = 0;
    const values: readonly unknown[] = Array.isArray(inner) ? inner : Object.values(inner);
    for (const each of values) {
      if (seen > SAMPLE) break;
      bytes += 8 + walk(each);
      looked++;
    }
    return looked === 0 ? bytes + 16 * values.length : bytes * (values.length / looked);
  };
  return Math.round(walk(value));
}
