/** The command line as it runs where no client is installed. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../..");
/** The sources alone: no packages stand above them. */
const folder = mkdtempSync(join(tmpdir(), "tidemark-cli-"));

beforeAll(() => {
  for (const name of ["package.json", "src"]) cpSync(join(root, name), join(folder, name), { recursive: true });
});

afterAll(() => rmSync(folder, { recursive: true }));

it.each([
  [["postgres", "migrate", "--store", "postgres://127.0.0.1:1/shop", "--dry-run"], "this store needs pg, which is not installed: npm install pg\n"],
  [["postgres", "views", "--store", "postgres://127.0.0.1:1/shop"], "this store needs pg, which is not installed: npm install pg\n"],
  [["kafka", "acls", "--topic-prefix", "shop", "--principal", "User:shop"], "this store needs kafkajs, which is not installed: npm install kafkajs@2.2.4\n"],
])("names what to install: %j", (args, said) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], { cwd: folder, encoding: "utf8" });
  expect([status, stdout, stderr]).toEqual([1, "", said]);
});
