/** A misspelt option is refused where it is given, with the ones that there are: it would do nothing, and say nothing. */
import { describe, expect, it } from "vitest";
import { aggregate, readModel, table, tidemark, type App, type AppOptions } from "../../src/index.ts";
import { concatMap } from "rxjs";

const counter = (more: object = {}) =>
  aggregate("counter", {
    initial: () => ({ count: 0 }),
    events: { Added: (state) => void state.count++ },
    commands: { add: (_state, _input: undefined, { emit }) => emit("Added") },
    ...more,
  });
const Counter = counter();
const counts = table<{ id: string; n: number }>("counts", { key: "id", indexes: ["n"] });
const model = (more: object = {}) => readModel("counts", { from: [Counter], view: counts, project: (events$, { view }) => events$.pipe(concatMap(({ id }) => view.upsert({ id, n: 1 }))), ...more });
const Counts = model();

const open = (more: object = {}): Promise<App> => tidemark({ store: "memory:", aggregates: [Counter], readModels: [Counts], ...more } as AppOptions);
const refusal = (named: string) => expect.objectContaining({ code: "InvalidArgument", message: expect.stringContaining(named) as string }) as Error;

describe("an option that there is not", () => {
  it.each([
    ["of the app", { sotre: "memory:" }, "sotre"],
    ["of the actors", { actors: { mailBoxCapacity: 3 } }, "mailBoxCapacity"],
    ["of the command window", { actors: { commandWindow: { size: 3 } } }, "size"],
    ["of the read models", { projections: { pagesize: 3 } }, "pagesize"],
    ["of the tokens", { tokens: { key: [] } }, "key"],
    ["of the environment", { environment: { log: console } }, "log"],
    ["of a token's key: no secret", { tokens: { keys: [{ id: "a" }] } }, "secret of token key a"],
    ["of time: no number", { closeTimeoutMs: "5" }, "closeTimeoutMs"],
  ])("%s is refused", async (_where, more, named) => {
    await expect(open(more)).rejects.toThrow(refusal(named));
  });

  it.each([
    ["upcaster", { upcaster: {} }],
    ["every", { snapshot: { every: 10 } }],
    ["initial", { initial: { count: 0 } }],
    ["events", { events: undefined }],
  ])("of an aggregate is refused: %s", (named, more) => {
    expect(() => counter(more)).toThrow(refusal(named));
  });

  it("of a table, of a read model, and what is no aggregate, is refused", () => {
    expect(() => table("counts", { key: "id", index: ["n"] } as never)).toThrow(refusal("index"));
    expect(() => model({ timeoutMs: 1 })).toThrow(refusal("timeoutMs"));
    expect(() => model({ from: ["counter"] })).toThrow(refusal("no aggregate"));
    expect(() => model({ from: undefined })).toThrow(refusal("reads from no aggregate"));
  });

  it("of a call is refused, and the command does nothing", async () => {
    await using app = await open();
    await expect(app.at(Counter, "1").add(undefined, { commandID: "k" } as never)).rejects.toThrow(refusal("commandID"));
    await expect(app.at(Counter, "1").state({ atleast: "t" } as never)).rejects.toThrow(refusal("atleast"));
    await expect(app.history(Counter, "1", { form: 1 } as never)).rejects.toThrow(refusal("form"));
    expect((await app.at(Counter, "1").state()).version).toBe(0);
  });

  it("of a query, of its search and its order is refused", async () => {
    await using app = await open();
    await expect(app.query(Counts, (view) => view.find({}), { timeout: 500 } as never)).rejects.toThrow(refusal("timeout"));
    await expect(app.query(Counts, (view) => view.find({}), { onStale: "ok" } as never)).rejects.toThrow(refusal("onStale"));
    await expect(app.query(Counts, (view) => view.find({}, { order: [] } as never))).rejects.toThrow(refusal("order"));
    await expect(app.query(Counts, (view) => view.find({}, { orderBy: [{ field: "n", dir: "desc" }] } as never))).rejects.toThrow(refusal("dir"));
  });
});
