/** What all calls share: who calls, which fault they meet, how they end. */
import { status, type Metadata } from "@grpc/grpc-js";
import type { Environment } from "../../../environment.ts";
import { mayAccess, type Access, type Caller, type User } from "../engine/access.ts";
import type { Engine } from "../engine/engine.ts";
import type { FaultAction, Faults, FaultTarget } from "../faults.ts";
import { accessDenied, notLeader, RpcError } from "./rpc-error.ts";

/** The server as its calls see it. */
export interface ServerSide {
  readonly engine: Engine;
  readonly faults: Faults;
  readonly environment: Environment;
  readonly users: readonly User[] | undefined;
  readonly maxAppendBytes: number;
  readonly writeTimeoutMs: number;
  readonly version: string;
  readonly batchAppend: boolean;
  /** What gossip says where the server is. */
  readonly advertised: () => { readonly host: string; readonly port: number };
  /** Streams that run, so that they can be ended. */
  readonly running: Set<RunningStream>;
  /** Aborts when the server stops. */
  readonly stopped: AbortSignal;
  /** Resets the connection of a call. */
  cut(peer: string): void;
}

export interface RunningStream {
  readonly target: FaultTarget;
  readonly stream: string | undefined;
  end(): void;
}

interface Call {
  readonly metadata: Metadata;
  getPeer(): string;
}

/** Errors: RpcError UNAUTHENTICATED for a wrong name or password. */
export function callerOf(server: ServerSide, { metadata }: Call): Caller {
  if (server.users === undefined) return "trusted";
  const header = metadata.get("authorization")[0];
  if (header === undefined) return "anonymous";
  const [scheme, encoded = ""] = String(header).split(" ");
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  const user = scheme?.toLowerCase() === "basic" ? server.users.find(({ name, password }) => colon >= 0 && name === text.slice(0, colon) && password === text.slice(colon + 1)) : undefined;
  if (user === undefined) throw new RpcError(status.UNAUTHENTICATED, "Unauthenticated");
  return user;
}

/** Errors: RpcError PERMISSION_DENIED. */
export function assertAccess(server: ServerSide, caller: Caller, access: Access, stream: string): void {
  if (!mayAccess(server.engine.log, caller, access, stream)) throw accessDenied();
}

/** The error that a `refuse` comes to. */
export function refusal({ code = status.UNAVAILABLE, message = "Server Is Not Ready", leader }: Extract<FaultAction, { kind: "refuse" }>): RpcError {
  return leader === undefined ? new RpcError(code, message) : notLeader(leader.host, leader.port);
}

/** How a call with one answer ends, after what it met. */
export type Ending<T> = { readonly answer: T } | "silence" | "cut" | "end";

/**
 * Carries out what was asked for as the fault of the call wants it. Errors: what `carryOut` throws, a refusal, ABORTED when the server "ran out of time".
 */
export async function underFaults<T>(server: ServerSide, target: FaultTarget, stream: string | undefined, carryOut: () => T, timedOut: () => T): Promise<Ending<T>> {
  if (server.faults.none) return { answer: carryOut() };
  const action = await server.faults.meet(target, stream, server.stopped);
  switch (action?.kind) {
    case "refuse":
      throw refusal(action);
    case "time-out":
      if (action.carriedOut) carryOut();
      return { answer: timedOut() };
    case "drop-reply":
      carryOut();
      return "silence";
    case "cut":
    case "end":
      if (action.carriedOut === true) carryOut();
      return action.kind;
    case "slow": {
      const answer = carryOut();
      await server.faults.pause(action.betweenMs, server.stopped);
      return { answer };
    }
    default:
      return { answer: carryOut() };
  }
}
