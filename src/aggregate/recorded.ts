/**
 * An event as readers see it: decoded, in its current form, frozen, with its place and its story.
 */
import type { Aggregate } from "./aggregate.ts";
import type { DataOf } from "./decision.ts";

/** What was recorded with an event. */
export interface RecordedMetadata {
  readonly correlationId: string;
  readonly causationId: string;
  /** The command that made the event. */
  readonly commandId: string;
  /** W3C trace context, where the caller gave it. */
  readonly traceparent?: string;
  /** Version of the data as it was written; absent = 1. `data` itself is in its current form. */
  readonly schemaVersion?: number;
  /** The caller's own metadata. */
  readonly user?: Readonly<Record<string, unknown>>;
}

/** One recorded event of category `C`, type `T` and data `D`. */
export interface RecordedEvent<C extends string, T extends string, D> {
  readonly type: T;
  readonly data: D;
  readonly category: C;
  /** Id of the aggregate instance. */
  readonly id: string;
  /** `category-id`. */
  readonly stream: string;
  /** Ordinal in the stream, from 1. */
  readonly version: number;
  readonly eventId: string;
  /** Its place in the log: lane to offset. */
  readonly position: Readonly<Record<string, number>>;
  /** The writer's clock; `now` of the decision. */
  readonly recordedAt: Date;
  readonly metadata: RecordedMetadata;
}

/** The union of all recorded events of an aggregate, or of several: `Recorded<typeof Order | typeof Customer>`. */
export type Recorded<A> =
  A extends Aggregate<infer N, unknown, infer E, unknown>
    ? { [K in keyof E & string]: RecordedEvent<N, K, DataOf<E[K]>> }[keyof E & string]
    : never;
