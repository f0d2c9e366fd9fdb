/** The service as `npm start` starts it. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

const main = fileURLToPath(new URL("./main.ts", import.meta.url));
let folder: string;
const children: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "orders-"));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});
afterAll(() => rm(folder, { recursive: true }));

interface Started {
  readonly child: ChildProcess;
  readonly url: string;
  ended(): Promise<number | null>;
}

function launch(parameters: readonly string[], env: NodeJS.ProcessEnv = {}): { child: ChildProcess; ended: Promise<number | null>; said: () => string } {
  const child = spawn(process.execPath, [main, ...parameters], { cwd: folder, env: { ...process.env, HOST: "127.0.0.1", PORT: "0", ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
  return { child, ended: once(child, "close").then(([code]) => code as number | null), said: () => said };
}

async function start(parameters: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Started> {
  const { child, ended, said } = launch(parameters, env);
  const address = new Promise<string>((resolve) => {
    const look = (): void => {
      const url = /listens on (http:\/\/\S+:\d+)/.exec(said())?.[1];
      if (url !== undefined) resolve(url);
    };
    child.stdout?.on("data", look);
  });
  const failed = ended.then(() => Promise.reject<string>(new Error(`it ended before it listened: ${said()}`)));
  failed.catch(() => undefined);
  return { child, url: await Promise.race([address, failed]), ended: () => ended };
}

async function place(url: string, id: string, key = id): Promise<Response> {
  const body = JSON.stringify({ customer: "c-1", items: [{ sku: "tea", quantity: 1, unitPriceCents: 100 }] });
  return fetch(`${url}/orders/${id}/place`, { method: "POST", headers: { "content-type": "application/json", "idempotency-key": key }, body });
}

/** The first event that the stream tells; the stream stays open. */
async function firstEvent(stream: Response): Promise<unknown> {
  const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const chunk = await reader?.read();
    if (chunk?.value === undefined) throw new Error(`the stream ended: ${text}`);
    text += chunk.value;
    const data = /^data: (.*)\n\n/m.exec(text)?.[1];
    if (data !== undefined) return JSON.parse(data);
  }
}

test("keeps orders in ./data by default, closes cleanly on SIGTERM, and finds them again", async () => {
  const first = await start([], { TIDEMARK_STORE: undefined });
  const stream = await fetch(`${first.url}/events`);
  const answer = (await (await place(first.url, "o-1")).json()) as { token: string };
  expect(await firstEvent(stream)).toMatchObject({ id: "o-1", type: "OrderPlaced" }); // and the open stream does not hold back the close
  first.child.kill("SIGTERM");
  expect(await first.ended()).toBe(0);
  expect(await readdir(join(folder, "data"))).toEqual(expect.arrayContaining(["orders.db", "orders.views.db"]));

  const second = await start();
  const read = await fetch(`${second.url}/orders/o-1`, { headers: { "tidemark-token": answer.token } });
  expect(await read.json()).toMatchObject({ id: "o-1", status: "placed", version: 1 });
  expect(await (await place(second.url, "o-1")).json()).toEqual(answer); // the key is known after the restart
  second.child.kill("SIGINT");
  second.child.kill("SIGINT"); // as npm passes on what the terminal has sent already
  expect(await second.ended()).toBe(0);
});

test("takes the store from --store or TIDEMARK_STORE, and read models from --views", async () => {
  const one = await start(["--store", "sqlite:one.db", "--views", "sqlite:seen.db"]);
  const two = await start([], { TIDEMARK_STORE: "sqlite:two.db" });
  await place(one.url, "o-1");
  await place(two.url, "o-1");
  expect(await readdir(folder)).toEqual(expect.arrayContaining(["one.db", "seen.db", "two.db"]));
});

test("listens where --port and --host say, whatever PORT and HOST are, and tells of all of them", async () => {
  const { url } = await start(["--store", "memory:", "--port", "0", "--host", "localhost"], { PORT: "1", HOST: "192.0.2.1" });
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const help = launch(["--help"], { PORT: undefined, HOST: undefined });
  expect(await help.ended).toBe(0);
  expect(help.said().replaceAll(/\s+/g, " ")).toMatch(/--port <number> .*\(default: 8080, env: PORT\).*--host <address> .*\(default: "127\.0\.0\.1", env: HOST\)/);
});

test("two services on one file see each other's orders, and their tokens hold for both", async () => {
  const [one, two] = await Promise.all([start(["--store", "sqlite:shared.db"]), start(["--store", "sqlite:shared.db"])]);
  const { token } = (await (await place(one.url, "o-1")).json()) as { token: string };
  const read = await fetch(`${two.url}/orders/o-1`, { headers: { "tidemark-token": token } });
  expect(await read.json()).toMatchObject({ id: "o-1", version: 1 });
});

test("--demo lets orders trickle in, on a past of their own", async () => {
  const { url, child, ended } = await start(["--store", "memory:", "--demo"]);
  expect(await firstEvent(await fetch(`${url}/events`))).toMatchObject({ version: expect.any(Number) });
  await expect.poll(async () => new Set(((await (await fetch(`${url}/stats`)).json()) as { byDay: { day: string }[] }).byDay.map(({ day }) => day)).size, { timeout: 15_000 }).toBeGreaterThan(20);
  child.kill("SIGTERM");
  expect(await ended()).toBe(0);
});

test.each([
  ["a port in use", async () => ({ PORT: new URL((await start(["--store", "memory:"])).url).port }), ["--store", "memory:"], /^port \d+ of 127\.0\.0\.1 is in use: choose another with --port/m],
  ["a port that is none", async () => Promise.resolve({ PORT: "web" }), ["--store", "memory:"], /PORT.* from 0 to 65535/],
  ["a host that is another's", async () => Promise.resolve({}), ["--store", "memory:", "--host", "192.0.2.1"], /^192\.0\.2\.1 is no address of this machine .*--host/m],
  ["an unknown store", async () => Promise.resolve({}), ["--store", "papyrus:x"], /papyrus/],
  ["an unknown option", async () => Promise.resolve({}), ["--fast"], /unknown option/],
])("ends with a clear word for %s", async (_what, env, parameters, said) => {
  const failed = launch(parameters, await env());
  expect(await failed.ended).toBe(1);
  expect(failed.said()).toMatch(said);
  expect(failed.said()).not.toContain("    at ");
});
