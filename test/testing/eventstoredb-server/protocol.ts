/** Calls as they stand in the protocol, through the generated stubs on a client's own connection: what the client hides is seen here. */
import { randomUUID } from "node:crypto";
import { EventStoreDBClient } from "@eventstore/db-client";
import sharedPb from "@eventstore/db-client/generated/shared_pb.js";
import type { UUID } from "@eventstore/db-client/generated/shared_pb.js";
import { StreamsClient } from "@eventstore/db-client/generated/streams_grpc_pb.js";
import streamsPb from "@eventstore/db-client/generated/streams_pb.js";
import type { BatchAppendReq, BatchAppendResp, ReadReq, ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { status, type Metadata, type ServiceError } from "@grpc/grpc-js";

export type Expected = "any" | "no_stream" | "stream_exists" | bigint;

export interface WireEvent {
  readonly id: string;
  readonly type?: string;
  readonly data?: string;
  readonly metadata?: string;
}

/** How an append ended: a revision with its position (undefined: the server told none), or why not. */
export type Outcome =
  | { readonly revision: bigint; readonly position: bigint | undefined }
  | { readonly wrongVersion: bigint | "no_stream"; readonly expected: Expected }
  | { readonly status: string };

export type WireName = "Append" | "BatchAppend";

/** What `getGRPCClient` and `callArguments` of the client are, which its types leave out. */
interface ClientInside {
  getGRPCClient(type: typeof StreamsClient, name: string): Promise<StreamsClient>;
  callArguments(options: object, callOptions?: object): [Metadata, object];
}

export class Wire {
  readonly client: EventStoreDBClient;
  readonly #inside: ClientInside;

  constructor(connectionString: string) {
    this.client = EventStoreDBClient.connectionString(connectionString);
    this.#inside = this.client as unknown as ClientInside;
  }

  stub(): Promise<StreamsClient> {
    return this.#inside.getGRPCClient(StreamsClient, "tests");
  }

  async append(name: WireName, stream: string, expected: Expected, events: readonly WireEvent[]): Promise<Outcome> {
    return name === "Append" ? this.#append(stream, expected, events) : this.#batchAppend(stream, expected, events);
  }

  async #append(stream: string, expected: Expected, events: readonly WireEvent[]): Promise<Outcome> {
    const stub = await this.stub();
    const options = expecting(new streamsPb.AppendReq.Options(), expected, (it, revision) => it.setRevision(revision));
    options.setStreamIdentifier(identifier(stream));
    return new Promise((resolve) => {
      const [metadata, callOptions] = this.#inside.callArguments({});
      const call = stub.append(metadata, callOptions, (error, response) => {
        if (error !== null) return resolve(statusOf(error));
        const wrong = response.getWrongExpectedVersion();
        if (wrong !== undefined) {
          return resolve({
            wrongVersion: wrong.hasCurrentNoStream() ? "no_stream" : BigInt(wrong.getCurrentRevision()),
            expected: wrong.hasExpectedAny() ? "any" : wrong.hasExpectedStreamExists() ? "stream_exists" : wrong.hasExpectedNoStream() ? "no_stream" : BigInt(wrong.getExpectedRevision()),
          });
        }
        const success = response.getSuccess()!;
        const position = success.getPosition();
        resolve({ revision: success.hasNoStream() ? -1n : BigInt(success.getCurrentRevision()), position: position === undefined ? undefined : BigInt(position.getCommitPosition()) });
      });
      const header = new streamsPb.AppendReq();
      header.setOptions(options);
      call.write(header);
      for (const event of events) {
        const request = new streamsPb.AppendReq();
        request.setProposedMessage(proposed(new streamsPb.AppendReq.ProposedMessage(), event));
        call.write(request);
      }
      call.end();
    });
  }

  async #batchAppend(stream: string, expected: Expected, events: readonly WireEvent[]): Promise<Outcome> {
    const { responses, error } = await this.batch([batchRequest(stream, expected, events)]);
    if (error !== undefined) return statusOf(error);
    return outcomeOf(responses[0]!);
  }

  /** Sends requests on one stream, half-closes it, and collects all answers. */
  async batch(requests: readonly BatchAppendReq[]): Promise<{ readonly responses: readonly BatchAppendResp[]; readonly error: ServiceError | undefined }> {
    const stub = await this.stub();
    const call = stub.batchAppend(...(this.#inside.callArguments({}) as [Metadata, object]));
    const responses: BatchAppendResp[] = [];
    let error: ServiceError | undefined;
    call.on("data", (response: BatchAppendResp) => responses.push(response)).on("error", (failure: ServiceError) => (error = failure));
    for (const request of requests) call.write(request);
    call.end();
    await ended(call);
    return { responses, error };
  }

  /** All messages of a read that ends, and the error it ends with. */
  async read(request: ReadReq): Promise<{ readonly messages: readonly ReadResp[]; readonly error: ServiceError | undefined }> {
    const call = await this.open(request);
    const messages: ReadResp[] = [];
    let error: ServiceError | undefined;
    call.on("data", (message: ReadResp) => messages.push(message)).on("error", (failure: ServiceError) => (error = failure));
    await ended(call);
    return { messages, error };
  }

  /** Waits until the server answers again: connections that are left of one before are found out by the first call on them. */
  async connected(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const { error } = await this.read(readRequest({ count: 1 }));
      if (error?.code !== status.UNAVAILABLE) return;
      if (attempt === 20) throw error;
    }
  }

  /** A read that may never end. */
  async open(request: ReadReq) {
    const stub = await this.stub();
    return stub.read(request, ...(this.#inside.callArguments({}, { deadline: Infinity }) as [Metadata, object]));
  }

  /** Delete or tombstone; undefined when it was done. */
  async remove(how: "delete" | "tombstone", stream: string, expected: Expected): Promise<{ readonly position: bigint | undefined } | { readonly status: string; readonly trailers: Record<string, string> }> {
    const stub = await this.stub();
    const [metadata, callOptions] = this.#inside.callArguments({}) as [Metadata, object];
    return new Promise((resolve) => {
      const answer = (error: ServiceError | null, response: { getPosition(): { getCommitPosition(): string } | undefined }): void => {
        if (error !== null) return resolve({ ...statusOf(error), trailers: trailersOf(error) });
        const position = response.getPosition();
        resolve({ position: position === undefined ? undefined : BigInt(position.getCommitPosition()) });
      };
      if (how === "delete") {
        const request = new streamsPb.DeleteReq();
        const options = expecting(new streamsPb.DeleteReq.Options(), expected, (it, revision) => it.setRevision(revision));
        options.setStreamIdentifier(identifier(stream));
        request.setOptions(options);
        stub.delete(request, metadata, callOptions, answer);
      } else {
        const request = new streamsPb.TombstoneReq();
        const options = expecting(new streamsPb.TombstoneReq.Options(), expected, (it, revision) => it.setRevision(revision));
        options.setStreamIdentifier(identifier(stream));
        request.setOptions(options);
        stub.tombstone(request, metadata, callOptions, answer);
      }
    });
  }

  dispose(): Promise<void> {
    return this.client.dispose();
  }
}

/** A call's status comes last, also after an error. */
function ended(call: { once(event: "status", listener: () => void): unknown }): Promise<void> {
  return new Promise((resolve) => call.once("status", () => resolve()));
}

export function identifier(stream: string): sharedPb.StreamIdentifier {
  const name = new sharedPb.StreamIdentifier();
  name.setStreamName(Buffer.from(stream));
  return name;
}

export function uuid(text: string): UUID {
  const id = new sharedPb.UUID();
  id.setString(text);
  return id;
}

export function batchRequest(stream: string, expected: Expected, events: readonly WireEvent[], { final = true, correlation = randomUUID() as string } = {}): BatchAppendReq {
  const request = new streamsPb.BatchAppendReq();
  request.setCorrelationId(uuid(correlation));
  const options = expecting(new streamsPb.BatchAppendReq.Options(), expected, (it, revision) => it.setStreamPosition(revision));
  options.setStreamIdentifier(identifier(stream));
  request.setOptions(options);
  request.setProposedMessagesList(events.map((event) => proposed(new streamsPb.BatchAppendReq.ProposedMessage(), event)));
  request.setIsFinal(final);
  return request;
}

/** A later frame of a batch append: without options. */
export function nextFrame(correlation: string, events: readonly WireEvent[], final: boolean): BatchAppendReq {
  const request = new streamsPb.BatchAppendReq();
  request.setCorrelationId(uuid(correlation));
  request.setProposedMessagesList(events.map((event) => proposed(new streamsPb.BatchAppendReq.ProposedMessage(), event)));
  request.setIsFinal(final);
  return request;
}

export function outcomeOf(response: BatchAppendResp): Outcome {
  const success = response.getSuccess();
  if (success !== undefined) {
    const position = success.getPosition();
    return { revision: success.hasNoStream() ? -1n : BigInt(success.getCurrentRevision()), position: position === undefined ? undefined : BigInt(position.getCommitPosition()) };
  }
  const error = response.getError()!;
  const details = error.getDetails()!;
  const wrong = details.unpack(sharedPb.WrongExpectedVersion.deserializeBinary, "event_store.client.WrongExpectedVersion");
  if (wrong === null) return { status: details.getTypeName() };
  return {
    wrongVersion: wrong.hasCurrentNoStream() ? "no_stream" : BigInt(wrong.getCurrentStreamRevision()),
    expected: wrong.hasExpectedAny() ? "any" : wrong.hasExpectedStreamExists() ? "stream_exists" : wrong.hasExpectedNoStream() ? "no_stream" : BigInt(wrong.getExpectedStreamPosition()),
  };
}

export interface ReadWish {
  /** Undefined: `$all`. */
  readonly stream?: string;
  readonly from?: "start" | "end" | bigint | { readonly commit: bigint; readonly prepare: bigint };
  readonly backwards?: boolean;
  /** Undefined: a subscription. */
  readonly count?: number;
  readonly filter?: { readonly on: "stream" | "type"; readonly prefixes?: readonly string[]; readonly regex?: string; readonly window?: number; readonly interval?: number };
  readonly compatibility?: number;
  readonly structuredIds?: boolean;
  readonly resolveLinks?: boolean;
}

export function readRequest({ stream, from = "start", backwards = false, count, filter, compatibility, structuredIds = false, resolveLinks = false }: ReadWish): ReadReq {
  const options = new streamsPb.ReadReq.Options();
  if (stream === undefined) {
    const all = new streamsPb.ReadReq.Options.AllOptions();
    if (from === "start") all.setStart(new sharedPb.Empty());
    else if (from === "end") all.setEnd(new sharedPb.Empty());
    else {
      const position = new streamsPb.ReadReq.Options.Position();
      position.setCommitPosition(String(typeof from === "bigint" ? from : from.commit));
      position.setPreparePosition(String(typeof from === "bigint" ? from : from.prepare));
      all.setPosition(position);
    }
    options.setAll(all);
  } else {
    const one = new streamsPb.ReadReq.Options.StreamOptions();
    one.setStreamIdentifier(identifier(stream));
    if (from === "start") one.setStart(new sharedPb.Empty());
    else if (from === "end") one.setEnd(new sharedPb.Empty());
    else one.setRevision(String(typeof from === "bigint" ? from : from.commit));
    options.setStream(one);
  }
  options.setReadDirection(backwards ? 1 : 0);
  options.setResolveLinks(resolveLinks);
  if (count === undefined) options.setSubscription(new streamsPb.ReadReq.Options.SubscriptionOptions());
  else options.setCount(String(count));
  if (filter === undefined) options.setNoFilter(new sharedPb.Empty());
  else {
    const expression = new streamsPb.ReadReq.Options.FilterOptions.Expression();
    expression.setRegex(filter.regex ?? "");
    expression.setPrefixList([...(filter.prefixes ?? [])]);
    const filtering = new streamsPb.ReadReq.Options.FilterOptions();
    if (filter.on === "stream") filtering.setStreamIdentifier(expression);
    else filtering.setEventType(expression);
    if (filter.window === undefined) filtering.setCount(new sharedPb.Empty());
    else filtering.setMax(filter.window);
    filtering.setCheckpointintervalmultiplier(filter.interval ?? 1);
    options.setFilter(filtering);
  }
  const ids = new streamsPb.ReadReq.Options.UUIDOption();
  if (structuredIds) ids.setStructured(new sharedPb.Empty());
  else ids.setString(new sharedPb.Empty());
  options.setUuidOption(ids);
  if (compatibility !== undefined) {
    const control = new streamsPb.ReadReq.Options.ControlOption();
    control.setCompatibility(compatibility);
    options.setControlOption(control);
  }
  const request = new streamsPb.ReadReq();
  request.setOptions(options);
  return request;
}

export function idOf(message: ReadResp): string | undefined {
  return message.getEvent()?.getEvent()?.getId()?.getString();
}

export function statusOf(error: ServiceError): { readonly status: string } {
  const exception = error.metadata.get("exception")[0];
  return { status: exception === undefined ? `${error.code} ${error.details}` : `${error.code} ${String(exception)}` };
}

export function trailersOf(error: ServiceError): Record<string, string> {
  return Object.fromEntries(Object.entries(error.metadata.getMap()).map(([key, value]) => [key, String(value)]));
}

interface Expecting {
  setNoStream(value?: sharedPb.Empty): unknown;
  setAny(value?: sharedPb.Empty): unknown;
  setStreamExists(value?: sharedPb.Empty): unknown;
}

function expecting<T extends Expecting>(options: T, expected: Expected, exact: (options: T, revision: string) => void): T {
  const empty = new sharedPb.Empty();
  if (expected === "any") options.setAny(empty);
  else if (expected === "no_stream") options.setNoStream(empty);
  else if (expected === "stream_exists") options.setStreamExists(empty);
  else exact(options, String(expected));
  return options;
}

interface ProposedMessage {
  setId(id: UUID): unknown;
  getMetadataMap(): { set(key: string, value: string): unknown };
  setData(data: Uint8Array): unknown;
  setCustomMetadata(data: Uint8Array): unknown;
}

export function proposed<T extends ProposedMessage>(message: T, { id, type = "Tested", data = "{}", metadata = "" }: WireEvent): T {
  message.setId(uuid(id));
  message.getMetadataMap().set("type", type);
  message.getMetadataMap().set("content-type", "application/json");
  message.setData(Buffer.from(data));
  message.setCustomMetadata(Buffer.from(metadata));
  return message;
}
