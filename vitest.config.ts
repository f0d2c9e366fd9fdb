import { join } from "node:path";
import { defineConfig } from "vitest/config";
import { HeavyFirst } from "./test/support/heavy-first.ts";

// Tests start hundreds of processes: what Node has once read and compiled for one of them, the others find. It makes the start of a process three times cheaper.
process.env["NODE_COMPILE_CACHE"] ??= join(import.meta.dirname, "node_modules/.cache/tidemark-tests");

export default defineConfig({
  test: {
    testTimeout: 20_000,
    hookTimeout: 20_000,
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: HeavyFirst },
    projects: [
      { extends: true, test: { name: "int", include: ["test/**/*.int.test.ts", "examples/**/*.int.test.ts"], globalSetup: ["test/support/global-setup.ts"] } },
      // Pure: they share nothing, and need no process for each file.
      { extends: true, test: { name: "unit", include: ["test/**/*.{unit,type}.test.ts", "examples/**/*.{unit,type}.test.ts"], isolate: false } },
    ],
  },
});
