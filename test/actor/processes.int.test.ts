/** Apps in processes of their own on one SQLite file: what one has cached, the other changes. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openStore } from "../../src/index.ts";
import { folder } from "../store/sqlite/support.ts";
import { remoteApp, type RemoteApp } from "./processes.ts";

let files: ReturnType<typeof folder>;
/** Two processes for all tests here; each test has accounts of its own. */
let a: RemoteApp;
let b: RemoteApp;
const begin = (): Promise<RemoteApp> => remoteApp(files.path("accounts.db"));
beforeAll(async () => {
  files = folder();
  [a, b] = await Promise.all([begin(), begin()]);
}, 60_000);
afterAll(async () => {
  await Promise.all([a.end("kill"), b.end("kill")]);
  files.dispose();
});

/** How many events stand in the stream, and under which command ids. */
async function commandIds(stream: string): Promise<string[]> {
  const backend = await openStore(`sqlite:${files.path("accounts.db")}`);
  const { events } = await backend.events.readStream(stream);
  await backend.close();
  return events.map(({ metadata }) => metadata.commandId);
}

/** Starting a process takes its time on a busy machine. */
const timeout = 60_000;

describe("two processes on one file", { timeout }, () => {
  it("A3 a rejection is confirmed with the store: what another process has made untrue is decided again, and `from: \"cache\"` shows what would be answered otherwise", async () => {
    await a.call("stale", "deposit", { amount: 5 }); // a holds the account at 5
    await b.call("stale", "deposit", { amount: 100 });
    expect(await a.call("stale", "withdraw", { amount: 50 }, { from: "cache" })).toMatchObject({ ok: false, code: "insufficient", details: { balance: 5 }, decidedAt: { version: 1 } }); // stale
    expect(await a.call("stale", "state", undefined, { from: "cache" })).toMatchObject({ version: 1, state: { balance: 5 } });
    expect(await a.call("stale", "withdraw", { amount: 50 })).toMatchObject({ ok: true, version: 3 });
    expect(await b.call("stale", "withdraw", { amount: 60 })).toMatchObject({ ok: false, details: { balance: 55 }, decidedAt: { version: 3 } });
    expect(await b.call("stale", "state")).toMatchObject({ version: 3, state: { balance: 55 } });
  });

  it("a token of one process makes the other's cache wait for nothing less", async () => {
    await a.call("token", "deposit", { amount: 5 });
    const { token } = (await b.call("token", "deposit", { amount: 100 })) as { token: string };
    expect(await a.call("token", "withdraw", { amount: 50 }, { from: "cache", atLeast: token })).toMatchObject({ ok: true, version: 3 });
  });

  it("expectedVersion is that of the file, whoever asks", async () => {
    await a.call("expected", "deposit", { amount: 5 });
    await b.call("expected", "deposit", { amount: 6 });
    await expect(a.call("expected", "deposit", { amount: 7 }, { expectedVersion: 1 })).rejects.toThrow("WrongExpectedVersion");
    expect(await a.call("expected", "deposit", { amount: 7 }, { expectedVersion: 2 })).toMatchObject({ ok: true, version: 3 });
  });

  it("withdraw the same money as fast as they can, and it is withdrawn once", async () => {
    await a.call("money", "deposit", { amount: 60 });
    const results = (await Promise.all(Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? a : b).call("money", "withdraw", { amount: 1 })))) as { ok: boolean; details?: { balance: number } }[];
    expect(results.filter(({ ok }) => ok)).toHaveLength(60);
    expect(results.filter(({ ok }) => !ok).every(({ details }) => details?.balance === 0)).toBe(true);
    expect(await commandIds("account-money")).toHaveLength(61);
  });
});

describe("the same command id", { timeout }, () => {
  it("is answered the same in another process, after a restart, and after kill -9; with another input it is CommandIdReused", async () => {
    const one = await begin();
    await b.call("restart", "state");
    const first = await one.call("restart", "scatter", { times: 3, note: "n" }, { commandId: "c-1" });
    expect(first).toMatchObject({ ok: true, version: 3 });
    expect(await b.call("restart", "scatter", { times: 3, note: "n" }, { commandId: "c-1" })).toEqual(first);
    await expect(b.call("restart", "scatter", { times: 4, note: "n" }, { commandId: "c-1" })).rejects.toThrow("CommandIdReused");
    await one.end("close");
    const restarted = await begin();
    expect(await restarted.call("restart", "scatter", { times: 3, note: "n" }, { commandId: "c-1" })).toEqual(first);
    await restarted.end("kill");
    const again = await begin();
    expect(await again.call("restart", "scatter", { times: 3, note: "n" }, { commandId: "c-1" })).toEqual(first);
    await expect(again.call("restart", "deposit", { amount: 1 }, { commandId: "c-1" })).rejects.toThrow("CommandIdReused");
    expect(await commandIds("account-restart")).toEqual(["c-1", "c-1", "c-1"]);
    await again.end("close");
  });

  it("sent to two processes at once becomes one command", async () => {
    for (let n = 0; n < 30; n++) {
      const works = [a, b].map((app) => app.call("twins", "deposit", { amount: n + 1 }, { commandId: `twin-${n}` }));
      const [here, there] = await Promise.all(works);
      expect(here).toEqual(there);
    }
    expect(await commandIds("account-twins")).toEqual(Array.from({ length: 30 }, (_, n) => `twin-${n}`));
  });
});
