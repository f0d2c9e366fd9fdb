/** A TCP proxy that stands between a client and the server, and does to the bytes what a bad network does. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Proxy {
  readonly url: string;
  /** Bytes to the client are thrown away: the server has done its work and nobody hears. */
  dropReplies: boolean;
  /** Bytes of both directions vanish, and no side is told: a half-open connection. */
  swallow: boolean;
  /** Bytes to the server arrive this much later. */
  delayMs: number;
  /** Called with what is sent to the server; true cuts the connection as soon as it was handed on. */
  cutAfter: ((bytes: Buffer) => boolean) | undefined;
  /** Connections so far. */
  accepted: number;
  /** Connections of clients that are open. */
  open(): number;
  /** Resets all connections. */
  reset(): void;
  close(): Promise<void>;
}

export async function proxyTo(target: string): Promise<Proxy> {
  const upstream = new URL(target);
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    proxy.accepted++;
    clients.add(client);
    client.on("close", () => clients.delete(client));
    const remote = connect(Number(upstream.port === "" ? 5432 : upstream.port), upstream.hostname);
    let turn: Promise<unknown> = Promise.resolve();
    for (const socket of [client, remote]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        // What is on its way still arrives, also when the sender has left.
        if (!proxy.swallow) void turn.then(() => (socket === client ? remote : client).destroy());
      });
    }
    client.on("data", (bytes) => {
      if (proxy.swallow) return;
      const cut = proxy.cutAfter?.(bytes) === true;
      const { delayMs } = proxy;
      turn = turn
        .then(() => (delayMs > 0 ? new Promise((resolve) => setTimeout(resolve, delayMs)) : undefined))
        .then(() => new Promise<void>((resolve) => remote.write(bytes, () => resolve())))
        .then(() => (cut ? client.resetAndDestroy() : undefined));
    });
    remote.on("data", (bytes) => {
      if (!proxy.swallow && !proxy.dropReplies) client.write(bytes);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(target);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  const proxy: Proxy = {
    url: url.href,
    dropReplies: false,
    swallow: false,
    delayMs: 0,
    cutAfter: undefined,
    accepted: 0,
    open: () => clients.size,
    reset() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async close() {
      proxy.reset();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}
