/** docs/guarantees.md names the tests that prove it; each of them exists. */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../..");
const text = readFileSync(join(root, "docs/guarantees.md"), "utf8");

const proofs = [...text.matchAll(/^- `((?:test|src|examples)\/[^`]+\.ts)`: (.+)$/gm)].map((match) => ({
  file: match[1] ?? "",
  names: [...(match[2] ?? "").matchAll(/“([^”]+)”/g)].map((name) => name[1] ?? ""),
}));

describe("docs/guarantees.md", () => {
  it("names a proof for each of the six invariants", () => {
    for (const invariant of ["I1", "I2", "I3", "I4", "I5", "I6"]) expect(text).toMatch(new RegExp(`^\\*\\*${invariant}\\. .+\\n(?:.+\\n)*\\n- \``, "m"));
  });

  it("names every file of tests in the form that is checked here", () => {
    const named = new Set(proofs.map((proof) => proof.file));
    for (const [path] of text.matchAll(/\b(?:test|src|examples)\/[\w./-]+\.ts/g)) expect(named).toContain(path);
  });

  it.each(proofs)("$file holds the tests that it names", ({ file, names }) => {
    expect(names).not.toEqual([]);
    expect(existsSync(join(root, file))).toBe(true);
    const source = readFileSync(join(root, file), "utf8");
    for (const name of names) expect([`"${name}`, `\`${name}`, `'${name}`].some((title) => source.includes(title)), name).toBe(true);
  });
});
