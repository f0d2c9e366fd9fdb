/** The domain of the soak over real processes: what it answers can be checked against the fold of the log alone. */
import { concatMap } from "rxjs";
import { aggregate, readModel, table } from "../../../src/index.ts";

export interface AccountState {
  balance: number;
  entries: number;
}

export const Account = aggregate("account", {
  initial: (): AccountState => ({ balance: 0, entries: 0 }),
  events: {
    Deposited: (account, { amount }: { amount: number }) => {
      account.balance += amount;
      account.entries++;
    },
    Withdrawn: (account, { amount }: { amount: number }) => {
      account.balance -= amount;
      account.entries++;
    },
  },
  commands: {
    deposit: (_account, { amount }: { amount: number }, { emit }) => emit("Deposited", { amount }),
    withdraw: (account, { amount }: { amount: number }, { emit, reject }) =>
      amount <= account.balance ? emit("Withdrawn", { amount }) : reject("not-covered", { balance: account.balance }),
    /** Nothing to do where the balance is in order, which it always is. */
    settle: (account, _input: undefined, { emit }) => (account.balance < 0 ? emit("Deposited", { amount: -account.balance }) : []),
  },
  snapshot: { everyEvents: 20 },
});

export interface AccountRow {
  id: string;
  balance: number;
  version: number;
}

export const balances = readModel("balances", {
  from: [Account],
  view: table<AccountRow>("balances", { key: "id" }),
  project: (events$, { view }) =>
    events$.pipe(
      concatMap(({ id, version, type, data }) =>
        view.update(id, (row) => ({ id, version, balance: (row?.balance ?? 0) + (type === "Deposited" ? data.amount : -data.amount) })),
      ),
    ),
});
