import { rmSync } from "node:fs";
import { describe, it } from "vitest";
import { sqliteStore, sqliteViews } from "../../../src/store/sqlite/index.ts";
import type { EventStore } from "../../../src/store/event-store.ts";
import type { ViewStore } from "../../../src/readmodel/view-store.ts";
import { eventStoreContract } from "../../../src/testing/store-contract.ts";
import { viewStoreContract } from "../../../src/testing/view-store-contract.ts";
import { folder } from "./support.ts";

eventStoreContract(
  {
    name: "SQLite",
    open: async () => {
      const { path, dispose } = folder();
      const file = path("log.db");
      const opened: EventStore[] = [];
      const open = (): EventStore => {
        const store = sqliteStore({ file });
        opened.push(store);
        return store;
      };
      const closeAll = async (): Promise<void> => void (await Promise.all(opened.map((store) => store.close())));
      const store = open();
      return {
        store,
        another: async () => open(),
        reopen: async () => {
          await store.close();
          return open();
        },
        reset: async () => {
          await closeAll();
          for (const ending of ["", "-wal", "-shm"]) rmSync(file + ending, { force: true });
          return open();
        },
        dispose: async () => {
          await closeAll();
          dispose();
        },
      };
    },
  },
  { describe, it },
);

viewStoreContract(
  {
    name: "SQLite",
    open: async () => {
      const { path, dispose } = folder();
      const file = path("log.views.db");
      const opened: ViewStore[] = [];
      const open = (): ViewStore => {
        const views = sqliteViews({ file });
        opened.push(views);
        return views;
      };
      const closeAll = async (): Promise<void> => void (await Promise.all(opened.map((views) => views.close())));
      return {
        views: open(),
        another: async () => open(),
        reopen: async () => {
          await closeAll();
          return open();
        },
        dispose: async () => {
          await closeAll();
          dispose();
        },
      };
    },
  },
  { describe, it },
);
