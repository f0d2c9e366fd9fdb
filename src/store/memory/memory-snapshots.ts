/**
 * Snapshots in this process's memory.
 */
import { StoreClosed } from "../../errors.ts";
import type { SnapshotStore, StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import { throwIfAborted } from "../validate-read.ts";

/** Keeps the newest snapshot of each stream; copies in, frozen copies out. Errors: StoreClosed, Aborted. */
export function memorySnapshots(): SnapshotStore {
  const newest = new Map<string, StoredSnapshot>();
  let closed = false;
  const assertOpen = (): void => {
    if (closed) throw new StoreClosed("the snapshot store is closed");
  };
  return {
    async load(stream, signal) {
      throwIfAborted(signal, `loading the snapshot of ${stream}`);
      assertOpen();
      return newest.get(stream);
    },
    async save(snapshots) {
      assertOpen();
      for (const snapshot of snapshots) {
        if ((newest.get(snapshot.stream)?.version ?? 0) > snapshot.version) continue;
        newest.set(snapshot.stream, Object.freeze({ ...snapshot, position: Object.freeze({ ...snapshot.position }) }));
      }
    },
    async delete(stream) {
      assertOpen();
      newest.delete(stream);
    },
    async close() {
      closed = true;
      newest.clear();
    },
  };
}
