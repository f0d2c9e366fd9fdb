/** Streams.Read: reads and subscriptions of a stream and of `$all` (Streams.Read.cs). */
import { status, type handleServerStreamingCall, type ServerWritableStream } from "@grpc/grpc-js";
import type { ReadReq, ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { mayAccess, type Caller } from "../engine/access.ts";
import { eventFilter, type EventFilter } from "../engine/filter.ts";
import { placeOf } from "../engine/model.ts";
import type { ReadResponse } from "../engine/read-response.ts";
import { readAll, readStream } from "../engine/reads.ts";
import { subscribeToAll, subscribeToStream } from "../engine/subscriptions.ts";
import type { FaultAction, FaultTarget } from "../faults.ts";
import { assertAccess, callerOf, refusal, type RunningStream, type ServerSide } from "./calls.ts";
import { streamsPb } from "./protobuf.ts";
import { readResponsePb } from "./read-messages.ts";
import { handlerFailed, invalidArgument, RpcError, rpcErrorOf } from "./rpc-error.ts";
import { revisionOf, streamNameOf } from "./values.ts";

type Call = ServerWritableStream<ReadReq, ReadResp>;
type Options = ReadReq.Options;

const { ReadDirection } = streamsPb.ReadReq.Options;

export function read(server: ServerSide): handleServerStreamingCall<ReadReq, ReadResp> {
  return (call) => {
    const stop = new AbortController();
    const cancel = (): void => stop.abort(new Error("the call is over"));
    call.on("cancelled", cancel).on("close", cancel);
    server.stopped.addEventListener("abort", cancel, { once: true });
    let running: RunningStream | undefined;
    serve(server, call, stop, (started) => server.running.add((running = started)))
      .catch((error: unknown) => {
        if (!stop.signal.aborted) call.emit("error", rpcErrorOf(error));
      })
      .finally(() => {
        cancel();
        server.stopped.removeEventListener("abort", cancel);
        if (running !== undefined) server.running.delete(running);
      });
  };
}

async function serve(server: ServerSide, call: Call, stop: AbortController, started: (running: RunningStream) => void): Promise<void> {
  const { signal } = stop;
  const options = call.request.getOptions();
  if (options === undefined) throw handlerFailed();
  const caller = callerOf(server, call);
  const stream = options.hasAll() ? "$all" : streamNameOf(options.getStream()?.getStreamIdentifier());
  if (stream === undefined) throw invalidArgument("'None' is not a valid StreamOptionOneofCase");
  const uuidOption = options.getUuidOption();
  if (uuidOption === undefined) throw invalidArgument("'uuidOption' is required");
  const target: FaultTarget = options.hasSubscription() ? "subscription" : "read";
  const action = server.faults.none ? undefined : await server.faults.meet(target, stream, signal);
  assertAccess(server, caller, "read", stream);

  started({
    target,
    stream,
    end() {
      stop.abort(new Error("ended by the server"));
      call.end();
    },
  });

  let sent = 0;
  if (await interrupted(server, call, action, sent, signal)) return;
  for await (const response of responses(server, caller, options, stream, signal)) {
    if (!server.faults.none) await server.faults.whileStalled(target, stream, signal);
    if (signal.aborted) return;
    const written = call.write(readResponsePb(response, !uuidOption.hasString()));
    sent++;
    if (action?.kind === "slow") await server.faults.pause(action.betweenMs, signal);
    if (await interrupted(server, call, action, sent, signal)) return;
    if (!written) await drained(call, signal);
  }
  if (!signal.aborted) call.end();
}

/** Whether the fault of this call ends it after so many messages. */
async function interrupted(server: ServerSide, call: Call, action: FaultAction | undefined, sent: number, signal: AbortSignal): Promise<boolean> {
  switch (action?.kind) {
    case "refuse":
    case "cut":
    case "end":
      if (sent < (action.afterMessages ?? 0)) return false;
      if (action.kind === "refuse") throw refusal(action);
      if (action.kind === "end") call.end();
      else server.cut(call.getPeer());
      return true;
    case "time-out":
      throw new RpcError(status.ABORTED, "Operation timed out: the read ran out of time");
    case "drop-reply":
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      return true;
    default:
      return false;
  }
}

function responses(server: ServerSide, caller: Caller, options: Options, stream: string, signal: AbortSignal): Iterable<ReadResponse> | AsyncIterable<ReadResponse> {
  const { engine } = server;
  const backwards = options.getReadDirection() === ReadDirection.BACKWARDS;
  const resolveLinks = options.getResolveLinks();
  const filter = filterOf(options);
  const mayRead = (): boolean => mayAccess(engine.log, caller, "read", stream);
  const subscription = options.hasSubscription();
  if (!subscription && !options.hasCount()) throw invalidArgument("The combination of options is invalid.");
  if (subscription && backwards) throw invalidArgument("The combination of options is invalid.");
  const count = subscription ? 0 : Number(options.getCount());

  if (!options.hasAll()) {
    if (filter !== undefined) throw invalidArgument("The combination of options is invalid.");
    const from = revisionFrom(options);
    if (subscription) return subscribeToStream(engine, { stream, after: from, resolveLinks, mayRead, signal });
    const compatibility = options.getControlOption()?.getCompatibility() ?? 0;
    return readStream(engine, { stream, from: from === "start" ? 0 : from, backwards, count, resolveLinks, compatibility });
  }
  const from = placeFrom(options);
  if (subscription) return subscribeToAll(engine, { after: from, resolveLinks, mayRead, signal, ...filter });
  return readAll(engine, { from: from === "start" ? 0 : from, backwards, count, resolveLinks, ...filter });
}

interface Filtering {
  readonly filter: EventFilter;
  readonly window?: number;
  readonly interval: number;
}

function filterOf(options: Options): Filtering | undefined {
  const given = options.getFilter();
  if (given === undefined) {
    if (!options.hasNoFilter()) throw invalidArgument("The combination of options is invalid.");
    return undefined;
  }
  const on = given.hasStreamIdentifier() ? "stream" : given.hasEventType() ? "type" : undefined;
  const expression = given.getStreamIdentifier() ?? given.getEventType();
  if (on === undefined || expression === undefined) throw invalidArgument("the filter names neither streams nor types");
  if (!given.hasMax() && !given.hasCount()) throw invalidArgument("'None' is not a valid WindowOneofCase");
  const interval = given.getCheckpointintervalmultiplier();
  if (options.hasSubscription() && interval === 0) throw handlerFailed();
  const regex = expression.getRegex();
  try {
    return { filter: eventFilter({ on, regex, prefixes: expression.getPrefixList() }), ...(given.hasMax() ? { window: given.getMax() } : {}), interval };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new RpcError(status.UNIMPLEMENTED, `the test server knows the regular expressions of JavaScript, not all of .NET's: ${JSON.stringify(regex)}`);
  }
}

function revisionFrom(options: Options): number | "start" | "end" {
  const from = options.getStream();
  if (from?.hasStart() === true) return "start";
  if (from?.hasEnd() === true) return "end";
  if (from?.hasRevision() !== true) throw handlerFailed();
  const revision = revisionOf(from.getRevision());
  return revision < 0 ? "end" : revision;
}

function placeFrom(options: Options): number | "start" | "end" {
  const from = options.getAll();
  if (from?.hasStart() === true) return "start";
  if (from?.hasEnd() === true) return "end";
  const position = from?.getPosition();
  if (position === undefined) throw handlerFailed();
  const commit = BigInt(position.getCommitPosition());
  const prepare = BigInt(position.getPreparePosition());
  const end = 2n ** 64n - 1n;
  if (commit === end && prepare === end) return "end";
  // The server's own type of positions throws.
  if (commit < prepare || commit >= 2n ** 63n) throw handlerFailed();
  return placeOf(Number(commit), Number(prepare));
}

function drained(call: Call, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      call.off("drain", go);
      signal.removeEventListener("abort", go);
      resolve();
    };
    call.once("drain", go);
    signal.addEventListener("abort", go, { once: true });
    if (signal.aborted) go();
  });
}
