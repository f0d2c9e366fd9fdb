/** Processes that write, and are killed, stopped and cut off; and the server of their own that is killed. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EventStore } from "../../../src/store/event-store.ts";
import { eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { startServer, type ServerProcess } from "../../testing/eventstoredb-server/own-process.ts";
import { killAll, start, type Child } from "../../support/processes.ts";
import { readChecked, until } from "../postgres/shared.ts";

const SCRIPT = join(import.meta.dirname, "child.ts");

describe("processes on one EventStoreDB", () => {
  let folder: string;
  let server: ServerProcess;
  const children: Child[] = [];
  const stores: EventStore[] = [];
  const url = (): string => `esdb://127.0.0.1:${server.port}?tls=false`;
  const serve = async (port = 0): Promise<void> => void (server = await startServer("--port", String(port), "--file", join(folder, "log")));

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-"));
    await serve();
  });
  afterEach(async () => {
    await killAll(children);
    await Promise.all(stores.splice(0).map((store) => store.close()));
    await server.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });

  async function writer(name: string): Promise<Child> {
    const child = start(SCRIPT, "write", url(), name);
    children.push(child);
    await until(() => child.lines.includes("ready"), `${name} being ready`, 60_000);
    child.send("go");
    return child;
  }

  const said = (word: string, of: readonly Child[]): string[] => of.flatMap(({ lines }) => lines.filter((line) => line.startsWith(`${word} `)).flatMap((line) => line.split(" ").slice(1)));
  const acknowledged = (...of: readonly Child[]): number => said("acknowledged", of).length;

  /** I1, I2, I4 over everything that was said so far, by processes that write no more. */
  async function check(writers: readonly Child[]): Promise<void> {
    const store = await eventStoreDBStore({ connection: url() });
    stores.push(store);
    const standing = await readChecked(store, {}, { gaps: true });
    for (const id of said("acknowledged", writers)) expect(standing.has(id), `${id} was acknowledged`).toBe(true);
    for (const id of said("failed", writers)) expect(standing.has(id), `${id} had failed for certain`).toBe(false);
  }

  it("rivals that are killed at any moment leave whole appends, each acknowledged one once", { timeout: 150_000 }, async () => {
    const writers: Child[] = [];
    for (let round = 0; round < 2; round++) {
      const [one, two] = await Promise.all([writer(`a${round}`), writer(`b${round}`)]);
      writers.push(one, two);
      // One of them may lose every race for long.
      await until(() => acknowledged(one, two) >= 60 && one.lines.length > 2 && two.lines.length > 2, "both being at it", 60_000);
      one.process.kill("SIGKILL");
      await one.exited;
      two.process.kill("SIGKILL");
      await two.exited;
    }
    await check(writers);
  });

  it("a process that is stopped, overtaken and woken writes nothing over the other's events", { timeout: 150_000 }, async () => {
    const [one, two] = await Promise.all([writer("a"), writer("b")]);
    await until(() => one.lines.length > 5 && acknowledged(one, two) >= 20, "the first one being at it", 60_000);
    one.process.kill("SIGSTOP");
    const before = acknowledged(two);
    await until(() => acknowledged(two) >= before + 50, "the other one having gone on", 60_000);
    one.process.kill("SIGCONT");
    const woken = one.lines.length;
    await until(() => one.lines.length >= woken + 10, "the first one going on", 60_000);
    await killAll([one, two]);
    await check([one, two]);
  });

  it("a server that is killed and started again has everything that was acknowledged", { timeout: 150_000 }, async () => {
    const writers = await Promise.all([writer("a"), writer("b")]);
    for (let round = 0; round < 2; round++) {
      const before = acknowledged(...writers);
      await until(() => acknowledged(...writers) >= before + 20, "appends being acknowledged", 60_000);
      const { port } = server;
      await server.kill("SIGKILL");
      await serve(port);
    }
    const before = acknowledged(...writers);
    await until(() => acknowledged(...writers) >= before + 20, "appends after the last start", 60_000);
    await killAll([...writers]);
    await check(writers);
  });

  it("10: a process that has closed its stores ends by itself", { timeout: 60_000 }, async () => {
    const child = start(SCRIPT, "end", url());
    children.push(child);
    expect(await child.exited).toBe(0);
    expect(child.lines).toEqual(["closed"]);
  });
});
