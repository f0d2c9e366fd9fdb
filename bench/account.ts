/** The domain that the benchmarks run: an account, small on purpose, so that what is measured is the framework. */
import { aggregate } from "../src/aggregate/aggregate.ts";

/** It does not depend on the order of movements: whoever runs them in another one ends with the same. */
export interface AccountState {
  balance: number;
  movements: number;
  largest: number;
}

export type Movement = {
  readonly amount: number;
  readonly reference: string;
};

export const Account = aggregate("account", {
  initial: (): AccountState => ({ balance: 0, movements: 0, largest: 0 }),
  events: {
    Deposited: (account, data: Movement) => {
      account.balance += data.amount;
      account.movements++;
      account.largest = Math.max(account.largest, data.amount);
    },
    Withdrawn: (account, data: Movement) => {
      account.balance -= data.amount;
      account.movements++;
      account.largest = Math.max(account.largest, data.amount);
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
