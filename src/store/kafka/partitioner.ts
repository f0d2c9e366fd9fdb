/** The partition of a key, as the Java clients' default partitioner has it: murmur2 of the key's bytes, the sign bit dropped, modulo the number of partitions. */

/** `partitions`: how many there are, for ever. */
export function partitionOf(key: string, partitions: number): number {
  return (murmur2(Buffer.from(key, "utf8")) & 0x7fffffff) % partitions;
}

/** MurmurHash2, 32 bits, with the seed that Kafka uses; signed. */
export function murmur2(bytes: Uint8Array): number {
  const { length } = bytes;
  let hash = 0x9747b28c ^ length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let k = (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
    k = Math.imul(k, 0x5bd1e995);
    k ^= k >>> 24;
    hash = Math.imul(hash, 0x5bd1e995) ^ Math.imul(k, 0x5bd1e995);
  }
  const rest = length - at;
  if (rest >= 3) hash ^= (bytes[at + 2] as number) << 16;
  if (rest >= 2) hash ^= (bytes[at + 1] as number) << 8;
  if (rest >= 1) hash = Math.imul(hash ^ (bytes[at] as number), 0x5bd1e995);
  hash = Math.imul(hash ^ (hash >>> 13), 0x5bd1e995);
  return hash ^ (hash >>> 15);
}
