/**
 * One database through a pool of connections, shared by the stores of a backend.
 *
 * D1 Every wait has a bound: for a connection, and for the answer to a statement. An answer that does not come in time costs the connection it was asked on.
 * D2 A connection that failed in a way that leaves its state open is never given back to the pool.
 * D3 Statements need no state of a session, so that a pooler in transaction mode may stand between. Calls of functions are prepared once for each connection,
 *    which saves a tenth of a small one, but only on connections that were made here and lead to the server itself.
 */
import type { ClientConfig, CustomTypesConfig, Pool, PoolClient, QueryArrayConfig, QueryConfig, QueryResult } from "pg";
import pg from "pg";
import { delay, type Environment, type Timer } from "../../environment.ts";
import { Aborted, InvalidArgument, StoreClosed } from "../../errors.ts";
import { breaksConnection, NoAnswer, NotSent } from "./postgres-error.ts";

/** A value as text, as the server sends it. */
export type Cell = string | null;
export type Cells = readonly Cell[];

export interface QueryOptions {
  /** D1: for the answer, once there is a connection. */
  readonly boundMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** D3: worth preparing, and its plan does not depend on what stands in the tables. */
  readonly prepared?: boolean;
}

export interface DatabaseOptions {
  readonly connection: ClientConfig;
  readonly pool: Pool | undefined;
  readonly poolSize: number;
  readonly pgbouncer: boolean;
  readonly environment: Environment;
}

/** The pool, or one connection of it. */
export interface Queryable {
  query(text: string, values?: readonly unknown[]): Promise<readonly Cells[]>;
}

/** What runs statements one after the other on one connection. */
export interface Session extends Queryable {
  /** `name`: prepares it under that name, once. */
  query(text: string, values?: readonly unknown[], name?: string): Promise<readonly Cells[]>;
  /** As query, but a text of several statements is refused: nothing that it holds can end the transaction. */
  single(text: string, values?: readonly unknown[]): Promise<readonly Cells[]>;
  /** Rows as records of what `pg` makes of the types, but numbers of every kind as numbers. */
  records(text: string, values?: readonly unknown[]): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** As `pg` answers it; a text of several statements is refused, as by `single`. */
  answer(query: QueryConfig): Promise<QueryResult>;
  /** Whether the connection cannot be used any more. D2. */
  readonly broken: boolean;
}

/** Longest wait for a connection. */
export const CONNECT_BOUND_MS = 5000;
/** Longest wait for an answer, where a call does not say. */
export const ANSWER_BOUND_MS = 30_000;

/** What the server does by itself when a statement hangs, or a client dies inside a transaction. Poolers refuse settings at the start of a connection. */
const SERVER_BOUNDS = { statement_timeout: ANSWER_BOUND_MS, lock_timeout: 10_000, idle_in_transaction_session_timeout: 10_000 } as const;

/** Everything as text: the readers parse what they need, where they need it. */
const AS_TEXT: CustomTypesConfig = { getTypeParser: () => (value: unknown) => value };

const { INT8, NUMERIC } = pg.types.builtins;
const AS_NUMBERS: CustomTypesConfig = {
  getTypeParser: (type, format) => (type === INT8 || type === NUMERIC ? Number : (pg.types.getTypeParser(type, format as "text") as unknown)),
};

export class Database {
  readonly environment: Environment;
  /** `host:port/database`, for messages. */
  readonly name: string;
  readonly #pool: Pool;
  readonly #owned: boolean;
  readonly #prepares: boolean;
  readonly #names = new Map<string, string>();
  readonly #onError: (error: Error) => void;
  #holders = 0;
  readonly #sessions = new Set<Promise<unknown>>();
  #closed = false;

  constructor({ connection, pool, poolSize, pgbouncer, environment }: DatabaseOptions) {
    this.environment = environment;
    this.#owned = pool === undefined;
    this.#prepares = this.#owned && !pgbouncer;
    this.#pool = pool ?? new pg.Pool({ max: poolSize, connectionTimeoutMillis: CONNECT_BOUND_MS, ...(pgbouncer ? {} : SERVER_BOUNDS), keepAlive: true, application_name: "tidemark", ...connection });
    const { host, port, database } = new pg.Client(pool === undefined ? connection : pool.options);
    this.name = `${host}:${port}/${database ?? ""}`;
    // An idle connection that breaks is replaced by the pool; without a listener Node would end the process.
    this.#onError = (error) => environment.logger.warn({ database: this.name, error }, "an idle connection was lost");
    this.#pool.on("error", this.#onError);
    this.#pool.on("acquire", guard);
  }

  /** Rows as lists of text. Errors: NotSent, NoAnswer, Aborted, StoreClosed, those of PostgreSQL. */
  query(text: string, values: readonly unknown[] = [], { boundMs = ANSWER_BOUND_MS, signal, prepared = false }: QueryOptions = {}): Promise<readonly Cells[]> {
    return this.session((session) => session.query(text, values, prepared ? this.#nameOf(text) : undefined), { boundMs, signal });
  }

  /** Calls `work` with one connection. Errors: as query. */
  session<T>(work: (session: Session) => Promise<T>, { boundMs = ANSWER_BOUND_MS, signal }: QueryOptions = {}): Promise<T> {
    const running = this.#session(work, boundMs);
    this.#sessions.add(running);
    const forget = (): void => void this.#sessions.delete(running);
    running.then(forget, forget);
    return abortable(running, signal);
  }

  /** Runs `work` in one transaction; what it throws rolls back and is thrown on. Errors: as query. */
  transaction<T>(work: (session: Session) => Promise<T>, { begin = "BEGIN", ...options }: QueryOptions & { readonly begin?: string } = {}): Promise<T> {
    return this.session(async (session) => {
      await session.query(begin);
      try {
        const result = await work(session);
        await session.query("COMMIT");
        return result;
      } catch (error) {
        if (!breaksConnection(error)) await session.query("ROLLBACK");
        throw error;
      }
    }, options);
  }

  /** Counts one more user; the last one to release it closes the pool that was made here. */
  retain(): this {
    this.#holders++;
    return this;
  }

  /** The last one waits for the statements under way. */
  async release(): Promise<void> {
    if (--this.#holders > 0) return;
    this.#closed = true;
    // A pool that ends forgets those who wait for a connection: they go first.
    await Promise.allSettled(this.#sessions);
    // Its connections go on saying goodbye after a pool has ended, and may fail at that: a pool that was made here keeps its listeners.
    if (this.#owned) return this.#pool.end();
    this.#pool.off("error", this.#onError);
    this.#pool.off("acquire", guard);
  }

  async #session<T>(work: (session: Session) => Promise<T>, boundMs: number): Promise<T> {
    if (this.#closed) throw new StoreClosed(`the connection to ${this.name} is closed`, { details: { database: this.name } });
    const client = await this.#connect();
    let broken = false;
    const whole = async <A>(answer: Promise<A>): Promise<A> => {
      try {
        return await this.#bounded(answer, boundMs);
      } catch (error) {
        broken ||= breaksConnection(error);
        throw error;
      }
    };
    const answered = async <R>(answer: Promise<{ readonly rows: R[] }>): Promise<readonly R[]> => (await whole(answer)).rows;
    const session: Session = {
      get broken() {
        return broken;
      },
      query: (text, values = [], name) => answered(client.query<string[]>({ text, values: [...values], rowMode: "array", types: AS_TEXT, ...(name !== undefined && { name }) })),
      single: (text, values = []) => {
        // Without values `pg` would send the text in the simple protocol, which takes several statements at once.
        const query: QueryArrayConfig & { readonly queryMode: "extended" } = { text, values: [...values], rowMode: "array", types: AS_TEXT, queryMode: "extended" };
        return answered(client.query<string[]>(query));
      },
      answer: (query) => whole(client.query({ ...query, queryMode: "extended" } as QueryConfig)),
      records: (text, values = []) => answered(client.query<Record<string, unknown>>({ text, values: [...values], types: AS_NUMBERS })),
    };
    try {
      return await work(session);
    } finally {
      client.release(broken);
    }
  }

  /** D3. */
  #nameOf(text: string): string | undefined {
    if (!this.#prepares) return undefined;
    let name = this.#names.get(text);
    if (name === undefined) this.#names.set(text, (name = `tidemark_${this.#names.size}`));
    return name;
  }

  /** D1. Errors: NotSent. */
  async #connect(): Promise<PoolClient> {
    const connecting = this.#pool.connect();
    let late = false;
    void connecting.then(
      (client) => {
        if (late) client.release();
      },
      () => undefined,
    );
    try {
      return await this.#bounded(connecting, CONNECT_BOUND_MS + 1000);
    } catch (cause) {
      late = true;
      throw new NotSent(cause);
    }
  }

  async #bounded<T>(answer: Promise<T>, boundMs: number): Promise<T> {
    let timer: Timer | undefined;
    const expired = new Promise<never>((_, reject) => {
      timer = this.environment.clock.setTimer(boundMs, () => reject(new NoAnswer(boundMs)), { keepAlive: true });
    });
    try {
      return await Promise.race([answer, expired]);
    } finally {
      timer?.cancel();
      answer.catch(() => undefined);
    }
  }
}

const guarded = new WeakSet<PoolClient>();

/**
 * A connection may fail in the same moment in which the pool hands it out, and once more after it was given back to be thrown away. Its event then has no
 * listener, which ends the process: each one gets one for good, as soon as the pool tells of it. What went wrong is told by the statement.
 */
function guard(client: PoolClient): void {
  if (guarded.has(client)) return;
  guarded.add(client);
  client.on("error", () => undefined);
}

/** Rejects with Aborted as soon as the signal does; the work goes on unheard. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  let forget: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    const abort = (): void => reject(new Aborted("the call was aborted", { cause: signal.reason }));
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    forget = () => signal.removeEventListener("abort", abort);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    forget?.();
    work.catch(() => undefined);
  }
}

/** `name` as SQL writes it. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Refuses a schema's name that would need care in every place where it stands. Errors: InvalidArgument. */
export function assertSchema(what: string, schema: string): void {
  if (typeof schema !== "string" || !/^[a-z_][a-z0-9_]{0,39}$/.test(schema) || schema.startsWith("pg_")) {
    throw new InvalidArgument(`${what} must match [a-z_][a-z0-9_]{0,39} and not begin with pg_`, { details: { [what]: String(schema).slice(0, 64) } });
  }
}

/** Pauses, jittered; ends early with the signal. */
export async function pause(environment: Environment, ms: number, signal?: AbortSignal): Promise<void> {
  await delay(environment.clock, ms * (0.5 + environment.random.next()), signal).catch(() => undefined);
}
