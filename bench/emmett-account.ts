/** The same account on Emmett: its in-memory event store and its command handler, which tries again on a conflict of versions. */
import { CommandHandler, getInMemoryEventStore, isExpectedVersionConflictError, type Event } from "@event-driven-io/emmett";
import type { AccountState, Movement } from "./account.ts";

type AccountEvent = Event<"Deposited", Movement> | Event<"Withdrawn", Movement>;

function evolve(account: AccountState, { type, data }: AccountEvent): AccountState {
  const sign = type === "Deposited" ? 1 : -1;
  return { balance: account.balance + sign * data.amount, movements: account.movements + 1, largest: Math.max(account.largest, data.amount) };
}

const initialState = (): AccountState => ({ balance: 0, movements: 0, largest: 0 });

const handle = CommandHandler<AccountState, AccountEvent>({
  evolve,
  initialState,
  // Its preset (3 retries from 100 ms on) fails most contended commands. These are the pauses it is quickest with; it never gives up.
  retry: { onVersionConflict: { retries: 10_000, minTimeout: 1, factor: 1, randomize: false, shouldRetryError: isExpectedVersionConflictError } },
});

export interface EmmettAccounts {
  /** Throws when the command fails. */
  deposit(id: string, input: Movement): Promise<void>;
  state(id: string): Promise<AccountState>;
}

export function emmettAccounts(): EmmettAccounts {
  const store = getInMemoryEventStore();
  return {
    async deposit(id, input) {
      await handle(store, `account-${id}`, () => {
        if (input.amount <= 0) throw new RangeError("not-positive");
        return { type: "Deposited", data: input };
      });
    },
    async state(id) {
      return (await store.aggregateStream<AccountState, AccountEvent>(`account-${id}`, { evolve, initialState })).state;
    },
  };
}
