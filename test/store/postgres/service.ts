/**
 * A service of its own for the tests: `service.ts STORE-URL [table|shards|sql]`. Each line of its input is `NUMBER VERB ID [TOKEN]`, answered by `NUMBER ANSWER…`.
 * `add` makes one event, and says its version and token; `read` says what the read model shows: the version, and how often it was applied.
 * In `sql` an event by 7 says `paging` in the middle of its page, and stays there for a while.
 */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { PoolClient } from "pg";
import { concatMap } from "rxjs";
import { accepted, aggregate, readModel, table, tidemark } from "../../../src/index.ts";
import { sqlView } from "../../../src/store/postgres/index.ts";

const [store = "", kind = "table"] = process.argv.slice(2);

const Counter = aggregate("counter", {
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
  shards: kind === "shards" ? 8 : 1,
  view: table<Shown>("shown", { key: "id", indexes: ["version"] }),
  project: (events$, { view }) => events$.pipe(concatMap((event) => view.update(event.id, (row) => ({ id: event.id, version: event.version, applied: (row?.applied ?? 0) + 1 })))),
});

const UPSERT = "INSERT INTO shown VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET version = excluded.version, applied = shown.applied + 1";
const written = readModel("shown", {
  from: [Counter],
  view: sqlView({ create: "CREATE TABLE shown (id text PRIMARY KEY, version int NOT NULL, applied int NOT NULL)", open: ({ client }) => client }),
  project: (events$, { view }) =>
    events$.pipe(
      concatMap(async ({ id, version, data: { by } }) => {
        await view.query(UPSERT, [id, version]);
        if (by !== 7) return;
        process.stdout.write("paging\n");
        await sleep(300);
        await view.query("SELECT 1");
      }),
    ),
});
const rowOf = async (client: PoolClient, id: string): Promise<Shown | undefined> => (await client.query<Shown>("SELECT * FROM shown WHERE id = $1", [id])).rows[0];

const app = await tidemark({ store, aggregates: [Counter], readModels: [kind === "sql" ? written : shown] });

async function answer(verb: string, id: string, token: string | undefined): Promise<string> {
  if (verb === "add" || verb === "pause") {
    const result = accepted(await app.at(Counter, id).add(verb === "pause" ? 7 : 1));
    return `${result.version} ${result.token}`;
  }
  if (verb === "read") {
    const options = token === undefined ? {} : { atLeast: token, timeoutMs: 15_000 };
    const row = kind === "sql" ? await app.query(written, (client) => rowOf(client, id), options) : await app.query(shown, (view) => view.get(id), options);
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
