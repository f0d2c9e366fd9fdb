/**
 * Preloaded with `node --import`: applies the mutant that TIDEMARK_MUTANT names, in all its pieces, to the sources of its files, as it is loaded. Nothing is written to disk.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { brokerMutants, kafkaMutants } from "./kafka-mutants.ts";
import { mutants, patched } from "./mutants.ts";

const name = process.env["TIDEMARK_MUTANT"];
const edits = [...mutants, ...kafkaMutants, ...brokerMutants].filter((one) => one.name === name);
if (edits.length === 0) throw new Error(`there is no mutant called ${name}`);
const sources = new Map<string, string>();
for (const edit of edits) {
  const target = pathToFileURL(join(import.meta.dirname, "../..", edit.file)).href;
  // Before anything runs: a mutant that changes nothing is an error.
  sources.set(target, patched(edit, sources.get(target) ?? readFileSync(fileURLToPath(target), "utf8")));
}

registerHooks({
  load(url, context, nextLoad) {
    const source = sources.get(url);
    return source === undefined ? nextLoad(url, context) : { format: "module-typescript", source, shortCircuit: true };
  },
});
