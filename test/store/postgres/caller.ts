/** A process that calls an app on PostgreSQL for ever, several calls at once, and prints a record of each: `caller.ts URL SEED NAME`; any line on its input ends it in order. */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { isTidemarkError, tidemark } from "../../../src/index.ts";
import { Account, balances } from "../../soak/processes/account.ts";
import type { CallRecord } from "../../soak/processes/record.ts";
import { randomFrom } from "./shared.ts";

const [store = "", seed = "1", name = "p"] = process.argv.slice(2);
const random = randomFrom(Number(seed));
const clock = (): number => Number(process.hrtime.bigint());
let ending = false;
createInterface({ input: process.stdin }).on("line", () => (ending = true));

const app = await tidemark({ store, aggregates: [Account], readModels: [balances], actors: { maxActors: 16, attempts: 50 } });

type Call = { readonly id: string; readonly call: "deposit" | "withdraw" | "state" | "read"; readonly amount: number; readonly commandId: string; readonly repeated: boolean };
/** Commands whose outcome is not known, or that are sent once more for good measure. */
const again: Call[] = [];

function draw(caller: number, n: number): Call {
  const repeated = random() < 0.1 ? again.shift() : undefined;
  if (repeated !== undefined) return { ...repeated, repeated: true };
  const kind = random();
  const call = kind < 0.45 ? "deposit" : kind < 0.8 ? "withdraw" : kind < 0.9 ? "state" : "read";
  return { id: `s${Math.floor(random() * 12)}`, call, amount: 1 + Math.floor(random() * 50), commandId: `${name}.${caller}.${n}`, repeated: false };
}

async function answerTo({ id, call, amount, commandId }: Call): Promise<CallRecord["answer"]> {
  const handle = app.at(Account, id);
  if (call === "state" || call === "read") {
    const { version, token, state } = await handle.state();
    if (call === "state") return { kind: "state", version, balance: state.balance };
    const row = await app.query(balances, (view) => view.get(id), { atLeast: token, timeoutMs: 20_000 });
    return { kind: "row", wanted: version, version: row?.version ?? 0, balance: row?.balance ?? 0 };
  }
  const result = call === "deposit" ? await handle.deposit({ amount }, { commandId }) : await handle.withdraw({ amount }, { commandId });
  return result.ok ? { kind: "accepted", version: result.version, events: result.events.length } : { kind: "rejected", version: result.decidedAt.version, balance: result.details.balance };
}

async function once(caller: number, n: number): Promise<void> {
  const called = draw(caller, n);
  const { id, call, amount, commandId } = called;
  const writes = call === "deposit" || call === "withdraw";
  const begun = clock();
  // Told before it is sent: a kill may keep its answer from being told.
  if (called.repeated && writes) writeSync(1, `${JSON.stringify({ begun, ended: begun, stream: `account-${id}`, call, amount, answer: { kind: "error", code: "OutcomeUnknown" }, commandId } satisfies CallRecord)}\n`);
  let answer: CallRecord["answer"];
  try {
    answer = await answerTo(called);
    if (writes && random() < 0.1) again.push(called);
  } catch (error) {
    if (!isTidemarkError(error)) throw error;
    answer = { kind: "error", code: error.code };
    if (writes && error.retryable) again.push(called);
  }
  const record: CallRecord = { begun, ended: clock(), stream: `account-${id}`, call, amount, answer, ...(writes && { commandId }) };
  writeSync(1, `${JSON.stringify(record)}\n`);
}

writeSync(1, "ready\n");
await Promise.all(
  Array.from({ length: 8 }, async (_, caller) => {
    for (let n = 0; !ending; n++) await once(caller, n);
  }),
);
await app.close();
process.exit(0);
