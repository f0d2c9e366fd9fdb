/**
 * A process that calls an app on a store for ever, several calls at once: `caller.ts URL SEED NAME`. It prints a line before each call and one for its answer,
 * for the checker of the simulator. A line `calm` on its input says that nothing goes wrong any more; `end` ends it in order.
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { isTidemarkError, openStore, tidemark } from "../../../src/index.ts";
import { Account, balances } from "../../soak/processes/account.ts";
import type { Answered, Asked } from "./recorded.ts";
import { randomFrom } from "../../store/postgres/shared.ts";

const [store = "", seed = "1", name = "p"] = process.argv.slice(2);
const random = randomFrom(Number(seed));
/** Milliseconds on a clock that all processes of the machine share. */
const clock = (): number => Number(process.hrtime.bigint()) / 1e6;
const say = (line: Asked | Answered): void => void writeSync(1, `${JSON.stringify(line)}\n`);
let calm = false;
let ending = false;
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "calm") calm = true;
  else ending = true;
});

const app = await tidemark({ store, aggregates: [Account], readModels: [balances], actors: { maxActors: 16, attempts: 50 } });
/** Tells how long the log is: no answer shows more. */
const log = await openStore(store);

type Wish = Pick<Extract<Asked, { readonly kind: "command" }>, "account" | "command" | "amount" | "commandId">;

/** Commands whose outcome is not known, or that are sent once more for good measure; long before the window of command ids has forgotten them. */
const again: Wish[] = [];
const repeat = (wish: Wish): void => {
  again.push(wish);
  if (again.length > 20) again.shift();
};
let asked = 0;

async function command(wish: Wish): Promise<void> {
  const id = `${name}.${++asked}`;
  const { account, command: verb, amount, commandId } = wish;
  say({ kind: "command", id, calm, at: clock(), ...wish });
  try {
    const handle = app.at(Account, account);
    const options = { commandId, correlationId: id };
    const result = verb === "deposit" ? await handle.deposit({ amount }, options) : await handle.withdraw({ amount }, options);
    say({ id, at: clock(), answer: result.ok ? { kind: "accepted", version: result.version, events: result.events } : { kind: "rejected", version: result.decidedAt.version, code: result.code, details: result.details } });
    if (random() < 0.1) repeat(wish);
  } catch (error) {
    failed(id, error);
    if (isTidemarkError(error) && error.retryable) repeat(wish);
  }
}

async function look(account: string, alsoRow: boolean): Promise<void> {
  const id = `${name}.${++asked}`;
  say({ kind: "state", id, calm, at: clock(), account });
  let told: { readonly version: number; readonly token: string };
  try {
    const answer = await app.at(Account, account).state();
    told = answer;
    say({ id, at: clock(), answer: { kind: "state", version: answer.version, state: answer.state } });
  } catch (error) {
    return failed(id, error);
  }
  if (!alsoRow) return;
  const read = `${name}.${++asked}`;
  say({ kind: "read", id: read, calm, at: clock(), account, version: told.version });
  try {
    const answer = await app.answer(balances, (view) => view.find({}, { limit: 1000 }), { atLeast: told.token, timeoutMs: 20_000, stream: `account-${account}` });
    const at = clock();
    const head = await log.events.head?.().catch(() => undefined);
    say({ id: read, at, answer: { kind: "rows", rows: answer.value, position: answer.position, stale: answer.stale !== undefined, lastProcessed: answer.lastProcessedVersion }, ...(head !== undefined && { length: head["log"] ?? 0 }) });
  } catch (error) {
    failed(read, error);
  }
}

/** What is no error of ours ends the process, and with it the test. */
function failed(id: string, error: unknown): void {
  if (!isTidemarkError(error)) throw error;
  say({ id, at: clock(), answer: { kind: "error", code: error.code, message: error.message, details: error.details } });
}

async function once(caller: number, n: number): Promise<void> {
  const repeated = random() < 0.1 ? again.shift() : undefined;
  if (repeated !== undefined) return command(repeated);
  const account = `s${Math.floor(random() * 12)}`;
  const kind = random();
  if (kind >= 0.8) return look(account, kind >= 0.9);
  return command({ account, command: kind < 0.45 ? "deposit" : "withdraw", amount: 1 + Math.floor(random() * 50), commandId: `${name}.${caller}.${n}` });
}

writeSync(1, "ready\n");
await Promise.all(
  Array.from({ length: 8 }, async (_, caller) => {
    for (let n = 0; !ending; n++) await once(caller, n);
  }),
);
await app.close();
await log.close();
process.exit(0);
