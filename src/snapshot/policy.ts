import type { SnapshotPolicy } from "../aggregate/behaviour.ts";

/** Whether a snapshot is due, `since` the last one (or the start of the stream) and with at least one new event. */
export function isDue(policy: SnapshotPolicy, state: unknown, since: { readonly events: number; readonly ms: number }): boolean {
  if (since.events < 1) return false;
  if (policy.everyEvents !== undefined && since.events >= policy.everyEvents) return true;
  if (policy.everyMs !== undefined && since.ms >= policy.everyMs) return true;
  return policy.when?.(state, since) === true;
}
