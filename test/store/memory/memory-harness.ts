import { memoryLog, memoryStore } from "../../../src/store/memory/index.ts";
import type { EventStore } from "../../../src/store/event-store.ts";
import type { StoreHarness } from "../../../src/testing/store-contract.ts";

/** A memory store per case; a shared log plays the database that several processes use. `wrap` lets a test break it on purpose. */
export function memoryHarness(wrap: (store: EventStore) => EventStore = (store) => store, boundMs = 5000): StoreHarness {
  return {
    name: "the memory store",
    boundMs,
    async open() {
      const log = memoryLog();
      const opened: EventStore[] = [];
      const open = (on = log): EventStore => {
        const store = wrap(memoryStore({ log: on }));
        opened.push(store);
        return store;
      };
      return {
        store: open(),
        another: async () => open(),
        reopen: async () => open(),
        reset: async () => open(memoryLog()),
        dispose: async () => {
          for (const store of opened) await store.close();
        },
      };
    },
  };
}
