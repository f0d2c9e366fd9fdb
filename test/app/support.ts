/** A read model that waits where a test says, and fails where a test says. */
import { concatMap } from "rxjs";
import { readModel, table, type ReadModel, type Table } from "../../src/index.ts";
import { Account, type BalanceRow } from "../actor/account.ts";

export interface Gate {
  shut(): void;
  open(): void;
  passed(): Promise<void>;
  /** How many stand before it. */
  readonly waiting: number;
}

export function gate(): Gate {
  let waiting: (() => void)[] | undefined;
  return {
    shut: () => void (waiting ??= []),
    open() {
      for (const go of waiting ?? []) go();
      waiting = undefined;
    },
    get waiting() {
      return waiting?.length ?? 0;
    },
    passed: () => (waiting === undefined ? Promise.resolve() : new Promise((resolve) => waiting?.push(resolve))),
  };
}

export interface GatedOptions {
  readonly name?: string;
  readonly version?: number;
  readonly door?: Gate;
  /** Deposits of this amount cannot be projected. */
  readonly poison?: number;
}

/** Balances of accounts, one row each; no event is projected while the gate is shut. */
export function gatedBalances({ name = "gated", version = 1, door = gate(), poison }: GatedOptions = {}): ReadModel<Table<BalanceRow>> {
  return readModel(name, {
    from: [Account],
    version,
    view: table<BalanceRow>("balances", { key: "id" }),
    project: (events$, { view }) =>
      events$.pipe(
        concatMap(async (event) => {
          await door.passed();
          if (event.type === "Deposited" && event.data.amount === poison) throw new Error("this deposit is poison");
          const row = await view.get(event.id);
          const change = event.type === "Deposited" ? event.data.amount : event.type === "Withdrawn" ? -event.data.amount : 0;
          await view.upsert({ id: event.id, balance: (row?.balance ?? 0) + change, version: event.version });
        }),
      ),
  });
}
