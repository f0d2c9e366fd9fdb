/**
 * A process of its own for the tests: `child.ts MODE FILE …`. It prints a line for what it has done, before it goes on.
 */
import { writeSync } from "node:fs";
import { flushCompileCache } from "node:module";
import type { Row, RowKey } from "../../../src/readmodel/view-store.ts";
import { sqliteStore, sqliteViews } from "../../../src/store/sqlite/index.ts";
import { appendOf, COUNTERS, onCommand, randomFrom, STREAMS } from "./support.ts";

const [mode = "", file = "", argument = ""] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);
// Node does it when a process ends, and those that are killed never do.
flushCompileCache();

const modes: Readonly<Record<string, () => Promise<void>>> = {
  /** Opens, says the identity, and stays until its input ends. */
  async open() {
    const store = sqliteStore({ file });
    say((await store.identity()).id);
    await store.close();
  },

  /** Appends batches for ever and says the ids of each once they are acknowledged. `argument`: seed. */
  async write() {
    const random = randomFrom(Number(argument));
    const store = sqliteStore({ file });
    const versions = new Map<string, number>();
    for (const stream of STREAMS) versions.set(stream, (await store.readStream(stream, { limit: 0 })).version);
    say("ready");
    for (let round = 0; ; round++) {
      const chosen = STREAMS.filter(() => random() < 0.6);
      const appends = chosen.map((stream, index) => {
        const ids = Array.from({ length: 1 + Math.floor(random() * 3) }, (_, n) => `${argument}.${round}.${index}.${n}`);
        return appendOf(stream, versions.get(stream) ?? 0, ids, JSON.stringify({ text: "x".repeat(Math.floor(random() * 2000)) }));
      });
      const outcomes = await store.append(appends);
      for (const [index, { stream, events }] of appends.entries()) {
        const outcome = outcomes[index];
        if (outcome?.kind !== "committed") throw new Error(`not committed: ${JSON.stringify(outcome)}`);
        versions.set(stream, outcome.version);
        say(events.map((event) => event.id).join(" "));
      }
    }
  },

  /** On `go`, appends to the same streams as its rivals as fast as it can; then says what became of it. `argument`: its name. */
  async race() {
    const store = sqliteStore({ file });
    say("ready");
    await new Promise<void>((resolve) => onCommand(() => resolve()));
    const versions = new Map<string, number>();
    const acknowledged: string[] = [];
    let conflicts = 0;
    for (let n = 0; n < 300; ) {
      const stream = STREAMS[n % STREAMS.length] ?? "";
      const id = `${argument}.${n}`;
      const [outcome] = await store.append([appendOf(stream, versions.get(stream) ?? 0, [id])]);
      if (outcome?.kind === "committed") {
        versions.set(stream, outcome.version);
        acknowledged.push(id);
        n++;
      } else if (outcome?.kind === "conflict") {
        versions.set(stream, outcome.actual);
        conflicts++;
      } else throw new Error(JSON.stringify(outcome));
      // Lets the rival in: otherwise the faster one does all of its work in one go.
      await new Promise((resolve) => setImmediate(resolve));
    }
    say(JSON.stringify({ acknowledged, conflicts }));
    await store.close();
    process.exit(0);
  },

  /** For each line from the parent appends one event, whose data is the moment just before. */
  async append() {
    const store = sqliteStore({ file });
    say("ready");
    let version = 0;
    onCommand((id) => void store.append([appendOf("wake-1", version++, [id], String(Date.now()))]).then(() => say(id)));
  },

  /** Counts up rows page by page for ever, from wherever the checkpoint stands; says how many events each commit has seen. `argument`: seed. */
  async views() {
    const random = randomFrom(Number(argument));
    const view = await sqliteViews({ file }).open(COUNTERS.key, COUNTERS.table);
    let { events, revision } = await view.checkpoint();
    say("ready");
    for (;;) {
      const changes = new Map<RowKey, Row>();
      for (let left = 1 + Math.floor(random() * 50); left > 0; left--) {
        const key = `row-${events++ % 7}`;
        const row = changes.get(key) ?? (await view.reader.get(key)) ?? { key, count: 0 };
        changes.set(key, { key, count: Number(row["count"]) + 1 });
      }
      const outcome = await view.commit(changes, { position: { log: events }, store: "s", events }, revision++);
      if (outcome !== "committed") throw new Error(outcome);
      say(String(events));
    }
  },
};

await modes[mode]?.();
