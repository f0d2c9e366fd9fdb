/**
 * A transaction that user code writes its own SQL in, while it stays ours to begin and to end.
 *
 * S1 It begins with the first statement: a page without SQL costs nothing.
 * S2 User code cannot end it: each call is one statement (the extended protocol refuses two), and a statement that begins, ends or leaves a transaction, or that
 *    sets something beyond it, is refused before it is sent. Savepoints are its own.
 * S3 The first statement that fails decides: PostgreSQL takes no more until a savepoint is rolled back to, so a failure that user code swallows still fails the page.
 * S4 After `seal` or the end every statement is refused. Ending waits for the statements under way.
 */
import type { QueryConfig, QueryResult } from "pg";
import { InvalidArgument, isTidemarkError } from "../../errors.ts";
import type { Database, Session } from "./database.ts";

export interface SqlTransactionOptions {
  /** S1: sent before the first statement; what it throws is what every statement is answered with. */
  readonly begin: (session: Session) => Promise<void>;
  /** S4: the error for a statement that comes too late. */
  readonly onLate: () => Error;
}

export class SqlTransaction {
  readonly #db: Database;
  readonly #options: SqlTransactionOptions;
  #begun: Promise<Session> | undefined;
  #over: Promise<void> = Promise.resolve();
  #giveBack: () => void = () => undefined;
  #closed = false;
  #turn: Promise<unknown> = Promise.resolve();
  #committed = false;
  #ending: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(db: Database, options: SqlTransactionOptions) {
    this.#db = db;
    this.#options = options;
  }

  /** S3. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  get busy(): boolean {
    return this.#underWay.size > 0;
  }

  /** Whether anything was sent. */
  get begun(): boolean {
    return this.#begun !== undefined;
  }

  /** Runs one statement of user code. Errors: InvalidArgument (S2), LateWrite and the like (S4), those of PostgreSQL. */
  statement(query: QueryConfig): Promise<QueryResult> {
    const running = this.#statement(query);
    this.#underWay.add(running);
    const forget = (): void => void this.#underWay.delete(running);
    running.then(forget, forget);
    return running;
  }

  async settle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  seal(): void {
    this.#closed = true;
  }

  /** Calls `last` and commits, in one connection. Errors: those of `last` and of PostgreSQL; then nothing stands, or nobody knows (C2 of postgres-error.ts). */
  async commit<T>(last: (session: Session) => Promise<T>): Promise<T> {
    this.seal();
    try {
      const session = await this.#session();
      const result = await last(session);
      await session.query("COMMIT");
      this.#committed = true;
      return result;
    } finally {
      await this.end();
    }
  }

  /** Rolls back what was not committed, and gives the connection back. Idempotent, never rejects. */
  end(): Promise<void> {
    return (this.#ending ??= this.#end());
  }

  async #end(): Promise<void> {
    this.seal();
    if (this.#begun === undefined) return;
    await Promise.allSettled(this.#underWay);
    try {
      const session = await this.#begun;
      if (!this.#committed) await rollBack(session);
    } catch {
      // The connection is gone, and the transaction with it.
    }
    this.#giveBack();
    await this.#over;
  }

  async #statement(query: QueryConfig): Promise<QueryResult> {
    if (this.#closed) throw this.#options.onLate();
    const control = controlOf(query.text);
    if (control === "refused") {
      const error = new InvalidArgument(
        `${query.text.trim().slice(0, 40)}: the transaction is the page's own, and commits with it. Use savepoints within it, and SET LOCAL for settings.`,
      );
      this.#failure ??= { error };
      throw error;
    }
    try {
      const answer = await this.#next(query);
      if (control === "rolled back to a savepoint" && !isTidemarkError(this.#failure?.error)) this.#failure = undefined;
      return answer;
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  /** Statements that the caller starts beside each other are sent one after the other. */
  #next(query: QueryConfig): Promise<QueryResult> {
    const answer = this.#turn.then(async () => (await this.#session()).answer(query));
    this.#turn = answer.catch(() => undefined);
    return answer;
  }

  /** S1. */
  #session(): Promise<Session> {
    if (this.#begun !== undefined) return this.#begun;
    const over = new Promise<void>((resolve) => (this.#giveBack = resolve));
    this.#begun = new Promise((resolve, reject) => {
      this.#over = this.#db
        .session(async (session) => {
          try {
            await this.#options.begin(session);
          } catch (error) {
            await rollBack(session);
            throw error;
          }
          resolve(session);
          await over;
        })
        .catch(reject);
    });
    return this.#begun;
  }
}

async function rollBack(session: Session): Promise<void> {
  if (!session.broken) await session.query("ROLLBACK");
}

const CONTROL = /^(begin|start|commit|end|abort|rollback|prepare\s+transaction|set|reset|discard|listen|unlisten)\b/i;
const ALLOWED = /^(rollback\s+(work\s+|transaction\s+)?to\b|set\s+(local|constraints)\b)/i;

/** S2. */
function controlOf(text: string): "refused" | "rolled back to a savepoint" | undefined {
  const statement = withoutLead(text);
  if (!CONTROL.test(statement)) return undefined;
  if (!ALLOWED.test(statement)) return "refused";
  return /^rollback/i.test(statement) ? "rolled back to a savepoint" : undefined;
}

/** What PostgreSQL skips before a statement: spaces, semicolons, comments, which nest. */
function withoutLead(text: string): string {
  let at = 0;
  for (;;) {
    while (/[\s;]/.test(text.charAt(at))) at++;
    if (text.startsWith("--", at)) {
      const end = text.indexOf("\n", at);
      at = end < 0 ? text.length : end + 1;
    } else if (text.startsWith("/*", at)) {
      let depth = 0;
      do {
        if (text.startsWith("/*", at)) depth++;
        else if (text.startsWith("*/", at)) depth--;
        else {
          at++;
          continue;
        }
        at += 2;
      } while (depth > 0 && at < text.length);
    } else return text.slice(at);
  }
}
