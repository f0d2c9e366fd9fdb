/** A store whose index is an SQLite file, on a real broker: opened again, killed, its file or its log damaged. */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Append, EventStore } from "../../../src/store/event-store.ts";
import { environmentOf, silentLogger } from "../../../src/environment.ts";
import { sqliteIndex, type IndexStep, type LogIndex } from "../../../src/store/kafka/index.ts";
import { kafkaAvailable, sharedKafka } from "../../support/kafka.ts";
import { deleteTopics, kafkaStores, type KafkaStores } from "./kafka-stores.ts";

const START_MS = 120_000;
const STREAMS = 40;

describe.skipIf(!kafkaAvailable)("a Kafka store with its index in a file", () => {
  let brokers: readonly string[];
  let stores: KafkaStores;
  const folder = mkdtempSync(join(tmpdir(), "tidemark-index-"));
  let files = 0;

  beforeAll(async () => {
    brokers = await sharedKafka();
    stores = kafkaStores(brokers, { partitions: 2 });
    const writer = stores.open();
    for (let version = 0; version < 5; version++) {
      const outcomes = await writer.append(Array.from({ length: STREAMS }, (_, stream) => appendOf(`order-${stream}`, version)));
      expect(outcomes.every(({ kind }) => kind === "committed")).toBe(true);
    }
  }, START_MS);
  afterAll(async () => {
    await stores?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  /** A file that holds the whole log. */
  async function builtFile(): Promise<string> {
    const file = join(folder, `index-${++files}.db`);
    const store = stores.open({ index: file });
    expect(await sizesOf(store)).toEqual(await sizesOf(stores.open()));
    await store.close();
    return file;
  }

  it("reads only the rest of the log when it is opened again", { timeout: START_MS }, async () => {
    const file = await builtFile();
    const outcomes = await stores.open().append([appendOf("order-0", 5), appendOf("late-1", 0)]);
    expect(outcomes).toMatchObject([{ kind: "committed" }, { kind: "committed" }]);
    const applied: IndexStep[] = [];
    const index = seeing(sqliteIndex({ file, environment: environmentOf() }), (step) => applied.push(step));
    const store = stores.open({ index });
    expect((await store.readStream("order-0")).version).toBe(6);
    expect((await store.readStream("order-0", { from: 3 })).events.map(({ version }) => version)).toEqual([3, 4, 5, 6]);
    expect(await sizesOf(store)).toEqual(await sizesOf(stores.open()));
    expect(applied.flatMap(({ events }) => events).map(({ stream, version }) => `${stream}@${version}`)).toEqual(["order-0@6", "late-1@1"]);
    await store.close();
  });

  it.each([
    ["deleted", (file: string) => rmSync(file)],
    ["cut", (file: string) => truncateSync(file, Math.floor(statSync(file).size / 2))],
    ["overwritten in the middle", (file: string) => overwrite(file, Math.floor(statSync(file).size / 2), Buffer.alloc(4096, 0x5a))],
    ["overwritten everywhere but at its head", (file: string) => overwrite(file, 4096, Buffer.alloc(statSync(file).size - 4096, 0))],
  ])("builds it anew where it was %s, and never answers from it", { timeout: START_MS }, async (_, damage) => {
    const file = await builtFile();
    damage(file);
    const wanted = await sizesOf(stores.open());
    for (let start = 1; ; start++) {
      const store = stores.open({ index: file, environment: { logger: silentLogger } });
      try {
        expect(await sizesOf(store)).toEqual(wanted);
        break;
      } catch (error) {
        // Damage that shows up while it is read: the next start builds the file anew.
        expect(error).toMatchObject({ code: "StoreCorrupt" });
        expect(start).toBe(1);
        expect(existsSync(`${file}.damaged`)).toBe(true);
      } finally {
        await store.close();
      }
    }
  });

  it("goes on with what it saved before a kill -9", { timeout: START_MS }, async () => {
    const file = join(folder, "killed.db");
    const child = spawn(process.execPath, [join(import.meta.dirname, "index-child.ts"), brokers.join(","), stores.prefix, file], { stdio: ["ignore", "pipe", "inherit"] });
    const [chunk] = (await once(child.stdout, "data")) as [Buffer];
    expect(String(chunk)).toBe("saved\n");
    child.kill("SIGKILL");
    await once(child, "exit");
    const applied: IndexStep[] = [];
    const store = stores.open({ index: seeing(sqliteIndex({ file, environment: environmentOf() }), (step) => applied.push(step)) });
    expect(await sizesOf(store)).toEqual(await sizesOf(stores.open()));
    expect(applied.flatMap(({ events }) => events)).toEqual([]);
    await store.close();
  });

  it("takes nothing of it for a log that was made anew", { timeout: START_MS }, async () => {
    const own = kafkaStores(brokers, { partitions: 1 });
    const file = join(folder, "anew.db");
    const first = own.open({ index: file });
    await first.append([appendOf("order-1", 0), appendOf("order-2", 0)]);
    await first.close();
    await deleteTopics(brokers, own.prefix);
    const second = own.open({ index: file });
    expect(await second.append([appendOf("order-1", 0)])).toMatchObject([{ kind: "committed", version: 1 }]);
    expect((await second.readStream("order-2")).version).toBe(0);
    expect(await sizesOf(second)).toEqual(new Map([["order-1", 1]]));
    await own.dispose();
  });
});

function appendOf(stream: string, expected: number): Append {
  const id = randomUUID();
  return { stream, expected, events: [{ id, type: "Happened", data: JSON.stringify({ stream, text: "x".repeat(200) }), metadata: { correlationId: id, causationId: id, commandId: id }, recordedAt: 1_700_000_000_000 }] };
}

/** Events of each stream, as the log has them, each checked to be the next version. */
async function sizesOf(store: EventStore): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  for await (const page of store.readAll()) {
    for (const { stream, version } of page.events) {
      expect(version).toBe((sizes.get(stream) ?? 0) + 1);
      sizes.set(stream, version);
    }
  }
  for (const [stream, size] of sizes) expect((await store.readStream(stream)).version).toBe(size);
  return new Map([...sizes].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function seeing(index: LogIndex, onApply: (step: IndexStep) => void): LogIndex {
  return {
    lane: (lane) => index.lane(lane),
    apply(lane, step) {
      index.apply(lane, step);
      onApply(step);
    },
    reset: (lane) => index.reset(lane),
    versionOf: (stream) => index.versionOf(stream),
    stream: (stream, first, last) => index.stream(stream, first, last),
    log: (lane, from, to, most) => index.log(lane, from, to, most),
    claimAt: (lane, offset) => index.claimAt(lane, offset),
    hasClaim: (lane, nonce) => index.hasClaim(lane, nonce),
    close: () => index.close(),
  };
}

function overwrite(file: string, at: number, bytes: Uint8Array): void {
  const descriptor = openSync(file, "r+");
  writeSync(descriptor, bytes, 0, bytes.length, at);
  closeSync(descriptor);
}
