/**
 * One process of the soak: `child.ts FILE VIEWS SEED NAME`. It calls for ever, several calls at once, and prints a record of each once it is answered;
 * `stall MS` on its input blocks its event loop, `end` closes it in an orderly way.
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { isTidemarkError, tidemark } from "../../../src/index.ts";
import { randomFrom } from "../../store/sqlite/support.ts";
import { Account, balances } from "./account.ts";
import type { CallRecord } from "./record.ts";

const [file = "", views = "", seed = "1", name = "p"] = process.argv.slice(2);
const STREAMS = 12;
const CALLERS = 8;
/** Few enough that streams are unloaded and loaded all the time. */
const RESIDENT = 6;

const random = randomFrom(Number(seed));
const draw = (below: number): number => Math.floor(random() * below);
const clock = (): number => Number(process.hrtime.bigint());
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

/** Commands whose outcome the caller does not know, or that it sends once more for good measure. */
const again: { readonly id: string; readonly amount: number; readonly call: "deposit" | "withdraw"; readonly commandId: string }[] = [];

async function once(caller: number, n: number): Promise<void> {
  const repeated = random() < 0.1 ? again.shift() : undefined;
  const id = repeated?.id ?? `s${draw(STREAMS)}`;
  const kind = random();
  const call = repeated?.call ?? (kind < 0.4 ? "deposit" : kind < 0.75 ? "withdraw" : kind < 0.85 ? "settle" : kind < 0.95 ? "state" : "read");
  const amount = repeated?.amount ?? 1 + draw(50);
  const commandId = repeated?.commandId ?? `${name}.${caller}.${n}`;
  const handle = app.at(Account, id);
  const begun = clock();
  let answer: CallRecord["answer"];
  try {
    if (call === "state") {
      const { version, state } = await handle.state();
      answer = { kind: "state", version, balance: state.balance };
    } else if (call === "read") {
      const { version, token } = await handle.state();
      const row = await app.query(balances, (view) => view.get(id), { atLeast: token, timeoutMs: 20_000 });
      answer = { kind: "row", wanted: version, version: row?.version ?? 0, balance: row?.balance ?? 0 };
    } else {
      const result = call === "settle" ? await handle.settle() : call === "deposit" ? await handle.deposit({ amount }, { commandId }) : await handle.withdraw({ amount }, { commandId });
      if (result.ok) answer = { kind: "accepted", version: result.version, events: result.events.length };
      else answer = { kind: "rejected", version: result.decidedAt.version, balance: result.details.balance };
      if ((call === "deposit" || call === "withdraw") && random() < 0.1) again.push({ id, amount, call, commandId });
    }
  } catch (error) {
    if (!isTidemarkError(error)) throw error;
    answer = { kind: "error", code: error.code };
    if ((call === "deposit" || call === "withdraw") && error.retryable) again.push({ id, amount, call, commandId });
  }
  const record: CallRecord = { begun, ended: clock(), stream: `account-${id}`, call, amount, answer, ...(call === "deposit" || call === "withdraw" ? { commandId } : {}) };
  writeSync(1, `${JSON.stringify(record)}\n`);
}

writeSync(1, "ready\n");
await Promise.all(
  Array.from({ length: CALLERS }, async (_, caller) => {
    for (let n = 0; !ending; n++) await once(caller, n);
  }),
);
await app.close();
process.exit(0);
