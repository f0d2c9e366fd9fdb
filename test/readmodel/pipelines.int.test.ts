import {
  bufferCount,
  bufferTime,
  catchError,
  concat,
  concatMap,
  debounceTime,
  defer,
  delay,
  EMPTY,
  filter,
  groupBy,
  ignoreElements,
  map,
  merge,
  mergeMap,
  NEVER,
  of,
  reduce,
  scan,
  share,
  switchMap,
  take,
  takeLast,
  tap,
  throttleTime,
  toArray,
  type Observable,
} from "rxjs";
import { describe, expect, it } from "vitest";
import type { Recorded } from "../../src/aggregate/recorded.ts";
import type { LateWrite } from "../../src/errors.ts";
import { byStream, ofType } from "../../src/readmodel/operators.ts";
import { readModel, table } from "../../src/readmodel/read-model.ts";
import type { Table } from "../../src/readmodel/staged-table.ts";
import { memoryStore } from "../../src/store/memory/memory-store.ts";
import type { EventStore } from "../../src/store/event-store.ts";
import { eventually, failed, history, Order, placed, reached, recording, runnerOf } from "./support.ts";

interface OrderRow {
  id: string;
  status?: string | undefined;
  n?: number | undefined;
  trail?: string | undefined;
}
type Event = Recorded<typeof Order>;
type Project = (events$: Observable<Event>, view: Table<OrderRow>) => Observable<unknown>;

const add =
  (id: string, n: number) =>
  (row: OrderRow | undefined): OrderRow => ({ ...row, id, n: (row?.n ?? 0) + n });
const trail =
  (event: Event) =>
  (row: OrderRow | undefined): OrderRow => ({ ...row, id: event.id, trail: `${row?.trail ?? ""}${event.version}` });
const soon = <T>(value: T): Promise<T> => new Promise((resolve) => setImmediate(() => resolve(value)));

/** Each gives the same view whatever the page size: what lasts stands in the view. */
const pipelines: Record<string, Project> = {
  "one upsert for each event": (events$, view) => events$.pipe(concatMap((e) => view.upsert({ id: e.id, status: e.type }))),
  "bufferTime of a minute": (events$, view) => events$.pipe(bufferTime(60_000), concatMap((batch) => Promise.all(batch.map((e) => view.update(e.id, trail(e)))))),
  "debounceTime within each stream": (events$, view) =>
    events$.pipe(groupBy((e) => e.stream), mergeMap((stream$) => stream$.pipe(debounceTime(60_000), concatMap((e) => view.upsert({ id: e.id, status: e.type, n: e.version }))))),
  "groupBy and a reduce in each group": (events$, view) =>
    events$.pipe(groupBy((e) => e.type), mergeMap((type$) => type$.pipe(reduce((n) => n + 1, 0), concatMap((n) => view.update(type$.key, add(type$.key, n)))))),
  "a filter that drops everything": (events$, view) => events$.pipe(filter(() => false), concatMap((e: Event) => view.upsert({ id: e.id }))),
  "scan, whose last value is added to the view": (events$, view) =>
    events$.pipe(ofType("Placed"), scan((sum, e) => sum + e.data.total, 0), takeLast(1), concatMap((sum) => view.update("total", add("total", sum)))),
  "asynchronous reading and writing in turn": (events$, view) =>
    events$.pipe(
      concatMap(async (e) => {
        const row = await soon(await view.get(e.id));
        await view.upsert({ id: e.id, status: e.type, n: (row?.n ?? 0) + 1 });
      }),
    ),
  "delay(0)": (events$, view) => events$.pipe(delay(0), concatMap((e) => view.update(e.id, trail(e)))),
  "throttleTime with its trailing value": (events$, view) =>
    events$.pipe(groupBy((e) => e.stream), mergeMap((stream$) => stream$.pipe(throttleTime(2, undefined, { leading: true, trailing: true }), concatMap((e) => view.upsert({ id: e.id, n: e.version }))))),
  "switchMap over writes": (events$, view) => events$.pipe(switchMap((e) => view.update(e.id, trail(e)))),
  "toArray and one upsert of many rows": (events$, view) => events$.pipe(toArray(), concatMap((all) => view.upsert(all.map((e) => ({ id: `${e.id}/${e.version}`, status: e.type }))))),
  "mergeMap over updates of one row": (events$, view) => events$.pipe(mergeMap((e) => view.update("trail", (row) => ({ id: "trail", trail: `${row?.trail ?? ""} ${e.id}.${e.version}` })))),
  "writes that nobody waits for": (events$, view) => events$.pipe(tap((e) => void view.update(e.type, add(e.type, 1)))),
  "byStream with steps that take their time": (events$, view) =>
    events$.pipe(
      byStream(async (e) => {
        await soon(undefined);
        await view.update(e.id, trail(e));
      }),
    ),
  "an error in the middle that the pipeline handles": (events$, view) =>
    events$.pipe(
      concatMap((e) =>
        defer(() => {
          if (e.type === "Shipped") throw new Error("no");
          return view.upsert({ id: e.id, status: e.type });
        }).pipe(catchError(() => view.upsert({ id: e.id, status: "handled" }))),
      ),
    ),
  "bufferCount": (events$, view) => events$.pipe(bufferCount(3), concatMap((batch) => view.update("count", add("count", batch.length)))),
  "counting what the page itself has written": (events$, view) =>
    events$.pipe(
      concatMap(async (e) => {
        if (e.type === "Cancelled") await view.delete(e.id);
        else await view.upsert({ id: e.id, status: e.type });
        const shipped = await view.find({ status: "Shipped" }, { orderBy: [{ field: "id", direction: "desc" }], limit: 2 });
        await view.upsert({ id: "summary", n: await view.count({ status: "Placed" }), trail: shipped.map((row) => row.id).join() });
      }),
    ),
  "two branches of one source": (events$, view) => {
    const shared$ = events$.pipe(share());
    return merge(
      shared$.pipe(ofType("Placed"), concatMap((e) => view.update("placed", add("placed", e.data.total)))),
      shared$.pipe(ofType("Cancelled"), concatMap(() => view.update("cancelled", add("cancelled", 1)))),
    );
  },
};

function modelOf(project: Project, pageTimeoutMs?: number) {
  return readModel("orders", {
    from: [Order],
    view: table<OrderRow>("orders", { key: "id", indexes: ["status"] }),
    project: (events$, { view }) => project(events$, view),
    ...(pageTimeoutMs !== undefined && { pageTimeoutMs }),
  });
}

async function viewAfter(store: EventStore, project: Project, pageSize: number): Promise<readonly OrderRow[]> {
  const runner = runnerOf(modelOf(project), { store, options: { pageSize } });
  await runner.start();
  await reached(runner, end);
  const rows = await runner.reader().find();
  await runner.stop();
  return rows;
}

const store = memoryStore();
const end = await history(store, 12);

describe("a pipeline of ordinary operators gives the same view for every page size", () => {
  it.each(Object.entries(pipelines))("%s", async (name, project) => {
    const all = await viewAfter(store, project, 10_000);
    for (const pageSize of [1, 2, 7]) expect(await viewAfter(store, project, pageSize), `pages of ${pageSize}`).toEqual(all);
    expect(all.length > 0).toBe(name !== "a filter that drops everything");
  });

  it("and the view is the right one", async () => {
    const rows = await viewAfter(store, pipelines["byStream with steps that take their time"] as Project, 7);
    expect(rows.map((row) => row.id)).toEqual(Array.from({ length: 12 }, (_, i) => `o${i}`).sort());
    expect(new Set(rows.map((row) => row.trail))).toEqual(new Set(["12", "123"]));
  });
});

describe("completion acknowledges the page", () => {
  it("also when the pipeline takes only its first event: the rest of the page is not asked for again", async () => {
    const rows = (pageSize: number): Promise<readonly OrderRow[]> => viewAfter(store, (events$, view) => events$.pipe(take(1), concatMap(() => view.update("n", add("n", 1)))), pageSize);
    expect(await rows(10_000)).toEqual([{ id: "n", n: 1 }]);
    expect((await rows(1))[0]?.n).toBe(end["log"]);
  });

  it("waits for a pipeline that completes after its source", async () => {
    const rows = await viewAfter(store, (events$, view) => concat(events$.pipe(ignoreElements()), of(0).pipe(delay(5), concatMap(() => view.update("pages", add("pages", 1))))), 10_000);
    expect(rows).toEqual([{ id: "pages", n: 1 }]);
  });
});

describe("a pipeline that goes wrong", () => {
  it("stalls when it never completes: PipelineStalled, and nothing of it is written", async () => {
    const own = memoryStore();
    await placed(own, "1");
    const runner = runnerOf(
      modelOf((events$, view) => merge(events$.pipe(concatMap((e) => view.upsert({ id: e.id }))), NEVER), 10),
      { store: own, options: { attempts: 2 } },
    );
    await runner.start();
    await failed(runner);
    expect(runner.error).toMatchObject({ code: "ProjectionFailed", cause: { code: "PipelineStalled" }, details: { model: "orders", stream: "order-1", version: 1, type: "Placed" } });
    expect(await runner.reader().count()).toBe(0);
    await runner.stop();
  });

  it("tells the pipeline through its signal that the page was given up", async () => {
    const own = memoryStore();
    await placed(own, "1");
    let given: AbortSignal | undefined;
    const model = readModel("orders", {
      from: [Order],
      view: table<OrderRow>("orders", { key: "id" }),
      pageTimeoutMs: 10,
      project: (_events$, { signal }) => {
        given = signal;
        return NEVER;
      },
    });
    const runner = runnerOf(model, { store: own, options: { attempts: 1 } });
    await runner.start();
    await failed(runner);
    expect(given?.aborted).toBe(true);
    await runner.stop();
  });

  it("gets a LateWrite when it writes after its page was committed, the logger hears of it, and nothing is written", async () => {
    const own = memoryStore();
    const position = await placed(own, "1");
    const { lines, environment } = recording();
    const late: Promise<unknown>[] = [];
    const runner = runnerOf(
      modelOf((events$, view) => {
        late.push(committed.then(() => view.upsert({ id: "late" })).catch((error: unknown) => error));
        return events$.pipe(concatMap((e) => view.upsert({ id: e.id })));
      }),
      { store: own, environment },
    );
    let release: () => void = () => undefined;
    const committed = new Promise<void>((resolve) => (release = resolve));
    await runner.start();
    await reached(runner, position);
    release();
    const error = (await late[0]) as LateWrite;
    expect(error).toMatchObject({ code: "LateWrite", details: { table: "orders", page: "committed" } });
    expect(lines).toContainEqual(expect.objectContaining({ level: "error", fields: { model: "orders", error } }));
    expect((await runner.reader().find()).map((row) => row.id)).toEqual(["1"]);
    await runner.stop();
  });

  it("gets a LateWrite from writes that go on after an error", async () => {
    const own = memoryStore();
    await placed(own, "1");
    const outcomes: unknown[] = [];
    const runner = runnerOf(
      modelOf((events$, view) =>
        events$.pipe(
          tap(() => setImmediate(() => void view.delete("1").catch((error: unknown) => outcomes.push(error)))),
          map(() => {
            throw new Error("at once");
          }),
        ),
      ),
      { store: own, options: { attempts: 1 } },
    );
    await runner.start();
    await failed(runner);
    await eventually(() => outcomes.length > 0);
    expect(outcomes[0]).toMatchObject({ code: "LateWrite", details: { page: "rolled back" } });
    await runner.stop();
  });

  it("fails the page when a write failed, waited for or not", async () => {
    const own = memoryStore();
    await placed(own, "1");
    for (const bad of [{ id: "1", n: Number.NaN }, { id: "" }, { id: "1", status: new Date() as unknown as string }]) {
      const runner = runnerOf(
        modelOf((events$, view) => events$.pipe(tap(() => void view.upsert(bad)))),
        { store: own, options: { attempts: 1 } },
      );
      await runner.start();
      await failed(runner);
      expect(runner.error?.code).toBe("ProjectionFailed");
      await runner.stop();
    }
  });

  it("fails when project() throws or returns no Observable", async () => {
    const own = memoryStore();
    await placed(own, "1");
    for (const project of [() => undefined as never, (): never => { throw new Error("boom"); }]) {
      const runner = runnerOf(modelOf(project), { store: own, options: { attempts: 1 } });
      await runner.start();
      await failed(runner);
      expect(runner.error?.code).toBe("ProjectionFailed");
      await runner.stop();
    }
  });

  it("is refused more rows in one page than may be staged", async () => {
    const own = memoryStore();
    await placed(own, "1");
    const runner = runnerOf(
      modelOf((events$, view) => events$.pipe(concatMap(() => view.upsert(Array.from({ length: 11 }, (_, i) => ({ id: `r${i}` })))))),
      { store: own, options: { attempts: 1, maxStagedRows: 10 } },
    );
    await runner.start();
    await failed(runner);
    expect(runner.error).toMatchObject({ code: "ProjectionFailed", cause: { code: "PageTooLarge" } });
    await runner.stop();
  });

  it("sees frozen events", async () => {
    const own = memoryStore();
    await placed(own, "1");
    const seen: Event[] = [];
    const runner = runnerOf(modelOf((events$) => events$.pipe(tap((e) => seen.push(e)), mergeMap(() => EMPTY))), { store: own });
    await runner.start();
    await reached(runner, { log: 1 });
    await runner.stop();
    expect(seen).toMatchObject([{ type: "Placed", data: { customer: "c-1", total: 1 }, category: "order", id: "1", stream: "order-1", version: 1, position: { log: 1 }, recordedAt: new Date(1_700_000_000_000) }]);
    expect(Object.isFrozen(seen[0]) && Object.isFrozen(seen[0]?.data)).toBe(true);
  });
});
