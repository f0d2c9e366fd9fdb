/**
 * `npm test [-- files and options of vitest]`: runs the tests and ends with the line `N passed, N failed, N skipped`, counted from vitest's own report.
 * The exit code is 0 only when nothing failed.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { countTests, type Report } from "./test-counts.ts";

const root = resolve(import.meta.dirname, "..");
const reportFile = join(root, "test-report.json");

rmSync(reportFile, { force: true });
const vitest = spawn(
  process.execPath,
  [join(root, "node_modules/vitest/vitest.mjs"), "run", "--reporter=default", "--reporter=./scripts/skips-reporter.ts", "--reporter=json", `--outputFile.json=${reportFile}`, ...process.argv.slice(2)],
  { cwd: root, stdio: ["ignore", "inherit", "inherit"] },
);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => vitest.kill(signal));
const [code] = (await once(vitest, "exit")) as [number | null];

const counts = countTests(readReport(), code === 0);
process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
process.exitCode = counts.failed === 0 ? 0 : 1;

/** Undefined when the run ended before it could report. */
function readReport(): Report | undefined {
  try {
    return JSON.parse(readFileSync(reportFile, "utf8")) as Report;
  } catch {
    return undefined;
  }
}
