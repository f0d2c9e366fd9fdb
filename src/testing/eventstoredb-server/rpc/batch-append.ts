/**
 * Streams.BatchAppend: many appends on one stream of requests, answered as they are done (Streams.BatchAppend.cs).
 *
 * B1 The options of an append stand on its first frame; events are collected until a frame is final, then the append is carried out.
 * B2 Every answer carries the correlation id as it was sent, and the stream's name.
 * B3 A failure of one append is an answer; the others go on.
 * B4 An append that is not whole when its deadline or the server's own has passed is answered with a timeout and forgotten.
 * B5 When the client has sent its last request, the call ends with the last answer.
 */
import type { handleBidiStreamingCall, ServerDuplexStream } from "@grpc/grpc-js";
import type { Status } from "@eventstore/db-client/generated/status_pb.js";
import type { BatchAppendReq, BatchAppendResp } from "@eventstore/db-client/generated/streams_pb.js";
import type { Timer } from "../../../environment.ts";
import { mayAccess, type Caller } from "../engine/access.ts";
import { NO_STREAM, sizeOf, type AppendOutcome, type ProposedEvent } from "../engine/model.ts";
import { accessDeniedStatus, badRequestStatus, maximumAppendSizeStatus, streamDeletedStatus, timeoutStatus, unknownStatus, wrongExpectedVersionStatus } from "./batch-status.ts";
import { callerOf, underFaults, type RunningStream, type ServerSide } from "./calls.ts";
import { GoogleEmpty, sharedPb, streamsPb } from "./protobuf.ts";
import { rpcErrorOf } from "./rpc-error.ts";
import { BadRequest, expectationOf, identifierOf, proposedEvent, revisionText, streamNameOf, uuidText, type Expectation } from "./values.ts";

type Call = ServerDuplexStream<BatchAppendReq, BatchAppendResp>;

/** An append whose frames are not all there. */
interface Pending {
  readonly stream: string;
  readonly expectation: Expectation;
  readonly events: ProposedEvent[];
  readonly timeoutMs: number;
  bytes: number;
  timer: Timer | undefined;
}

type Result = Status | Extract<AppendOutcome, { kind: "success" }>;

export function batchAppend(server: ServerSide): handleBidiStreamingCall<BatchAppendReq, BatchAppendResp> {
  return (call) => {
    let caller: Caller;
    try {
      caller = callerOf(server, call);
    } catch (error) {
      call.emit("error", rpcErrorOf(error));
      return;
    }
    new Worker(server, call, caller).run();
  };
}

class Worker {
  readonly #server: ServerSide;
  readonly #call: Call;
  readonly #caller: Caller;
  readonly #pending = new Map<string, Pending>();
  #underWay = 0;
  #halfClosed = false;
  #open = true;

  constructor(server: ServerSide, call: Call, caller: Caller) {
    this.#server = server;
    this.#call = call;
    this.#caller = caller;
  }

  run(): void {
    const running: RunningStream = { target: "batch-append", stream: undefined, end: () => this.#close(() => this.#call.end()) };
    this.#server.running.add(running);
    const left = (): void => {
      this.#close(() => undefined);
      this.#server.running.delete(running);
    };
    this.#call
      .on("data", (request: BatchAppendReq) => this.#receive(request))
      .on("drain", () => this.#call.resume())
      .on("end", () => {
        this.#halfClosed = true;
        this.#endWhenDone(); // B5
      })
      .on("cancelled", left)
      .on("close", left);
  }

  #receive(request: BatchAppendReq): void {
    if (!this.#open) return;
    let id = "";
    try {
      id = uuidText(request.getCorrelationId());
      this.#collect(request, id);
    } catch (error) {
      const stream = streamNameOf(request.getOptions()?.getStreamIdentifier()) ?? this.#pending.get(id)?.stream ?? "";
      this.#forget(id);
      this.#answer(request, stream, badRequestStatus(error instanceof BadRequest ? error.message : String(error)));
    }
  }

  #collect(request: BatchAppendReq, id: string): void {
    const pending = request.hasOptions() ? this.#opened(request, id) : this.#pending.get(id);
    if (pending === undefined) return;
    for (const message of request.getProposedMessagesList()) {
      const event = proposedEvent(message);
      if ("missing" in event) throw new BadRequest(`The given key '${event.missing}' was not present in the dictionary.`);
      pending.events.push(event);
      pending.bytes += sizeOf(event);
    }
    if (pending.bytes > this.#server.maxAppendBytes) {
      this.#forget(id);
      return this.#answer(request, pending.stream, maximumAppendSizeStatus(this.#server.maxAppendBytes));
    }
    if (request.getIsFinal()) {
      this.#forget(id);
      this.#carryOut(request, pending);
    } else {
      this.#pending.set(id, pending);
      pending.timer ??= this.#server.environment.clock.setTimer(pending.timeoutMs, () => {
        if (this.#forget(id)) this.#answer(request, pending.stream, timeoutStatus()); // B4
      });
    }
  }

  /** What the options of a frame begin, B1; undefined where it was answered. */
  #opened(request: BatchAppendReq, id: string): Pending | undefined {
    const options = request.getOptions();
    if (options === undefined) return undefined;
    const stream = streamNameOf(options.getStreamIdentifier());
    if (!mayAccess(this.#server.engine.log, this.#caller, "write", stream ?? "")) {
      this.#answer(request, stream ?? "", accessDeniedStatus());
      return undefined;
    }
    if (stream === undefined) throw new BadRequest("Required field StreamIdentifier not set.");
    const deadline = options.getDeadline();
    const requested = deadline === undefined ? Number.POSITIVE_INFINITY : deadline.getSeconds() * 1000 + deadline.getNanos() / 1e6 - this.#server.engine.now();
    const timeoutMs = Math.min(requested, this.#server.writeTimeoutMs);
    if (timeoutMs <= 0) {
      this.#answer(request, stream, timeoutStatus());
      return undefined;
    }
    const expectation = expectationOf(options, options.hasStreamPosition() ? options.getStreamPosition() : undefined);
    if (expectation === undefined) throw new BadRequest("'None' is not a valid ExpectedStreamPositionOneofCase");
    return this.#pending.get(id) ?? { stream, expectation, events: [], timeoutMs, bytes: 0, timer: undefined };
  }

  #forget(id: string): boolean {
    this.#pending.get(id)?.timer?.cancel();
    return this.#pending.delete(id);
  }

  #carryOut(request: BatchAppendReq, { stream, expectation, events }: Pending): void {
    if (stream === "" || stream === "$$") throw new BadRequest("Specified argument was out of the range of valid values. (Parameter 'eventStreamId')");
    const carryOut = (): Result => {
      try {
        return resultOf(this.#server.engine.append(stream, expectation.expected, events), stream, expectation);
      } catch (error) {
        this.#server.environment.logger.error({ error, stream }, "an append could not be written");
        return unknownStatus();
      }
    };
    if (this.#server.faults.none) return this.#answer(request, stream, carryOut());
    this.#underWay++;
    underFaults(this.#server, "batch-append", stream, carryOut, timeoutStatus)
      .then(
        (ending) => {
          if (ending === "cut") this.#server.cut(this.#call.getPeer());
          else if (ending === "end") this.#close(() => this.#call.end());
          else if (ending !== "silence") this.#answer(request, stream, ending.answer);
        },
        (error: unknown) => this.#close(() => this.#call.emit("error", rpcErrorOf(error))),
      )
      .finally(() => {
        this.#underWay--;
        this.#endWhenDone();
      });
  }

  #answer(request: BatchAppendReq, stream: string, result: Result): void {
    if (!this.#open) return;
    const response = new streamsPb.BatchAppendResp();
    response.setCorrelationId(request.getCorrelationId()); // B2
    response.setStreamIdentifier(identifierOf(stream));
    if ("kind" in result) response.setSuccess(successOf(result));
    else response.setError(result); // B3
    // A client that does not take its answers is not listened to.
    if (!this.#call.write(response)) this.#call.pause();
  }

  #endWhenDone(): void {
    if (this.#halfClosed && this.#underWay === 0) this.#close(() => this.#call.end());
  }

  #close(how: () => void): void {
    if (!this.#open) return;
    this.#open = false;
    for (const id of this.#pending.keys()) this.#forget(id);
    how();
  }
}

function resultOf(outcome: AppendOutcome, stream: string, { expected }: Expectation): Result {
  switch (outcome.kind) {
    case "success":
      return outcome;
    case "wrong-version":
      return wrongExpectedVersionStatus(expected, outcome.current);
    case "deleted":
      return streamDeletedStatus(stream);
  }
}

function successOf({ revision, position }: Extract<AppendOutcome, { kind: "success" }>): BatchAppendResp.Success {
  const success = new streamsPb.BatchAppendResp.Success();
  if (revision === NO_STREAM) success.setNoStream(new GoogleEmpty());
  else success.setCurrentRevision(revisionText(revision));
  if (position === undefined) success.setNoPosition(new GoogleEmpty());
  else {
    const at = new sharedPb.AllStreamPosition();
    at.setCommitPosition(String(position));
    at.setPreparePosition(String(position));
    success.setPosition(at);
  }
  return success;
}
