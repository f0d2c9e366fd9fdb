/** The domain that is simulated unless another one is given. */
import { concatMap } from "rxjs";
import { aggregate } from "../../aggregate/aggregate.ts";
import { readModel, table } from "../../readmodel/read-model.ts";
import type { Workload } from "./workload.ts";

interface AccountState {
  open: boolean;
  balance: number;
  /** The last movements, newest first. */
  movements: { id: string; amount: number; at: number; by: string }[];
}

const newAccount = (): AccountState => ({ open: false, balance: 0, movements: [] });

interface Movement {
  readonly id: string;
  readonly amount: number;
  readonly at: number;
  readonly by: string;
}

/** An account: rejections, no-ops, several events at once, ids and times drawn in decisions, snapshots. */
const Account = aggregate("account", {
  initial: newAccount,
  events: {
    Opened: (account) => {
      account.open = true;
    },
    Moved: (account, movement: Movement) => {
      account.balance += movement.amount;
      account.movements = [{ ...movement }, ...account.movements].slice(0, 5);
    },
    Closed: (account) => {
      account.open = false;
    },
  },
  commands: {
    open: (account, _: undefined, { emit, reject }) => (account.open ? reject("already-open") : emit("Opened")),
    deposit: (account, input: { amount: number }, { emit, reject, now, id, metadata }) =>
      account.open ? emit("Moved", { id: id(), amount: input.amount, at: now.getTime(), by: String(metadata["user"]) }) : reject("not-open"),
    withdraw: (account, input: { amount: number }, { emit, reject, now, id, metadata }) => {
      if (!account.open) return reject("not-open");
      if (account.balance < input.amount) return reject("too-little", { balance: account.balance });
      return emit("Moved", { id: id(), amount: -input.amount, at: now.getTime(), by: String(metadata["user"]) });
    },
    split: (account, input: { parts: number }, { emit, reject, now, id, metadata }) => {
      if (!account.open) return reject("not-open");
      const part = Math.floor(account.balance / input.parts);
      if (part < 1) return [];
      return Array.from({ length: input.parts }, (_, index) => emit("Moved", { id: id(), amount: index % 2 === 0 ? -part : part, at: now.getTime(), by: String(metadata["user"]) }));
    },
    close: (account, _: undefined, { emit, reject }) => (!account.open ? reject("not-open") : account.balance > 3 ? reject("not-empty", { balance: account.balance }) : emit("Closed")),
  },
  snapshot: { everyEvents: 4 },
});

/** A counter without snapshots. */
const Counter = aggregate("counter", {
  initial: () => ({ count: 0 }),
  events: {
    Counted: (counter, data: { by: number }) => {
      counter.count += data.by;
    },
  },
  commands: {
    count: (counter, input: { by: number }, { emit, reject }) => (counter.count + input.by > 60 ? reject("full", { count: counter.count }) : emit("Counted", input)),
    even: (counter, _: undefined, { emit }) => (counter.count % 2 === 0 ? [] : emit("Counted", { by: 1 })),
  },
});

interface AccountRow {
  readonly id: string;
  readonly balance: number;
  readonly version: number;
  /** Counts what was projected: an event that is applied twice or left out shows. */
  readonly events: number;
}

const balances = readModel("balances", {
  from: [Account],
  view: table<AccountRow>("balances", { key: "id", indexes: ["balance"] }),
  project: (events$, { view }) =>
    events$.pipe(
      concatMap((event) =>
        view.update(event.id, (row = { id: event.id, balance: 0, version: 0, events: 0 }) => ({
          id: event.id,
          balance: row.balance + (event.type === "Moved" ? event.data.amount : 0),
          version: event.version,
          events: row.events + 1,
        })),
      ),
    ),
});

interface ActivityRow {
  readonly stream: string;
  readonly version: number;
  readonly events: number;
}

const activity = readModel("activity", {
  from: [Account, Counter],
  view: table<ActivityRow>("activity", { key: "stream" }),
  project: (events$, { view }) =>
    events$.pipe(
      concatMap((event) => view.update(event.stream, (row = { stream: event.stream, version: 0, events: 0 }) => ({ stream: event.stream, version: event.version, events: row.events + 1 }))),
    ),
});

/** A few accounts and counters that everybody fights over. */
export const ledger: Workload = {
  aggregates: [Account, Counter],
  readModels: [balances, activity],
  wish(draws) {
    if (draws.chance(0.3)) {
      const id = draws.pick(["a", "b", "c"]);
      return draws.chance(0.75) ? { aggregate: Counter, id, command: "count", input: { by: draws.int(1, 3) } } : { aggregate: Counter, id, command: "even" };
    }
    const id = draws.pick(["1", "1", "2", "3", "4"]);
    const what = draws.next();
    if (what < 0.2) return { aggregate: Account, id, command: "open" };
    if (what < 0.55) return { aggregate: Account, id, command: "deposit", input: { amount: draws.int(1, 20) } };
    if (what < 0.8) return { aggregate: Account, id, command: "withdraw", input: { amount: draws.int(1, 25) } };
    if (what < 0.95) return { aggregate: Account, id, command: "split", input: { parts: draws.int(2, 4) } };
    return { aggregate: Account, id, command: "close" };
  },
};
