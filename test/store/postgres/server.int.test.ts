import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventStore } from "../../../src/store/event-store.ts";
import { postgresStore } from "../../../src/store/postgres/index.ts";
import { ownServer, ownServerAvailable, type OwnServer } from "./own-server.ts";
import { appendOf, readChecked, until } from "./shared.ts";

describe.skipIf(!ownServerAvailable)("a PostgreSQL server that goes down while it is written to", () => {
  let server: OwnServer;
  let store: EventStore;
  beforeAll(async () => {
    server = await ownServer();
    await server.start();
    store = await postgresStore({ connection: server.url });
  }, 60_000);
  afterAll(async () => {
    await store.close();
    await server.dispose();
  });

  it("is listened to with the password of a pool that was given, which the pool hides", async () => {
    const { hostname, port, username, password } = new URL(server.url);
    const pool = new pg.Pool({ host: hostname, port: Number(port), user: username, password, database: "postgres" });
    pool.on("error", () => undefined);
    const pooled = await postgresStore({ pool });
    for await (const page of pooled.subscribe()) if (page.caughtUp) break;
    await until(async () => (await pool.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'tidemark listener'")).rows.length > 0, "the listener standing");
    await pooled.close();
    await pool.end();
  });

  it("and has no room left refuses for certain, leaves nothing behind, and goes on when there is room again", { timeout: 60_000 }, async (context) => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-full-"));
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=12m,mode=0777", "tmpfs", folder]).status !== 0) {
      rmSync(folder, { recursive: true });
      return context.skip("no file system of its own can be mounted here");
    }
    // The server sets the rights of the folder itself, so that it must be its own.
    if (process.getuid?.() === 0) spawnSync("chown", ["postgres", folder]);
    const admin = new pg.Client({ connectionString: server.url });
    admin.on("error", () => undefined);
    await admin.connect();
    const full = await postgresStore({ connection: server.url, schema: "full_disk" });
    try {
      await admin.query(`CREATE TABLESPACE small LOCATION '${folder}'`);
      await admin.query("ALTER TABLE full_disk.events SET TABLESPACE small");
      // Kept as it is: what compresses well would need many more events.
      await admin.query("ALTER TABLE full_disk.events ALTER COLUMN data SET STORAGE EXTERNAL");
      const large = JSON.stringify("x".repeat(1024 * 1024));
      let version = 0;
      let last = (await full.append([appendOf("order-1", version, ["e-1"], large)]))[0];
      while (last?.kind === "committed") last = (await full.append([appendOf("order-1", ++version, [`e-${version + 1}`], large), appendOf(`cart-${version}`, 0, [`c-${version}`])]))[0];
      expect(last).toMatchObject({ kind: "refused", code: "disk-full" });
      expect(version).toBeGreaterThan(2);
      expect((await full.readStream("order-1", { limit: 1 })).version).toBe(version);
      expect((await full.readStream(`cart-${version}`)).version).toBe(0);
      await admin.query("ALTER TABLE full_disk.events SET TABLESPACE pg_default");
      expect((await full.append([appendOf("order-1", version, [`e-${version + 1}`], large)]))[0]).toMatchObject({ kind: "committed", version: version + 1 });
      await readChecked(full);
    } finally {
      await full.close();
      await admin.query("DROP SCHEMA full_disk CASCADE");
      await admin.query("DROP TABLESPACE IF EXISTS small");
      await admin.end();
      spawnSync("umount", [folder]);
      rmSync(folder, { recursive: true });
    }
  });

  /** Writes to several streams until it is told to stop; an append that is not certain is sent again with the same ids until it is. */
  function write(streams: readonly string[]): { readonly acknowledged: string[]; stop(): Promise<void> } {
    const acknowledged: string[] = [];
    let writing = true;
    const writers = streams.map(async (stream) => {
      let { version } = await store.readStream(stream);
      while (writing) {
        const id = `${stream}.${version}`;
        const [outcome] = await store.append([appendOf(stream, version, [id])]);
        if (outcome?.kind === "committed") {
          acknowledged.push(id);
          version = outcome.version;
        } else expect(["unknown", "refused"]).toContain(outcome?.kind);
      }
    });
    return {
      acknowledged,
      async stop() {
        writing = false;
        await Promise.all(writers);
      },
    };
  }

  it.each([
    ["restarted", () => server.stop()],
    ["killed by kill -9", () => server.kill()],
  ])("and is %s loses nothing acknowledged; subscriptions go on, gapless and in order", { timeout: 60_000 }, async (_, goDown) => {
    const before = (await readChecked(store)).size;
    const abort = new AbortController();
    const seen: number[] = [];
    const following = (async () => {
      for await (const page of store.subscribe({ after: before === 0 ? {} : { log: before }, signal: abort.signal })) for (const event of page.events) seen.push(event.position["log"] ?? 0);
    })().catch((error: unknown) => error);
    for (let round = 1; round <= 2; round++) {
      const writers = write(["order-1", "order-2", "order-3", "cart-1"]);
      await until(() => writers.acknowledged.length > 40 * round, "some writes");
      await goDown();
      await until(
        () =>
          server.start().then(
            () => true,
            () => false,
          ),
        "the server being up again",
        20_000,
      );
      const soFar = writers.acknowledged.length;
      await until(() => writers.acknowledged.length > soFar + 40, "writes going on", 20_000);
      await writers.stop();
      const standing = await readChecked(store);
      expect(writers.acknowledged.filter((id) => !standing.has(id))).toEqual([]);
    }
    const { size } = await readChecked(store);
    await until(() => seen.length === size - before, "the subscription having everything");
    abort.abort();
    expect(await following).toMatchObject({ code: "Aborted" });
    expect(seen).toEqual(seen.map((_position, index) => before + index + 1));
  });
});
