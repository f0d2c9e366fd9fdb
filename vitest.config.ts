import { join } from "node:path";
import { defineConfig } from "vitest/config";

// Tests start hundreds of processes: what Node has once read and compiled for one of them, the others find. It makes the start of a process three times cheaper.
process.env["NODE_COMPILE_CACHE"] ??= join(import.meta.dirname, "node_modules/.cache/tidemark-tests");

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    pool: "forks",
    maxWorkers: 2,
  },
});
