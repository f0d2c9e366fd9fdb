import { afterAll, beforeAll, describe, it } from "vitest";
import type { EventStore } from "../../../src/store/event-store.ts";
import type { SnapshotStore } from "../../../src/snapshot/snapshot-store.ts";
import { postgresSnapshots, postgresStore, type PostgresStoreOptions } from "../../../src/store/postgres/index.ts";
import { eventStoreContract } from "../../../src/testing/store-contract.ts";
import { snapshotStoreContract } from "../../../src/testing/store-contract-snapshots.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

describe.skipIf(!available)("PostgreSQL", () => {
  let database: TestDatabase;
  beforeAll(async () => void (database = await testDatabase()));
  afterAll(() => database.drop());

  /** All shapes of a log; the two in the middle are put together in the last one, and run alone where it is asked for: TIDEMARK_SHAPES=all. */
  const shapes: Readonly<Record<string, Partial<PostgresStoreOptions>>> = {
    PostgreSQL: {},
    ...(process.env["TIDEMARK_SHAPES"] === "all" && {
      "PostgreSQL, appends side by side": { commitOrder: "horizon" },
      "PostgreSQL in partitions": { eventsPerPartition: 500 },
    }),
    "PostgreSQL, appends side by side, in partitions": { commitOrder: "horizon", eventsPerPartition: 500 },
  };
  for (const [name, shape] of Object.entries(shapes)) eventStoreContract(
    {
      name,
      open: async () => {
        const schema = newSchema();
        const opened: EventStore[] = [];
        const open = async (): Promise<EventStore> => {
          const store = await postgresStore({ connection: database.url, schema, poolSize: 4, ...shape });
          // Every case that appends more than a little crosses from one partition into the next.
          if (shape.eventsPerPartition !== undefined && opened.length === 0) await database.sql(`SELECT setval('${schema}.positions', ${shape.eventsPerPartition - 5})`);
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
            return open();
          },
          reset: async () => {
            await closeAll();
            await database.sql(`DROP SCHEMA ${schema} CASCADE`);
            return open();
          },
          dispose: closeAll,
        };
      },
    },
    { describe, it },
  );

  snapshotStoreContract(
    {
      name: "PostgreSQL",
      open: async () => {
        const schema = newSchema();
        const open = (): Promise<SnapshotStore> => postgresSnapshots({ connection: database.url, schema, poolSize: 2 });
        const snapshots = await open();
        const opened = [snapshots];
        return {
          snapshots,
          reopen: async () => {
            await snapshots.close();
            const again = await open();
            opened.push(again);
            return again;
          },
          dispose: async () => void (await Promise.all(opened.map((one) => one.close()))),
        };
      },
    },
    { describe, it },
  );
});
