/** What Node's parser refuses before there is a request (no HTTP, too many header bytes, too slow), answered with a problem like everything else. */
import { STATUS_CODES, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { problemBody, HttpProblem } from "./problem.ts";
import type { HttpServer } from "./schemas.ts";

/** By the code of Node's error. */
const PROBLEMS: Readonly<Record<string, HttpProblem>> = {
  ERR_HTTP_REQUEST_TIMEOUT: new HttpProblem(408, "RequestTimeout", "the request did not arrive in time"),
  HPE_HEADER_OVERFLOW: new HttpProblem(431, "HeadersTooLarge", "the request's headers are too large"),
  HPE_CHUNK_EXTENSIONS_OVERFLOW: new HttpProblem(413, "TooLarge", "the extensions of the request's chunks are too large"),
};
const MALFORMED = new HttpProblem(400, "MalformedRequest", "this is not an HTTP request");

export interface ClientErrors {
  /** For Fastify's `clientErrorHandler`. */
  readonly handle: (error: Error & { readonly code?: string }, socket: Socket) => void;
  /** Lets the handler know which answers have begun: in the middle of one there is no room for another. */
  watch(server: HttpServer): void;
}

export function clientErrors(): ClientErrors {
  const answers = new WeakMap<Socket, ServerResponse>();
  return {
    handle(error, socket) {
      const answer = answers.get(socket);
      const answering = answer?.headersSent === true && !answer.writableFinished;
      if (socket.writable && !answering && error.code !== "ECONNRESET") socket.write(responseOf(PROBLEMS[error.code ?? ""] ?? MALFORMED));
      socket.destroy();
    },
    watch(server) {
      server.addHook("onRequest", (request, reply, done) => {
        answers.set(request.raw.socket, reply.raw);
        done();
      });
    },
  };
}

function responseOf(problem: HttpProblem): string {
  const body = JSON.stringify(problemBody(problem));
  const headers = ["content-type: application/problem+json", `content-length: ${Buffer.byteLength(body)}`, "cache-control: no-store", "connection: close"];
  return `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\n${headers.join("\r\n")}\r\n\r\n${body}`;
}
