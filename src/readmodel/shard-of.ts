/** Which shard of a read model a stream belongs to (S1 of shards.ts). */

/** Most shards of a read model. */
export const MAX_SHARDS = 64;

/** The shard of a stream ; checkpoints rest on it, so it never changes: FNV-1a over its UTF-16 units, mixed as in MurmurHash3. */
export function shardOf(stream: string, shards: number): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < stream.length; index++) hash = Math.imul(hash ^ stream.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % shards;
}
