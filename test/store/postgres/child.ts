/**
 * A process of its own for the tests: `child.ts MODE URL SCHEMA ARGUMENT`. It prints a line for what it has done, before it goes on.
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { postgresStore } from "../../../src/store/postgres/index.ts";
import { appendOf, randomFrom, STREAMS } from "./shared.ts";

const [mode = "", connection = "", schema = "", argument = ""] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);
const told = (): Promise<string> => new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));

const modes: Readonly<Record<string, () => Promise<void>>> = {
  /** Opens, says the identity, and ends. */
  async open() {
    const store = await postgresStore({ connection, schema });
    say((await store.identity()).id);
    await store.close();
  },

  /** On a line, appends batches to the same streams as its rivals as fast as it can, `argument` rounds of them or for ever; says the ids of each once acknowledged. */
  async write() {
    const [name = "", rounds = "0"] = argument.split(":");
    const random = randomFrom(Buffer.from(name).reduce((sum, byte) => sum * 31 + byte, 7));
    const store = await postgresStore({ connection, schema, poolSize: 3 });
    const versions = new Map<string, number>();
    say("ready");
    await told();
    let conflicts = 0;
    for (let round = 0; rounds === "0" || round < Number(rounds); round++) {
      const chosen = STREAMS.filter(() => random() < 0.6);
      const appends = chosen.map((stream, index) => {
        const ids = Array.from({ length: 1 + Math.floor(random() * 3) }, (_, n) => `${name}.${round}.${index}.${n}`);
        const kind = random();
        return appendOf(stream, kind < 0.1 ? "any" : (versions.get(stream) ?? 0), ids, JSON.stringify({ text: "x".repeat(Math.floor(random() * 1000)) }));
      });
      // Two batches at once, of different streams, as the actors send them.
      const outcomes = (await Promise.all([store.append(appends.slice(0, 3)), store.append(appends.slice(3))])).flat();
      for (const [index, { stream, events }] of appends.entries()) {
        const outcome = outcomes[index];
        if (outcome?.kind === "committed") {
          versions.set(stream, outcome.version);
          say(events.map((event) => event.id).join(" "));
        } else if (outcome?.kind === "conflict") {
          versions.set(stream, outcome.actual);
          conflicts++;
        } else throw new Error(JSON.stringify(outcome));
      }
    }
    say(`conflicts ${conflicts}`);
    await store.close();
    process.exit(0);
  },

  /** For each line from its input appends one event, whose data is the moment just before. */
  async wake() {
    const store = await postgresStore({ connection, schema });
    say("ready");
    let version = 0;
    createInterface({ input: process.stdin }).on("line", (id) => void store.append([appendOf("wake-1", version++, [id], String(Date.now()))]).then(() => say(id)));
  },
};

await modes[mode]?.();
