/** The import through the command line, as a user runs it, and its resumption. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tidemark } from "../../../src/index.ts";
import { Order } from "../domain.ts";
import { orderReadModels } from "../read-models.ts";
import { generateLines } from "./generate.ts";
import { importOrders, type ImportSummary } from "./run.ts";

const cli = fileURLToPath(new URL("../cli.ts", import.meta.url));
const ROWS = 300;
let folder: string;
let file: string;
/** Rows of the file by their status, in the words of the domain. */
const byStatus: Record<string, number> = {};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "orders-"));
  file = join(folder, "orders.csv");
  const lines = [...generateLines(ROWS, 3)];
  await writeFile(file, lines.join("\n"));
  for (const line of lines.slice(1)) {
    const status = line.split(",")[2] ?? "";
    byStatus[status] = (byStatus[status] ?? 0) + 1;
  }
});
afterAll(() => rm(folder, { recursive: true }));

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(...parameters: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [cli, ...parameters], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out, err };
}

const resultOf = <T = ImportSummary>({ out }: Ran): T => JSON.parse(out.trimEnd().split("\n").at(-1) ?? "") as T;

describe("npm run orders -- import", () => {
  test("ends with one line of JSON, and its counts are those of the file", async () => {
    const ran = await run("import", file, "--store", "memory:");
    expect({ code: ran.code, lines: ran.out.split("\n").length }).toEqual({ code: 0, lines: 2 });
    const result = resultOf(ran);
    expect(Object.keys(result)).toEqual(["rows", "badRows", "commands", "duplicates", "events", "rejected", "seconds", "commandsPerSecond", "readModel"]);
    expect(result).toMatchObject({ rows: ROWS, badRows: 0, duplicates: 0, events: result.commands, rejected: {}, readModel: { byStatus } });
    expect(Object.keys(result.readModel)).toEqual(["byStatus", "lateDeliveries", "anomalies"]);
    expect(result.readModel.lateDeliveries).toBeGreaterThan(0);
    for (const kind of ["shipped-before-approval", "delivered-before-shipped", "canceled-after-delivery", "shipped-before-placed"]) expect(result.readModel.anomalies).toHaveProperty(kind);
    expect(result.commandsPerSecond).toBeGreaterThan(0);
    expect(ran.err).toMatch(new RegExp(`^${result.commands} of ${result.commands} commands, \\d+/s, done$`, "m")); // no terminal, no bar
  });

  test("gives the same on a durable store; run twice, nothing doubles; stats prints the same", async () => {
    const store = `sqlite:${join(folder, "twice.db")}`;
    const memory = resultOf(await run("import", file, "--store", "memory:"));
    const first = resultOf(await run("import", file, "--store", store));
    expect({ ...first, seconds: 0, commandsPerSecond: 0 }).toEqual({ ...memory, seconds: 0, commandsPerSecond: 0 });
    const second = resultOf(await run("import", file, "--store", store));
    expect(second).toMatchObject({ commands: first.commands, duplicates: first.commands, events: 0, rejected: {}, readModel: first.readModel });
    expect(resultOf(await run("stats", "--store", store))).toEqual({ readModel: first.readModel });
  });

  test("goes on where a limit ended it", async () => {
    const store = `sqlite:${join(folder, "limit.db")}`;
    const part = resultOf(await run("import", file, "--store", store, "--limit", "100"));
    expect(part).toMatchObject({ rows: 100, duplicates: 0 });
    const rest = resultOf(await run("import", file, "--store", store));
    expect(rest).toMatchObject({ rows: ROWS, duplicates: part.commands, events: rest.commands - part.commands, readModel: { byStatus } });
  });

  test("tells bad rows by their line, takes the others, and says so by its exit code", async () => {
    const lines = (await readFile(file, "utf8")).split("\n");
    lines.splice(3, 0, "x-1,c-1,delivered,yesterday,,,,");
    lines.splice(10, 0, "x-2,c-1,lost,1/1/2017 10:00,,,,");
    const messy = join(folder, "messy.csv");
    await writeFile(messy, lines.join("\n"));
    const ran = await run("import", messy, "--store", "memory:");
    expect(ran.code).toBe(2);
    expect(ran.err).toMatch(/^line 4: order_purchase_timestamp/m);
    expect(ran.err).toMatch(/^line 11: order_status/m);
    expect(resultOf(ran)).toMatchObject({ rows: ROWS + 2, badRows: 2, readModel: { byStatus } });
  });

  test.each([
    ["a file that is not there", ["import", "none.csv", "--store", "memory:"], /ENOENT.*none\.csv/],
    ["a file of another kind", ["import", cli, "--store", "memory:"], /missing order_id/],
    ["an unknown store", ["import", "orders.csv", "--store", "papyrus:x"], /papyrus.*memory.*sqlite/s],
    ["a limit that is none", ["import", "orders.csv", "--limit", "few"], /whole number/],
    ["an unknown command", ["export"], /unknown command/],
  ])("fails with a clear word for %s", async (_what, parameters, said) => {
    const ran = await run(...parameters);
    expect(ran.code).toBe(1);
    expect(ran.err).toMatch(said);
    expect(ran.err).not.toContain("    at ");
    expect(ran.out).toBe("");
  });

  test("goes on after it was killed in the middle", async () => {
    const big = join(folder, "big.csv");
    await writeFile(big, [...generateLines(3000, 8)].join("\n"));
    const path = join(folder, "killed.db");
    const store = `sqlite:${path}`;
    const child = spawn(process.execPath, [cli, "import", big, "--store", store], { stdio: "ignore" });
    const ended = once(child, "close");
    const written = async (): Promise<number> => (await stat(`${path}-wal`).catch(() => undefined))?.size ?? 0;
    await expect.poll(written, { interval: 2, timeout: 15_000 }).toBeGreaterThan(500_000);
    child.kill("SIGKILL");
    await ended;
    const rest = resultOf(await run("import", big, "--store", store));
    expect(rest.rejected).toEqual({});
    expect(Math.min(rest.duplicates, rest.events)).toBeGreaterThan(0); // it was in the middle
    expect(rest.duplicates + rest.events).toBe(rest.commands);
    const whole = resultOf(await run("import", big, "--store", "memory:"));
    expect(rest.readModel).toEqual(whole.readModel);
  }, 60_000);
});

describe("npm run orders -- generate", () => {
  test("writes the same file for the same seed, to a file or to stdout", async () => {
    const toFile = await run("generate", "40", "--seed", "9", "--out", join(folder, "made.csv"));
    expect(toFile).toMatchObject({ code: 0, out: "" });
    const made = await readFile(join(folder, "made.csv"), "utf8");
    expect(made).toBe((await run("generate", "40", "--seed", "9")).out);
    expect(made.trimEnd().split("\n")).toEqual([...generateLines(40, 9)]);
  });
});

test("a command that the file tells otherwise than an earlier run is counted, and changes nothing", async () => {
  const { statistics } = orderReadModels();
  await using app = await tidemark({ store: "memory:", aggregates: [Order], readModels: [statistics] });
  const header = [...generateLines(0, 1)][0];
  const rows = ["o-1,c-1,approved,1/1/2017 10:00,1/1/2017 11:00,,,", "o-1,c-1,approved,1/1/2017 10:00,1/1/2017 12:00,,,"];
  const quiet = { onBadRow: () => undefined, onProgress: () => undefined };
  const told = join(folder, "told.csv");
  await writeFile(told, [header, rows[0]].join("\n"));
  expect(await importOrders(app, { statistics }, told, quiet)).toMatchObject({ commands: 2, events: 2 });
  await writeFile(told, [header, rows[1]].join("\n"));
  expect(await importOrders(app, { statistics }, told, quiet)).toMatchObject({ duplicates: 1, events: 0, rejected: { CommandIdReused: 1 }, readModel: { byStatus: { approved: 1 } } });
});
