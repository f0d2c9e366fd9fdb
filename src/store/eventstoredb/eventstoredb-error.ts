/**
 * What EventStoreDB's errors mean to us. They come as errors of gRPC (a status code, and a trailer `exception` with the server's own word), raw or wrapped by the client.
 */
import { isTidemarkError, StoreUnavailable, StreamDeleted } from "../../errors.ts";

/** Status codes of gRPC that we tell apart. */
export const GRPC = { cancelled: 1, invalidArgument: 3, deadlineExceeded: 4, notFound: 5, permissionDenied: 7, resourceExhausted: 8, failedPrecondition: 9, aborted: 10, unimplemented: 12, internal: 13, unavailable: 14, unauthenticated: 16 } as const;

/** The server was asked and did not answer within the bound. */
export class NoAnswer extends Error {
  constructor(boundMs: number) {
    super(`EventStoreDB did not answer within ${boundMs} ms`);
  }
}

/** A read ended as if all were well, and was not complete: a server that goes down may do so. */
export class EndedEarly extends Error {
  constructor() {
    super("EventStoreDB ended a read before it was complete");
  }
}

interface GrpcError {
  readonly code?: unknown;
  readonly details?: unknown;
  readonly metadata?: { getMap?(): Readonly<Record<string, unknown>> };
  readonly _raw?: unknown;
}

export function statusOf(error: unknown): number | undefined {
  const { code } = (error ?? {}) as GrpcError;
  return typeof code === "number" ? code : undefined;
}

/** The server's own word for what went wrong, where it gave one. */
export function exceptionOf(error: unknown): string | undefined {
  const { metadata, _raw } = (error ?? {}) as GrpcError;
  const word = metadata?.getMap?.()["exception"];
  return typeof word === "string" ? word : _raw === undefined ? undefined : exceptionOf(_raw);
}

/** Whether the server answered the TLS handshake in plain text. gRPC hands OpenSSL's word for it on as text alone. */
function isPlainServer(error: unknown): boolean {
  return statusOf(error) === GRPC.unavailable && /SSL routines.*(wrong version number|packet length too long)/.test(messageOf(error));
}

/** Whether nobody here knows who signed the server's certificate. gRPC hands Node's word for it on as text alone. */
function isUnknownSigner(error: unknown): boolean {
  return statusOf(error) === GRPC.unavailable && /self-signed certificate|unable to (verify|get)[^]*certificate/i.test(messageOf(error));
}

/** Whether a connection was made and came to nothing, without a word: so ends plain HTTP/2 with a server that waits for TLS. */
function isNoServer(error: unknown): boolean {
  return statusOf(error) === GRPC.unavailable && /Last error: Failed to connect/.test(messageOf(error));
}

/** Whether the call was cut off on its HTTP/2 connection, without a status of the server: a server or proxy that goes away may close it so. gRPC says it as text alone. */
function isCutOff(error: unknown): boolean {
  if (statusOf(error) === GRPC.internal) return messageOf(error).startsWith("Received RST_STREAM");
  // A call that was reset to calm us down (ENHANCE_YOUR_CALM); a message that is too large has the same status.
  return statusOf(error) === GRPC.resourceExhausted && messageOf(error).startsWith("Bandwidth exhausted");
}

/** Whether the same call may succeed in a moment: the connection broke, a node went down, or is not the leader any more. */
export function isPassing(error: unknown): boolean {
  if (error instanceof NoAnswer || error instanceof EndedEarly || exceptionOf(error) === "not-leader" || isCutOff(error)) return true;
  if (isPlainServer(error) || isUnknownSigner(error)) return false;
  const status = statusOf(error);
  return status === GRPC.unavailable || status === GRPC.cancelled || status === GRPC.aborted || status === GRPC.deadlineExceeded;
}

/** Whether the server does not know the call, or not the caller. */
export function refusesCalls(error: unknown): boolean {
  const status = statusOf(error);
  return status === GRPC.unimplemented || status === GRPC.unauthenticated || status === GRPC.permissionDenied;
}

/** Whether the position that was read from is not one of this log. */
export function isInvalidPosition(error: unknown): boolean {
  return statusOf(error) === GRPC.invalidArgument && messageOf(error).includes("invalid position");
}

/** The error of ours for one of the server or of the connection; errors of ours pass through. `where` names the server, never its password. */
export function toTidemarkError(error: unknown, where: string, stream?: string): Error {
  if (isTidemarkError(error)) return error;
  const exception = exceptionOf(error);
  const details = { server: where, status: statusOf(error), exception, ...(stream !== undefined && { stream }) };
  if (exception === "stream-deleted") return streamDeleted(stream ?? "the stream", "tombstoned", error);
  const status = statusOf(error);
  if (status === GRPC.unauthenticated) {
    return new StoreUnavailable(`${where} knows no such user, or not with this password: esdb://USER:PASSWORD@host`, { cause: error, details });
  }
  if (exception === "access-denied" || status === GRPC.permissionDenied) {
    return new StoreUnavailable(`${where} refuses: ${messageOf(error)}. The rights that Tidemark needs stand in docs/eventstoredb.md.`, { cause: error, details });
  }
  if (status === GRPC.unimplemented) return new StoreUnavailable(`${where} does not know BatchAppend: EventStoreDB 21.10 or newer is needed`, { cause: error, details });
  if (isPlainServer(error)) {
    return new StoreUnavailable(`${where} does not speak TLS, which a connection string asks for unless it says otherwise. For a server without TLS add ?tls=false to it.`, { cause: error, details });
  }
  if (isUnknownSigner(error)) {
    return new StoreUnavailable(`${where} shows a certificate that nobody known here has signed: name its authority by ?tlsCAFile=FILE in the connection string (${messageOf(error)})`, { cause: error, details });
  }
  if (isNoServer(error)) {
    return new StoreUnavailable(`${where} took the connection and did not answer: no EventStoreDB listens there, or one that wants TLS (then leave ?tls=false out)`, { cause: error, retryable: true, details });
  }
  // The client does not say why.
  if (messageOf(error).startsWith("Failed to discover")) {
    return new StoreUnavailable(`${where}: no node was found. Nodes without TLS are found with ?tls=false in the connection string.`, { cause: error, retryable: true, details });
  }
  return new StoreUnavailable(`${where}: ${messageOf(error).replace(/\.? Resolution note: $/, "")}`, { cause: error, retryable: true, details });
}

export function streamDeleted(stream: string, how: "tombstoned" | "soft-deleted", cause?: unknown): StreamDeleted {
  const remedy = how === "tombstoned" ? "its name can never be used again" : "it can be brought back by removing $tb from its metadata";
  return new StreamDeleted(`${stream} was deleted (${how}): ${remedy}`, { details: { stream, how }, cause });
}

export function messageOf(error: unknown): string {
  const { details } = (error ?? {}) as GrpcError;
  if (typeof details === "string" && details !== "") return details;
  return error instanceof Error ? error.message : String(error);
}
