/** The statuses of BatchAppend: google.rpc.Status with a detail of the protocol's own (Status.cs, WrongExpectedVersion.cs). */
import codePb from "@eventstore/db-client/generated/code_pb.js";
import type { Status } from "@eventstore/db-client/generated/status_pb.js";
import { NO_STREAM, type ExpectedRevision } from "../engine/model.ts";
import { Any, GoogleEmpty, sharedPb, statusPb } from "./protobuf.ts";
import { identifierOf, revisionText } from "./values.ts";

const { Code } = codePb;

interface Detail {
  serializeBinary(): Uint8Array;
}

function statusOf(code: number, message: string, detail: Detail): Status {
  const any = new Any();
  any.pack(detail.serializeBinary(), `event_store.client.${message}`);
  const status = new statusPb.Status();
  status.setCode(code);
  status.setMessage(message);
  status.setDetails(any);
  return status;
}

export function wrongExpectedVersionStatus(expected: ExpectedRevision, current: number): Status {
  const detail = new sharedPb.WrongExpectedVersion();
  if (expected === "any") detail.setExpectedAny(new GoogleEmpty());
  else if (expected === "stream_exists") detail.setExpectedStreamExists(new GoogleEmpty());
  else if (expected === "no_stream" || expected === NO_STREAM) detail.setExpectedNoStream(new GoogleEmpty());
  else detail.setExpectedStreamPosition(revisionText(expected));
  if (current === NO_STREAM) detail.setCurrentNoStream(new GoogleEmpty());
  else detail.setCurrentStreamRevision(revisionText(current));
  return statusOf(Code.ALREADY_EXISTS, "WrongExpectedVersion", detail);
}

export function streamDeletedStatus(stream: string): Status {
  const detail = new sharedPb.StreamDeleted();
  detail.setStreamIdentifier(identifierOf(stream));
  return statusOf(Code.NOT_FOUND, "StreamDeleted", detail);
}

export function accessDeniedStatus(): Status {
  return statusOf(Code.PERMISSION_DENIED, "AccessDenied", new sharedPb.AccessDenied());
}

export function timeoutStatus(): Status {
  return statusOf(Code.DEADLINE_EXCEEDED, "Timeout", new sharedPb.Timeout());
}

export function unknownStatus(): Status {
  return statusOf(Code.UNKNOWN, "Unknown", new sharedPb.Unknown());
}

export function maximumAppendSizeStatus(bytes: number): Status {
  const detail = new sharedPb.MaximumAppendSizeExceeded();
  detail.setMaxappendsize(bytes);
  return statusOf(Code.INVALID_ARGUMENT, "MaximumAppendSizeExceeded", detail);
}

export function badRequestStatus(message: string): Status {
  const detail = new sharedPb.BadRequest();
  detail.setMessage(message);
  return statusOf(Code.INVALID_ARGUMENT, "BadRequest", detail);
}
