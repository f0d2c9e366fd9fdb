/** A process of its own for the tests: `child.ts MODE URL ARGUMENT`. It prints a line for what it has done, before it goes on. */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { eventStoreDBBackend, eventStoreDBStore } from "../../../src/store/eventstoredb/index.ts";
import { appendOf, randomFrom, STREAMS } from "../postgres/shared.ts";

const [mode = "", connection = "", argument = ""] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);
const told = (): Promise<string> => new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));

const modes: Readonly<Record<string, () => Promise<void>>> = {
  /** Does a little of everything, closes, and is left to end by itself. */
  async end() {
    const backend = await eventStoreDBBackend({ connection });
    await backend.events.append([appendOf("order-1", "any", ["a"])]);
    for await (const page of backend.events.subscribe()) if (page.caughtUp) break;
    await backend.snapshots?.load("order-1");
    await backend.close();
    say("closed");
  },

  /** On a line, appends to the same streams as its rivals as fast as it can, for ever; says what it sends, and the ids of each append once acknowledged. */
  async write() {
    const random = randomFrom(Buffer.from(argument).reduce((sum, byte) => sum * 31 + byte, 7));
    const store = await eventStoreDBStore({ connection, timeoutMs: 3000 });
    const versions = new Map<string, number>();
    say("ready");
    await told();
    for (let round = 0; ; round++) {
      const appends = STREAMS.filter(() => random() < 0.6).map((stream, index) => {
        const ids = Array.from({ length: 1 + Math.floor(random() * 3) }, (_, n) => `${argument}.${round}.${index}.${n}`);
        return appendOf(stream, versions.get(stream) ?? 0, ids, JSON.stringify({ text: "x".repeat(Math.floor(random() * 1000)) }));
      });
      const outcomes = await store.append(appends);
      for (const [index, { stream, events }] of appends.entries()) {
        const outcome = outcomes[index];
        const ids = events.map((event) => event.id).join(" ");
        if (outcome?.kind === "committed") say(`acknowledged ${ids}`);
        // Definite: it must never appear (I4).
        else if (outcome?.kind === "conflict" || outcome?.kind === "refused") say(`failed ${ids}`);
        if (outcome?.kind === "committed") versions.set(stream, outcome.version);
        else if (outcome?.kind === "conflict") versions.set(stream, outcome.actual);
        else versions.set(stream, (await store.readStream(stream).catch(() => ({ version: versions.get(stream) ?? 0 }))).version);
      }
    }
  },
};

await modes[mode]?.();
