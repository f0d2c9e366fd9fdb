/** The domains that the tests of this folder share. */
import * as v from "valibot";
import { z } from "zod";
import { aggregate } from "../../src/aggregate/aggregate.ts";
import { event } from "../../src/aggregate/schema.ts";

export interface Line {
  sku: string;
  quantity: number;
}
export interface OrderState {
  status: "new" | "placed" | "shipped";
  lines: Line[];
}
/** An interface, not an alias: both must do as event data. */
export interface Placed {
  customer: string;
  lines: Line[];
  note?: string;
}

export const Order = aggregate("order", {
  initial: (): OrderState => ({ status: "new", lines: [] }),
  events: {
    OrderPlaced: (order, data: Placed) => {
      order.status = "placed";
      order.lines = data.lines;
    },
    LineAdded: (order, data: Line) => {
      order.lines.push(data);
    },
    OrderShipped: (order, _data: { carrier: string; at: string; parcel: string }) => {
      order.status = "shipped";
    },
    OrderReset: (order) => {
      order.status = "new";
      order.lines = [];
    },
  },
  commands: {
    place: (order, input: Placed, { emit, reject }) => (order.status === "new" ? emit("OrderPlaced", input) : reject("already-placed")),
    add: (order, input: { lines: Line[] }, { emit, reject }) => {
      if (order.status !== "placed") return reject("not-placed", { status: order.status });
      return input.lines.map((line) => emit("LineAdded", line));
    },
    ship: (order, input: { carrier: string }, { emit, reject, now, id }) => {
      if (order.status === "new") return reject("not-placed");
      if (order.status === "shipped") return reject("already-shipped", { since: 1 });
      return emit("OrderShipped", { carrier: input.carrier, at: now.toISOString(), parcel: id() });
    },
    repeat: (order, _: void, { emit }) => emit("OrderPlaced", { customer: "again", lines: order.lines }),
    reset: (_order, _input, { emit }) => emit("OrderReset"),
    refuse: (_order, _input, { reject }) => reject("no"),
    touch: () => [],
  },
  snapshot: { everyEvents: 100, when: (order, since) => order.status === "shipped" && since.events > 3 },
});

export interface AccountState {
  balanceCents: number;
  owner: string;
}

/** Inputs by Zod and by Valibot, an event by Zod, a prepared command. */
export const Account = aggregate("account", {
  initial: (): AccountState => ({ balanceCents: 0, owner: "" }),
  events: {
    Opened: event(z.object({ owner: z.string().min(1) }), (account: AccountState, data) => {
      account.owner = data.owner;
    }),
    Deposited: (account, data: { cents: number; rate: number }) => {
      account.balanceCents += data.cents;
    },
  },
  inputs: {
    open: z.object({ owner: z.string(), referrer: z.string().default("nobody") }),
    deposit: v.object({ cents: v.pipe(v.number(), v.integer(), v.minValue(1)) }),
    convert: v.object({ amount: v.number(), currency: v.string() }),
  },
  prepare: {
    convert: async (input, { signal }) => {
      signal?.throwIfAborted();
      return { cents: Math.round(input.amount * 100), rate: input.currency === "EUR" ? 1 : 2 };
    },
    topUp: async (input: { euros: number }) => ({ cents: input.euros * 100 }),
  },
  commands: {
    open: (account, input, { emit, reject }) => (account.owner === "" ? emit("Opened", { owner: input.owner }) : reject("already-open", { referrer: input.referrer })),
    deposit: (_account, input, { emit }) => emit("Deposited", { cents: input.cents, rate: 1 }),
    convert: (_account, input, { emit }) => emit("Deposited", { cents: input.cents * input.rate, rate: input.rate }),
    topUp: (account, input, { emit, reject }) => (account.owner === "" ? reject("not-open") : emit("Deposited", { cents: input.cents, rate: 1 })),
  },
});
