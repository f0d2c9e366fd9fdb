/** Messages of the protocol `event_store.client.streams`: what we ask, and what comes back, in plain shapes. */
import shared from "@eventstore/db-client/generated/shared_pb.js";
import type { Status } from "@eventstore/db-client/generated/status_pb.js";
import streams from "@eventstore/db-client/generated/streams_pb.js";
import type { ReadReq, ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { StoreCorrupt } from "../../errors.ts";

/** An event as the server tells it. Positions are places in its log, in bytes. */
export interface RecordedEvent {
  readonly id: string;
  readonly type: string;
  readonly stream: string;
  readonly revision: number;
  readonly commit: number;
  readonly prepare: number;
  /** Milliseconds since the epoch, by the server's clock. */
  readonly createdAt: number;
  readonly data: Buffer;
  readonly metadata: Buffer;
}

export type LogFilter = { readonly prefixes: readonly string[] } | { readonly regex: string };

/** Events that a filtered read of the server looks at in one go. */
const SEARCH_WINDOW = 1024;

/** `from`: a revision, or an end. */
export function readStreamRequest(stream: string, { from, backward, count }: { readonly from: number | "start" | "end"; readonly backward: boolean; readonly count: number }): ReadReq {
  const place = new streams.ReadReq.Options.StreamOptions().setStreamIdentifier(streamIdentifier(stream));
  if (from === "start") place.setStart(new shared.Empty());
  else if (from === "end") place.setEnd(new shared.Empty());
  else place.setRevision(String(from));
  // From compatibility 1 on the server tells where the stream begins and ends.
  const options = readOptions().setStream(place).setCount(String(count)).setNoFilter(new shared.Empty());
  return new streams.ReadReq().setOptions(options.setReadDirection(backward ? 1 : 0).setControlOption(new streams.ReadReq.Options.ControlOption().setCompatibility(1)));
}

/** Up to `count` events of the log at `from` or after it; backward: the last ones. */
export function readAllRequest({ from, count, filter, backward = false }: { readonly from: number; readonly count: number; readonly filter?: LogFilter; readonly backward?: boolean }): ReadReq {
  const options = readOptions().setAll(backward ? new streams.ReadReq.Options.AllOptions().setEnd(new shared.Empty()) : allFrom(from)).setCount(String(count));
  return new streams.ReadReq().setOptions(filtered(options, filter).setReadDirection(backward ? 1 : 0));
}

/** Everything after `after`, for ever. */
export function subscribeRequest({ after, filter }: { readonly after: number; readonly filter: LogFilter }): ReadReq {
  return new streams.ReadReq().setOptions(filtered(readOptions().setAll(allFrom(after)).setSubscription(new streams.ReadReq.Options.SubscriptionOptions()), filter));
}

function readOptions(): ReadReq.Options {
  return new streams.ReadReq.Options().setResolveLinks(false).setUuidOption(new streams.ReadReq.Options.UUIDOption().setString(new shared.Empty()));
}

function allFrom(position: number): ReadReq.Options.AllOptions {
  const all = new streams.ReadReq.Options.AllOptions();
  if (position === 0) return all.setStart(new shared.Empty());
  const text = String(position);
  return all.setPosition(new streams.ReadReq.Options.Position().setCommitPosition(text).setPreparePosition(text));
}

function filtered(options: ReadReq.Options, filter: LogFilter | undefined): ReadReq.Options {
  if (filter === undefined) return options.setNoFilter(new shared.Empty());
  const expression = new streams.ReadReq.Options.FilterOptions.Expression();
  if ("regex" in filter) expression.setRegex(filter.regex);
  else expression.setPrefixList([...filter.prefixes]);
  return options.setFilter(new streams.ReadReq.Options.FilterOptions().setStreamIdentifier(expression).setMax(SEARCH_WINDOW).setCheckpointintervalmultiplier(1));
}

export function streamIdentifier(stream: string): InstanceType<typeof shared.StreamIdentifier> {
  return new shared.StreamIdentifier().setStreamName(Buffer.from(stream));
}

/** Undefined: the response holds no event, or a link without one. */
export function recordedEvent(response: ReadResp): RecordedEvent | undefined {
  const read = response.getEvent();
  const event = read?.getLink() ?? read?.getEvent();
  if (event === undefined) return undefined;
  const metadata = event.getMetadataMap();
  return {
    id: uuidText(event.getId()),
    type: metadata.get("type") ?? "",
    stream: Buffer.from(event.getStreamIdentifier()?.getStreamName_asU8() ?? []).toString(),
    // That of a tombstone is the largest there is: it is no event of ours.
    revision: Number(event.getStreamRevision()),
    commit: whole(event.getCommitPosition()),
    prepare: whole(event.getPreparePosition()),
    // Ticks of 100 ns.
    createdAt: Math.floor(Number(metadata.get("created") ?? 0) / 10_000),
    data: bufferOf(event.getData_asU8()),
    metadata: bufferOf(event.getCustomMetadata_asU8()),
  };
}

/** UUIDs come as text, or as two halves. */
export function uuidText(uuid: InstanceType<typeof shared.UUID> | undefined): string {
  const halves = uuid?.getStructured();
  if (halves === undefined) return uuid?.getString() ?? "";
  const half = (text: string): string => BigInt.asUintN(64, BigInt(text)).toString(16).padStart(16, "0");
  const digits = half(halves.getMostSignificantBits()) + half(halves.getLeastSignificantBits());
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-${digits.slice(12, 16)}-${digits.slice(16, 20)}-${digits.slice(20)}`;
}

/** Why an append of a batch was refused. */
export type Refused =
  | { readonly kind: "wrong-version"; /** Revision of the stream's last event; undefined: it holds nothing. */ readonly current: number | undefined }
  | { readonly kind: "deleted" }
  | { readonly kind: "denied" }
  | { readonly kind: "too-large"; readonly maxBytes: number }
  /** The server does not say that nothing was written. */
  | { readonly kind: "unknown"; readonly message: string };

const TYPE = "event_store.client.";

export function refusalOf(status: Status): Refused {
  const details = status.getDetails();
  switch (details?.getTypeName()) {
    case `${TYPE}WrongExpectedVersion`: {
      const wrong = details.unpack((bytes) => shared.WrongExpectedVersion.deserializeBinary(bytes), `${TYPE}WrongExpectedVersion`);
      if (wrong === null) break;
      return { kind: "wrong-version", current: wrong.hasCurrentStreamRevision() ? whole(wrong.getCurrentStreamRevision()) : undefined };
    }
    case `${TYPE}StreamDeleted`:
      return { kind: "deleted" };
    case `${TYPE}AccessDenied`:
      return { kind: "denied" };
    case `${TYPE}MaximumAppendSizeExceeded`:
      return { kind: "too-large", maxBytes: details.unpack((bytes) => shared.MaximumAppendSizeExceeded.deserializeBinary(bytes), `${TYPE}MaximumAppendSizeExceeded`)?.getMaxappendsize() ?? 0 };
    default:
  }
  return { kind: "unknown", message: `${details?.getTypeName() ?? "an error without details"}: ${status.getMessage()}` };
}

/** Numbers come as text; those beyond what JavaScript counts exactly would not come back. */
export function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new StoreCorrupt(`EventStoreDB sent ${JSON.stringify(text.slice(0, 32))} where a whole number below 2^53 was expected`);
  return value;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
