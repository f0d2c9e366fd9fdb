/** Without faults the simulated store is a store like any other: it passes the contracts, with the world running as fast as it can. */
import { describe, it } from "vitest";
import { silentLogger } from "../../src/environment.ts";
import { memoryBackend } from "../../src/store/memory/index.ts";
import type { Backend } from "../../src/store/backend.ts";
import type { SnapshotStore } from "../../src/snapshot/snapshot-store.ts";
import type { ViewStore } from "../../src/readmodel/view-store.ts";
import { drawsOf } from "../../src/testing/simulator/draws.ts";
import { Coverage, Faults } from "../../src/testing/simulator/faults.ts";
import { SimulatedStore } from "../../src/testing/simulator/simulated-store.ts";
import { World } from "../../src/testing/simulator/world.ts";
import { eventStoreContract } from "../../src/testing/store-contract.ts";
import { snapshotStoreContract } from "../../src/testing/store-contract-snapshots.ts";
import { viewStoreContract } from "../../src/testing/view-store-contract.ts";

/** A world that runs on its own until it is stopped, with servers in it. */
function running() {
  const world = new World({
    draws: drawsOf(1, "schedule"),
    logger: silentLogger,
    onError: (_, error) => {
      throw error;
    },
  });
  let stopped = false;
  let hosts = 0;
  const step = (): void => {
    if (stopped) return;
    world.step();
    setImmediate(step);
  };
  setImmediate(step);
  return {
    serve(): () => Backend {
      const faults = new Faults(new Coverage());
      const store = new SimulatedStore({ world, draws: drawsOf(1, "store"), faults, backend: memoryBackend(), onMisuse: () => undefined, count: () => undefined });
      return () => store.connect(world.host(`client ${++hosts}`));
    },
    stop() {
      stopped = true;
    },
  };
}

const name = "the simulated store";

eventStoreContract(
  {
    name,
    async open() {
      const world = running();
      const connect = world.serve();
      const first = connect().events;
      return {
        store: first,
        another: async () => connect().events,
        async reopen() {
          await first.close();
          return connect().events;
        },
        reset: async () => world.serve()().events,
        dispose: async () => world.stop(),
      };
    },
  },
  { describe, it },
);

snapshotStoreContract(
  {
    name,
    async open() {
      const world = running();
      const connect = world.serve();
      const open = (): SnapshotStore => connect().snapshots as SnapshotStore;
      return { snapshots: open(), reopen: async () => open(), dispose: async () => world.stop() };
    },
  },
  { describe, it },
);

viewStoreContract(
  {
    name,
    async open() {
      const world = running();
      const connect = world.serve();
      const open = (): ViewStore => connect().views as ViewStore;
      return { views: open(), another: async () => open(), reopen: async () => open(), dispose: async () => world.stop() };
    },
  },
  { describe, it },
);
