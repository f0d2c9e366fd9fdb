/**
 * One process of the soak on Kafka: `child.ts JSON`. It calls for ever, many calls at once, and prints a record of each once it is answered; `end` on its input closes it in
 * an orderly way.
 */
import { createInterface } from "node:readline";
import { isTidemarkError, tidemark } from "../../../src/index.ts";
import { kafkaBackend } from "../../../src/store/kafka/index.ts";
import { detour } from "../../store/kafka/attacks/points.ts";
import { randomFrom } from "../../store/sqlite/support.ts";
import { Account, balances } from "../processes/account.ts";
import type { CallRecord } from "../processes/record.ts";

export interface ChildOptions {
  readonly brokers: readonly string[];
  /** Port of each broker, and of the proxy that stands before it. */
  readonly ports: Readonly<Record<string, number>>;
  readonly topicPrefix: string;
  readonly partitions: number;
  readonly seed: number;
  readonly name: string;
}

const { brokers, ports, topicPrefix, partitions, seed, name } = JSON.parse(process.argv[2] ?? "") as ChildOptions;
const STREAMS = 600;
const CALLERS = 250;
/** Of calls that failed at once: whoever calls again waits. */
const PAUSE_MS = 20;

const random = randomFrom(seed);
const draw = (below: number): number => Math.floor(random() * below);
const clock = (): number => Number(process.hrtime.bigint());
let ending = false;

detour(ports);
const backend = kafkaBackend({ brokers, topicPrefix, partitions, owner: name, requestTimeoutMs: 1500, appendTimeoutMs: 5000 });
const app = await tidemark({ store: backend, views: "memory:", aggregates: [Account], readModels: [balances], actors: { attempts: 50 } });

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "end") ending = true;
});

/** Commands whose outcome the caller does not know, or that it sends once more for good measure. */
const again: { readonly id: string; readonly amount: number; readonly call: "deposit" | "withdraw"; readonly commandId: string }[] = [];

async function once(caller: number, n: number): Promise<void> {
  const repeated = random() < 0.2 ? again.shift() : undefined;
  const id = repeated?.id ?? `s${draw(STREAMS)}`;
  const kind = random();
  const call = repeated?.call ?? (kind < 0.55 ? "deposit" : kind < 0.95 ? "withdraw" : kind < 0.97 ? "settle" : kind < 0.99 ? "state" : "read");
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
      if ((call === "deposit" || call === "withdraw") && random() < 0.01) again.push({ id, amount, call, commandId });
    }
  } catch (error) {
    if (!isTidemarkError(error)) throw error;
    answer = { kind: "error", code: error.code };
    if ((call === "deposit" || call === "withdraw") && error.retryable) again.push({ id, amount, call, commandId });
  }
  const record: CallRecord = { begun, ended: clock(), stream: `account-${id}`, call, amount, answer, ...(call === "deposit" || call === "withdraw" ? { commandId } : {}) };
  process.stdout.write(`${JSON.stringify(record)}\n`);
  if (answer.kind === "error") await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * (0.5 + random())));
}

process.stdout.write("ready\n");
await Promise.all(
  Array.from({ length: CALLERS }, async (_, caller) => {
    for (let n = 0; !ending; n++) await once(caller, n);
  }),
);
await app.close();
await backend.close();
process.exit(0);
