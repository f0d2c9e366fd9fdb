/** Errors as problem+json (RFC 9457): `code` is for programs, `detail` for people. */
import { STATUS_CODES } from "node:http";
import { isTidemarkError, type TidemarkError } from "../../../src/index.ts";
import { InputRefused, type AnyReply } from "./schemas.ts";

/** What a route throws to answer with a problem. */
export class HttpProblem extends Error {
  readonly status: number;
  readonly code: string;
  readonly members: Readonly<Record<string, unknown>>;

  constructor(status: number, code: string, detail: string, members: Readonly<Record<string, unknown>> = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.members = members;
  }
}

/** By the framework's code; a code that is not here is 503 where a retry can help, and a failure of the service otherwise. */
const STATUSES: Readonly<Record<string, number>> = {
  InvalidArgument: 400,
  InvalidInput: 400,
  UnserialisableData: 400,
  TokenMalformed: 400,
  TokenForged: 400,
  TokenForeign: 400,
  UnknownCommand: 404,
  WrongExpectedVersion: 412,
  AppendTooLarge: 413,
  CommandIdReused: 422,
  StoreRewound: 400,
  MailboxFull: 429,
  Overloaded: 429,
  ReadModelStopped: 503,
  Aborted: 503,
  AppClosed: 503,
  StoreClosed: 503,
};

/** Codes for what the HTTP server itself refuses. */
const SERVER_CODES: Readonly<Record<number, string>> = { 400: "InvalidInput", 413: "TooLarge", 414: "TooLarge", 415: "UnsupportedMediaType" };

const RETRY_AFTER_SECONDS = 1;

/** The problem that an error stands for. */
export function problemOf(error: unknown): HttpProblem {
  if (error instanceof HttpProblem) return error;
  if (error instanceof InputRefused) return new HttpProblem(400, "InvalidInput", error.message, { issues: error.issues });
  if (isTidemarkError(error)) {
    const status = STATUSES[error.code] ?? (error.retryable ? 503 : undefined);
    if (status !== undefined) return new HttpProblem(status, error.code, error.message, membersOf(error));
  }
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new HttpProblem(statusCode, SERVER_CODES[statusCode] ?? "BadRequest", message ?? STATUS_CODES[statusCode] ?? "");
  }
  return new HttpProblem(500, "InternalError", "The service failed; its log says why.");
}

/** What a caller can make use of, beside the code. */
function membersOf(error: TidemarkError): Readonly<Record<string, unknown>> {
  const { expected, actual, events, ms } = error.details;
  if (error.code === "WrongExpectedVersion") return { expected, actual };
  if (error.code === "StaleRead") return { behind: { events, ms } };
  return "issues" in error ? { issues: error.issues } : {};
}

/** Answers with the problem, and says when to come again where that helps. */
export function sendProblem(reply: AnyReply, problem: HttpProblem): AnyReply {
  const { status, members } = problem;
  if (status === 429 || status === 503) void reply.header("retry-after", RETRY_AFTER_SECONDS);
  if (status === 412 && typeof members["actual"] === "number") void reply.header("etag", `"${members["actual"]}"`);
  return reply.code(status).type("application/problem+json").send(problemBody(problem));
}

export function problemBody({ status, code, message, members }: HttpProblem): object {
  return { title: STATUS_CODES[status] ?? "Error", status, code, detail: message, ...members };
}
