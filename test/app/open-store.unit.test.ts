import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { postgresBackend } from "../../src/store/postgres/index.ts";
import { loadClient, openStore, openViews } from "../../src/app/open-store.ts";

const folder = mkdtempSync(join(tmpdir(), "tidemark-open-store-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const coded = (code: string, ...words: string[]): unknown =>
  expect.objectContaining({ code, message: expect.stringMatching(new RegExp(words.map((word) => `(?=.*${word})`).join(""), "s")) as string });

describe("openStore", () => {
  it.each(["memory:", "memory://", "MEMORY:"])("opens a store in memory for %s", async (url) => {
    const backend = await openStore(url);
    expect(backend.events.capabilities.durable).toBe(false);
    expect(backend.views).toBeDefined();
    await backend.close();
  });

  it.each([
    ["a path", (path: string) => `sqlite:${path}`],
    ["an absolute path with slashes", (path: string) => `sqlite://${path}`],
    ["a relative path", (path: string) => `sqlite:${relative(process.cwd(), path)}`],
    ["a parameter", (path: string) => `sqlite:${path}?synchronous=normal`],
  ])("opens a SQLite file by %s", async (what, urlOf) => {
    const path = join(folder, `${what.replaceAll(" ", "-")}.db`);
    const backend = await openStore(urlOf(path));
    expect(backend.events.capabilities.durable).toBe(true);
    expect((await backend.events.identity()).id).toMatch(/^[A-Za-z0-9-]{12,36}$/);
    await backend.close();
    expect(existsSync(path)).toBe(true);
  });

  it("decodes what is special in a file's name", async () => {
    await (await openStore(`sqlite:${folder}/what%3F%20100%25.db`)).close();
    expect(existsSync(join(folder, "what? 100%.db"))).toBe(true);
  });

  it("opens views alone, without making an event store", async () => {
    await (await openViews(`sqlite:${folder}/only-views.db`)).close();
    await (await openViews("memory:")).close();
    expect(existsSync(join(folder, "only-views.db"))).toBe(true);
    expect(existsSync(join(folder, "only-views.views.db"))).toBe(false);
    await expect(openViews(`sqlite:${folder}/x.db?synchronous=full`)).rejects.toEqual(coded("InvalidArgument", "no parameters"));
  });

  it("lists the known schemes for an unknown one, and keeps the rest of the URL to itself", async () => {
    const opening = openStore("mysql://user:secret@host/db");
    await expect(opening).rejects.toEqual(coded("UnknownScheme", "mysql:", "memory:", "sqlite:"));
    await expect(opening).rejects.toMatchObject({ message: expect.not.stringContaining("secret") as string, details: { scheme: "mysql" } });
  });

  it.each(["orders.db", "./data/orders.db", "/data/orders.db", "C:\\data\\orders.db", "", 7])("hints how to name a file for %j", async (url) => {
    await expect(openStore(url as string)).rejects.toEqual(coded("InvalidArgument", "sqlite:orders.db"));
  });

  it.each([
    ["sqlite:x.db?mode=fast", "mode"],
    ["sqlite:x.db?synchronous=off", "synchronous"],
    ["sqlite:x.db?synchronous=full&synchronous=normal", "twice"],
    ["memory:?synchronous=full", "synchronous"],
    ["memory:name", "nothing after"],
    ["sqlite:", "names a file"],
    ["sqlite://host/x.db", "names a file"],
    ["sqlite::memory:", "memory:"],
    ["sqlite:%zz.db", "percent"],
  ])("refuses %s", async (url, word) => {
    await expect(openStore(url)).rejects.toEqual(coded("InvalidArgument", word));
  });
});

describe("a postgres: URL", () => {
  afterEach(() => vi.unstubAllEnvs());

  it.each(["postgres://shop:secret@127.0.0.1:1", "postgres://127.0.0.1:1/", "postgresql://127.0.0.1:1?schema=shop", "postgres://127.0.0.1:1/?application_name=shop", "postgres://?host=/tmp", "postgres://%2Ftmp"])(
    "names a database, which PostgreSQL would otherwise choose by the user's name: %s",
    async (url) => {
      vi.stubEnv("PGDATABASE", "");
      for (const opening of [openStore(url), openViews(url.replace("schema", "viewsSchema"))]) {
        await expect(opening).rejects.toEqual(coded("InvalidArgument", "connection", "names no database", "postgres://host/DATABASE"));
        await expect(opening).rejects.toMatchObject({ message: expect.not.stringContaining("secret") as string });
      }
    },
  );

  it("names it for the connection that listens too", async () => {
    vi.stubEnv("PGDATABASE", "");
    await expect(openStore("postgres://127.0.0.1:1/shop?listener=postgres://127.0.0.1:1")).rejects.toEqual(coded("InvalidArgument", "listener", "names no database"));
  });

  it("may leave that to PGDATABASE, and options of pg to pg", async () => {
    vi.stubEnv("PGDATABASE", "shop");
    await expect(openStore("postgres://127.0.0.1:1")).rejects.toEqual(coded("StoreUnavailable", "127.0.0.1:1/shop"));
    vi.stubEnv("PGDATABASE", "");
    await expect(postgresBackend({ connection: { host: "127.0.0.1", port: 1 } })).rejects.toEqual(coded("StoreUnavailable", "127.0.0.1:1"));
  });
});

describe("an esdb: URL", () => {
  it.each([
    ["esdb:", "an esdb: URL names a server"],
    ["kurrentdb:", "a kurrentdb: URL names a server"],
    ["esdb://127.0.0.1:1?topics=5", "of an esdb: URL is not known"],
  ])("refuses %s", async (url, words) => {
    await expect(openStore(url)).rejects.toEqual(coded("InvalidArgument", words));
  });

  it("names no views", async () => {
    await expect(openViews("esdb+discover://127.0.0.1:1")).rejects.toEqual(coded("InvalidArgument", "an esdb\\+discover: URL names events and snapshots; read models live elsewhere"));
  });
});

describe("a kafka: URL", () => {
  it("connects to nothing before it is used", async () => {
    const backend = await openStore("kafka://user:p%40ss@127.0.0.1:1,127.0.0.1:2/?topicPrefix=orders&partitions=6&replicationFactor=3&sasl=scram-sha-512&tls=true&claimOnly=order/0,order/1");
    expect(backend.events.capabilities).toMatchObject({ totalOrder: false, durable: true, multiProcess: true });
    await backend.close();
  });

  it.each([
    ["kafka:", "names brokers"],
    ["kafka://host:9092/topic", "names brokers"],
    ["kafka://host:9092/?topics=5", "topics"],
    ["kafka://host:9092/?partitions=many", "partitions"],
    ["kafka://host:9092/?topicPrefix=a b", "topicPrefix"],
    ["kafka://host:9092/?claimOnly=order-1", "claimOnly"],
    ["kafka://host:9092/?tls=yes", "tls"],
    ["kafka://user:secret@host:9092/", "sasl"],
    ["kafka://host:9092/?sasl=plain", "user:password"],
    ["kafka://user:secret@host:9092/?sasl=kerberos", "scram"],
  ])("refuses %s, and keeps a password to itself", async (url, word) => {
    const opening = openStore(url);
    await expect(opening).rejects.toEqual(coded("InvalidArgument", word));
    await expect(opening).rejects.toMatchObject({ message: expect.not.stringContaining("secret") as string });
  });

  it("names no views", async () => {
    await expect(openViews("kafka://host:9092/")).rejects.toEqual(coded("InvalidArgument", "read models live elsewhere"));
  });
});

describe("a missing client", () => {
  it("is named together with what to install", async () => {
    const name = "tidemark-no-such-client";
    const loading = loadClient(name, `npm install ${name}`, () =>
      Promise.reject(Object.assign(new Error(`Cannot find package '${name}' imported from somewhere`), { code: "ERR_MODULE_NOT_FOUND" })),
    );
    await expect(loading).rejects.toEqual(coded("MissingClient", name, "npm install"));
  });

  it("is told from a backend that fails for another reason", async () => {
    const other = Object.assign(new Error("Cannot find module './part.js'"), { code: "ERR_MODULE_NOT_FOUND" });
    await expect(loadClient("client", "x", () => Promise.reject(other))).rejects.toBe(other);
    const broken = new Error("client is broken");
    await expect(loadClient("client", "x", () => Promise.reject(broken))).rejects.toBe(broken);
  });

  it("is what a Node.js without node:sqlite hears", async () => {
    // Node's own error for a built-in that this build lacks, raised for real.
    const script = `import("node:no-such-builtin").catch((e) => process.stdout.write(JSON.stringify({ code: e.code, message: e.message })))`;
    const { code, message } = JSON.parse(execFileSync(process.execPath, ["-e", script], { encoding: "utf8" })) as { code: string; message: string };
    const loading = loadClient("node:no-such-builtin", "use a newer Node.js", () => Promise.reject(Object.assign(new Error(message), { code })));
    await expect(loading).rejects.toEqual(coded("MissingClient", "newer Node.js"));
  });
});
