/** Streams.Append: one append for each call, its events as a stream (Streams.Append.cs). A wrong version is a message, all other failures are a status. */
import type { handleClientStreamingCall, ServerReadableStream } from "@grpc/grpc-js";
import type { AppendReq, AppendResp } from "@eventstore/db-client/generated/streams_pb.js";
import { DELETED, NO_STREAM, sizeOf, type AppendOutcome, type ProposedEvent } from "../engine/model.ts";
import { assertAccess, callerOf, underFaults, type ServerSide } from "./calls.ts";
import { sharedPb, streamsPb } from "./protobuf.ts";
import { handlerFailed, invalidArgument, maximumAppendSizeExceeded, requiredPropertyMissing, streamDeleted } from "./rpc-error.ts";
import { reply, timedOut } from "./unary.ts";
import { expectationOf, proposedEvent, revisionText, streamNameOf, type Expectation } from "./values.ts";

export function append(server: ServerSide): handleClientStreamingCall<AppendReq, AppendResp> {
  return (call, answer) => {
    const ending = receive(server, call).then(({ stream, expectation, events }) =>
      underFaults(server, "append", stream, () => responseOf(stream, expectation, server.engine.append(stream, expectation.expected, events)), timedOut),
    );
    void reply(server, call.getPeer(), ending, answer);
  };
}

interface Received {
  readonly stream: string;
  readonly expectation: Expectation;
  readonly events: readonly ProposedEvent[];
}

/** Errors: RpcError. */
async function receive(server: ServerSide, call: ServerReadableStream<AppendReq, AppendResp>): Promise<Received> {
  const caller = callerOf(server, call);
  let header: Omit<Received, "events"> | undefined;
  const events: ProposedEvent[] = [];
  let bytes = 0;
  for await (const request of call as AsyncIterable<AppendReq>) {
    if (header === undefined) {
      header = headerOf(request);
      assertAccess(server, caller, "write", header.stream);
      continue;
    }
    const message = request.getProposedMessage();
    if (message === undefined) throw handlerFailed();
    const event = proposedEvent(message);
    if ("missing" in event) throw requiredPropertyMissing(event.missing);
    bytes += sizeOf(event);
    if (bytes > server.maxAppendBytes) throw maximumAppendSizeExceeded(server.maxAppendBytes);
    events.push(event);
  }
  if (header === undefined) throw handlerFailed();
  return { ...header, events };
}

function headerOf(request: AppendReq): Omit<Received, "events"> {
  const options = request.getOptions();
  const stream = streamNameOf(options?.getStreamIdentifier());
  if (options === undefined || stream === undefined || stream === "" || stream === "$$") throw handlerFailed();
  const expectation = expectationOf(options, options.hasRevision() ? options.getRevision() : undefined);
  if (expectation === undefined) throw invalidArgument("'None' is not a valid ExpectedStreamRevisionOneofCase");
  return { stream, expectation };
}

/** The fields for clients of 20.6 and before are left out. */
function responseOf(stream: string, { expected }: Expectation, outcome: AppendOutcome): AppendResp {
  const response = new streamsPb.AppendResp();
  if (outcome.kind === "deleted") throw streamDeleted(stream);
  if (outcome.kind === "success") {
    const success = new streamsPb.AppendResp.Success();
    if (outcome.revision === NO_STREAM) success.setNoStream(new sharedPb.Empty());
    else success.setCurrentRevision(revisionText(outcome.revision));
    if (outcome.position === undefined) success.setNoPosition(new sharedPb.Empty());
    else {
      const position = new streamsPb.AppendResp.Position();
      position.setCommitPosition(String(outcome.position));
      position.setPreparePosition(String(outcome.position));
      success.setPosition(position);
    }
    response.setSuccess(success);
    return response;
  }
  const wrong = new streamsPb.AppendResp.WrongExpectedVersion();
  if (expected === "any") wrong.setExpectedAny(new sharedPb.Empty());
  else if (expected === "stream_exists") wrong.setExpectedStreamExists(new sharedPb.Empty());
  else if (expected === "no_stream" || expected === NO_STREAM) wrong.setExpectedNoStream(new sharedPb.Empty());
  else wrong.setExpectedRevision(revisionText(expected));
  if (outcome.current === NO_STREAM) wrong.setCurrentNoStream(new sharedPb.Empty());
  else if (outcome.current !== DELETED) wrong.setCurrentRevision(revisionText(outcome.current));
  response.setWrongExpectedVersion(wrong);
  return response;
}
