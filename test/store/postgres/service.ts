/**
 * A service of its own process for the tests: `service.ts URL`. It answers each line `NUMBER VERB ID [TOKEN]` with one line `NUMBER ANSWER`:
 * `add` writes and answers `VERSION TOKEN`, `read` answers the version that the read model shows (with the token: waits for it), `who` the revision of the read model.
 */
import { createInterface } from "node:readline";
import { concatMap } from "rxjs";
import { accepted, aggregate, readModel, table, tidemark } from "../../../src/index.ts";

const [store = ""] = process.argv.slice(2);

export const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: {
    Added: (state, _: { by: number }) => {
      state.count++;
    },
  },
  commands: { add: (_state, by: number, { emit }) => emit("Added", { by }) },
});

interface Shown {
  id: string;
  version: number;
  /** How often the event of this version took effect: one, or the read model is not exactly once. */
  applied: number;
}

const shown = readModel("shown", {
  from: [Counter],
  view: table<Shown>("shown", { key: "id", indexes: ["version"] }),
  project: (events$, { view }) => events$.pipe(concatMap((event) => view.update(event.id, (row) => ({ id: event.id, version: event.version, applied: (row?.applied ?? 0) + 1 })))),
});

const app = await tidemark({ store, aggregates: [Counter], readModels: [shown] });

async function answer(verb: string, id: string, token: string | undefined): Promise<string> {
  if (verb === "add") {
    const result = accepted(await app.at(Counter, id).add(1));
    return `${result.version} ${result.token}`;
  }
  if (verb === "read") {
    const row = await app.query(shown, (view) => view.get(id), token === undefined ? {} : { atLeast: token, timeoutMs: 15_000 });
    return `${row?.version ?? 0} ${row?.applied ?? 0}`;
  }
  await app.close();
  return "closed";
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const [number = "", verb = "", id = "", token] = line.split(" ");
  answer(verb, id, token).then(
    (text) => process.stdout.write(`${number} ${text}\n`),
    (error: unknown) => process.stdout.write(`${number} failed ${String(error)}\n`),
  );
});
process.stdout.write("ready\n");
