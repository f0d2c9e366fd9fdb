/**
 * A stream is named `category-id`. The category ends at the first `-`, as EventStoreDB's projections expect.
 */
import { InvalidArgument } from "../errors.ts";

const CATEGORY = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;

/** A whole name, but for the length and the form of its id. */
const NAME = /^[A-Za-z][A-Za-z0-9_]{0,63}-[^\0]+$/;

/** The longest id, in UTF-16 units. */
export const MAX_ID_LENGTH = 256;

/** Refuses a category that is not `[A-Za-z][A-Za-z0-9_]{0,63}`; errors: InvalidArgument. */
export function assertCategory(category: string): void {
  if (!CATEGORY.test(category)) {
    throw new InvalidArgument(`category ${JSON.stringify(category)} must match [A-Za-z][A-Za-z0-9_]{0,63}`, { details: { category } });
  }
}

/** Joins a category and an id; errors: InvalidArgument for an empty, too long or ill-formed id. */
export function streamName(category: string, id: string): string {
  if (typeof id !== "string" || id.length === 0 || id.length > MAX_ID_LENGTH || id.includes("\0") || !id.isWellFormed()) {
    throw new InvalidArgument(`the id of a ${category} must be well-formed text of 1 to ${MAX_ID_LENGTH} characters without NUL`, {
      details: { category, id: typeof id === "string" ? id.slice(0, 64) : typeof id },
    });
  }
  return `${category}-${id}`;
}

/** The category of a stream's name. */
export function categoryOf(stream: string): string {
  const dash = stream.indexOf("-");
  return dash < 0 ? stream : stream.slice(0, dash);
}

/** The aggregate id in a stream's name. */
export function idOf(stream: string): string {
  return stream.slice(stream.indexOf("-") + 1);
}

/** Refuses a name that is not `category-id`; errors: InvalidArgument. */
export function assertStreamName(stream: string): void {
  const dash = stream.indexOf("-");
  if (typeof stream === "string" && NAME.test(stream) && stream.length - dash - 1 <= MAX_ID_LENGTH && stream.isWellFormed()) return;
  if (dash < 0) throw new InvalidArgument(`stream ${JSON.stringify(stream.slice(0, 64))} must be written category-id`);
  assertCategory(stream.slice(0, dash));
  streamName(stream.slice(0, dash), stream.slice(dash + 1));
}
