/**
 * What PostgreSQL's error codes mean to us (https://www.postgresql.org/docs/current/errcodes-appendix.html).
 *
 * C1 A statement that never left this process, and one that the server answered with an error of its own, wrote nothing: both are definite.
 * C2 When the connection ended, whether the server said so (an administrator's command, a crash) or not, nobody knows: the transaction may have been
 *    committed before the answer was lost. Neither does anybody when the answer did not come in time.
 */
import { isTidemarkError, StoreCorrupt, StoreUnavailable } from "../../errors.ts";

/** SQLSTATEs that we tell apart. */
export const PG = {
  uniqueViolation: "23505",
  readOnly: "25006",
  deadlock: "40P01",
  undefinedTable: "42P01",
  undefinedFunction: "42883",
  undefinedSchema: "3F000",
  undefinedDatabase: "3D000",
  checkViolation: "23514",
  authorization: "28000",
  password: "28P01",
  privilege: "42501",
  diskFull: "53100",
  tooManyConnections: "53300",
  lockNotAvailable: "55P03",
  canceled: "57014",
  /** Ours: an append expects a version beyond the stream's end. */
  gap: "TM001",
  /** Ours: what a statement would write is not its to write. */
  refused: "TM002",
} as const;

/** No connection could be had: the statement was not sent. */
export class NotSent extends Error {
  override readonly cause: unknown;
  constructor(cause: unknown) {
    super(`no connection to PostgreSQL: ${messageOf(cause)}`);
    this.cause = cause;
  }
}

/** The statement was sent and not answered within the bound; its connection was given up. */
export class NoAnswer extends Error {
  constructor(boundMs: number) {
    super(`PostgreSQL did not answer within ${boundMs} ms`);
  }
}

/** The SQLSTATE that the server answered with, otherwise undefined. */
export function sqlState(error: unknown): string | undefined {
  if (error instanceof NotSent) return sqlState(error.cause);
  const { code, severity } = (error ?? {}) as { readonly code?: unknown; readonly severity?: unknown };
  // Errors of sockets have codes too, and EPIPE looks like one of the server; only the server tells of a severity.
  return typeof code === "string" && typeof severity === "string" ? code : undefined;
}

/** C1, C2: whether it is certain that nothing was written. */
export function isDefinite(error: unknown): boolean {
  if (error instanceof NotSent) return true;
  const state = sqlState(error);
  if (state === undefined || endsConnection(state)) return false;
  // Resources and the system: a panic while the log is flushed has these codes too. The word for the severity may be translated: then we do not know.
  if (/^(53|58|XX)/.test(state)) return (error as { severity?: unknown }).severity === "ERROR";
  return true;
}

/** Whether the connection cannot be used any more. */
export function breaksConnection(error: unknown): boolean {
  const state = sqlState(error);
  return state === undefined || endsConnection(state) || (error as { severity?: unknown }).severity === "FATAL";
}

/** Connection exceptions, shutdowns and crashes of the server, and its time-outs of idle sessions. */
function endsConnection(state: string): boolean {
  return state.startsWith("08") || state.startsWith("57P") || state === "25P03" || state === "25P04";
}

/** The error of ours for one of PostgreSQL or of the connection; errors of ours pass through. `where` names the database, never its password. */
export function toTidemarkError(error: unknown, where: string): Error {
  if (isTidemarkError(error)) return error;
  const state = sqlState(error);
  const message = messageOf(error instanceof NotSent ? error.cause : error);
  const details = { database: where, sqlState: state };
  if (state === "XX001" || state === "XX002") {
    return new StoreCorrupt(`${where} is damaged: ${message}. Restore it from a backup.`, { cause: error, details });
  }
  if (state === PG.undefinedTable || state === PG.undefinedFunction || state === PG.undefinedSchema) {
    return new StoreUnavailable(`${where} does not hold what Tidemark has put there: ${message}. Was the schema dropped? Run the migrations again.`, { cause: error, retryable: true, details });
  }
  if (state === PG.privilege) {
    return new StoreUnavailable(`${where} refuses: ${message}. The roles that Tidemark needs stand in docs/postgres.md.`, { cause: error, details });
  }
  if (state === PG.undefinedDatabase) {
    return new StoreUnavailable(`${where}: ${message}. Create it first (createdb, or CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0), or mend the name in the URL.`, { cause: error, details });
  }
  if (state === PG.authorization || state === PG.password) {
    return new StoreUnavailable(`${where} does not let this role in: ${message}. Look at user and password, and at pg_hba.conf of the server.`, { cause: error, details });
  }
  const tls = tlsFailure(error);
  if (tls !== undefined) return new StoreUnavailable(`${where}: no secure connection: ${message}. ${tls}`, { cause: error, details: { ...details, tls: true } });
  if (message.includes("startup parameter")) {
    return new StoreUnavailable(`${where}: ${message}. Where a pooler stands between, say so: pgbouncer: true, or ?pgbouncer=true in the URL.`, { cause: error, details });
  }
  return new StoreUnavailable(`${where}: ${message}`, { cause: error, retryable: true, details });
}

/** What OpenSSL and Node say of a certificate that does not convince (https://nodejs.org/api/tls.html#x509-certificate-error-codes). */
const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_|CERT_|_CERT|CRL_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH/;

/** What to do where TLS failed; undefined where it is not that. */
function tlsFailure(error: unknown): string | undefined {
  const cause: unknown = error instanceof NotSent ? error.cause : error;
  const { code, message } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  if (typeof message === "string" && message.includes("does not support SSL")) return "Switch TLS on at the server (ssl = on), or connect without it (sslmode=disable).";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "The certificate is of another host: connect by the name that it was made for.";
  if (typeof code === "string" && UNTRUSTED.test(code)) return "Name the certificate authority of the server: sslrootcert=FILE in the URL, or ssl: { ca } in code.";
  if (typeof code === "string" && code.startsWith("ERR_SSL_")) return "Server and client do not agree on TLS: look at the protocol versions and certificates of both.";
  return undefined;
}

/** Errors of a host with several addresses have no message of their own. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") return error.errors.map(messageOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
