/** What a read sends, as messages of the protocol (ResponseConverter of Streams.Read.cs). */
import type { ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { commitOf, prepareOf, type RecordedEvent } from "../engine/model.ts";
import type { ReadResponse } from "../engine/read-response.ts";
import { sharedPb, streamsPb } from "./protobuf.ts";
import { BINARY_CONTENT, identifierOf, JSON_CONTENT, revisionText, uuidOf } from "./values.ts";

/** 100 nanoseconds are one tick. */
const TICKS_PER_MS = "0000";

export function readResponsePb(response: ReadResponse, structuredIds: boolean): ReadResp {
  const message = new streamsPb.ReadResp();
  switch (response.kind) {
    case "event":
      message.setEvent(readEvent(response, structuredIds));
      break;
    case "confirmed": {
      const confirmation = new streamsPb.ReadResp.SubscriptionConfirmation();
      confirmation.setSubscriptionId(response.subscriptionId);
      message.setConfirmation(confirmation);
      break;
    }
    case "checkpoint": {
      const checkpoint = new streamsPb.ReadResp.Checkpoint();
      checkpoint.setCommitPosition(String(commitOf(response.place)));
      checkpoint.setPreparePosition(String(prepareOf(response.place)));
      message.setCheckpoint(checkpoint);
      break;
    }
    case "caught-up":
      message.setCaughtUp(new streamsPb.ReadResp.CaughtUp());
      break;
    case "stream-not-found": {
      const notFound = new streamsPb.ReadResp.StreamNotFound();
      notFound.setStreamIdentifier(identifierOf(response.stream));
      message.setStreamNotFound(notFound);
      break;
    }
    case "first-stream-position":
      message.setFirstStreamPosition(revisionText(response.revision));
      break;
    case "last-stream-position":
      message.setLastStreamPosition(revisionText(response.revision));
      break;
  }
  return message;
}

function readEvent({ event, link }: Extract<ReadResponse, { kind: "event" }>, structuredIds: boolean): ReadResp.ReadEvent {
  const message = new streamsPb.ReadResp.ReadEvent();
  if (event !== undefined) message.setEvent(recordedEvent(event, structuredIds));
  if (link !== undefined) message.setLink(recordedEvent(link, structuredIds));
  const original = link ?? event;
  if (original === undefined) message.setNoPosition(new sharedPb.Empty());
  else message.setCommitPosition(String(original.position));
  return message;
}

function recordedEvent(event: RecordedEvent, structuredIds: boolean): ReadResp.ReadEvent.RecordedEvent {
  const message = new streamsPb.ReadResp.ReadEvent.RecordedEvent();
  message.setId(uuidOf(event.id, structuredIds));
  message.setStreamIdentifier(identifierOf(event.stream));
  message.setStreamRevision(revisionText(event.revision));
  message.setCommitPosition(String(event.position));
  message.setPreparePosition(String(event.position));
  const properties = message.getMetadataMap();
  properties.set("type", event.type);
  properties.set("created", `${event.created}${TICKS_PER_MS}`);
  properties.set("content-type", event.isJson ? JSON_CONTENT : BINARY_CONTENT);
  message.setData(event.data);
  message.setCustomMetadata(event.metadata);
  return message;
}
