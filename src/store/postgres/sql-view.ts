/** A view in SQL of one's own: what `readModel` takes in place of a `table`, where views live in PostgreSQL. */
import type { Pool, PoolClient, QueryConfig, QueryResult } from "pg";
import { InvalidArgument } from "../../errors.ts";
import type { View } from "../../readmodel/view-store.ts";
import type { SqlTransaction } from "./sql-transaction.ts";

/** One connection, in a transaction whose beginning and end are Tidemark's; the same twice, for builders that want a client and for those that want a pool. */
export interface SqlConnection {
  readonly client: PoolClient;
  readonly pool: Pool;
}

export interface SqlViewOptions<T> {
  /** Statements that make the tables of a build, in a schema of its own, which comes first in the search path: names stand unqualified here and in all statements. */
  readonly create: string;
  /** What pipelines and queries hold: the client itself, or a query builder on it. */
  readonly open: (connection: SqlConnection) => T;
}

/** Tables of one's own, written by the pipeline in the transaction that moves the checkpoint. Errors: InvalidArgument. */
export function sqlView<T>({ create, open }: SqlViewOptions<T>): View<T> {
  if (typeof create !== "string" || create.trim() === "") throw new InvalidArgument("create of a sqlView holds the statements that make its tables", { details: { option: "create" } });
  if (typeof open !== "function") throw new InvalidArgument("open of a sqlView is a function of a connection", { details: { option: "open" } });
  return { definition: Object.freeze({ kind: "sql", dialect: "postgres", create, open: open as (connection: never) => unknown }) };
}

/** The part of a `pg` client that asks: promises only. Everything that would reach beyond the transaction is missing or does nothing. */
class TransactionClient {
  readonly #transaction: SqlTransaction;
  /** Some builders look at the options of a pool. */
  readonly options: object = Object.freeze({});

  constructor(transaction: SqlTransaction) {
    this.#transaction = transaction;
  }

  query(query: string | QueryConfig, values?: unknown): Promise<QueryResult> {
    if (typeof query !== "string" && typeof (query as { submit?: unknown }).submit === "function") {
      return Promise.reject(new InvalidArgument("cursors and streams are not taken in the transaction of a page or a query: ask for rows in portions"));
    }
    const config: QueryConfig = typeof query === "string" ? { text: query } : { ...query };
    if (Array.isArray(values)) config.values = values;
    else if (values !== undefined) return Promise.reject(new InvalidArgument("the client of a page answers with promises, not to callbacks"));
    return this.#transaction.statement(config);
  }

  connect(): Promise<this> {
    return Promise.resolve(this);
  }

  release(): void {
    return undefined;
  }

  end(): Promise<void> {
    return Promise.resolve();
  }
}

/** What `open` gets. */
export function connectionOn(transaction: SqlTransaction): SqlConnection {
  const client = new TransactionClient(transaction);
  return { client: client as unknown as PoolClient, pool: client as unknown as Pool };
}
