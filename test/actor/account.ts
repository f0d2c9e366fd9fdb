/** The domain that the tests of actors and apps share: an account whose rejections tell what they rest on. */
import { concatMap } from "rxjs";
import { aggregate, readModel, table, type SnapshotPolicy } from "../../src/index.ts";

export interface AccountState {
  balance: number;
  /** Notes of the deposits, in order. */
  notes: string[];
}

/** An account with a snapshot policy of the test's choice. */
export const accountWith = (snapshot?: SnapshotPolicy<{ readonly balance: number; readonly notes: readonly string[] }>) =>
  aggregate("account", {
    initial: (): AccountState => ({ balance: 0, notes: [] }),
    events: {
      Deposited: (account, data: { amount: number; note?: string }) => {
        account.balance += data.amount;
        if (data.note !== undefined) account.notes.push(data.note);
      },
      Withdrawn: (account, data: { amount: number }) => {
        account.balance -= data.amount;
      },
      /** No recipe can fold it. */
      Spoilt: () => {
        throw new Error("this event cannot be folded");
      },
    },
    commands: {
      deposit: (_, input: { amount: number; note?: string }, { emit }) => emit("Deposited", input),
      withdraw: (account, input: { amount: number }, { emit, reject }) =>
        input.amount > account.balance ? reject("insufficient", { balance: account.balance }) : emit("Withdrawn", input),
      /** As many deposits of one as asked for. */
      scatter: (_, input: { times: number; note: string }, { emit }) => Array.from({ length: input.times }, (__, n) => emit("Deposited", { amount: 1, note: `${input.note}.${n}` })),
      /** Nothing to do. */
      settle: () => [],
      explode: () => {
        throw new Error("the command exploded");
      },
      spoil: (_, _input, { emit }) => [emit("Deposited", { amount: 1 }), emit("Spoilt")],
    },
    ...(snapshot === undefined ? {} : { snapshot }),
  });

export const Account = accountWith();

export interface BalanceRow {
  id: string;
  balance: number;
  version: number;
}

/** Balances, one row for each account. */
export const balances = readModel("balances", {
  from: [Account],
  view: table<BalanceRow>("balances", { key: "id" }),
  project: (events$, { view }) =>
    events$.pipe(
      concatMap(async (event) => {
        const row = await view.get(event.id);
        const change = event.type === "Deposited" ? event.data.amount : event.type === "Withdrawn" ? -event.data.amount : 0;
        await view.upsert({ id: event.id, balance: (row?.balance ?? 0) + change, version: event.version });
      }),
    ),
});
