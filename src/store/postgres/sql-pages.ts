/**
 * How pipelines write and queries read a view in SQL.
 *
 * G1 A page's transaction locks the checkpoint's row before the first statement of the pipeline and looks at its revision: whoever comes second waits, finds
 *    another revision or epoch, and is lost before it has written anything. So two processes never run the same page's SQL beside each other.
 * G2 The same transaction moves the checkpoint and commits: rows and position stand together or not at all.
 * G3 An error of the caller's own SQL is the page's failure, as PostgreSQL told it, however the pipeline wrapped or swallowed it; a lost connection, a deadlock
 *    or a server without resources is none of the page's doing (StoreUnavailable), and the page runs again.
 * G4 A query runs in one snapshot and cannot write.
 */
import { InvalidArgument, isTidemarkError, LateWrite } from "../../errors.ts";
import type { BuildKey, Checkpoint, OpenPage, SqlAccess, SqlDefinition } from "../../readmodel/view-store.ts";
import { ANSWER_BOUND_MS, type Database } from "./database.ts";
import { breaksConnection, PG, sqlState, toTidemarkError } from "./postgres-error.ts";
import { SqlTransaction } from "./sql-transaction.ts";
import { connectionOn, type SqlConnection } from "./sql-view.ts";
import { beginIn, type SqlBuild } from "./sql-view-schema.ts";
import type { Moves } from "./view-moves.ts";

export interface SqlPagesPorts {
  readonly db: Database;
  readonly key: BuildKey;
  readonly build: SqlBuild;
  readonly moves: Moves;
}

/** Another process has moved on. */
class Lost extends Error {}

/** A page may leave its transaction alone for as long as it may take at all; then the server ends it. */
const IDLE_MARGIN_MS = 1000;

export function sqlAccess(definition: SqlDefinition, ports: SqlPagesPorts): SqlAccess {
  const open = definition.open as (connection: SqlConnection) => unknown;
  return {
    page(onRevision, { timeoutMs, onLateWrite }) {
      const transaction = new SqlTransaction(ports.db, {
        async begin(session) {
          await session.query(`${beginIn(ports.build, "BEGIN", timeoutMs + IDLE_MARGIN_MS)}; SELECT pg_advisory_xact_lock_shared(${ports.moves.pageLock})`);
          // G1.
          if (!(await ports.moves.lock(session, onRevision))) throw new Lost(`the checkpoint of read model ${ports.key.model} was moved by another process`);
        },
        onLate() {
          const error = new LateWrite(`read model ${ports.key.model} sent SQL after its page had ended: let what project() returns complete only after its statements`, { details: { ...ports.key } });
          onLateWrite(error);
          return error;
        },
      });
      return new SqlPage(transaction, open(connectionOn(transaction)), onRevision, ports);
    },
    async read(query) {
      const transaction = new SqlTransaction(ports.db, {
        // G4.
        begin: async (session) => void (await session.query(beginIn(ports.build, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ANSWER_BOUND_MS))),
        onLate: () => new InvalidArgument(`the query of read model ${ports.key.model} is over: wait for all of its answers`, { details: { ...ports.key } }),
      });
      try {
        return await query(open(connectionOn(transaction)));
      } catch (error) {
        throw transaction.failure === undefined ? error : await readFailure(transaction.failure.error, ports);
      } finally {
        await transaction.end();
      }
    },
  };
}

class SqlPage implements OpenPage {
  readonly held: unknown;
  readonly #transaction: SqlTransaction;
  readonly #onRevision: number;
  readonly #ports: SqlPagesPorts;

  constructor(transaction: SqlTransaction, held: unknown, onRevision: number, ports: SqlPagesPorts) {
    this.#transaction = transaction;
    this.held = held;
    this.#onRevision = onRevision;
    this.#ports = ports;
  }

  get busy(): boolean {
    return this.#transaction.busy;
  }

  settle(): Promise<void> {
    return this.#transaction.settle();
  }

  seal(): void {
    this.#transaction.seal();
  }

  /** G3. */
  verdict(error: unknown): { readonly error: unknown } | "lost" {
    const { failure } = this.#transaction;
    return failure === undefined ? { error } : this.#verdict(failure.error);
  }

  async commit(next: Checkpoint): Promise<"committed" | "lost"> {
    const { moves } = this.#ports;
    if (!this.#transaction.begun) return moves.commit(next, this.#onRevision);
    try {
      await this.#transaction.commit(async (session) => {
        if (!(await moves.move(session, next, this.#onRevision))) throw new Lost("the checkpoint was moved by another process");
      });
    } catch (error) {
      const verdict = this.#verdict(error);
      if (verdict === "lost") return verdict;
      throw verdict.error;
    }
    moves.moved(this.#onRevision + 1);
    return "committed";
  }

  discard(): void {
    void this.#transaction.end();
  }

  #verdict(error: unknown): { readonly error: unknown } | "lost" {
    if (error instanceof Lost) return "lost";
    return { error: isOthers(error) ? toTidemarkError(error, this.#ports.db.name) : error };
  }
}

/** G3: of what the connection answered with, that which is nobody's SQL: serialisation failures and deadlocks, resources, locks, the system. */
function isOthers(error: unknown): boolean {
  // Values that `pg` cannot send, and what we refuse ourselves.
  if (isTidemarkError(error) || error instanceof TypeError || error instanceof RangeError) return false;
  return breaksConnection(error) || /^(40|53|55|58|XX)/.test(sqlState(error) ?? "");
}

async function readFailure(error: unknown, { db, key, moves }: SqlPagesPorts): Promise<unknown> {
  if (isTidemarkError(error)) return error;
  if (isOthers(error)) return toTidemarkError(error, db.name);
  const state = sqlState(error);
  if (state === PG.undefinedTable || state === PG.undefinedSchema) {
    try {
      await moves.checkpoint();
    } catch (gone) {
      if (isTidemarkError(gone)) return gone;
    }
  }
  return new InvalidArgument(`the query of read model ${key.model} failed: ${(error as Error).message}`, { cause: error, details: { model: key.model } });
}
