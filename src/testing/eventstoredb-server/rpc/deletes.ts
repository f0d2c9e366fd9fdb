/** Streams.Delete and Streams.Tombstone (Streams.Delete.cs). */
import type { handleUnaryCall } from "@grpc/grpc-js";
import type { DeleteReq, DeleteResp, TombstoneReq, TombstoneResp } from "@eventstore/db-client/generated/streams_pb.js";
import { assertAccess, callerOf, type ServerSide } from "./calls.ts";
import { sharedPb, streamsPb } from "./protobuf.ts";
import { invalidArgument, outcomeError } from "./rpc-error.ts";
import { unary } from "./unary.ts";
import { expectationOf, streamNameOf } from "./values.ts";

interface DeleteOptions {
  getStreamIdentifier(): Parameters<typeof streamNameOf>[0];
  hasRevision(): boolean;
  getRevision(): string;
  hasNoStream(): boolean;
  hasAny(): boolean;
  hasStreamExists(): boolean;
}

interface DeleteRequest {
  getOptions(): DeleteOptions | undefined;
}

export function deleteStream(server: ServerSide): handleUnaryCall<DeleteReq, DeleteResp> {
  return unary(server, {
    target: "delete",
    streamOf,
    handle(call) {
      const position = carryOut(server, "delete", call);
      const response = new streamsPb.DeleteResp();
      if (position === undefined) response.setNoPosition(new sharedPb.Empty());
      else response.setPosition(positioned(new streamsPb.DeleteResp.Position(), position));
      return response;
    },
  });
}

export function tombstoneStream(server: ServerSide): handleUnaryCall<TombstoneReq, TombstoneResp> {
  return unary(server, {
    target: "tombstone",
    streamOf,
    handle(call) {
      const position = carryOut(server, "tombstone", call);
      const response = new streamsPb.TombstoneResp();
      if (position === undefined) response.setNoPosition(new sharedPb.Empty());
      else response.setPosition(positioned(new streamsPb.TombstoneResp.Position(), position));
      return response;
    },
  });
}

function streamOf(request: DeleteRequest): string | undefined {
  return streamNameOf(request.getOptions()?.getStreamIdentifier());
}

function carryOut(server: ServerSide, operation: "delete" | "tombstone", call: Parameters<typeof callerOf>[1] & { readonly request: DeleteRequest }): number | undefined {
  const options = call.request.getOptions();
  const stream = streamNameOf(options?.getStreamIdentifier());
  const expectation = options === undefined ? undefined : expectationOf(options, options.hasRevision() ? options.getRevision() : undefined);
  if (stream === undefined || stream === "" || expectation === undefined) throw invalidArgument("'None' is not a valid ExpectedStreamRevisionOneofCase");
  assertAccess(server, callerOf(server, call), "delete", stream);
  const outcome = server.engine[operation](stream, expectation.expected);
  const error = outcomeError("Delete", stream, expectation, outcome);
  if (error !== undefined) throw error;
  return outcome.kind === "success" ? outcome.position : undefined;
}

interface PositionMessage {
  setCommitPosition(value: string): unknown;
  setPreparePosition(value: string): unknown;
}

function positioned<T extends PositionMessage>(message: T, position: number): T {
  message.setCommitPosition(String(position));
  message.setPreparePosition(String(position));
  return message;
}
