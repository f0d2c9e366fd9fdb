/**
 * Preloaded with `node --import`: applies the mutant that TIDEMARK_MUTANT names to the source of its file, as it is loaded. Nothing is written to disk.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { mutants, patched } from "./mutants.ts";

const name = process.env["TIDEMARK_MUTANT"];
const mutant = mutants.find((one) => one.name === name);
if (mutant === undefined) throw new Error(`there is no mutant called ${name}`);
const target = pathToFileURL(join(import.meta.dirname, "../..", mutant.file)).href;
// Before anything runs: a mutant that changes nothing is an error.
const source = patched(mutant, readFileSync(fileURLToPath(target), "utf8"));

registerHooks({
  load(url, context, nextLoad) {
    return url === target ? { format: "module-typescript", source, shortCircuit: true } : nextLoad(url, context);
  },
});
