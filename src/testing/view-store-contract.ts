/**
 * What every view store must do, as cases that run without a test framework. `viewStoreContract` hands them to one.
 *
 * Longer than most files: it is the list of cases of one port, each a few lines, and a reader looks for all of them in one place.
 */
import assert from "node:assert/strict";
import { isTidemarkError } from "../errors.ts";
import { readTable, StagedTable } from "../readmodel/staged-table.ts";
import type { Checkpoint, FindOptions, OpenView, Row, RowKey, TableChanges, TableDefinition, ViewStore, Where } from "../readmodel/view-store.ts";
import { comparator, matches, parseWhere } from "../readmodel/where.ts";

export interface OpenedViews {
  readonly views: ViewStore;
  /** A second instance on the same data, as another process would have it. */
  readonly another: () => Promise<ViewStore>;
  /** Closes and opens again; absent where views do not outlive their process. */
  readonly reopen?: () => Promise<ViewStore>;
  readonly dispose: () => Promise<void>;
}

export interface ViewStoreHarness {
  readonly name: string;
  open(): Promise<OpenedViews>;
}

export interface ViewStoreCase {
  readonly name: string;
  run(harness: ViewStoreHarness): Promise<void>;
}

/** The part of a test framework that a contract needs. */
export interface ContractFramework {
  readonly describe: (name: string, body: () => void) => void;
  readonly it: (name: string, body: () => Promise<void>) => void;
}

/** Registers every case with `describe` and `it`. */
export function viewStoreContract(harness: ViewStoreHarness, framework: ContractFramework): void {
  framework.describe(`the contract of view stores, held by ${harness.name}`, () => {
    for (const contractCase of viewStoreCases) framework.it(contractCase.name, () => contractCase.run(harness));
  });
}

const TABLE: TableDefinition = { kind: "table", name: "orders", key: "id", indexes: ["status", "total"], columns: ["placed"] };
const KEY = { model: "order-list", version: 1, build: 1 };
const STORE = "0123456789abcdef";

function checkpoint(offset: number, more: Partial<Checkpoint> = {}): Checkpoint {
  return { position: { log: offset }, store: STORE, events: offset, ...more };
}

function changes(...rows: readonly (Row | RowKey)[]): TableChanges {
  return new Map(rows.map((row) => (typeof row === "object" ? [row["id"] as RowKey, row] : [row, null])));
}

function withViews(name: string, body: (views: ViewStore, opened: OpenedViews) => Promise<void>): ViewStoreCase {
  return {
    name,
    async run(harness) {
      const opened = await harness.open();
      try {
        await body(opened.views, opened);
      } finally {
        await opened.dispose();
      }
    },
  };
}

/** Resolves when the condition holds; looked at every few milliseconds, for at most `withinMs`. */
async function until(condition: () => boolean | Promise<boolean>, what: string, withinMs = 2000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(`${what} did not happen within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Small, seeded, good enough to draw rows and queries. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const TEXTS = ["", "a", "A", "ab", "b", "é", "é", "ß", "10", "9", "O'Brien", "50%", "_", "\u{1F600}", "\uFB01", "\uFFFD", "日本", 'say "hi"', "line\nbreak"];
const NUMBERS = [0, 1, -1, 2, 2.5, -0.25, 10, 9, 1e15, 1e-7, 1e21, -1e21, 123456789.125];

async function compareWithReference(view: OpenView, rows: readonly Row[], draw: () => number): Promise<void> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T;
  const drawValue = (): unknown => pick<() => unknown>([() => null, () => draw() < 0.5, () => pick(NUMBERS), () => pick(TEXTS)])();
  const fields = ["id", "status", "total", "placed", "mixed", "absent"];
  const drawWhere = (): Where<Row> => {
    const where: Record<string, unknown> = {};
    for (let i = Math.floor(draw() * 3); i > 0; i--) {
      const field = pick(fields);
      const kind = draw();
      const bound = draw() < 0.5 ? pick(NUMBERS) : pick(TEXTS);
      if (kind < 0.4) where[field] = draw() < 0.5 ? (pick(rows)[field] ?? null) : drawValue();
      else if (kind < 0.6) where[field] = { in: Array.from({ length: Math.floor(draw() * 4) }, drawValue) };
      else if (kind < 0.8) where[field] = { [pick(["gt", "gte", "lt", "lte"])]: bound };
      else where[field] = { gte: bound, lt: typeof bound === "number" ? pick(NUMBERS) : pick(TEXTS) };
    }
    return where;
  };
  for (let round = 0; round < 300; round++) {
    const where = drawWhere();
    const orderBy = Array.from({ length: Math.floor(draw() * 3) }, () => ({ field: pick(fields), direction: pick(["asc", "desc"] as const) }));
    const options: FindOptions<Row> = { orderBy, offset: pick([0, 0, 1, 5]), limit: pick([1, 3, 10, 1000]) };
    const tests = parseWhere(where);
    const all = rows.filter((row) => matches(row, tests)).sort(comparator(options, "id"));
    const { offset = 0, limit = 1000 } = options;
    const said = JSON.stringify({ where, options });
    assert.deepEqual(await view.reader.find(where, options), all.slice(offset, offset + limit), `find ${said}`);
    assert.equal(await view.reader.count(where), all.length, `count ${said}`);
  }
}

export const viewStoreCases: readonly ViewStoreCase[] = [
  withViews("a new build is empty, at the start of the log, and not active", async (views) => {
    assert.deepEqual(await views.builds(KEY.model), []);
    const view = await views.open(KEY, TABLE);
    const saved = await view.checkpoint();
    assert.equal(saved.revision, 0);
    assert.equal(saved.events, 0);
    assert.deepEqual(saved.position, {});
    assert.deepEqual(await view.reader.find({}, {}), []);
    assert.equal(await view.reader.count({}), 0);
    assert.deepEqual(await views.builds(KEY.model), [{ ...KEY, active: false }]);
  }),

  withViews("rows and checkpoint of a commit are visible together, and through another instance", async (views, { another }) => {
    const view = await views.open(KEY, TABLE);
    const next = checkpoint(7, { last: { stream: "order-1", version: 2, eventId: "e-7" }, recordedAt: 1_700_000_000_123 });
    assert.equal(await view.commit(changes({ id: "1", status: "placed", total: 12.5 }), next, 0), "committed");
    for (const store of [views, await another()]) {
      const seen = await store.open(KEY, TABLE);
      assert.deepEqual(await seen.checkpoint(), { ...next, revision: 1 });
      assert.deepEqual(await seen.reader.get("1"), { id: "1", status: "placed", total: 12.5 });
      assert.equal(await seen.reader.get("2"), undefined);
    }
  }),

  withViews("a checkpoint without rows moves the position and keeps the rows", async (views) => {
    const view = await views.open(KEY, TABLE);
    await view.commit(changes({ id: "1" }), checkpoint(1, { recordedAt: 5 }), 0);
    assert.equal(await view.commit(new Map(), { position: { log: 9, other: 4 }, store: STORE, events: 1 }, 1), "committed");
    const saved = await view.checkpoint();
    assert.deepEqual(saved.position, { log: 9, other: 4 });
    assert.equal(saved.revision, 2);
    assert.equal(saved.recordedAt, undefined);
    assert.equal(saved.last, undefined);
    assert.equal(await view.reader.count({}), 1);
  }),

  withViews("a commit replaces whole rows, deletes rows, and takes the deletion of a row that is not there", async (views) => {
    const view = await views.open(KEY, TABLE);
    await view.commit(changes({ id: "1", status: "placed", note: "x" }, { id: "2", status: "placed" }, { id: "3", status: "placed" }), checkpoint(1), 0);
    await view.commit(changes({ id: "1", status: "shipped" }, "2", "nobody"), checkpoint(2), 1);
    assert.deepEqual(await view.reader.find({}, {}), [
      { id: "1", status: "shipped" },
      { id: "3", status: "placed" },
    ]);
    assert.equal(await view.reader.count({ status: "placed" }), 1);
  }),

  withViews("a commit on a revision that is not the last is lost and writes nothing", async (views, { another }) => {
    const first = await views.open(KEY, TABLE);
    const second = await (await another()).open(KEY, TABLE);
    assert.equal(await first.commit(changes({ id: "1", by: "first" }), checkpoint(1), 0), "committed");
    assert.equal(await second.commit(changes({ id: "1", by: "second" }, { id: "2" }), checkpoint(5), 0), "lost");
    assert.equal(await second.commit(changes({ id: "2" }), checkpoint(5), 7), "lost");
    assert.deepEqual(await second.reader.find({}, {}), [{ id: "1", by: "first" }]);
    assert.deepEqual((await first.checkpoint()).position, { log: 1 });
    assert.equal(await second.commit(changes({ id: "2" }), checkpoint(2), 1), "committed");
    assert.equal(await first.reader.count({}), 2);
  }),

  withViews("of commits that race on one revision exactly one wins", async (views, { another }) => {
    const instances = [await views.open(KEY, TABLE), await (await another()).open(KEY, TABLE), await (await another()).open(KEY, TABLE)];
    for (let revision = 0; revision < 20; revision++) {
      const outcomes = await Promise.all(instances.map((view, who) => view.commit(changes({ id: "counter", revision, who }), checkpoint(revision), revision)));
      assert.equal(outcomes.filter((outcome) => outcome === "committed").length, 1);
      const row = await instances[0]?.reader.get("counter");
      assert.deepEqual(row, { id: "counter", revision, who: outcomes.indexOf("committed") });
    }
  }),

  withViews("a commit that cannot be written changes neither rows nor checkpoint", async (views) => {
    const view = await views.open(KEY, TABLE);
    await view.commit(changes({ id: "1", status: "placed" }), checkpoint(1), 0);
    const circular: Record<string, unknown> = { id: "2" };
    circular["self"] = circular;
    await assert.rejects(async () => view.commit(changes({ id: "1", status: "shipped" }, circular), checkpoint(2), 1));
    assert.deepEqual(await view.reader.find({}, {}), [{ id: "1", status: "placed" }]);
    assert.deepEqual((await view.checkpoint()).position, { log: 1 });
    assert.equal(await view.commit(changes({ id: "1", status: "shipped" }), checkpoint(2), 1), "committed");
  }),

  withViews("nothing is shared with the giver or the reader of a row", async (views) => {
    const view = await views.open(KEY, TABLE);
    const given = { id: "1", lines: [{ sku: "a" }], deep: { n: 1 } };
    await view.commit(changes(given), checkpoint(1), 0);
    given.lines.push({ sku: "b" });
    given.deep.n = 2;
    const read = (await view.reader.get("1")) as typeof given;
    assert.deepEqual(read, { id: "1", lines: [{ sku: "a" }], deep: { n: 1 } });
    read.deep.n = 3;
    const found = (await view.reader.find({}, {}))[0] as typeof given;
    assert.equal(found.deep.n, 1);
    found.lines.pop();
    assert.deepEqual(await view.reader.get("1"), { id: "1", lines: [{ sku: "a" }], deep: { n: 1 } });
  }),

  withViews("find and count answer as where.ts says, for drawn rows and drawn questions", async (views) => {
    for (const seed of [1, 2, 3]) {
      const draw = randomFrom(seed);
      const pick = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T;
      const view = await views.open({ ...KEY, model: `drawn-${seed}` }, TABLE);
      const rows: Row[] = Array.from({ length: 60 }, (_, index) => {
        const row: Record<string, unknown> = { id: index % 3 === 0 ? index - 20 : `${pick(TEXTS)}${index}` };
        if (draw() < 0.9) row["status"] = pick(TEXTS);
        if (draw() < 0.9) row["total"] = pick(NUMBERS);
        if (draw() < 0.9) row["placed"] = pick([true, false, null]);
        if (draw() < 0.9) row["mixed"] = pick<unknown>([null, pick(NUMBERS), pick(TEXTS), draw() < 0.5]);
        return row;
      });
      await view.commit(new Map(rows.map((row) => [row["id"] as RowKey, row])), checkpoint(1), 0);
      await compareWithReference(view, rows, draw);
    }
  }),

  withViews("a field that the definition does not name is refused with those that it names, by queries and by pages", async (views) => {
    const view = await views.open(KEY, TABLE);
    await view.commit(changes({ id: "1", status: "placed", total: 1 }), checkpoint(1), 0);
    const page = new StagedTable(view.reader, TABLE, { maxRows: 10, onLateWrite: () => undefined });
    for (const table of [readTable<Row>(view.reader, TABLE), page]) {
      for (const ask of [() => table.find({ statuss: "placed" }), () => table.count({ statuss: "placed" }), () => table.find({}, { orderBy: [{ field: "statuss" }] })]) {
        await assert.rejects(ask, (error: unknown) => isTidemarkError(error, "InvalidArgument") && /statuss.*id, status, total, placed/.test(error.message));
      }
      assert.equal(await table.count({ id: "1", status: "placed", total: 1, placed: null }), 1);
    }
    page.discard();
  }),

  withViews("numbers and text are different keys", async (views) => {
    const view = await views.open(KEY, TABLE);
    await view.commit(changes({ id: 1, kind: "number" }, { id: "1", kind: "text" }, { id: 1.5, kind: "fraction" }), checkpoint(1), 0);
    assert.equal((await view.reader.get(1))?.["kind"], "number");
    assert.equal((await view.reader.get("1"))?.["kind"], "text");
    assert.equal((await view.reader.get(1.5))?.["kind"], "fraction");
    await view.commit(changes(1), checkpoint(2), 1);
    assert.equal(await view.reader.get(1), undefined);
    assert.equal((await view.reader.get("1"))?.["kind"], "text");
  }),

  withViews("odd keys and texts come back as they went in", async (views) => {
    const view = await views.open(KEY, TABLE);
    const keys = ["'; DROP TABLE orders; --", 'a"b', "日本\u{1F600}", "%_\\", " "];
    await view.commit(changes(...keys.map((id) => ({ id, status: id, text: `${id}\u0001\n` }))), checkpoint(1), 0);
    for (const id of keys) {
      assert.deepEqual(await view.reader.get(id), { id, status: id, text: `${id}\u0001\n` });
      assert.deepEqual(await view.reader.find({ status: id }, {}), [{ id, status: id, text: `${id}\u0001\n` }]);
    }
    assert.equal(await view.reader.count({}), keys.length);
  }),

  withViews("builds of one model keep apart, and models do too", async (views) => {
    const first = await views.open(KEY, TABLE);
    const rebuilt = await views.open({ ...KEY, build: 2 }, TABLE);
    const newer = await views.open({ ...KEY, version: 2 }, TABLE);
    const other = await views.open({ ...KEY, model: "other" }, TABLE);
    await first.commit(changes({ id: "1", of: "first" }), checkpoint(1), 0);
    await rebuilt.commit(changes({ id: "1", of: "rebuilt" }), checkpoint(2), 0);
    await newer.commit(changes({ id: "1", of: "newer" }), checkpoint(3), 0);
    assert.equal((await first.reader.get("1"))?.["of"], "first");
    assert.equal((await rebuilt.reader.get("1"))?.["of"], "rebuilt");
    assert.equal((await newer.reader.get("1"))?.["of"], "newer");
    assert.equal(await other.reader.count({}), 0);
    assert.equal((await other.checkpoint()).revision, 0);
    assert.equal((await views.builds(KEY.model)).length, 3);
  }),

  withViews("a build of another version is opened as it stands: its rows are read, and nothing of it is changed", async (views) => {
    const old = await views.open(KEY, TABLE);
    await old.commit(changes({ id: "1", status: "placed", city: "Bern" }), checkpoint(1), 0);
    const newer = await views.open(KEY, { ...TABLE, indexes: ["city"], columns: [] }, { asItStands: true });
    assert.deepEqual(await newer.reader.find({ city: "Bern" }, {}), [{ id: "1", status: "placed", city: "Bern" }]);
    assert.equal((await newer.checkpoint()).revision, 1);
    assert.equal(await old.commit(changes({ id: "2", status: "shipped", city: "Rome" }), checkpoint(2), 1), "committed");
    assert.deepEqual(await old.reader.find({ status: "shipped" }, {}), [{ id: "2", status: "shipped", city: "Rome" }]);
  }),

  withViews("activation makes one build the active one, for every instance", async (views, { another }) => {
    const second = { ...KEY, build: 2 };
    await views.open(KEY, TABLE);
    await views.open(second, TABLE);
    const activeBuilds = async (store: ViewStore): Promise<number[]> => (await store.builds(KEY.model)).filter((build) => build.active).map((build) => build.build);
    await views.activate(KEY);
    assert.deepEqual(await activeBuilds(views), [1]);
    await views.activate(second);
    assert.deepEqual(await activeBuilds(views), [2]);
    assert.deepEqual(await activeBuilds(await another()), [2]);
    await assert.rejects(views.activate({ ...KEY, build: 9 }));
    assert.deepEqual(await activeBuilds(views), [2]);
  }),

  withViews("a dropped build is gone with its rows and its checkpoint; dropping again is no error", async (views, { another }) => {
    const view = await views.open(KEY, TABLE);
    const elsewhere = await (await another()).open(KEY, TABLE);
    await view.commit(changes({ id: "1" }), checkpoint(1), 0);
    await views.drop(KEY);
    await views.drop(KEY);
    assert.deepEqual(await views.builds(KEY.model), []);
    for (const gone of [view, elsewhere]) {
      assert.equal(await gone.commit(changes({ id: "2" }), checkpoint(2), 1), "lost");
      await assert.rejects(gone.reader.find({}, {}), { code: "ReadModelStopped" });
      await assert.rejects(gone.reader.get("1"), { code: "ReadModelStopped" });
      await assert.rejects(gone.checkpoint(), { code: "ReadModelStopped" });
    }
    const again = await views.open(KEY, TABLE);
    assert.equal((await again.checkpoint()).revision, 0);
    assert.equal(await again.reader.count({}), 0);
  }),

  withViews("a build opened again keeps its rows, and takes new indexes", async (views) => {
    const view = await views.open(KEY, TABLE);
    await view.commit(changes({ id: "1", status: "placed", city: "Bern" }, { id: "2", status: "shipped", city: "Rom" }), checkpoint(1), 0);
    const again = await views.open(KEY, { ...TABLE, indexes: ["city", "total"], columns: [] });
    assert.deepEqual(await again.reader.find({ city: "Rom" }, {}), [{ id: "2", status: "shipped", city: "Rom" }]);
    assert.deepEqual(await again.reader.find({ status: "placed" }, {}), [{ id: "1", status: "placed", city: "Bern" }]);
    assert.equal(await again.commit(changes({ id: "3", city: "Rom" }), checkpoint(2), 1), "committed");
    assert.equal(await again.reader.count({ city: "Rom" }), 2);
  }),

  withViews("watchers hear of commits of their own and of another instance, until they end", async (views, { another }) => {
    const view = await views.open(KEY, TABLE);
    const elsewhere = await (await another()).open(KEY, TABLE);
    let calls = 0;
    const end = view.watch(() => calls++);
    let kept = 0;
    view.watch(() => kept++);
    await view.commit(changes({ id: "1" }), checkpoint(1), 0);
    await until(() => calls > 0, "the call for an own commit");
    calls = 0;
    await elsewhere.commit(changes({ id: "2" }), checkpoint(2), 1);
    await until(() => calls > 0, "the call for another instance's commit", 1000);
    end();
    end();
    calls = 0;
    kept = 0;
    await view.commit(changes({ id: "3" }), checkpoint(3), 2);
    await until(() => kept > 0, "the call of the watcher that stayed");
    assert.equal(calls, 0);
  }),

  withViews("readers never see a part of a commit", async (views, { another }) => {
    const writer = await views.open(KEY, TABLE);
    const reader = (await (await another()).open(KEY, TABLE)).reader;
    await writer.commit(changes({ id: "a", status: "open", n: 0 }, { id: "b", status: "open", n: 0 }), checkpoint(1), 0);
    let done = false;
    const writing = (async () => {
      for (let n = 1; n <= 100; n++) await writer.commit(changes({ id: "a", status: "open", n }, { id: "b", status: "open", n }), checkpoint(n + 1), n);
      done = true;
    })();
    let reads = 0;
    while (!done || reads === 0) {
      const rows = await reader.find({ status: "open" }, {});
      assert.equal(rows.length, 2);
      assert.equal(rows[0]?.["n"], rows[1]?.["n"]);
      reads++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await writing;
  }),

  withViews("what was committed is there after closing and opening again", async (views, { reopen }) => {
    const view = await views.open(KEY, TABLE);
    await views.activate(KEY);
    await view.commit(changes({ id: "1", status: "placed" }), checkpoint(3), 0);
    if (reopen === undefined) return;
    const again = await reopen();
    assert.deepEqual(await again.builds(KEY.model), [{ ...KEY, active: true }]);
    const reopened = await again.open(KEY, TABLE);
    assert.deepEqual(await reopened.checkpoint(), { ...checkpoint(3), revision: 1 });
    assert.deepEqual(await reopened.reader.find({ status: "placed" }, {}), [{ id: "1", status: "placed" }]);
  }),

  withViews("a closed store says so, and closes twice", async (views) => {
    const view = await views.open(KEY, TABLE);
    await views.close();
    await views.close();
    await assert.rejects(async () => views.open(KEY, TABLE), { code: "StoreClosed" });
    await assert.rejects(async () => view.commit(changes({ id: "1" }), checkpoint(1), 0), { code: "StoreClosed" });
    await assert.rejects(async () => view.reader.get("1"), { code: "StoreClosed" });
  }),
];
