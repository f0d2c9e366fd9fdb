/** Values of the protocol to and from those of the engine. */
import type { StreamIdentifier, UUID } from "@eventstore/db-client/generated/shared_pb.js";
import { DELETED, NO_STREAM, type ExpectedRevision, type ProposedEvent } from "../engine/model.ts";
import { sharedPb } from "./protobuf.ts";

const LONG_MAX = 2n ** 63n - 1n;
const ULONG_MAX = 2n ** 64n - 1n;
const UUID_TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** What a client sent makes no sense; the message is what .NET would say, or near it. */
export class BadRequest extends Error {}

export function streamNameOf(identifier: StreamIdentifier | undefined): string | undefined {
  return identifier === undefined ? undefined : Buffer.from(identifier.getStreamName_asU8()).toString("utf8");
}

export function identifierOf(stream: string): StreamIdentifier {
  const identifier = new sharedPb.StreamIdentifier();
  identifier.setStreamName(Buffer.from(stream, "utf8"));
  return identifier;
}

/** In lower case. Errors: BadRequest. */
export function uuidText(uuid: UUID | undefined): string {
  if (uuid === undefined) throw new BadRequest("a UUID is missing");
  const structured = uuid.getStructured();
  if (structured !== undefined) {
    const bits = (text: string): string => BigInt.asUintN(64, BigInt(text)).toString(16).padStart(16, "0");
    const hex = bits(structured.getMostSignificantBits()) + bits(structured.getLeastSignificantBits());
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
  const text = uuid.getString();
  if (UUID_TEXT.test(text)) return text;
  const lower = text.toLowerCase();
  if (!UUID_TEXT.test(lower)) throw new BadRequest(`Unrecognized Guid format: ${text}`);
  return lower;
}

export function uuidOf(text: string, structured: boolean): UUID {
  const uuid = new sharedPb.UUID();
  if (!structured) {
    uuid.setString(text);
    return uuid;
  }
  const hex = text.replaceAll("-", "");
  const bits = (digits: string): string => BigInt.asIntN(64, BigInt(`0x${digits}`)).toString();
  const value = new sharedPb.UUID.Structured();
  value.setMostSignificantBits(bits(hex.slice(0, 16)));
  value.setLeastSignificantBits(bits(hex.slice(16)));
  uuid.setStructured(value);
  return uuid;
}

/** A revision as a client writes it: the greatest one means "no stream" to the server. Errors: BadRequest. */
export function revisionOf(text: string): number {
  const value = BigInt(text);
  if (value === ULONG_MAX) return NO_STREAM;
  if (value > LONG_MAX) throw new BadRequest("Specified argument was out of the range of valid values. (Parameter 'value')");
  return value === LONG_MAX ? DELETED : Number(value);
}

export function revisionText(revision: number): string {
  if (revision === DELETED) return LONG_MAX.toString();
  return revision === NO_STREAM ? ULONG_MAX.toString() : String(revision);
}

/** What a client expects of a stream, in the words of a request: read by the engine, repeated in answers. */
export interface Expectation {
  readonly expected: ExpectedRevision;
  /** The server's number of it: -1 no stream, -2 any, -4 exists. */
  readonly number: string;
}

interface ExpectedRequest {
  hasNoStream(): boolean;
  hasAny(): boolean;
  hasStreamExists(): boolean;
}

/** Undefined where the request says nothing. Errors: BadRequest. */
export function expectationOf(request: ExpectedRequest, revision: string | undefined): Expectation | undefined {
  if (request.hasNoStream()) return { expected: "no_stream", number: "-1" };
  if (request.hasAny()) return { expected: "any", number: "-2" };
  if (request.hasStreamExists()) return { expected: "stream_exists", number: "-4" };
  if (revision === undefined) return undefined;
  const expected = revisionOf(revision);
  return { expected, number: expected === NO_STREAM ? "-1" : revision };
}

export const JSON_CONTENT = "application/json";
export const BINARY_CONTENT = "application/octet-stream";

interface ProposedMessage {
  getId(): UUID | undefined;
  getMetadataMap(): { get(key: string): string | undefined };
  getCustomMetadata_asU8(): Uint8Array;
  getData_asU8(): Uint8Array;
}

/** `missing` names a required property that is not there. Errors: BadRequest. */
export function proposedEvent(message: ProposedMessage): ProposedEvent | { readonly missing: string } {
  const properties = message.getMetadataMap();
  const type = properties.get("type");
  if (type === undefined) return { missing: "type" };
  const contentType = properties.get("content-type");
  if (contentType === undefined) return { missing: "content-type" };
  return { id: uuidText(message.getId()), type, isJson: contentType === JSON_CONTENT, data: message.getData_asU8(), metadata: message.getCustomMetadata_asU8() };
}
