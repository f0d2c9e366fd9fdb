import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "vitest";
import { sqliteViews } from "../../../src/store/sqlite/index.ts";
import type { ViewStore } from "../../../src/readmodel/view-store.ts";
import { viewStoreContract } from "../../../src/testing/view-store-contract.ts";

viewStoreContract(
  {
    name: "SQLite",
    open: async () => {
      const folder = await mkdtemp(join(tmpdir(), "tidemark-views-"));
      const opened: ViewStore[] = [];
      const open = async (): Promise<ViewStore> => {
        const views = sqliteViews({ file: join(folder, "views.db") });
        opened.push(views);
        return views;
      };
      const views = await open();
      return {
        views,
        another: open,
        reopen: async () => {
          await Promise.all(opened.map((one) => one.close()));
          return open();
        },
        dispose: async () => {
          await Promise.all(opened.map((one) => one.close()));
          await rm(folder, { recursive: true, force: true });
        },
      };
    },
  },
  { describe, it },
);
