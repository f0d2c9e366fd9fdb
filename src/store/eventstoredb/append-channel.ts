/**
 * Sends appends over one call of `BatchAppend`, many at once, each known by a number.
 *
 * B1 Each append has a bound of its own: the client has none for its batches (its defect 1). When it passes, the append may stand or not.
 * B2 What waits for an answer belongs to one call. The failure of another connection is none of its business (defect 2), and an answer that nobody waits for is
 *    dropped (defect 3).
 * B3 When the call ends, with an error or without one (defect 4), everything that waits on it may stand or not; the next append opens a new call.
 * B4 Nothing is written to a call before its channel is connected: what finds none was not sent, for certain. What gRPC cannot connect is told at once (defect 8).
 * B5 Whether the server can take batches, and lets this user call it, is asked by trying: there is no answer to remember that may have gone wrong (defect 8). A call that
 *    was refused as a whole before it answered anything has carried nothing out.
 */
import type { ClientDuplexStream } from "@grpc/grpc-js";
import shared from "@eventstore/db-client/generated/shared_pb.js";
import streams from "@eventstore/db-client/generated/streams_pb.js";
import type { BatchAppendReq, BatchAppendResp } from "@eventstore/db-client/generated/streams_pb.js";
import type { Connection, StreamsClient } from "./connection.ts";
import { NoAnswer, refusesCalls } from "./eventstoredb-error.ts";
import { refusalOf, streamIdentifier, uuidText, whole, type Refused } from "./protocol.ts";
import type { EncodedEvent } from "./wire.ts";

/** `number`: the revision of the stream's last event. */
export type ExpectedRevision = number | "any" | "no-stream" | "stream-exists";

export interface AppendRequest {
  readonly stream: string;
  readonly expected: ExpectedRevision;
  readonly events: readonly EncodedEvent[];
}

export type AppendAnswer =
  /** `revision` and `position` are those of the append's last event; an append that stands already may come without a position. */
  | { readonly kind: "written"; readonly revision: number; readonly position: number | undefined }
  | { readonly kind: "refused"; readonly why: Refused }
  /** For certain not written: there was no connection. */
  | { readonly kind: "not-sent"; readonly cause: unknown }
  /** It may stand or not, now or later. */
  | { readonly kind: "lost"; readonly cause: unknown };

type Call = ClientDuplexStream<BatchAppendReq, BatchAppendResp>;

interface OpenCall {
  readonly call: Call;
  readonly waiting: Map<string, (answer: AppendAnswer) => void>;
}

/** Of `grpc.connectivityState`. */
const READY = 2;
const TRANSIENT_FAILURE = 3;

export class AppendChannel {
  readonly #connection: Connection;
  #open: Promise<OpenCall> | undefined;
  #sent = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Never rejects. */
  async send(append: AppendRequest, boundMs: number): Promise<AppendAnswer> {
    let open: OpenCall;
    try {
      open = await (this.#open ??= this.#connect(boundMs));
    } catch (cause) {
      return { kind: "not-sent", cause };
    }
    const id = numbered(++this.#sent);
    return new Promise((resolve) => {
      const { clock } = this.#connection.environment;
      // B1.
      const timer = clock.setTimer(boundMs, () => answer({ kind: "lost", cause: new NoAnswer(boundMs) }), { keepAlive: true });
      const answer = (given: AppendAnswer): void => {
        timer.cancel();
        open.waiting.delete(id);
        resolve(given);
      };
      open.waiting.set(id, answer);
      try {
        open.call.write(requestOf(append, id));
      } catch (cause) {
        answer({ kind: "lost", cause });
      }
    });
  }

  /** Ends the call; what waits on it is lost. */
  close(): void {
    const open = this.#open;
    this.#open = undefined;
    void open?.then(
      ({ call }) => call.cancel(),
      () => undefined,
    );
  }

  async #connect(boundMs: number): Promise<OpenCall> {
    const opening = this.#connection.open("batchAppend", async (client): Promise<Call> => {
      await connected(client, new Date(this.#connection.environment.clock.now() + boundMs));
      return client.batchAppend(...this.#connection.callArguments());
    }, boundMs);
    const opened = opening.then(
      (call) => this.#listen(call),
      (error: unknown) => {
        this.#open = undefined;
        throw error;
      },
    );
    return opened;
  }

  /** B2, B3. */
  #listen(call: Call): OpenCall {
    const open: OpenCall = { call, waiting: new Map() };
    const { logger } = this.#connection.environment;
    const mine = this.#open;
    let answered = false;
    const lose = (cause: unknown): void => {
      if (this.#open === mine) this.#open = undefined;
      const kind = !answered && refusesCalls(cause) ? "not-sent" : "lost"; // B5
      for (const answer of open.waiting.values()) answer({ kind, cause });
    };
    call.on("data", (response: BatchAppendResp) => {
      answered = true;
      const answer = open.waiting.get(uuidText(response.getCorrelationId()));
      if (answer === undefined) {
        logger.warn({ server: this.#connection.name }, "EventStoreDB answered an append that nobody waits for any more");
        return;
      }
      try {
        answer(answerOf(response));
      } catch (cause) {
        answer({ kind: "lost", cause });
      }
    });
    call.on("error", lose);
    call.on("end", () => {
      lose(new Error("EventStoreDB ended the call of the appends"));
      call.end();
    });
    return open;
  }
}

function answerOf(response: BatchAppendResp): AppendAnswer {
  const error = response.getError();
  if (error !== undefined) return { kind: "refused", why: refusalOf(error) };
  const success = response.getSuccess();
  if (success?.hasCurrentRevision() !== true) return { kind: "lost", cause: new Error("EventStoreDB answered an append without a revision") };
  const position = success.getPosition();
  return { kind: "written", revision: whole(success.getCurrentRevision()), position: position === undefined ? undefined : whole(position.getCommitPosition()) };
}

function requestOf({ stream, expected, events }: AppendRequest, id: string): BatchAppendReq {
  const options = new streams.BatchAppendReq.Options().setStreamIdentifier(streamIdentifier(stream));
  if (expected === "any") options.setAny(new shared.Empty());
  else if (expected === "no-stream") options.setNoStream(new shared.Empty());
  else if (expected === "stream-exists") options.setStreamExists(new shared.Empty());
  else options.setStreamPosition(String(expected));
  const messages = events.map((event) => {
    const message = new streams.BatchAppendReq.ProposedMessage().setId(new shared.UUID().setString(event.id)).setData(event.data).setCustomMetadata(event.metadata);
    message.getMetadataMap().set("type", event.type).set("content-type", event.json ? "application/json" : "application/octet-stream");
    return message;
  });
  return new streams.BatchAppendReq().setCorrelationId(new shared.UUID().setString(id)).setOptions(options).setProposedMessagesList(messages).setIsFinal(true);
}

/** A UUID that no other append of this call has. */
function numbered(n: number): string {
  return `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
}

/** B4. Errors: those of the connection. */
function connected(client: StreamsClient, deadline: Date): Promise<void> {
  const channel = client.getChannel();
  return new Promise((resolve, reject) => {
    const look = (before: number | undefined): void => {
      const state = channel.getConnectivityState(true) as number;
      if (state === READY) return resolve();
      if (state === TRANSIENT_FAILURE && before !== undefined) return reject(unavailable());
      channel.watchConnectivityState(state, deadline, (error) => (error === undefined || error === null ? look(state) : reject(unavailable(error))));
    };
    look(undefined);
  });
}

/** As gRPC says it, so that the client connects anew. */
function unavailable(cause?: unknown): Error {
  return Object.assign(new Error("no connection to EventStoreDB could be made", { cause }), { code: 14, details: "no connection to EventStoreDB could be made" });
}
