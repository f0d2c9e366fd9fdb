/**
 * The table that a pipeline writes to: the writes of one page, staged in memory over what is committed, until the page commits or is thrown away.
 *
 * T1 Reads see the page's own writes: results of the view store are merged with the staged rows and put in order again.
 * T2 Operations on one key take effect in the order in which they were called, awaited or not; so `update` never loses an update.
 * T3 A page is sealed only after every operation that began before its completion has settled; a failed write fails the page.
 * T4 After sealing or discarding, every write is a LateWrite: thrown to the writer and told to the owner.
 * T5 Rows are copied in and out; a page holds at most `maxRows` rows.
 */
import { InvalidArgument, LateWrite, PageTooLarge, UnsupportedByStore } from "../errors.ts";
import { copyJson } from "./json-copy.ts";
import type { FindOptions, Row, RowKey, TableChanges, TableDefinition, TableReader, Where } from "./view-store.ts";
import { assertKnownFields, assertRowKey, checkedOptions, comparator, matches, parseWhere } from "./where.ts";

/** What queries hold: a table without writes. */
export interface ReadTable<R> {
  get(key: RowKey): Promise<R | undefined>;
  /** At most `limit` rows (default 1000, at most 10,000), by key unless ordered otherwise. Errors: InvalidArgument, also for a field that the table's definition does not name. */
  find(where?: Where<R>, options?: FindOptions<R>): Promise<readonly R[]>;
  count(where?: Where<R>): Promise<number>;
  /** Reads committed rows in the view store's own language. Errors: UnsupportedByStore where it has none. */
  sql<T = Row>(text: string, ...parameters: readonly unknown[]): Promise<readonly T[]>;
}

/** What a pipeline holds. Writes become visible to queries with the page's commit, all of them or none. Errors of writes: LateWrite, PageTooLarge, UnserialisableData, InvalidArgument. */
export interface Table<R> extends ReadTable<R> {
  /** Puts one row or several, each by its key. */
  upsert(rows: R | readonly R[]): Promise<void>;
  /** Puts what `change` makes of the row, atomically: undefined stands for "no row", on both sides. */
  update(key: RowKey, change: (row: R | undefined) => R | undefined): Promise<R | undefined>;
  delete(key: RowKey): Promise<void>;
}

export interface StagedTableOptions {
  readonly maxRows: number;
  readonly onLateWrite: (error: LateWrite) => void;
}

const DONE: Promise<void> = Promise.resolve();
const ignore = (): void => undefined;

export class StagedTable implements Table<Row> {
  readonly #reader: TableReader;
  readonly #definition: TableDefinition;
  readonly #options: StagedTableOptions;
  readonly #staged = new Map<RowKey, Row | null>();
  /** Committed rows that this page has read. */
  readonly #base = new Map<RowKey, Row | undefined>();
  /** T2: the last unsettled operation of a key. */
  readonly #pending = new Map<RowKey, Promise<unknown>>();
  #closed: "committed" | "rolled back" | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(reader: TableReader, definition: TableDefinition, options: StagedTableOptions) {
    this.#reader = reader;
    this.#definition = definition;
    this.#options = options;
  }

  async get(key: RowKey): Promise<Row | undefined> {
    assertRowKey(key);
    await this.#settled(key);
    const row = this.#known(key) ? this.#current(key) : await this.#load(key);
    return row && copyJson(row);
  }

  async find(where: Where<Row> = {}, options: FindOptions<Row> = {}): Promise<readonly Row[]> {
    const tests = parseWhere(where);
    const checked = checkedOptions(options);
    assertKnownFields(this.#definition, where, checked);
    await this.#allSettled();
    if (this.#staged.size === 0) return this.#reader.find(where, checked);
    const keyField = this.#definition.key;
    const staged = new Map(this.#staged);
    const wanted = checked.offset + checked.limit;
    const base = await this.#reader.find(where, { ...checked, offset: 0, limit: wanted + staged.size });
    const rows = base.filter((row) => !staged.has(row[keyField] as RowKey));
    for (const row of staged.values()) if (row !== null && matches(row, tests)) rows.push(row);
    rows.sort(comparator(checked, keyField));
    return rows.slice(checked.offset, wanted).map((row) => copyJson(row));
  }

  async count(where: Where<Row> = {}): Promise<number> {
    const tests = parseWhere(where);
    assertKnownFields(this.#definition, where);
    await this.#allSettled();
    const staged = [...this.#staged];
    let count = await this.#reader.count(where);
    for (const [key, row] of staged) {
      const committed = this.#base.has(key) ? this.#base.get(key) : await this.#load(key);
      if (committed !== undefined && matches(committed, tests)) count--;
      if (row !== null && matches(row, tests)) count++;
    }
    return count;
  }

  sql<T = Row>(text: string, ...parameters: readonly unknown[]): Promise<readonly T[]> {
    return runSql<T>(this.#reader, text, parameters);
  }

  upsert(rows: Row | readonly Row[]): Promise<void> {
    return this.#write(() => {
      if (!isList(rows)) return this.#put(rows);
      const waits = rows.map((row) => this.#put(row)).filter((wait) => wait !== DONE);
      return waits.length === 0 ? DONE : Promise.all(waits).then(ignore);
    });
  }

  update(key: RowKey, change: (row: Row | undefined) => Row | undefined): Promise<Row | undefined> {
    return this.#write(() => {
      assertRowKey(key);
      const apply = (): Row | undefined => {
        const before = this.#current(key);
        const after = change(before && copyJson(before));
        if (after !== undefined && (after as Row | null)?.[this.#definition.key] !== key) {
          throw new InvalidArgument(`update(${JSON.stringify(key)}) returned a row with another key`, { details: { table: this.#definition.name } });
        }
        const row = after === undefined ? null : copyJson(after, this.#definition.name);
        this.#stage(key, row);
        return after;
      };
      if (!this.#pending.has(key) && this.#known(key)) return Promise.resolve(apply());
      return this.#queue(key, async () => {
        if (!this.#known(key)) this.#base.set(key, await this.#reader.get(key));
        return apply();
      });
    });
  }

  delete(key: RowKey): Promise<void> {
    return this.#write(() => {
      assertRowKey(key);
      if (this.#pending.has(key)) return this.#queue(key, () => this.#stage(key, null));
      this.#stage(key, null);
      return DONE;
    });
  }

  /** Whether an operation has not settled yet. */
  get busy(): boolean {
    return this.#pending.size > 0;
  }

  /** T3. Rejects with the first failure of a write. */
  async settle(): Promise<void> {
    if (this.#pending.size > 0) await this.#allSettled();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Ends the page; what it returns is its net effect. */
  seal(): TableChanges {
    this.#closed = "committed";
    return this.#staged;
  }

  discard(): void {
    this.#closed ??= "rolled back";
  }

  #put(given: Row): Promise<void> {
    const row = copyJson(given, this.#definition.name);
    const key = row?.[this.#definition.key];
    assertRowKey(key);
    if (this.#pending.has(key)) return this.#queue(key, () => this.#stage(key, row));
    this.#stage(key, row);
    return DONE;
  }

  #stage(key: RowKey, row: Row | null): void {
    if (this.#closed !== undefined) throw this.#late();
    this.#staged.set(key, row);
    if (this.#staged.size > this.#options.maxRows) {
      throw new PageTooLarge(`a page of ${this.#definition.name} changes more than ${this.#options.maxRows} rows: make the pages smaller (pageSize)`, {
        details: { table: this.#definition.name, maxRows: this.#options.maxRows },
      });
    }
  }

  /** T2: runs after what was called before it on this key. */
  #queue<T>(key: RowKey, operation: () => T | Promise<T>): Promise<T> {
    const before = this.#pending.get(key);
    const run = before === undefined ? Promise.resolve().then(operation) : before.then(operation, operation);
    const settled = run.then(ignore, (error: unknown) => {
      this.#failure ??= { error };
    });
    const entry = settled.then(() => {
      if (this.#pending.get(key) === entry) this.#pending.delete(key);
    });
    this.#pending.set(key, entry);
    return run;
  }

  /** T3, T4: every failure of a write is remembered, and never an unhandled rejection. */
  #write<T>(operation: () => Promise<T>): Promise<T> {
    try {
      if (this.#closed !== undefined) throw this.#late();
      const result = operation();
      if ((result as Promise<unknown>) !== DONE) result.catch(ignore);
      return result;
    } catch (error) {
      this.#failure ??= { error };
      const failed = Promise.reject<T>(error as Error);
      failed.catch(ignore);
      return failed;
    }
  }

  #late(): LateWrite {
    const error = new LateWrite(
      `table ${this.#definition.name} was written to after its page had been ${this.#closed}: let what project() returns complete only after its writes`,
      { details: { table: this.#definition.name, page: this.#closed } },
    );
    this.#options.onLateWrite(error);
    return error;
  }

  #known(key: RowKey): boolean {
    return this.#staged.has(key) || this.#base.has(key);
  }

  #current(key: RowKey): Row | undefined {
    const staged = this.#staged.get(key);
    return staged === undefined ? this.#base.get(key) : (staged ?? undefined);
  }

  async #load(key: RowKey): Promise<Row | undefined> {
    const row = await this.#reader.get(key);
    if (this.#base.size < this.#options.maxRows) this.#base.set(key, row);
    return row;
  }

  async #settled(key: RowKey): Promise<void> {
    const pending = this.#pending.get(key);
    if (pending !== undefined) await pending;
  }

  async #allSettled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending.values());
  }
}

/** The handle of queries over what is committed. */
export function readTable<R>(reader: TableReader, definition: TableDefinition): ReadTable<R> {
  const table: ReadTable<Row> = {
    async get(key) {
      assertRowKey(key);
      return reader.get(key);
    },
    async find(where = {}, options = {}) {
      parseWhere(where);
      const checked = checkedOptions(options);
      assertKnownFields(definition, where, checked);
      return reader.find(where, checked);
    },
    async count(where = {}) {
      parseWhere(where);
      assertKnownFields(definition, where);
      return reader.count(where);
    },
    sql: (text, ...parameters) => runSql(reader, text, parameters),
  };
  return table as unknown as ReadTable<R>;
}

async function runSql<T>(reader: TableReader, text: string, parameters: readonly unknown[]): Promise<readonly T[]> {
  if (reader.sql === undefined) throw new UnsupportedByStore("this view store has no SQL: use get, find and count", { details: { capability: "sql" } });
  return (await reader.sql(text, ...parameters)) as readonly T[];
}

function isList(rows: Row | readonly Row[]): rows is readonly Row[] {
  return Array.isArray(rows);
}
