import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openStore } from "../../../src/index.ts";
import { postgresStore } from "../../../src/store/postgres/index.ts";
import { ownServer, ownServerAvailable, type OwnServer } from "./own-server.ts";
import { appendOf, readChecked, until } from "./shared.ts";

const openssl = (...args: readonly string[]): boolean => spawnSync("openssl", args, { stdio: "ignore" }).status === 0;

describe.skipIf(!ownServerAvailable || !openssl("version"))("PostgreSQL over TLS", () => {
  let folder: string;
  let server: OwnServer;
  const opened: { close(): Promise<void> }[] = [];
  const path = (name: string): string => join(folder, name);

  /** An authority of its own, `NAME.crt` and `NAME.key`. */
  const authority = (name: string): boolean => openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", `/CN=${name}`, "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", path(`${name}.key`), "-out", path(`${name}.crt`));

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-tls-"));
    expect([authority("ours"), authority("theirs")]).toEqual([true, true]);
    writeFileSync(path("host.ext"), "subjectAltName=DNS:localhost\n");
    expect(openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-keyout", path("server.key"), "-out", path("server.csr"))).toBe(true);
    expect(openssl("x509", "-req", "-days", "2", "-in", path("server.csr"), "-CA", path("ours.crt"), "-CAkey", path("ours.key"), "-CAcreateserial", "-extfile", path("host.ext"), "-out", path("server.crt"))).toBe(true);
    server = await ownServer({
      settings: ["ssl=on", "listen_addresses=localhost"],
      prepare(data) {
        const { uid, gid } = statSync(data);
        for (const name of ["server.key", "server.crt"]) {
          copyFileSync(path(name), join(data, name));
          chownSync(join(data, name), uid, gid);
          chmodSync(join(data, name), 0o600);
        }
        // Nobody gets in without TLS.
        writeFileSync(join(data, "pg_hba.conf"), "hostssl all all all password\n");
      },
    });
    await server.start();
  }, 60_000);
  afterEach(async () => void (await Promise.all(opened.splice(0).map((one) => one.close()))));
  afterAll(async () => {
    await server.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  const url = (parameters: Readonly<Record<string, string>>, host = "localhost"): string => {
    const full = new URL(server.url);
    full.hostname = host;
    for (const [name, value] of Object.entries(parameters)) full.searchParams.set(name, value);
    return full.href;
  };

  it.each(["require", "verify-full"])("appends, subscribes and listens with sslmode=%s and the authority of the server", async (sslmode) => {
    const schema = sslmode.replace("-", "_");
    const backend = await openStore(url({ sslmode, sslrootcert: path("ours.crt"), schema, viewsSchema: schema }));
    opened.push(backend);
    expect(await backend.events.append([appendOf("order-1", 0, ["a"])])).toMatchObject([{ kind: "committed" }]);
    for await (const page of backend.events.subscribe()) if (page.events.length > 0) break;
    expect((await readChecked(backend.events)).size).toBe(1);
    const asking = new pg.Client({ connectionString: url({ sslmode, sslrootcert: path("ours.crt") }) });
    asking.on("error", () => undefined);
    await asking.connect();
    const encrypted = async (name: string): Promise<unknown[]> =>
      (await asking.query<{ ssl: boolean }>("SELECT DISTINCT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = $1", [name])).rows;
    await until(async () => (await encrypted("tidemark listener")).length > 0, "the listener standing");
    for (const name of ["tidemark", "tidemark listener"]) expect(await encrypted(name)).toEqual([{ ssl: true }]);
    await asking.end();
  });

  it("takes the authority from code too", async () => {
    const { port, username, password } = new URL(server.url);
    const store = await postgresStore({ connection: { host: "localhost", port: Number(port), user: username, password, database: "postgres", ssl: { ca: readFileSync(path("ours.crt"), "utf8") } }, schema: "from_code" });
    opened.push(store);
    expect(await store.append([appendOf("order-1", 0, ["a"])])).toMatchObject([{ kind: "committed" }]);
  });

  it.each([
    ["another authority", { sslmode: "verify-full", sslrootcert: "theirs.crt" }, "localhost", /sslrootcert=FILE/],
    ["another authority, with sslmode=require", { sslmode: "require", sslrootcert: "theirs.crt" }, "localhost", /sslrootcert=FILE/],
    ["no authority", { sslmode: "verify-full" }, "localhost", /sslrootcert=FILE/],
    ["another host than the certificate is for", { sslmode: "verify-full", sslrootcert: "ours.crt" }, "127.0.0.1", /made for/],
    ["no TLS", { sslmode: "disable" }, "localhost", /pg_hba\.conf/],
  ])("is refused with %s: a named error, not worth trying again", async (_, { sslrootcert, ...rest }: { readonly sslmode: string; readonly sslrootcert?: string }, host, words) => {
    const refused = openStore(url({ ...rest, ...(sslrootcert !== undefined && { sslrootcert: path(sslrootcert) }), schema: "refused" }, host));
    await expect(refused).rejects.toMatchObject({ code: "StoreUnavailable", retryable: false, message: expect.stringMatching(words) });
  });

  it("names a file that is missing", async () => {
    await expect(openStore(url({ sslmode: "verify-full", sslrootcert: path("nowhere.crt") }))).rejects.toMatchObject({ code: "InvalidArgument", message: expect.stringContaining("nowhere.crt") });
  });
});
