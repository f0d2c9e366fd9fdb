/** An empty project in a folder of its own, and the package as `npm pack` makes it from these sources. */
import { execFile, spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";

const root = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);

/** What this run time says of the repository's own scripts must not reach the project. */
const environment: NodeJS.ProcessEnv = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_package_|npm_lifecycle_|npm_config_local_prefix$|INIT_CWD$|NODE_ENV$|NODE_OPTIONS$|VITEST|TEST$)/.test(name))),
  PATH: [dirname(process.execPath), ...(process.env["PATH"] ?? "").split(delimiter).filter((folder) => !folder.includes("node_modules"))].join(delimiter),
  npm_config_prefer_offline: "true",
  npm_config_audit: "false",
  npm_config_fund: "false",
  npm_config_update_notifier: "false",
};

export class PackedProject {
  readonly #home = mkdtempSync(join(tmpdir(), "tidemark-packed-"));
  /** What Node compiles here goes with the project: no other one has its paths. */
  readonly #environment = { ...environment, NODE_COMPILE_CACHE: join(this.#home, "compiled") };
  readonly folder = join(this.#home, "project");
  #tarball = "";

  constructor() {
    mkdirSync(this.folder);
  }

  /** Builds and packs a copy of the sources, so that the working tree stays as it is; the names of the files in the package. */
  async pack(): Promise<readonly string[]> {
    const sources = join(this.#home, "sources");
    mkdirSync(sources);
    for (const name of ["package.json", "tsconfig.json", "tsconfig.build.json", "README.md", "LICENSE", "CHANGELOG.md", "docs", "scripts", "src"]) {
      if (existsSync(join(root, name))) cpSync(join(root, name), join(sources, name), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(sources, "node_modules"));
    const { stdout } = await run("npm", ["pack", "--json", "--foreground-scripts=false"], { cwd: sources, env: this.#environment, maxBuffer: 16 * 1024 * 1024 });
    const [packed] = JSON.parse(stdout.slice(stdout.indexOf("["))) as { filename: string; files: { path: string }[] }[];
    if (packed === undefined) throw new Error("npm pack said nothing");
    this.#tarball = join(sources, packed.filename);
    return packed.files.map((file) => file.path);
  }

  write(file: string, text: string): void {
    mkdirSync(dirname(join(this.folder, file)), { recursive: true });
    writeFileSync(join(this.folder, file), text);
  }

  /** Runs shell commands and returns what they print; `npm install tidemark` installs the packed package. Rejects with all output when one fails. */
  async shell(commands: string): Promise<string> {
    const script = commands.replaceAll(/^(npm install )tidemark\b/gm, `$1${this.#tarball}`);
    try {
      const { stdout } = await run("bash", ["-euo", "pipefail", "-c", script], { cwd: this.folder, env: this.#environment });
      return stdout;
    } catch (error) {
      const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
      throw new Error(`failed in the project:\n${commands}\n${stdout}\n${stderr}`, { cause: error });
    }
  }

  /** Starts a program that goes on running. */
  start(file: string, variables: Readonly<Record<string, string>>): ChildProcessWithoutNullStreams {
    return spawn(process.execPath, [file], { cwd: this.folder, env: { ...this.#environment, ...variables } });
  }

  remove(): void {
    rmSync(this.#home, { recursive: true, force: true });
  }
}
