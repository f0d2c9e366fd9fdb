import { concatMap } from "rxjs";
import { describe, expectTypeOf, it } from "vitest";
import { accepted, aggregate, ofType, readModel, table, type App, type CommandResult, type DecidedAt, type Handle, type ReadTable } from "../../src/index.ts";

type Line = { sku: string; quantity: number };

const Order = aggregate("order", {
  initial: () => ({ status: "new" as "new" | "placed" | "shipped", lines: [] as Line[] }),
  events: {
    OrderPlaced: (order, data: { customer: string; lines: Line[] }) => {
      order.status = "placed";
      order.lines = data.lines;
    },
    OrderShipped: (order, _: { carrier: string }) => {
      order.status = "shipped";
    },
  },
  commands: {
    place: (order, input: { customer: string; lines: Line[] }, { emit, reject }) => (order.status === "new" ? emit("OrderPlaced", input) : reject("already-placed")),
    ship: (order, input: { carrier: string }, { emit, reject }) =>
      order.status === "placed" ? emit("OrderShipped", input) : order.status === "new" ? reject("not-placed") : reject("already-shipped", { since: 1 }),
    touch: () => [],
  },
});

const orders = readModel("orders", {
  from: [Order],
  view: table<{ id: string; customer: string }>("orders", { key: "id" }),
  project: (events$, { view }) => events$.pipe(ofType("OrderPlaced"), concatMap((event) => view.upsert({ id: event.id, customer: event.data.customer }))),
});

declare const app: App;
declare const handle: Handle<typeof Order>;
/** What follows is for the compiler alone. */
const compiled = (_body: () => unknown): void => undefined;

describe("the types of an app", () => {
  it("give a handle one method for each command, with its input and its answers", () => {
    expectTypeOf<Handle<typeof Order>["place"]>().parameter(0).toEqualTypeOf<{ customer: string; lines: Line[] }>();
    expectTypeOf<Handle<typeof Order>["ship"]>().returns.resolves.toEqualTypeOf<CommandResult<typeof Order, "ship">>();
    expectTypeOf<Exclude<CommandResult<typeof Order, "ship">, { ok: true }>["code"]>().toEqualTypeOf<"not-placed" | "already-shipped">();
    expectTypeOf<Extract<CommandResult<typeof Order, "ship">, { code: "already-shipped" }>["details"]>().toEqualTypeOf<{ readonly since: 1 }>();
    expectTypeOf<Extract<CommandResult<typeof Order, "ship">, { code: "not-placed" }>["decidedAt"]>().toEqualTypeOf<DecidedAt>();
    expectTypeOf<Extract<CommandResult<typeof Order, "touch">, { ok: false }>>().toBeNever();
  });

  it("narrow the events of an answer by their type", () => {
    compiled(async () => {
      for (const event of accepted(await handle.place({ customer: "c", lines: [] })).events) {
        if (event.type === "OrderPlaced") expectTypeOf(event.data.customer).toBeString();
        else expectTypeOf(event.data).toEqualTypeOf<{ readonly carrier: string }>();
      }
    });
  });

  it("give state frozen, and history as recorded events", () => {
    compiled(async () => {
      const { state } = await handle.state();
      expectTypeOf(state.status).toEqualTypeOf<"new" | "placed" | "shipped">();
      // @ts-expect-error the state is frozen
      state.status = "new";
      const { events } = await app.history(Order, "1");
      for (const event of events) expectTypeOf(event.category).toEqualTypeOf<"order">();
    });
  });

  it("hand a query the reading side of the view, and give back what it returns", () => {
    compiled(() => app.query(orders, async (view) => expectTypeOf(view).toEqualTypeOf<ReadTable<{ id: string; customer: string }>>()));
    compiled(async () => expectTypeOf(await app.query(orders, (view) => view.find({ customer: "c" }))).toEqualTypeOf<readonly { id: string; customer: string }[]>());
    // @ts-expect-error a query cannot write
    compiled(() => app.query(orders, (view) => view.upsert({ id: "", customer: "" })));
    // @ts-expect-error no such field
    compiled(() => app.query(orders, (view) => view.find({ client: "c" })));
  });

  it("refuse a wrong command, a wrong input, a missing input and wrong options", () => {
    // @ts-expect-error no such command
    compiled(() => handle.plcae({ customer: "", lines: [] }));
    // @ts-expect-error a wrong input
    compiled(() => handle.place({ customer: 1, lines: [] }));
    // @ts-expect-error the input is missing
    compiled(() => handle.place());
    // @ts-expect-error no such option
    compiled(() => handle.place({ customer: "", lines: [] }, { expectedVersoin: 1 }));
    // @ts-expect-error a version is a number
    compiled(() => handle.touch(undefined, { expectedVersion: "1" }));
    // @ts-expect-error the answer may be a rejection: it has no version before `ok` is looked at
    compiled(async () => (await handle.place({ customer: "", lines: [] })).version);
  });

  it("infer nothing to any", () => {
    expectTypeOf<CommandResult<typeof Order, "place">>().not.toBeAny();
    expectTypeOf<Extract<CommandResult<typeof Order, "place">, { ok: true }>["events"][number]>().not.toBeAny();
    expectTypeOf<Parameters<(typeof handle)["touch"]>[0]>().not.toBeAny();
    compiled(async () => expectTypeOf((await handle.state()).state.lines).not.toBeAny());
    compiled(async () => {
      for await (const page of app.subscribe([Order])) expectTypeOf(page.events[0]?.data).not.toBeAny();
    });
  });
});
