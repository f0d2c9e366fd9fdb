/** Calls with one answer, under the faults. */
import { status, type handleUnaryCall, type sendUnaryData, type ServerUnaryCall } from "@grpc/grpc-js";
import type { FaultTarget } from "../faults.ts";
import { underFaults, type Ending, type ServerSide } from "./calls.ts";
import { RpcError, rpcErrorOf } from "./rpc-error.ts";

export interface UnaryHandler<Request, Response> {
  readonly target: FaultTarget;
  readonly streamOf: (request: Request) => string | undefined;
  readonly handle: (call: ServerUnaryCall<Request, Response>) => Response;
}

export function unary<Request, Response>(server: ServerSide, { target, streamOf, handle }: UnaryHandler<Request, Response>): handleUnaryCall<Request, Response> {
  return (call, answer) => {
    void reply(server, call.getPeer(), underFaults(server, target, streamOf(call.request), () => handle(call), timedOut), answer);
  };
}

/** Ends a call as it is to end; never rejects. */
export async function reply<Response>(server: ServerSide, peer: string, ending: Promise<Ending<Response>>, answer: sendUnaryData<Response>): Promise<void> {
  try {
    const ended = await ending;
    if (ended === "cut") server.cut(peer);
    // A call with one answer cannot end without it: this is what a client sees of the attempt.
    else if (ended === "end") answer(new RpcError(status.UNKNOWN, "The stream was ended without an answer"));
    else if (ended !== "silence") answer(null, ended.answer);
  } catch (error) {
    answer(rpcErrorOf(error));
  }
}

export function timedOut(): never {
  throw new RpcError(status.ABORTED, "Operation timed out: Commit phase timeout.");
}
