import { describe, expect, test } from "vitest";
import { given, type GivenEvent } from "../../src/testing/index.ts";
import { furthest, Order, orderStatuses, type OrderState } from "./domain.ts";

const items = [{ sku: "tea", quantity: 2, unitPriceCents: 1250 }];
const day = (n: number): string => new Date(Date.UTC(2026, 0, n)).toISOString();
const NOW = day(1);

type Event = GivenEvent<typeof Order>;
const placed: Event = { type: "OrderPlaced", data: { at: day(1), customer: "c-1", items, promisedAt: day(9) } };
const approved: Event = { type: "OrderApproved", data: { at: day(2) } };
const invoiced: Event = { type: "OrderInvoiced", data: { at: day(3) } };
const processed: Event = { type: "OrderProcessed", data: { at: day(4) } };
const shipped: Event = { type: "OrderShipped", data: { at: day(5) } };
const delivered: Event = { type: "OrderDelivered", data: { at: day(6), late: false } };
const canceled: Event = { type: "OrderCanceled", data: { at: day(7), asReturn: false } };
const unavailable: Event = { type: "OrderMarkedUnavailable", data: { at: day(7) } };

describe("placing an order", () => {
  test("records who ordered what, and when it was promised, in UTC", () => {
    given(Order)
      .when("place", { customer: " c-1 ", items, promisedAt: "2026-01-09T02:00:00+02:00" })
      .then([{ type: "OrderPlaced", data: { at: NOW, customer: "c-1", items, promisedAt: day(9) } }])
      .thenState((order) => {
        expect(order).toMatchObject({ status: "placed", customer: "c-1", totalCents: 2500, promisedAt: day(9), moments: { placed: NOW } });
      });
  });

  test("happens once", () => {
    given(Order, [placed]).when("place", { customer: "c-2", items }).then({ rejected: "already-placed" });
  });

  test.each([
    ["a negative quantity", { sku: "tea", quantity: -1, unitPriceCents: 1 }, "invalid-quantity"],
    ["no quantity", { sku: "tea", quantity: 0, unitPriceCents: 1 }, "invalid-quantity"],
    ["a negative price", { sku: "tea", quantity: 1, unitPriceCents: -1 }, "invalid-price"],
  ] as const)("refuses %s, and says of which item", (_what, item, rejected) => {
    const said = given(Order).when("place", { customer: "c-1", items: [...items, item] }).then({ rejected });
    expect(said.outcome).toMatchObject({ details: item });
  });

  test.each([
    ["a NUL", "a\0b"],
    ["half a surrogate pair", "\ud800"],
  ])("does not take text with %s, which no key can hold", (_what, text) => {
    expect(() => given(Order).when("place", { customer: text, items })).toThrow(/customer/);
    expect(() => given(Order).when("place", { customer: "c-1", items: [{ sku: text, quantity: 1, unitPriceCents: 1 }] })).toThrow(/sku/);
    expect(() => given(Order, [placed]).when("cancel", { reason: text })).toThrow(/reason/);
  });

  test("needs an item, unless another system has taken the order", () => {
    given(Order).when("place", { customer: "c-1", items: [] }).then({ rejected: "no-items" });
    given(Order).when("place", { customer: "c-1", items: [], imported: true, at: day(1) }).then([{ type: "OrderPlaced", data: { at: day(1), customer: "c-1", items: [], imported: true } }]);
  });
});

describe("the usual life of an order", () => {
  test("leads from step to step", () => {
    given(Order, [placed]).when("approve", { at: day(2) }).then([approved]);
    given(Order, [placed, approved]).when("invoice", { at: day(3) }).then([invoiced]);
    given(Order, [placed, approved, invoiced]).when("process", { at: day(4) }).then([processed]);
    given(Order, [placed, approved, invoiced, processed]).when("ship", { at: day(5) }).then([shipped]);
    given(Order, [placed, approved, invoiced, processed, shipped])
      .when("deliver", { at: day(6) })
      .then([delivered])
      .thenState((order) => expect(order).toMatchObject({ status: "delivered", anomalies: [], moments: { placed: day(1), approved: day(2), invoiced: day(3), processed: day(4), shipped: day(5), delivered: day(6) } }));
  });

  test("a delivery after the promised moment is late, one at it is not", () => {
    given(Order, [placed, approved, shipped]).when("deliver", { at: day(9) }).then([{ type: "OrderDelivered", data: { at: day(9), late: false } }]);
    given(Order, [placed, approved, shipped]).when("deliver", { at: day(10) }).then([{ type: "OrderDelivered", data: { at: day(10), late: true } }]);
  });
});

describe("what cannot be", () => {
  test.each(["approve", "invoice", "process", "ship", "deliver", "cancel", "markUnavailable"] as const)("%s needs an order that was placed", (command) => {
    given(Order).when(command, {}).then({ rejected: "not-placed" });
  });

  test.each([
    ["approve", approved, "already-approved"],
    ["invoice", invoiced, "already-invoiced"],
    ["process", processed, "already-processed"],
    ["ship", shipped, "already-shipped"],
    ["deliver", delivered, "already-delivered"],
    ["cancel", canceled, "already-canceled"],
    ["markUnavailable", unavailable, "already-unavailable"],
  ] as const)("%s does not happen twice", (command, event, rejected) => {
    const outcome = given(Order, [placed, event]).when(command, {}).outcome;
    expect(outcome).toMatchObject({ ok: false, code: rejected });
  });

  test.each(["approve", "invoice", "process", "ship", "deliver"] as const)("%s does not revive an order that has ended", (command) => {
    given(Order, [placed, canceled]).when(command, {}).then({ rejected: "already-canceled" });
    given(Order, [placed, unavailable]).when(command, {}).then({ rejected: "already-unavailable" });
  });

  test("goods that were handed over are not unavailable", () => {
    given(Order, [placed, approved, shipped]).when("markUnavailable", {}).then({ rejected: "already-shipped" });
    given(Order, [placed, approved, shipped, delivered]).when("markUnavailable", {}).then({ rejected: "already-delivered" });
  });

  test("a delivered order is canceled as a return only, and only a delivered one is returned", () => {
    given(Order, [placed, delivered]).when("cancel", {}).then({ rejected: "already-delivered" });
    given(Order, [placed]).when("cancel", { asReturn: true }).then({ rejected: "not-delivered" });
    given(Order, [placed]).when("cancel", { reason: "changed my mind" }).then([{ type: "OrderCanceled", data: { at: NOW, reason: "changed my mind", asReturn: false } }]);
  });
});

describe("what happened all the same", () => {
  test("is taken and marked", () => {
    given(Order, [placed]).when("ship", {}).then([{ type: "OrderShipped", data: { at: NOW, anomalies: ["shipped-before-approval"] } }]);
    given(Order, [placed, approved]).when("deliver", { at: day(3) }).then([{ type: "OrderDelivered", data: { at: day(3), anomalies: ["delivered-before-shipped"], late: false } }]);
    given(Order, [placed]).when("invoice", {}).then([{ type: "OrderInvoiced", data: { at: NOW, anomalies: ["invoiced-before-approval"] } }]);
    given(Order, [placed, approved, shipped]).when("process", {}).then([{ type: "OrderProcessed", data: { at: NOW, anomalies: ["processed-after-shipping"] } }]);
    given(Order, [placed, approved, shipped, delivered])
      .when("cancel", { at: day(7), asReturn: true })
      .then([{ type: "OrderCanceled", data: { at: day(7), anomalies: ["canceled-after-delivery"], asReturn: true } }]);
  });

  test("before the order was placed is marked as such", () => {
    given(Order, [{ ...placed, data: { ...placed.data, at: day(3) } } as Event, approved])
      .when("ship", { at: day(2) })
      .then([{ type: "OrderShipped", data: { at: day(2), anomalies: ["shipped-before-placed"] } }]);
  });

  test("marks add up in the state, and a late approval does not set a shipped order back", () => {
    given(Order, [placed, { type: "OrderShipped", data: { at: day(2), anomalies: ["shipped-before-approval"] } }])
      .when("approve", { at: day(3) })
      .then([{ type: "OrderApproved", data: { at: day(3) } }])
      .thenState((order) => expect(order).toMatchObject({ status: "shipped", anomalies: ["shipped-before-approval"], moments: { approved: day(3) } }));
  });
});

test("the status is the furthest step, whatever order the steps come in", () => {
  const statuses: OrderState["status"][] = ["new", ...orderStatuses];
  for (const a of statuses) {
    for (const b of orderStatuses) {
      expect(furthest(furthest(a, b), b)).toBe(furthest(a, b));
      for (const c of orderStatuses) expect(furthest(furthest(a, b), c)).toBe(furthest(furthest(a, c), b));
    }
  }
});
