/**
 * The test server in this process. It owns its connections, so that a fault can reset one of them, and a restart can take the same port.
 *
 * R1 A restart loses what the real server keeps in memory alone: which ids were written lately. The log stays.
 * R2 `close` answers nothing more: calls under way are cut off, what was answered stands.
 */
import { once } from "node:events";
import { createServer, type AddressInfo, type Server as TcpServer, type Socket } from "node:net";
import { Server, ServerCredentials, type ConnectionInjector } from "@grpc/grpc-js";
import { GossipService } from "@eventstore/db-client/generated/gossip_grpc_pb.js";
import { ServerFeaturesService } from "@eventstore/db-client/generated/serverfeatures_grpc_pb.js";
import { StreamsService } from "@eventstore/db-client/generated/streams_grpc_pb.js";
import { environmentOf, type Environment } from "../../environment.ts";
import { StoreUnavailable } from "../../errors.ts";
import { Engine } from "./engine/engine.ts";
import { JournalFile } from "./engine/journal-file.ts";
import { Faults, type FaultTarget } from "./faults.ts";
import { checkedOptions, type EventStoreDbServerOptions } from "./options.ts";
import { append } from "./rpc/append.ts";
import { batchAppend } from "./rpc/batch-append.ts";
import type { RunningStream, ServerSide } from "./rpc/calls.ts";
import { deleteStream, tombstoneStream } from "./rpc/deletes.ts";
import { readGossip, supportedMethods } from "./rpc/discovery.ts";
import { read } from "./rpc/read.ts";

export interface EventStoreDbServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** What a client connects with, without a name and password: `esdb://127.0.0.1:2113?tls=false`. */
  readonly connectionString: string;
  /** What goes wrong from now on. */
  readonly faults: Faults;
  /** Ends streams that run as if all were well: the stream of batch appends, reads, subscriptions. Returns how many. */
  endStreams(target?: FaultTarget): number;
  /** Resets all connections; the port stays open. */
  cutConnections(): void;
  /** Stops at once, as a kill does, and starts again on the same port after `downMs`. */
  restart(options?: { readonly downMs?: number }): Promise<void>;
  /** Stops; the port and the file are free then. Idempotent. */
  close(): Promise<void>;
}

/** Starts a test server for EventStoreDB. Errors: InvalidArgument, StoreCorrupt, StoreUnavailable (the port or the file is taken). */
export async function eventStoreDbServer(options: EventStoreDbServerOptions = {}): Promise<EventStoreDbServer> {
  const server = new TestServer(options);
  await server.start();
  return server;
}

/** The real server takes records of up to 16 MiB. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

class TestServer implements EventStoreDbServer {
  readonly faults: Faults;
  readonly #options: ReturnType<typeof checkedOptions>;
  readonly #environment: Environment;
  readonly #sockets = new Map<string, Socket>();
  readonly #running = new Set<RunningStream>();
  #engine: Engine;
  #journal: JournalFile | undefined;
  #port: number;
  #up: { readonly grpc: Server; readonly tcp: TcpServer; readonly injector: ConnectionInjector; readonly stopped: AbortController } | undefined;
  #closed = false;

  constructor(options: EventStoreDbServerOptions) {
    this.#options = checkedOptions(options);
    this.#environment = environmentOf(options.environment);
    this.#port = this.#options.port;
    this.faults = new Faults(this.#environment.clock);
    this.#engine = this.#open();
  }

  get host(): string {
    return this.#options.host;
  }

  get port(): number {
    return this.#port;
  }

  get connectionString(): string {
    return `esdb://${this.host}:${this.port}?tls=${this.#options.tls !== undefined}`;
  }

  async start(): Promise<void> {
    const stopped = new AbortController();
    const grpc = new Server({ "grpc.max_receive_message_length": MAX_MESSAGE_BYTES, "grpc.max_send_message_length": -1 });
    const side = this.#side(stopped.signal);
    grpc.addService(StreamsService, {
      append: append(side),
      read: read(side),
      delete: deleteStream(side),
      tombstone: tombstoneStream(side),
      ...(this.#options.batchAppend ? { batchAppend: batchAppend(side) } : {}),
    });
    grpc.addService(ServerFeaturesService, { getSupportedMethods: supportedMethods(side) });
    grpc.addService(GossipService, { read: readGossip(side) });
    const injector = grpc.createConnectionInjector(this.#credentials());
    const tcp = createServer((socket) => this.#accept(socket, injector));
    tcp.listen(this.#port, this.host);
    try {
      await once(tcp, "listening");
    } catch (cause) {
      this.#journal?.close();
      throw new StoreUnavailable(`cannot listen on ${this.host}:${this.#port}`, { cause });
    }
    this.#port = (tcp.address() as AddressInfo).port;
    this.#up = { grpc, tcp, injector, stopped };
  }

  endStreams(target?: FaultTarget): number {
    const ended = [...this.#running].filter((running) => target === undefined || running.target === target);
    for (const running of ended) running.end();
    return ended.length;
  }

  cutConnections(): void {
    for (const socket of this.#sockets.values()) socket.resetAndDestroy();
  }

  async restart({ downMs = 0 }: { readonly downMs?: number } = {}): Promise<void> {
    await this.#stop();
    if (downMs > 0) await new Promise<void>((resolve) => void this.#environment.clock.setTimer(downMs, resolve, { keepAlive: true }));
    if (this.#closed) return;
    this.#engine = this.#open(); // R1
    await this.start();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Answers that were given in this turn are on their way first, R2.
    await new Promise<void>((resolve) => this.#environment.clock.immediate(resolve));
    await this.#stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #stop(): Promise<void> {
    const up = this.#up;
    if (up === undefined) return;
    this.#up = undefined;
    up.stopped.abort(new StoreUnavailable("the server stops"));
    const closed = once(up.tcp, "close");
    up.tcp.close();
    this.cutConnections();
    await closed;
    up.injector.destroy();
    up.grpc.forceShutdown();
    this.#journal?.close();
    this.#journal = undefined;
  }

  /** The log anew: from the file, or what memory holds of it. */
  #open(): Engine {
    const { file, knownIdsBytes } = this.#options;
    const { clock, random } = this.#environment;
    if (file !== undefined) {
      this.#journal = new JournalFile(file);
      return new Engine({ clock, random, knownIdsBytes, journal: this.#journal, history: this.#journal.history });
    }
    const former = this.#engine as Engine | undefined;
    return former === undefined ? new Engine({ clock, random, knownIdsBytes }) : former.reopened();
  }

  #side(stopped: AbortSignal): ServerSide {
    const { users, maxAppendBytes, writeTimeoutMs, version, batchAppend: withBatch, advertise } = this.#options;
    return {
      engine: this.#engine,
      faults: this.faults,
      environment: this.#environment,
      users,
      maxAppendBytes,
      writeTimeoutMs,
      version,
      batchAppend: withBatch,
      advertised: () => advertise ?? { host: this.host, port: this.port },
      running: this.#running,
      stopped,
      cut: (peer) => void this.#sockets.get(peer)?.resetAndDestroy(),
    };
  }

  #credentials(): ServerCredentials {
    const { tls } = this.#options;
    if (tls === undefined) return ServerCredentials.createInsecure();
    return ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }]);
  }

  #accept(socket: Socket, injector: ConnectionInjector): void {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#sockets.set(peer, socket);
    socket.setNoDelay(true);
    socket.on("error", () => undefined).on("close", () => this.#sockets.delete(peer));
    injector.injectConnection(socket);
  }
}
