/**
 * A consistency token: what a later read must at least have seen. Entries name a store, a category, a stream with its version, and a position that covers it.
 *
 * C1 A token demands, for each store and category, the merge of its entries' positions. Merging tokens is the least upper bound of their demands:
 *    associative, commutative, idempotent, and a merged token is covered exactly where all of its parts are.
 * C2 Merging never forgets: beyond MAX_STREAMS the entries of the streams touched longest ago fold into one entry without a stream for each store and category,
 *    whose position still covers them.
 */
import { covers, merge, type Position } from "../store/position.ts";

/** A write that a reader must have seen. */
export interface TokenEntry {
  /** Identity of the event store. */
  readonly store: string;
  readonly category: string;
  /** The stream's id without its category; absent where several streams are folded into one entry. */
  readonly id?: string;
  /** Version of the stream; 0 where no stream is named. */
  readonly version: number;
  readonly position: Position;
}

/** Most streams that a merged token names one by one. */
export const MAX_STREAMS = 16;

/** Joins tokens into one that demands what all of them demand (C1, C2); later arguments are taken as the more recent ones. */
export function mergeEntries(...tokens: readonly (readonly TokenEntry[])[]): readonly TokenEntry[] {
  const merged = new Map<string, TokenEntry>();
  for (const entries of tokens) for (const entry of entries) put(merged, entry);
  return foldStreams([...merged.values()], MAX_STREAMS);
}

/** Keeps the last `keep` entries that name a stream and folds the others by store and category (C2). */
export function foldStreams(entries: readonly TokenEntry[], keep: number): readonly TokenEntry[] {
  let surplus = entries.reduce((streams, entry) => streams + (entry.id === undefined ? 0 : 1), 0) - keep;
  if (surplus <= 0) return entries;
  const folded = new Map<string, TokenEntry>();
  const kept: TokenEntry[] = [];
  for (const entry of entries) {
    if (entry.id === undefined) put(folded, entry);
    else if (surplus-- > 0) put(folded, { store: entry.store, category: entry.category, version: 0, position: entry.position });
    else kept.push(entry);
  }
  return [...folded.values(), ...kept];
}

/** Whether whoever has seen what `token` demands has seen what `other` demands. */
export function tokenCovers(token: readonly TokenEntry[], other: readonly TokenEntry[]): boolean {
  const reached = demands(token);
  for (const [key, position] of demands(other)) if (!covers(reached.get(key) ?? {}, position)) return false;
  return true;
}

function demands(entries: readonly TokenEntry[]): Map<string, Position> {
  const byCategory = new Map<string, Position>();
  for (const { store, category, position } of entries) {
    const key = `${store}\0${category}`;
    byCategory.set(key, merge(byCategory.get(key) ?? {}, position));
  }
  return byCategory;
}

/** The entry moves to the end: the map's order is that of the last touch. */
function put(into: Map<string, TokenEntry>, entry: TokenEntry): void {
  const key = `${entry.store}\0${entry.category}\0${entry.id ?? ""}`;
  const known = into.get(key);
  if (known === undefined) {
    into.set(key, entry);
    return;
  }
  into.delete(key);
  into.set(key, { ...known, version: Math.max(known.version, entry.version), position: merge(known.position, entry.position) });
}
