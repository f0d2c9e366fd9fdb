import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Append, ExpectedVersion } from "../../../src/store/event-store.ts";

/** A folder of its own for one test; `dispose` removes it. */
export function folder(): { readonly path: (name: string) => string; dispose(): void } {
  const root = mkdtempSync(join(tmpdir(), "tidemark-sqlite-"));
  return { path: (name) => join(root, name), dispose: () => rmSync(root, { recursive: true, force: true }) };
}

/** An append of events with the given ids. */
export function appendOf(stream: string, expected: ExpectedVersion, ids: readonly string[], data = "{}"): Append {
  const events = ids.map((id) => ({ id, type: "Happened", data, metadata: { correlationId: id, causationId: id, commandId: id }, recordedAt: 1_700_000_000_000 }));
  return { stream, expected, events };
}

/** Resolves when the condition holds; looked at every few milliseconds, for at most `withinMs`. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, withinMs = 5000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** For the scripts: answers to a line of the parent. */
export function onCommand(handle: (line: string) => void): void {
  createInterface({ input: process.stdin }).on("line", handle);
}

/** Small, seeded. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The streams that the children write. */
export const STREAMS = ["order-1", "order-2", "order-3", "cart-1", "cart-2"] as const;

/** The view that the children write. */
export const COUNTERS = {
  key: { model: "counters", version: 1, build: 1 },
  table: { kind: "table", name: "counters", key: "key", indexes: ["count"], columns: [] },
} as const;
