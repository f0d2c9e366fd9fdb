/**
 * Faults of a server in a process of its own, over HTTP on the loopback:
 * `POST /faults` with a fault, `GET /faults`, `DELETE /faults`, `DELETE /faults/1`, `POST /end-streams` with `{ target }`, `POST /cut-connections`, `POST /restart` with `{ downMs }`.
 * Whoever reaches the port may do all of it.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { InvalidArgument, StoreUnavailable } from "../../errors.ts";
import { faultTargets, type Fault, type FaultTarget } from "./faults.ts";
import type { EventStoreDbServer } from "./server.ts";

export interface EventStoreDbControl extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 64 * 1024;

/** Opens the control channel of a server; port 0 is any free one. Errors: StoreUnavailable. */
export async function eventStoreDbControl(server: EventStoreDbServer, { port = 0 }: { readonly port?: number } = {}): Promise<EventStoreDbControl> {
  const http = createServer((request, response) => {
    const answer = (code: number, body?: unknown): void => {
      response.writeHead(code, { "content-type": "application/json" }).end(body === undefined ? undefined : JSON.stringify(body));
    };
    handle(server, request).then(
      (body) => (body === undefined ? answer(204) : answer(200, body)),
      (error: unknown) => answer(error instanceof InvalidArgument ? 400 : 500, { error: error instanceof Error ? error.message : String(error) }),
    );
  });
  http.listen(port, "127.0.0.1");
  try {
    await once(http, "listening");
  } catch (cause) {
    throw new StoreUnavailable(`cannot listen on 127.0.0.1:${port}`, { cause });
  }
  const close = (): Promise<void> => closed(http);
  return { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, close, [Symbol.asyncDispose]: close };
}

async function handle(server: EventStoreDbServer, request: IncomingMessage): Promise<unknown> {
  const { method, url = "" } = request;
  const one = /^\/faults\/(\d+)$/.exec(url);
  switch (`${method} ${one === null ? url : "/faults/id"}`) {
    case "GET /faults":
      return server.faults.list().map(({ id, met, fault }) => ({ id, met, fault }));
    case "POST /faults":
      return { id: server.faults.add(await bodyOf<Fault>(request)).id };
    case "DELETE /faults":
      return server.faults.clear();
    case "DELETE /faults/id":
      return server.faults.list().find(({ id }) => String(id) === one?.[1])?.remove();
    case "POST /end-streams":
      return { ended: server.endStreams(targetOf(await bodyOf<{ target?: string }>(request))) };
    case "POST /cut-connections":
      return server.cutConnections();
    case "POST /restart":
      return server.restart(await bodyOf<{ downMs?: number }>(request));
    default:
      throw new InvalidArgument(`the control channel knows no ${method} ${url}`);
  }
}

function targetOf({ target }: { readonly target?: string }): FaultTarget | undefined {
  if (target === undefined) return undefined;
  const known = faultTargets.find((name) => name === target);
  if (known === undefined) throw new InvalidArgument(`target is one of ${faultTargets.join(", ")}`);
  return known;
}

/** The body as JSON, an empty object where there is none. */
async function bodyOf<T>(request: IncomingMessage): Promise<T> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new InvalidArgument("the body is too large");
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  try {
    return JSON.parse(text === "" ? "{}" : text) as T;
  } catch (cause) {
    throw new InvalidArgument("the body is no JSON", { cause });
  }
}

async function closed(http: Server): Promise<void> {
  if (!http.listening) return;
  const done = once(http, "close");
  http.close();
  http.closeAllConnections();
  await done;
}
