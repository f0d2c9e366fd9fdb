/** The documents lead where they say, and know every error. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import * as errors from "../../src/errors.ts";

const root = resolve(import.meta.dirname, "../..");
const documents = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/orders/README.md", ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".md")).map((file) => join("docs", file))];
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const withoutCode = (markdown: string): string => markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").replaceAll(/`[^`\n]*`/g, "");

/** As GitHub makes them of headings. */
const anchors = (file: string): readonly string[] =>
  [...read(file).replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-"));

describe("the documents", () => {
  it.each(documents)("%s has no link that leads nowhere", (document) => {
    const lost = [...withoutCode(read(document)).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target = ""]) => target)
      .filter((target) => !/^https?:/.test(target))
      .filter((target) => {
        const [path = "", anchor] = target.split("#");
        const file = path === "" ? document : relative(root, resolve(root, dirname(document), path));
        return !existsSync(join(root, file)) || (anchor !== undefined && !anchors(file).includes(anchor));
      });
    expect(lost).toEqual([]);
  });

  it("list every decision", () => {
    const records = readdirSync(join(root, "docs/adr")).filter((file) => /^\d{4}-/.test(file));
    expect(records.filter((file) => !read("docs/adr/README.md").includes(`(${file})`))).toEqual([]);
    expect(records.map((file) => Number(file.slice(0, 4)))).toEqual(records.map((_, index) => index + 1));
  });
});

describe("the table of errors in the guide", () => {
  it("holds every code once, and no other", () => {
    const codes = Object.values(errors)
      .filter((value): value is typeof errors.InvalidArgument => typeof value === "function" && value.prototype instanceof errors.TidemarkError)
      .map((kind) => new kind("").code);
    const section = read("docs/guide.md").split("## Errors")[1] ?? "";
    const listed = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code);
    expect(listed).toHaveLength(codes.length);
    expect(new Set(listed)).toEqual(new Set<string | undefined>(codes));
  });
});
