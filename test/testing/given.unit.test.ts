import assert from "node:assert/strict";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { aggregate } from "../../src/aggregate/aggregate.ts";
import { given } from "../../src/testing/given.ts";
import { Account, Order } from "../aggregate/domain.ts";

const lines = [{ sku: "a", quantity: 2 }];
const placed = { type: "OrderPlaced", data: { customer: "c-7", lines } } as const;

describe("given / when / then", () => {
  it("compares emitted events deeply", () => {
    given(Order).when("place", { customer: "c-7", lines }).then([placed]);
    given(Order, [placed])
      .when("add", { lines: [...lines, { sku: "b", quantity: 1 }] })
      .then([
        { type: "LineAdded", data: { sku: "a", quantity: 2 } },
        { type: "LineAdded", data: { sku: "b", quantity: 1 } },
      ]);
    expect(() => given(Order).when("place", { customer: "c-7", lines }).then([])).toThrow(assert.AssertionError);
    expect(() => given(Order).when("place", { customer: "c-8", lines }).then([placed])).toThrow(/c-8[^]*c-7|c-7[^]*c-8/);
  });

  it("compares rejections, with details only where they are given", () => {
    given(Order, [placed]).when("place", { customer: "c", lines }).then({ rejected: "already-placed" });
    const shipped = { type: "OrderShipped", data: { carrier: "x", at: "", parcel: "" } } as const;
    const again = given(Order, [placed, shipped]).when("ship", { carrier: "y" });
    again.then({ rejected: "already-shipped" }).then({ rejected: "already-shipped", details: { since: 1 } });
    expect(() => again.then({ rejected: "not-placed" })).toThrow(assert.AssertionError);
    expect(() => again.then([shipped])).toThrow(assert.AssertionError);
    expect(() => given(Order).when("place", { customer: "c", lines }).then({ rejected: "already-placed" })).toThrow(assert.AssertionError);
    // @ts-expect-error: this command has no such rejection
    expect(() => again.then({ rejected: "already-placed" })).toThrow(assert.AssertionError);
    // @ts-expect-error: details of another type
    expect(() => again.then({ rejected: "already-shipped", details: { since: 2 } })).toThrow(assert.AssertionError);
  });

  it("does not compile with wrong events, commands, or input", () => {
    // @ts-expect-error: no such event
    expect(() => given(Order, [{ type: "OrderPlacedd", data: { customer: "", lines } }])).toThrow(/no event/);
    // @ts-expect-error: no such command
    expect(() => given(Order).when("plcae", { customer: "", lines })).toThrow(/no command/);
    // @ts-expect-error: the input is missing
    expect(() => given(Order).when("ship").thenState((state) => void state.lines.length)).not.toThrow();
    // @ts-expect-error: the account decides on cents, not on text
    given(Account).when("topUp", { cents: "1" }).then({ rejected: "not-open" });
  });

  it("stops the clock and counts the ids, the same in every run", () => {
    const ship = () => given(Order, [placed]).when("ship", { carrier: "dhl" });
    const expected = { carrier: "dhl", at: "2026-01-01T00:00:00.000Z", parcel: "00000000-0000-4000-8000-000000000001" };
    ship().then([{ type: "OrderShipped", data: expected }]);
    ship().then([{ type: "OrderShipped", data: expected }]);
    given(Order, [placed], { now: new Date(0), id: () => "p-1" })
      .when("ship", { carrier: "dhl" })
      .then([{ type: "OrderShipped", data: { carrier: "dhl", at: "1970-01-01T00:00:00.000Z", parcel: "p-1" } }]);
  });

  it("shows the state before and after", () => {
    const order = given(Order, [placed, { type: "OrderReset" }]);
    expect(order.state).toEqual({ status: "new", lines: [] });
    order.when("place", { customer: "c", lines }).thenState({ status: "placed", lines });
    order.when("refuse").thenState((state) => assert.equal(state.status, "new"));
    expect(() => order.when("refuse").thenState({ status: "placed", lines })).toThrow(assert.AssertionError);
  });

  it("runs the schema but not prepare", () => {
    given(Account).when("open", { owner: "ann" }).then([{ type: "Opened", data: { owner: "ann" } }]);
    given(Account, [{ type: "Opened", data: { owner: "ann" } }])
      .when("open", { owner: "bob" })
      .then({ rejected: "already-open", details: { referrer: "nobody" } });
    expect(() => given(Account).when("deposit", { cents: -1 })).toThrow(expect.objectContaining({ code: "InvalidInput" }));
    given(Account).when("convert", { cents: 5, rate: 2 }).then([{ type: "Deposited", data: { cents: 10, rate: 2 } }]);
  });

  it("refuses an asynchronous schema, which it could not wait for", () => {
    const Slow = aggregate("slow", {
      initial: () => ({}),
      events: {},
      inputs: { go: z.string().refine(async () => true) },
      commands: { go: (_state, _input) => [] },
    });
    expect(() => given(Slow).when("go", "x")).toThrow(/asynchronous/);
  });

  it("gives the outcome when it is awaited, and never hangs", async () => {
    // What `await` does with any thenable.
    const outcome = await Promise.resolve<unknown>(given(Order).when("refuse"));
    expect(outcome).toMatchObject({ ok: false, code: "no", state: { status: "new" } });
    const after = await Promise.resolve<unknown>(given(Order).when("place", { customer: "c-7", lines }).then([placed]));
    expect(after).toMatchObject({ ok: true, events: [placed] });
  });

  it("keeps no reference to what the test gave it", () => {
    const mine = { customer: "c", lines: [{ sku: "a", quantity: 1 }] };
    const order = given(Order, [{ type: "OrderPlaced", data: mine }]);
    mine.lines.push({ sku: "b", quantity: 1 });
    expect(order.state.lines).toHaveLength(1);
    given(Order).when("place", mine);
    expect(Object.isFrozen(mine)).toBe(false);
  });
});
