import { afterAll, beforeAll, describe, it } from "vitest";
import type { ViewStore } from "../../../src/readmodel/view-store.ts";
import { postgresViews } from "../../../src/store/postgres/index.ts";
import { viewStoreContract } from "../../../src/testing/view-store-contract.ts";
import { available, newSchema, testDatabase, type TestDatabase } from "./support.ts";

describe.skipIf(!available)("read models in PostgreSQL", () => {
  let database: TestDatabase;
  beforeAll(async () => void (database = await testDatabase()));
  afterAll(() => database.drop());

  viewStoreContract(
    {
      name: "PostgreSQL",
      open: async () => {
        const viewsSchema = newSchema();
        const opened: ViewStore[] = [];
        const open = async (): Promise<ViewStore> => {
          const views = await postgresViews({ connection: database.url, viewsSchema, poolSize: 4 });
          opened.push(views);
          return views;
        };
        const closeAll = async (): Promise<void> => void (await Promise.all(opened.map((views) => views.close())));
        return {
          views: await open(),
          another: open,
          reopen: async () => {
            await closeAll();
            return open();
          },
          dispose: closeAll,
        };
      },
    },
    { describe, it },
  );
});
