/**
 * A process of its own for kill.int.test.ts: `kill-child.ts FILE NAME`. It deposits and withdraws for ever on a few accounts, several calls at once,
 * and says the command id and the version of each once it is acknowledged.
 */
import { writeSync } from "node:fs";
import { tidemark } from "../../src/index.ts";
import { Account, balances } from "../actor/account.ts";

const [file = "", name = ""] = process.argv.slice(2);
const CALLERS = 6;

const app = await tidemark({ store: `sqlite:${file}`, aggregates: [Account], readModels: [balances], actors: { maxActors: 8 } });
writeSync(1, "ready\n");

async function call(caller: number): Promise<void> {
  for (let n = 0; ; n++) {
    const id = `a${(caller + n) % 4}`;
    const commandId = `${name}.${caller}.${n}`;
    const result = n % 3 === 2 ? await app.at(Account, id).withdraw({ amount: 1 + (n % 7) }, { commandId }) : await app.at(Account, id).deposit({ amount: 1 + (n % 5) }, { commandId });
    if (result.ok) writeSync(1, `${id} ${commandId} ${result.version}\n`);
  }
}

await Promise.all(Array.from({ length: CALLERS }, (_, caller) => call(caller)));
