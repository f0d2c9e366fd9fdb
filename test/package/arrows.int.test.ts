/** The linter's rules are alive: each mistake below, alone in a copy of the house, is named by it. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../..");
const house = mkdtempSync(join(tmpdir(), "tidemark-arrows-"));

/** Files with one mistake each, and the words by which the linter names it. */
const mistakes: readonly (readonly [what: string, file: string, source: string, named: string])[] = [
  ["aggregate/ imports a port", "src/aggregate/wrong.ts", 'import { merge } from "../store/position.ts";\nexport const x = merge;\n', "aggregate/ imports nothing of ours but errors.ts"],
  ["aggregate/ does I/O", "src/aggregate/wrong-io.ts", 'import { readFileSync } from "node:fs";\nexport const x = readFileSync;\n', "aggregate/ is pure"],
  ["a port imports what stands above", "src/store/wrong.ts", 'import type { Runner } from "../readmodel/runner.ts";\nexport type X = Runner<unknown>;\n', "the port of stores imports"],
  ["a port imports a backend", "src/store/wrong-backend.ts", 'export * from "./memory/index.ts";\n', "the port of stores knows no backend"],
  ["a port imports a backend's type in passing", "src/store/wrong-type.ts", 'export type X = import("./memory/index.ts").MemoryStore;\n', "`import()` type annotations are forbidden"],
  ["a backend imports another one", "src/store/sqlite/wrong.ts", 'export { memoryStore } from "../memory/index.ts";\n', "a backend imports no other backend"],
  ["a backend imports an actor", "src/store/memory/wrong.ts", 'import { actorOptions } from "../../actor/actor-options.ts";\nexport const x = actorOptions;\n', "a backend imports the ports"],
  ["a backend that is new imports the app", "src/store/other/wrong.ts", 'export { openStore } from "../../app/open-store.ts";\n', "a backend imports the ports"],
  ["snapshot/ imports an actor", "src/snapshot/wrong.ts", 'export { actorOptions } from "../actor/actor-options.ts";\n', "snapshot/ and consistency/ import"],
  ["consistency/ imports a read model", "src/consistency/wrong.ts", 'export { readModel } from "../readmodel/read-model.ts";\n', "snapshot/ and consistency/ import"],
  ["readmodel/ imports an actor", "src/readmodel/wrong.ts", 'export { actorOptions } from "../actor/actor-options.ts";\n', "readmodel/ imports the port"],
  ["actor/ loads the app on demand", "src/actor/wrong.ts", 'export const load = (): Promise<unknown> => import("../app/open-store.ts");\n', "actor/ imports ports"],
  ["actor/ imports a backend", "src/actor/wrong-backend.ts", 'export { memoryStore } from "../store/memory/index.ts";\n', "actor/ imports ports"],
  ["app/ loads a backend outside open-store.ts", "src/app/wrong.ts", 'export const load = (): Promise<unknown> => import("../store/memory/index.ts");\n', "only open-store.ts loads backends"],
  ["app/ imports test tools", "src/app/wrong-testing.ts", 'export { given } from "../testing/given.ts";\n', "only open-store.ts loads backends"],
  ["a folder that nobody thought of imports something", "src/other/wrong.ts", 'export { readModel } from "../readmodel/read-model.ts";\n', "say in .oxlintrc.json what this folder may import"],
  ["a cycle", "src/actor/wrong-cycle.ts", 'import { b } from "./wrong-cycle-back.ts";\nexport const a = (): unknown => b;\n', "import(no-cycle)"],
  ["a floating promise", "src/actor/wrong-promise.ts", "export function go(work: () => Promise<void>): void {\n  work();\n}\n", "typescript(no-floating-promises)"],
  ["a promise where nobody awaits it", "src/actor/wrong-misused.ts", "export function go(work: () => Promise<boolean>): number {\n  return work() ? 1 : 2;\n}\n", "typescript(no-misused-promises)"],
  ["any", "src/actor/wrong-any.ts", "export function go(work: any): void {\n  void work;\n}\n", "typescript(no-explicit-any)"],
  ["console", "src/actor/wrong-console.ts", 'console.log("x");\n', "eslint(no-console)"],
  ["a non-null assertion", "src/actor/wrong-null.ts", "export const first = (list: readonly string[]): string => list[0]!;\n", "typescript(no-non-null-assertion)"],
  ["a clock of its own", "src/actor/wrong-clock.ts", "export const now = (): number => Date.now();\n", "eslint(no-restricted-properties)"],
  ["a timer of its own", "src/actor/wrong-timer.ts", "export const wait = (): unknown => setTimeout(() => 1, 10);\n", "eslint(no-restricted-globals)"],
];

let reports: readonly { readonly file: string; readonly text: string }[] = [];

beforeAll(() => {
  for (const name of [".oxlintrc.json", "tsconfig.json", "package.json", "src"]) cpSync(join(root, name), join(house, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(house, "node_modules"));
  put("src/actor/wrong-cycle-back.ts", 'import { a } from "./wrong-cycle.ts";\nexport const b = (): unknown => a;\n');
  for (const [, file, source] of mistakes) put(file, source);
  // One run for all: each mistake stands in a file of its own, and only what is said about that file counts.
  const run = spawnSync(process.execPath, [join(root, "node_modules/oxlint/bin/oxlint"), "--type-aware", "--deny-warnings", "--format=json", "src"], { cwd: house, encoding: "utf8" });
  expect(run.status, run.stderr).toBe(1);
  const { diagnostics } = JSON.parse(run.stdout) as { diagnostics: readonly { filename: string; code?: string; message: string; help?: string }[] };
  reports = diagnostics.map(({ filename, code = "", message, help = "" }) => ({ file: filename, text: `${code} ${message} ${help}` }));
});

afterAll(() => rmSync(house, { recursive: true, force: true }));

it.each(mistakes)("names %s", (_what, file, _source, named) => {
  expect(reports.filter((report) => report.file === file).map((report) => report.text)).toContainEqual(expect.stringContaining(named));
});

it("finds nothing else in the house", () => {
  const wrong = new Set([...mistakes.map(([, file]) => file), "src/actor/wrong-cycle-back.ts"]);
  expect(reports.filter((report) => !wrong.has(report.file))).toEqual([]);
});

function put(file: string, source: string): void {
  mkdirSync(dirname(join(house, file)), { recursive: true });
  writeFileSync(join(house, file), source);
}
