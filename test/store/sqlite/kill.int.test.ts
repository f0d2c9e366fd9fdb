import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EventStore } from "../../../src/store/event-store.ts";
import type { Position } from "../../../src/store/position.ts";
import { sqliteStore, sqliteViews } from "../../../src/store/sqlite/index.ts";
import { start } from "../../support/processes.ts";
import { COUNTERS, folder, randomFrom } from "./support.ts";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? 20_261_124);

/** Starts a child and kills it with SIGKILL at the `nth` line it prints; resolves with its lines once it is gone. */
async function cut(mode: string, file: string, seed: number, nth: number): Promise<readonly string[]> {
  const child = start(join(import.meta.dirname, "child.ts"), mode, file, String(seed));
  child.onLine = () => {
    if (child.lines.length >= nth) child.process.kill("SIGKILL");
  };
  await child.exited;
  expect(child.process.signalCode).toBe("SIGKILL");
  return child.lines.slice(1);
}

/** What stands after `after`: every id once, versions contiguous, told to `versions` and `ids`. */
async function readOn(store: EventStore, after: Position, versions: Map<string, number>, ids: Set<string>): Promise<Position> {
  let through = after;
  for await (const page of store.readAll({ after })) {
    through = page.through;
    for (const event of page.events) {
      expect(event.version).toBe((versions.get(event.stream) ?? 0) + 1);
      versions.set(event.stream, event.version);
      expect(ids.has(event.id)).toBe(false);
      ids.add(event.id);
    }
  }
  return through;
}

describe("a process that dies by kill -9", () => {
  let files: ReturnType<typeof folder>;
  beforeEach(() => void (files = folder()));
  afterEach(() => files.dispose());

  it(`loses nothing acknowledged and doubles nothing, over 200 cuts at random moments (seed ${SEED})`, { timeout: 120_000 }, async () => {
    const lane = async (name: string, seed: number): Promise<number> => {
      const file = files.path(name);
      const random = randomFrom(seed);
      const versions = new Map<string, number>();
      const ids = new Set<string>();
      let through: Position = {};
      let acknowledged = 0;
      for (let round = 0; round < 100; round++) {
        const lines = await cut("write", file, seed * 1000 + round, 1 + Math.floor(random() * 60));
        const store = sqliteStore({ file });
        through = await readOn(store, through, versions, ids);
        await store.close();
        for (const id of lines.flatMap((line) => line.split(" "))) {
          acknowledged++;
          expect(ids.has(id), `acknowledged ${id} stands, cut ${round} of ${name}`).toBe(true);
        }
      }
      const store = sqliteStore({ file });
      const again = new Set<string>();
      await readOn(store, {}, new Map(), again);
      await store.close();
      expect(again).toEqual(ids);
      return acknowledged;
    };
    const acknowledged = await Promise.all([lane("a.db", SEED), lane("b.db", SEED + 1)]);
    for (const count of acknowledged) expect(count).toBeGreaterThan(1000);
  });

  it(`leaves views equal to the fold of what their checkpoint has seen, over 40 cuts (seed ${SEED})`, { timeout: 60_000 }, async () => {
    const lane = async (name: string, seed: number): Promise<void> => {
      const file = files.path(name);
      const random = randomFrom(seed);
      for (let round = 0; round < 20; round++) {
        const lines = await cut("views", file, seed * 1000 + round, 1 + Math.floor(random() * 40));
        const views = sqliteViews({ file });
        const view = await views.open(COUNTERS.key, COUNTERS.table);
        const { events } = await view.checkpoint();
        expect(events).toBeGreaterThanOrEqual(Number(lines.at(-1) ?? 0));
        const counts = Array.from({ length: 7 }, (_, row) => ({ key: `row-${row}`, count: Math.floor((events + 6 - row) / 7) })).filter(({ count }) => count > 0);
        expect(await view.reader.find({}, {})).toEqual(counts);
        await views.close();
      }
    };
    await Promise.all([lane("a.views.db", SEED), lane("b.views.db", SEED + 1)]);
  });
});
