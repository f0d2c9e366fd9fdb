import { describe, it } from "vitest";
import { memorySnapshots } from "../../../src/store/memory/index.ts";
import { snapshotStoreContract } from "../../../src/testing/store-contract-snapshots.ts";

snapshotStoreContract(
  {
    name: "the memory snapshot store",
    async open() {
      const snapshots = memorySnapshots();
      return { snapshots, dispose: () => snapshots.close() };
    },
  },
  { describe, it },
);
