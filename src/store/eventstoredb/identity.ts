/**
 * The log's identity: an event in a stream of ours, written once. A server that was set up anew has none, and gets another one.
 */
import { StoreCorrupt } from "../../errors.ts";
import type { AppendChannel } from "./append-channel.ts";
import type { Connection } from "./connection.ts";
import { toTidemarkError } from "./eventstoredb-error.ts";
import type { StreamReader } from "./stream-reader.ts";

/** No stream of an aggregate: those have a dash. */
export const IDENTITY_STREAM = "tidemark.identity";
const TRIES = 5;

/** Errors: of the connection, Aborted, StoreCorrupt. */
export async function identityOf(connection: Connection, channel: AppendChannel, reader: StreamReader, signal?: AbortSignal): Promise<string> {
  let cause: unknown;
  for (let tries = 0; tries < TRIES; tries++) {
    const standing = await reader.last(IDENTITY_STREAM, signal);
    if (standing !== undefined) return idOf(standing.data.toString(), connection.name);
    const { random } = connection.environment;
    const data = Buffer.from(JSON.stringify({ id: random.uuid() }));
    const answer = await channel.send({ stream: IDENTITY_STREAM, expected: "no-stream", events: [{ id: random.uuid(), type: "tidemark-identity", json: true, data, metadata: Buffer.alloc(0) }] }, connection.timeoutMs);
    // Whoever was first, the stream says.
    cause = answer.kind === "refused" ? new Error(`the stream ${IDENTITY_STREAM} could not be written: ${answer.why.kind}`) : answer.kind === "written" ? undefined : answer.cause;
  }
  throw toTidemarkError(cause ?? new Error("its identity was written and is not there"), connection.name, IDENTITY_STREAM);
}

function idOf(data: string, where: string): string {
  let id: unknown;
  try {
    id = (JSON.parse(data) as { readonly id?: unknown }).id;
  } catch {
    id = undefined;
  }
  if (typeof id === "string" && /^[A-Za-z0-9-]{12,36}$/.test(id)) return id;
  throw new StoreCorrupt(`the stream ${IDENTITY_STREAM} of ${where} does not hold the identity of a log`, { details: { server: where, stream: IDENTITY_STREAM } });
}
