/** Values that are looked at; the rest is extrapolated. */
const SAMPLE = 2000;

/** Looked at by the estimate under way. */
let seen = 0;

/** About how many bytes plain data takes in memory. Large data is sampled: the estimate then rests on its first values. */
export function estimateBytes(value: unknown): number {
  seen = 0;
  return Math.round(walk(value));
}

function walk(value: unknown): number {
  seen++;
  switch (typeof value) {
    case "string":
      return 24 + value.length;
    case "number":
      return 8;
    case "object":
      break;
    default:
      return 4;
  }
  if (value === null) return 4;
  let bytes = 32;
  let looked = 0;
  if (Array.isArray(value)) {
    for (; looked < value.length && seen <= SAMPLE; looked++) bytes += 8 + walk(value[looked]);
    return extrapolated(bytes, looked, value.length);
  }
  for (const key in value) {
    if (seen > SAMPLE) return extrapolated(bytes, looked, Object.keys(value).length);
    bytes += 8 + walk((value as Record<string, unknown>)[key]);
    looked++;
  }
  return bytes;
}

function extrapolated(bytes: number, looked: number, count: number): number {
  return looked === 0 ? bytes + 16 * count : bytes * (count / looked);
}
