#!/usr/bin/env node
/** The command `tidemark`. */
import { isTidemarkError } from "../errors.ts";
import { run } from "./run.ts";

try {
  process.exitCode = await run(process.argv.slice(2), (text) => process.stdout.write(text), process.env);
} catch (error) {
  process.stderr.write(`${isTidemarkError(error) ? error.message : String((error as Error).stack)}\n`);
  process.exitCode = 1;
}
