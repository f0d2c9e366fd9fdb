/**
 * One connection to EventStoreDB, shared by the stores of a backend: the client's own channel (its discovery of nodes, TLS, credentials and reconnecting), on which
 * the calls are ours.
 *
 * C1 Every wait has a bound: for the channel, for each answer to a read, for each append. The client has none for its batches and reads (its defects 1 and 7).
 * C2 Every call asks for the leader: what was acknowledged is seen by the next read.
 * C3 A call that fails because of the connection makes the client connect anew for the next one; whoever may repeat a call does so.
 * C4 The last user to leave ends everything that the client holds open, so that the process can exit (its defect 10).
 */
import type { CallOptions, ClientReadableStream, Metadata } from "@grpc/grpc-js";
import type { EventStoreDBClient } from "@eventstore/db-client";
import streamsGrpc from "@eventstore/db-client/generated/streams_grpc_pb.js";
import type { ReadReq, ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import type { Environment, Timer } from "../../environment.ts";
import { Aborted, InvalidArgument, StoreClosed } from "../../errors.ts";
import { NoAnswer } from "./eventstoredb-error.ts";

export type StreamsClient = InstanceType<typeof streamsGrpc.StreamsClient>;

/** What the client's own commands are made of. TypeScript hides it, and 6.x keeps it. */
interface ClientParts {
  GRPCStreamCreator<T>(kind: typeof streamsGrpc.StreamsClient, name: string, create: (client: StreamsClient) => T | Promise<T>): () => Promise<T>;
  callArguments(options: { readonly requiresLeader: true }, callOptions: CallOptions): [Metadata, CallOptions];
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Looks at one response; true: that was enough, and the call is ended. */
  readonly onResponse: (response: ReadResp) => boolean | void;
}

export class Connection {
  readonly environment: Environment;
  /** Host and port, for messages. */
  readonly name: string;
  readonly timeoutMs: number;
  readonly #client: EventStoreDBClient;
  readonly #parts: ClientParts;
  readonly #owned: boolean;
  #channel: ReturnType<StreamsClient["getChannel"]> | undefined;
  #holders = 0;
  #closed = false;

  constructor(client: EventStoreDBClient, options: { readonly name: string; readonly owned: boolean; readonly timeoutMs: number; readonly environment: Environment }) {
    this.#client = client;
    this.#parts = client as unknown as ClientParts;
    if (!(["GRPCStreamCreator", "callArguments"] as const).every((part) => typeof this.#parts[part] === "function")) {
      throw new InvalidArgument("client must be an EventStoreDBClient of @eventstore/db-client 6.2", { details: { option: "client" } });
    }
    this.#owned = options.owned;
    this.name = options.name;
    this.timeoutMs = options.timeoutMs;
    this.environment = options.environment;
  }

  /** Metadata and options of a call. C1: the bounds are ours, gRPC sets none. */
  callArguments(): [Metadata, CallOptions] {
    return this.#parts.callArguments({ requiresLeader: true }, { deadline: Infinity });
  }

  /** Opens a call that streams. Errors: StoreClosed, NoAnswer, those of gRPC. */
  open<T extends { cancel(): void }>(name: string, create: (client: StreamsClient) => T | Promise<T>, boundMs: number = this.timeoutMs): Promise<T> {
    if (this.#closed) return Promise.reject(this.closedError());
    const opening = this.#parts.GRPCStreamCreator(streamsGrpc.StreamsClient, name, (client) => {
      this.#channel = client.getChannel();
      return create(client);
    })();
    // A call that comes too late is nobody's.
    return this.#bounded(opening, boundMs, () => void opening.then((call) => call.cancel(), () => undefined));
  }

  /** Opens a subscription, or a read. Its call has no bound: see `read`. */
  openRead(request: ReadReq, boundMs?: number): Promise<ClientReadableStream<ReadResp>> {
    return this.open("read", (client) => client.read(request, ...this.callArguments()), boundMs);
  }

  /** Reads to the end, each response within the bound after the one before (C1). Errors: as open, Aborted, what `onResponse` throws. */
  async read(request: ReadReq, { signal, onResponse }: ReadOptions): Promise<void> {
    const { clock } = this.environment;
    const call = await this.openRead(request);
    await new Promise<void>((resolve, reject) => {
      let heard = clock.elapsed();
      let timer: Timer;
      const finish = (settle: () => void): void => {
        timer.cancel();
        signal?.removeEventListener("abort", abort);
        settle();
        call.cancel();
      };
      // One timer for all responses: it looks again when something came meanwhile.
      const watch = (ms: number): void => {
        timer = clock.setTimer(ms, () => {
          const left = heard + this.timeoutMs - clock.elapsed();
          if (left > 0) watch(left);
          else finish(() => reject(new NoAnswer(this.timeoutMs)));
        }, { keepAlive: true });
      };
      const abort = (): void => finish(() => reject(new Aborted("the read was aborted", { cause: signal?.reason })));
      watch(this.timeoutMs);
      call.on("data", (response: ReadResp) => {
        heard = clock.elapsed();
        try {
          if (onResponse(response) === true) finish(resolve);
        } catch (error) {
          finish(() => reject(error as Error));
        }
      });
      call.on("error", (error: Error) => finish(() => reject(error)));
      call.on("end", () => finish(resolve));
      if (signal?.aborted === true) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    });
  }

  closedError(): StoreClosed {
    return new StoreClosed(`the connection to ${this.name} is closed`, { details: { server: this.name } });
  }

  /** Counts one more user. */
  retain(): this {
    this.#holders++;
    return this;
  }

  /** C4. */
  async release(): Promise<void> {
    if (--this.#holders > 0) return;
    this.#closed = true;
    if (!this.#owned) return;
    await this.#bounded(this.#client.dispose(), this.timeoutMs).catch(() => undefined);
    // The client disposes of its calls alone, and leaves the connection open.
    this.#channel?.close();
  }

  #bounded<T>(promise: Promise<T>, boundMs: number, onLate?: () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.environment.clock.setTimer(boundMs, () => {
        onLate?.();
        reject(new NoAnswer(boundMs));
      }, { keepAlive: true });
      promise.then(
        (value) => {
          timer.cancel();
          resolve(value);
        },
        (error: unknown) => {
          timer.cancel();
          reject(error as Error);
        },
      );
    });
  }
}

/** The promise's outcome, or Aborted as soon as the signal says so. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(new Aborted("the read was aborted", { cause: signal.reason }));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
