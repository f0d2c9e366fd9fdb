/** Errors as the real server sends them (RpcExceptions): a status, and trailers that say which exception it is. */
import { Metadata, status, type StatusObject } from "@grpc/grpc-js";
import type { AppendOutcome } from "../engine/model.ts";
import { ReadFailure } from "../engine/read-response.ts";
import { BadRequest, revisionText, type Expectation } from "./values.ts";

export class RpcError extends Error implements StatusObject {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
  constructor(code: status, details: string, trailers: Readonly<Record<string, string>> = {}) {
    super(details);
    this.code = code;
    this.details = details;
    this.metadata = new Metadata();
    for (const [key, value] of Object.entries(trailers)) this.metadata.set(key, headerText(value));
  }
}

export const accessDenied = (): RpcError => new RpcError(status.PERMISSION_DENIED, "Access Denied", { exception: "access-denied" });

export const streamDeleted = (stream: string): RpcError =>
  new RpcError(status.FAILED_PRECONDITION, `Event stream '${stream}' is deleted.`, { exception: "stream-deleted", "stream-name": stream });

export const wrongExpectedVersion = (operation: string, stream: string, { number }: Expectation, current: number): RpcError => {
  const actual = current < 0 ? "-1" : revisionText(current);
  return new RpcError(status.FAILED_PRECONDITION, `${operation} failed due to WrongExpectedVersion. Stream: ${stream}, Expected version: ${number}, Actual version: ${actual}`, {
    exception: "wrong-expected-version",
    "stream-name": stream,
    "expected-version": number,
    "actual-version": actual,
  });
};

export const maximumAppendSizeExceeded = (bytes: number): RpcError =>
  new RpcError(status.INVALID_ARGUMENT, `Maximum Append Size of ${bytes} Exceeded.`, { exception: "maximum-append-size-exceeded", "maximum-append-size": String(bytes) });

export const requiredPropertyMissing = (property: string): RpcError =>
  new RpcError(status.INVALID_ARGUMENT, `Required Metadata Property '${property}' is missing`, {
    exception: "missing-required-metadata-property",
    "required-metadata-properties": "type,content-type",
  });

export const notLeader = (host: string, port: number): RpcError =>
  new RpcError(status.NOT_FOUND, "Leader info available", { exception: "not-leader", "leader-endpoint-host": host, "leader-endpoint-port": String(port) });

export const invalidArgument = (details: string): RpcError => new RpcError(status.INVALID_ARGUMENT, details);

/** What the server's exceptions without a status of their own come to. */
export const handlerFailed = (): RpcError => new RpcError(status.UNKNOWN, "Exception was thrown by handler.");

/** An outcome that is an error of deletes, tombstones and appends; undefined for the others. */
export function outcomeError(operation: string, stream: string, expectation: Expectation, outcome: AppendOutcome): RpcError | undefined {
  if (outcome.kind === "deleted") return streamDeleted(stream);
  return outcome.kind === "wrong-version" ? wrongExpectedVersion(operation, stream, expectation, outcome.current) : undefined;
}

/** Any error as one of the protocol. */
export function rpcErrorOf(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  if (error instanceof BadRequest) return handlerFailed();
  if (!(error instanceof ReadFailure)) return new RpcError(status.UNKNOWN, `Exception was thrown by handler. ${error instanceof Error ? error.message : ""}`.trim());
  switch (error.reason) {
    case "stream-deleted":
      return streamDeleted(error.stream);
    case "access-denied":
      return accessDenied();
    case "invalid-position":
      return invalidArgument("Trying to read from an invalid position.");
    case "error":
      return new RpcError(status.UNKNOWN, "Unexpected ReadStreamResult: Error");
  }
}

/** A trailer is printable ASCII: whatever else a name holds is percent-encoded. The real server fails to send such a trailer. */
function headerText(value: string): string {
  return /^[\x20-\x7e]*$/.test(value) ? value : encodeURIComponent(value);
}
