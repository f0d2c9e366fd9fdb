import { randomUUID } from "node:crypto";
import { describe, it } from "vitest";
import type { SnapshotStore } from "../../../src/snapshot/snapshot-store.ts";
import type { EventStore } from "../../../src/store/event-store.ts";
import { eventStoreDBSnapshots, eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { eventStoreDbServer } from "../../../src/testing/eventstoredb-server/index.ts";
import { eventStoreContract } from "../../../src/testing/store-contract.ts";
import { snapshotStoreContract } from "../../../src/testing/store-contract-snapshots.ts";
import { component } from "../../support/components.ts";
import { partOf } from "./shared-log.ts";

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
        const opened: SnapshotStore[] = [];
        const open = (): SnapshotStore => {
          const snapshots = eventStoreDBSnapshots({ connection: server.connectionString });
          opened.push(snapshots);
          return snapshots;
        };
        const snapshots = open();
        return {
          snapshots,
          reopen: async () => {
            await snapshots.close();
            return open();
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

const real = component("eventstoredb");

/** It keeps what was written before: each case has a part of its log. A real server cannot be set up anew from here. */
describe.skipIf(!real.available)("a real EventStoreDB", () => {
  eventStoreContract(
    {
      name: "a real EventStoreDB",
      boundMs: 15_000,
      open: async () => {
        const prefix = `c${randomUUID().slice(0, 8)}_`;
        const first = await eventStoreDBStore({ connection: real.reason });
        let begin = {};
        for await (const page of first.subscribe({ categories: [] })) {
          begin = page.through;
          if (page.caughtUp) break;
        }
        const opened = [first];
        const open = async (): Promise<EventStore> => {
          const store = await eventStoreDBStore({ connection: real.reason });
          opened.push(store);
          return partOf(store, prefix, begin);
        };
        return {
          store: partOf(first, prefix, begin),
          another: open,
          reopen: async () => {
            await first.close();
            return open();
          },
          dispose: async () => void (await Promise.all(opened.map((store) => store.close()))),
        };
      },
    },
    { describe, it },
  );

  snapshotStoreContract(
    {
      name: "a real EventStoreDB",
      open: async () => {
        const prefix = `c${randomUUID().slice(0, 8)}_`;
        const opened: SnapshotStore[] = [];
        const open = (): SnapshotStore => {
          const snapshots = eventStoreDBSnapshots({ connection: real.reason });
          opened.push(snapshots);
          return {
            async load(stream, signal) {
              const found = await snapshots.load(prefix + stream, signal);
              return found === undefined ? undefined : { ...found, stream };
            },
            save: (all) => snapshots.save(all.map((one) => ({ ...one, stream: prefix + one.stream }))),
            delete: (stream) => snapshots.delete(prefix + stream),
            close: () => snapshots.close(),
          };
        };
        const snapshots = open();
        return {
          snapshots,
          reopen: async () => {
            await snapshots.close();
            return open();
          },
          dispose: async () => void (await Promise.all(opened.map((one) => one.close()))),
        };
      },
    },
    { describe, it },
  );
});
