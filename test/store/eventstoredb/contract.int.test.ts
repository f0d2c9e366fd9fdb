import { describe, it } from "vitest";
import type { EventStore } from "../../../src/store/event-store.ts";
import { eventStoreDBSnapshots, eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { eventStoreContract } from "../../../src/testing/store-contract.ts";
import { snapshotStoreContract } from "../../../src/testing/store-contract-snapshots.ts";
import { eventStoreDbServer } from "../../../src/testing/eventstoredb-server/index.ts";

describe("EventStoreDB", () => {
  eventStoreContract(
    {
      name: "EventStoreDB",
      open: async () => {
        let server = await eventStoreDbServer();
        const opened: EventStore[] = [];
        const open = async (): Promise<EventStore> => {
          const store = await eventStoreDBStore({ connection: server.connectionString });
          opened.push(store);
          return store;
        };
        const closeAll = async (): Promise<void> => void (await Promise.all(opened.map((store) => store.close())));
        const store = await open();
        return {
          store,
          another: open,
          reopen: async () => {
            await store.close();
            await server.restart();
            return open();
          },
          reset: async () => {
            await closeAll();
            await server.close();
            server = await eventStoreDbServer({ port: server.port });
            return open();
          },
          dispose: async () => {
            await closeAll();
            await server.close();
          },
        };
      },
    },
    { describe, it },
  );

  snapshotStoreContract(
    {
      name: "EventStoreDB",
      open: async () => {
        const server = await eventStoreDbServer();
        const opened = [eventStoreDBSnapshots({ connection: server.connectionString })];
        return {
          snapshots: opened[0]!,
          reopen: async () => {
            await opened[0]!.close();
            opened.push(eventStoreDBSnapshots({ connection: server.connectionString }));
            return opened[1]!;
          },
          dispose: async () => {
            await Promise.all(opened.map((one) => one.close()));
            await server.close();
          },
        };
      },
    },
    { describe, it },
  );
});
