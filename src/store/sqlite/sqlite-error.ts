/**
 * What SQLite's result codes mean to us (https://www.sqlite.org/rescode.html).
 */
import { StoreClosed, StoreCorrupt, StoreUnavailable, isTidemarkError } from "../../errors.ts";

/** Primary result codes that we tell apart. */
export const SQLITE = { ERROR: 1, BUSY: 5, LOCKED: 6, READONLY: 8, CORRUPT: 11, FULL: 13, CANTOPEN: 14, CONSTRAINT: 19, RANGE: 25, NOTADB: 26 } as const;

/** COMMIT itself failed: whether the transaction stands is known only where the cause proves it. */
export class CommitFailed extends Error {
  override readonly cause: unknown;
  constructor(cause: unknown) {
    super(`COMMIT failed: ${(cause as Error).message}`);
    this.cause = cause;
  }
}

/** The primary result code of an error of SQLite, otherwise undefined. */
export function sqliteCode(error: unknown): number | undefined {
  if (error instanceof CommitFailed) return sqliteCode(error.cause);
  const code = (error as { errcode?: unknown } | null | undefined)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

/** Another connection holds the lock: the same call can succeed later. */
export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === SQLITE.BUSY || code === SQLITE.LOCKED;
}

/** The error of ours for an error of SQLite; errors of ours pass through. */
export function toTidemarkError(error: unknown, path: string): Error {
  if (isTidemarkError(error)) return error;
  const code = sqliteCode(error);
  const { message } = error as Error;
  if (code === SQLITE.NOTADB) {
    return new StoreCorrupt(`${path} is no SQLite database: name another file, or restore it from a backup if it was one`, { cause: error, details: { file: path } });
  }
  if (code === SQLITE.CORRUPT) {
    return new StoreCorrupt(`${path} is damaged: ${message}. Restore it from a backup.`, { cause: error, details: { file: path } });
  }
  if (isBusy(error)) {
    return new StoreUnavailable(`${path} was locked by another process for longer than the bound`, { cause: error, retryable: true, details: { file: path } });
  }
  if ((error as { code?: unknown }).code === "ERR_INVALID_STATE") return new StoreClosed(`${path} is closed`, { cause: error, details: { file: path } });
  return new StoreUnavailable(`${path}: ${message}`, { cause: error, retryable: code !== SQLITE.CANTOPEN, details: { file: path, sqliteCode: code } });
}
