/**
 * The package as users get it: packed, installed into an empty project, and used with nothing but what the guide and the README say.
 * Files of the guide are written as they stand, its `sh` blocks are run, and a `text` block after one is what it must print.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { available, testDatabase } from "../store/postgres/support.ts";
import { codeBlocks, type CodeBlock } from "./markdown.ts";
import { PackedProject } from "./packed-project.ts";

const root = resolve(import.meta.dirname, "../..");
const blocksOf = (file: string): readonly CodeBlock[] => codeBlocks(readFileSync(join(root, file), "utf8"));

const project = new PackedProject();
const guide = blocksOf("docs/guide.md");
const readme = blocksOf("README.md");
const exampleAt = readme.findIndex((block) => block.language === "ts");
const example = readme[exampleAt]?.code ?? "";
const shell = guide.flatMap((block, index) => {
  if (block.language !== "sh") return [];
  const next = guide[index + 1];
  return [{ line: block.line, code: block.code, prints: next?.language === "text" ? next.code : undefined }];
});
/** What is installed is there before anything is compiled. */
const isInstallation = ({ code }: { readonly code: string }): boolean => /^npm (init|install)/.test(code);
const installations = shell.filter(isInstallation);
const commands = shell.filter((block) => !isInstallation(block));
let packed: readonly string[] = [];

beforeAll(async () => {
  packed = await project.pack();
  for (const { file, code } of guide) if (file !== undefined) project.write(file, code);
  project.write("src/example.ts", example);
  for (const { code } of installations) await project.shell(code.replace("mkdir src", "mkdir -p src"));
}, 180_000);

// Thousands of files, on a disk that others flush meanwhile.
afterAll(() => project.remove(), 120_000);

describe("the package", () => {
  it("holds what its entries name, sources for its source maps, and no tests", () => {
    const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { exports: Record<string, string | Record<string, string>> };
    const named = Object.values(exports).flatMap((entry) => (typeof entry === "string" ? [entry] : Object.values(entry)));
    expect(packed).toEqual(expect.arrayContaining(named.map((file) => file.replace("./", ""))));
    expect(packed).toEqual(expect.arrayContaining(["LICENSE", "README.md", "CHANGELOG.md", "docs/guide.md", "src/index.ts", "dist/index.js.map"]));
    expect(packed.filter((file) => !/^(dist|src|docs)\/|^(package\.json|LICENSE|README\.md|CHANGELOG\.md)$/.test(file))).toEqual([]);
  });

  it("loads none of its backends and test tools with its core", async () => {
    project.write(
      "loaded.mjs",
      `import { registerHooks } from "node:module";
       const loaded = [];
       registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
       await import("tidemark");
       console.log(loaded.filter((url) => /node:sqlite|\\/store\\/\\w+\\/|\\/testing\\//.test(url)).join(" ") || "nothing");`,
    );
    expect(await project.shell("node loaded.mjs")).toBe("nothing\n");
  });
});

describe("the guide", () => {
  it("type-checks under a consumer's strict options, with the README's example and the declarations of the package", async () => {
    await project.shell("npx tsc --skipLibCheck false");
  }, 60_000);

  it.each(commands)("runs, and prints what it says it prints (line $line)", async ({ code, prints }) => {
    const printed = await project.shell(code);
    if (prints !== undefined) expect(printed).toBe(prints);
  }, 60_000);

  it.skipIf(!available)("has a read model in SQL that runs on PostgreSQL as printed, through the query builder that it shows", async () => {
    const database = await testDatabase();
    try {
      const [line = "", ...prints] = guide.find(({ language, code }) => language === "console" && code.includes("src/teams.ts"))?.code.split("\n") ?? [];
      const [, variable = "", command = ""] = /^\$ (STORE)=\S+ (.+)$/.exec(line) ?? [];
      expect(await project.shell(`${variable}=${database.url} ${command}`)).toBe(prints.join("\n"));
    } finally {
      await database.drop();
    }
  }, 60_000);

  it("has a service that answers a read with the write that its token names", async () => {
    const service = project.start("src/server.ts", { PORT: "0", STORE: "memory:" });
    try {
      let complaints = "";
      service.stderr.on("data", (chunk: Buffer) => (complaints += chunk.toString()));
      const line = await Promise.race([once(createInterface(service.stdout), "line"), once(service, "exit").then(() => Promise.reject(new Error(complaints)))]);
      const { port } = JSON.parse(String(line[0]).replace("listening on ", "")) as { port: number };
      const at = (path: string): string => `http://127.0.0.1:${port}/rooms/blue${path}`;
      const post = (command: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
        fetch(at(`/${command}`), { method: "POST", body: JSON.stringify(body), headers });

      expect((await post("open", { seats: 6 })).status).toBe(200);
      const booking = { by: "ann", from: "2030-05-06T09:00:00Z", to: "2030-05-06T10:00:00Z", people: 4 };
      const booked = await post("book", booking, { "idempotency-key": "k-1" });
      expect(booked.status).toBe(200);
      const list = await fetch(at(""), { headers: { "tidemark-token": booked.headers.get("tidemark-token") ?? "" } });
      expect(await list.json()).toMatchObject([{ by: "ann", team: "design", room: "blue" }]);

      expect(await (await post("book", booking, { "idempotency-key": "k-1" })).json()).toEqual(await booked.json());
      const taken = await post("book", { ...booking, by: "bob" });
      expect([taken.status, await taken.json()]).toMatchObject([409, { code: "taken", details: { by: "ann" } }]);
      const bad = await post("book", { ...booking, people: 0 });
      expect([bad.status, await bad.json()]).toMatchObject([400, { code: "InvalidInput" }]);
      expect((await fetch(at("/book"), { method: "POST", body: "{" })).status).toBe(400);

      service.kill("SIGTERM");
      expect((await once(service, "exit"))[0]).toBe(0);
    } finally {
      service.kill("SIGKILL");
    }
  }, 60_000);
});

describe("the README", () => {
  it("has an example of about thirty lines that runs as printed and prints what it says", async () => {
    expect(example.split("\n").length).toBeLessThan(40);
    expect(await project.shell("node src/example.ts")).toBe(readme[exampleAt + 1]?.code);
  }, 60_000);
});
