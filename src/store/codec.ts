/**
 * Turns event data into text and back, a batch at a time; asynchronous when it has to be (encryption per subject can come later).
 * Live actors fold what `decode` makes of what `encode` made, so that live state equals rehydrated state.
 */
import { UnserialisableData } from "../errors.ts";

export type MaybePromise<T> = T | Promise<T>;

/** One event's data with what a codec may need to know about it. */
export interface CodecItem<D> {
  readonly stream: string;
  readonly type: string;
  readonly data: D;
}

export interface Codec {
  encode(batch: readonly CodecItem<unknown>[]): MaybePromise<readonly string[]>;
  decode(batch: readonly CodecItem<string>[]): MaybePromise<readonly unknown[]>;
}

/** Plain JSON. Errors: UnserialisableData. */
export const jsonCodec: Codec = {
  encode: (batch) => batch.map((item) => toJson(item.data, item.type)),
  decode: (batch) => batch.map((item) => JSON.parse(item.data) as unknown),
};

/** JSON text of a value; `what` names it in the error. Errors: UnserialisableData. */
export function toJson(value: unknown, what: string): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value === undefined ? null : value);
  } catch (cause) {
    throw new UnserialisableData(`the data of ${what} cannot be written as JSON: ${(cause as Error).message}`, { cause, details: { type: what } });
  }
  if (text === undefined) throw new UnserialisableData(`the data of ${what} cannot be written as JSON`, { details: { type: what } });
  return text;
}
