/**
 * The memory backend: events, snapshots and views in this process. The entry `tidemark/memory`.
 */
import type { Backend } from "../backend.ts";
import { memorySnapshots } from "./memory-snapshots.ts";
import { memoryStore } from "./memory-store.ts";
import type { MemoryStoreOptions } from "./memory-store.ts";
import { memoryViews } from "./memory-views.ts";

export { memoryLog } from "./memory-log.ts";
export type { MemoryLog } from "./memory-log.ts";
export { memorySnapshots } from "./memory-snapshots.ts";
export { memoryStore, memoryStoreDefaults } from "./memory-store.ts";
export type { MemoryStoreOptions } from "./memory-store.ts";
export { memoryViews } from "./memory-views.ts";

/** A whole backend in memory; closing it closes its parts. Errors: InvalidArgument. */
export function memoryBackend(options: MemoryStoreOptions = {}): Backend {
  const events = memoryStore(options);
  const snapshots = memorySnapshots();
  const views = memoryViews();
  return {
    events,
    snapshots,
    views,
    async close() {
      await Promise.all([events.close(), snapshots.close(), views.close()]);
    },
  };
}
