/**
 * One process of the soak: `child.ts FILE VIEWS SEED NAME`. It calls for ever, several calls at once, and prints a record of each once it is answered;
 * `stall MS` on its input blocks its event loop, `end` closes it in an orderly way.
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { tidemark } from "../../../src/index.ts";
import { randomFrom } from "../../store/sqlite/support.ts";
import { Account, balances } from "./account.ts";
import { calls } from "./calls.ts";

const [file = "", views = "", seed = "1", name = "p"] = process.argv.slice(2);
const STREAMS = 12;
const CALLERS = 8;
/** Few enough that streams are unloaded and loaded all the time. */
const RESIDENT = 6;

const random = randomFrom(Number(seed));
let ending = false;

await using app = await tidemark({
  store: `sqlite:${file}`,
  views: `sqlite:${views}`,
  aggregates: [Account],
  readModels: [balances],
  actors: { maxActors: RESIDENT + CALLERS, attempts: 50 },
});

createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, argument] = line.split(" ");
  if (word === "end") ending = true;
  if (word === "stall") for (const until = Date.now() + Number(argument); Date.now() < until; );
});

const say = (what: object): void => void writeSync(1, `${JSON.stringify(what)}\n`);
const once = calls({ app, name, random, streams: STREAMS, kinds: [[0.4, "deposit"], [0.75, "withdraw"], [0.85, "settle"], [0.95, "state"], [1, "read"]], repeats: 0.1, keeps: 0.1, tell: say });

writeSync(1, "ready\n");
await Promise.all(
  Array.from({ length: CALLERS }, async (_, caller) => {
    for (let n = 0; !ending; n++) say(await once(caller, n));
  }),
);
await app.close();
process.exit(0);
