import { describe, it } from "vitest";
import { memoryViewData, memoryViews } from "../../../src/store/memory/memory-views.ts";
import { viewStoreContract } from "../../../src/testing/view-store-contract.ts";

viewStoreContract(
  {
    name: "memory",
    open: async () => {
      const data = memoryViewData();
      return {
        views: memoryViews({ data }),
        another: async () => memoryViews({ data }),
        reopen: async () => memoryViews({ data }),
        dispose: async () => undefined,
      };
    },
  },
  { describe, it },
);
