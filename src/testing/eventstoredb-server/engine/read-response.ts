/** What a read or a subscription sends (ReadResponse of the server), and how it fails. */
import type { Engine } from "./engine.ts";
import { SYSTEM_TYPES, type RecordedEvent } from "./model.ts";

export type ReadResponse =
  /** `event` is undefined where a link leads nowhere. */
  | { readonly kind: "event"; readonly event: RecordedEvent | undefined; readonly link?: RecordedEvent }
  | { readonly kind: "confirmed"; readonly subscriptionId: string }
  | { readonly kind: "checkpoint"; readonly place: number }
  | { readonly kind: "caught-up" }
  | { readonly kind: "stream-not-found"; readonly stream: string }
  | { readonly kind: "first-stream-position"; readonly revision: number }
  | { readonly kind: "last-stream-position"; readonly revision: number };

export type ReadFailureReason = "stream-deleted" | "access-denied" | "invalid-position" | "error";

export class ReadFailure extends Error {
  readonly reason: ReadFailureReason;
  readonly stream: string;
  constructor(reason: ReadFailureReason, stream = "") {
    super(reason);
    this.reason = reason;
    this.stream = stream;
  }
}

/** An event as it is sent; with `resolveLinks` a link is sent with what it names (ResolveLinkToEvent). */
export function resolved(engine: Engine, event: RecordedEvent, resolveLinks: boolean): ReadResponse {
  if (!resolveLinks || event.type !== SYSTEM_TYPES.link) return { kind: "event", event };
  const text = Buffer.from(event.data).toString("utf8");
  const at = text.indexOf("@");
  const stream = text.slice(at + 1);
  const revision = Number(text.slice(0, at));
  // What names no revision is no link.
  if (at < 1 || !Number.isInteger(revision)) return { kind: "event", event };
  const { log } = engine;
  const readable = !log.isSoftDeleted(stream) && revision >= log.firstRevision(stream, engine.now());
  return { kind: "event", event: readable ? log.eventAt(stream, revision) : undefined, link: event };
}
