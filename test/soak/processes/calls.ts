/** What a process of the soaks does all the time: calls on the accounts, each told in a record once it is answered. */
import { isTidemarkError, type App } from "../../../src/index.ts";
import { Account, balances } from "./account.ts";
import type { CallRecord, Repeat } from "./record.ts";

type Call = CallRecord["call"];

export interface CallsOptions {
  readonly app: App;
  /** Of the process; command ids begin with it. */
  readonly name: string;
  readonly random: () => number;
  readonly streams: number;
  /** The share of each call up to which it is drawn, ascending to 1. */
  readonly kinds: readonly (readonly [upTo: number, call: Call])[];
  /** The share of calls that take up a command that is to be sent again, and of answered commands that become one. */
  readonly repeats: number;
  readonly keeps: number;
  /** Told before a command is sent again. */
  readonly tell: (repeat: Repeat) => void;
}

/** Makes the function that calls once, and resolves with the record; `n` counts the calls of a caller. */
export function calls({ app, name, random, streams, kinds, repeats, keeps, tell }: CallsOptions): (caller: number, n: number) => Promise<CallRecord> {
  const draw = (below: number): number => Math.floor(random() * below);
  const clock = (): number => Number(process.hrtime.bigint());
  /** Commands whose outcome the caller does not know, or that it sends once more for good measure. */
  const again: { readonly id: string; readonly amount: number; readonly call: "deposit" | "withdraw"; readonly commandId: string }[] = [];

  return async (caller, n) => {
    const repeated = random() < repeats ? again.shift() : undefined;
    const id = repeated?.id ?? `s${draw(streams)}`;
    const kind = random();
    const call = repeated?.call ?? (kinds.find(([upTo]) => kind < upTo)?.[1] as Call);
    const amount = repeated?.amount ?? 1 + draw(50);
    const commandId = repeated?.commandId ?? `${name}.${caller}.${n}`;
    const handle = app.at(Account, id);
    if (repeated !== undefined) tell({ again: { stream: `account-${id}`, commandId } });
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
        if ((call === "deposit" || call === "withdraw") && random() < keeps) again.push({ id, amount, call, commandId });
      }
    } catch (error) {
      if (!isTidemarkError(error)) throw error;
      answer = { kind: "error", code: error.code };
      if ((call === "deposit" || call === "withdraw") && error.retryable) again.push({ id, amount, call, commandId });
    }
    return { begun, ended: clock(), stream: `account-${id}`, call, amount, answer, ...(call === "deposit" || call === "withdraw" ? { commandId } : {}) };
  };
}
