/**
 * Views and checkpoints in memory. Several instances over one `memoryViewData()` are what several processes are over one database.
 * Every commit is one synchronous step, so V1 to V3 of the port hold by construction; rows are copied in and out (V4).
 */
import { ReadModelStopped, StoreClosed } from "../../errors.ts";
import { copyJson } from "../../readmodel/json-copy.ts";
import type { BuildKey, FindOptions, OpenView, Row, RowKey, SavedCheckpoint, TableDefinition, TableReader, ViewStore, Where } from "../../readmodel/view-store.ts";
import { fieldOf, comparator, DEFAULT_LIMIT, matches, parseWhere, scalarOf, type FieldTest, type Scalar } from "../../readmodel/where.ts";
import { START } from "../position.ts";

type Index = Map<Scalar, Set<RowKey>>;

class Build {
  readonly key: BuildKey;
  readonly rows = new Map<RowKey, Row>();
  readonly listeners = new Set<() => void>();
  indexes = new Map<string, Index>();
  table: TableDefinition;
  checkpoint: SavedCheckpoint = { position: START, store: "", events: 0, revision: 0 };
  active = false;
  dropped = false;

  constructor(key: BuildKey, table: TableDefinition) {
    this.key = { model: key.model, version: key.version, build: key.build };
    this.table = table;
    this.reindex(table);
  }

  reindex(table: TableDefinition): void {
    this.table = table;
    this.indexes = new Map(table.indexes.map((field) => [field, new Map()]));
    for (const [key, row] of this.rows) this.#index(key, row);
  }

  put(key: RowKey, row: Row | null): void {
    const before = this.rows.get(key);
    if (before !== undefined) {
      for (const [field, index] of this.indexes) {
        const value = scalarOf(before[field]);
        const keys = index.get(value);
        keys?.delete(key);
        if (keys?.size === 0) index.delete(value);
      }
    }
    if (row === null) this.rows.delete(key);
    else {
      this.rows.set(key, row);
      this.#index(key, row);
    }
  }

  /** Rows that can meet the tests: by key or by an index where one fits, otherwise all. */
  *candidates(tests: readonly FieldTest[]): Iterable<Row> {
    const exact = tests.find((test) => test.kind === "in" && (test.field === this.table.key || this.indexes.has(test.field)));
    if (exact?.kind !== "in") return yield* this.rows.values();
    const index = this.indexes.get(exact.field);
    for (const value of new Set(exact.values)) {
      for (const key of index === undefined ? (value === null ? [] : [value]) : (index.get(value) ?? [])) {
        const row = this.rows.get(key);
        if (row !== undefined) yield row;
      }
    }
  }

  notify(): void {
    for (const listener of Array.from(this.listeners)) listener();
  }

  #index(key: RowKey, row: Row): void {
    for (const [field, index] of this.indexes) {
      const value = scalarOf(fieldOf(row, field));
      const keys = index.get(value);
      if (keys === undefined) index.set(value, new Set([key]));
      else keys.add(key);
    }
  }
}

/** What several `memoryViews` share. */
export interface MemoryViewData {
  readonly builds: Map<string, Build>;
}

export function memoryViewData(): MemoryViewData {
  return { builds: new Map() };
}

const nameOf = (key: BuildKey): string => `${key.model}\0${key.version}\0${key.build}`;

/** A view store that lives as long as its data. */
export function memoryViews(options: { readonly data?: MemoryViewData } = {}): ViewStore {
  const { builds } = options.data ?? memoryViewData();
  const unwatch = new Set<() => void>();
  let closed = false;

  const assertOpen = (): void => {
    if (closed) throw new StoreClosed("the view store is closed");
  };
  const assertUsable = (build: Build): void => {
    assertOpen();
    if (build.dropped) throw new ReadModelStopped(`build ${build.key.build} of version ${build.key.version} of read model ${build.key.model} was dropped`, { details: { ...build.key } });
  };

  function select(build: Build, where: Where<Row>): Row[] {
    const tests = parseWhere(where);
    const rows: Row[] = [];
    for (const row of build.candidates(tests)) if (matches(row, tests)) rows.push(row);
    return rows;
  }

  function readerOf(build: Build): TableReader {
    return {
      async get(key) {
        assertUsable(build);
        const row = build.rows.get(key);
        return row && copyJson(row);
      },
      async find(where, options: FindOptions<Row>) {
        assertUsable(build);
        const { offset = 0, limit = DEFAULT_LIMIT } = options;
        const rows = select(build, where).sort(comparator(options, build.table.key));
        return rows.slice(offset, offset + limit).map((row) => copyJson(row));
      },
      async count(where) {
        assertUsable(build);
        return select(build, where).length;
      },
    };
  }

  function viewOf(build: Build): OpenView {
    return {
      reader: readerOf(build),
      async checkpoint() {
        assertUsable(build);
        return build.checkpoint;
      },
      async commit(changes, next, onRevision) {
        assertOpen();
        if (build.dropped || build.checkpoint.revision !== onRevision) return "lost";
        const copies: [RowKey, Row | null][] = [];
        for (const [key, row] of changes) copies.push([key, row === null ? null : copyJson(row, build.table.name)]);
        for (const [key, row] of copies) build.put(key, row);
        const position = Object.freeze({ ...next.position });
        build.checkpoint = Object.freeze({ ...next, position, ...(next.last && { last: Object.freeze({ ...next.last }) }), revision: onRevision + 1 });
        build.notify();
        return "committed";
      },
      watch(listener) {
        build.listeners.add(listener);
        const stop = (): void => {
          build.listeners.delete(listener);
          unwatch.delete(stop);
        };
        unwatch.add(stop);
        return stop;
      },
    };
  }

  return {
    async builds(model) {
      assertOpen();
      return [...builds.values()].filter((build) => build.key.model === model).map((build) => ({ ...build.key, active: build.active }));
    },
    async open(key, table: TableDefinition, { asItStands = false } = {}) {
      assertOpen();
      let build = builds.get(nameOf(key));
      if (build === undefined) builds.set(nameOf(key), (build = new Build(key, table)));
      else if (!asItStands && JSON.stringify(build.table.indexes) !== JSON.stringify(table.indexes)) build.reindex(table);
      return viewOf(build);
    },
    async activate(key) {
      assertOpen();
      const chosen = builds.get(nameOf(key));
      if (chosen === undefined) throw new ReadModelStopped(`read model ${key.model} has no build ${key.build} of version ${key.version}`, { details: { ...key } });
      for (const build of builds.values()) {
        if (build.key.model !== key.model) continue;
        build.active = build === chosen;
        build.notify();
      }
    },
    async drop(key) {
      assertOpen();
      const build = builds.get(nameOf(key));
      if (build === undefined) return;
      builds.delete(nameOf(key));
      build.dropped = true;
      build.rows.clear();
      build.indexes.clear();
      build.notify();
    },
    async close() {
      closed = true;
      for (const stop of Array.from(unwatch)) stop();
    },
  };
}
