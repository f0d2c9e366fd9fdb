import { hash } from "node:crypto";
import type { StoredSnapshot } from "./snapshot-store.ts";

/** Fingerprint of everything that hydration takes from a snapshot: damage, and a snapshot of another stream, are found by it. */
export function checksumOf(snapshot: Omit<StoredSnapshot, "checksum" | "takenAt">): string {
  const { stream, version, eventId, position, schemaVersion, state, window } = snapshot;
  const lanes = Object.entries(position).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return hash("sha256", JSON.stringify([stream, version, eventId, lanes, schemaVersion, state, window]), "base64url").slice(0, 22);
}
