/** The domain that the benchmarks run: an account, small on purpose, so that what is measured is the framework. */
import { aggregate } from "../src/aggregate/aggregate.ts";

export interface AccountState {
  balance: number;
  movements: number;
  last: string;
}

export interface Movement {
  readonly amount: number;
  readonly reference: string;
}

export const Account = aggregate("account", {
  initial: (): AccountState => ({ balance: 0, movements: 0, last: "" }),
  events: {
    Deposited: (account, data: Movement) => {
      account.balance += data.amount;
      account.movements++;
      account.last = data.reference;
    },
    Withdrawn: (account, data: Movement) => {
      account.balance -= data.amount;
      account.movements++;
      account.last = data.reference;
    },
  },
  commands: {
    deposit: (_account, input: Movement, { emit, reject }) => (input.amount > 0 ? emit("Deposited", input) : reject("not-positive")),
    withdraw: (account, input: Movement, { emit, reject }) => (input.amount <= account.balance ? emit("Withdrawn", input) : reject("not-covered", { balance: account.balance })),
  },
});

/** The input of the `index`-th command. */
export function movement(index: number): Movement {
  return { amount: 1 + (index % 97), reference: `transfer ${index} of the month` };
}
