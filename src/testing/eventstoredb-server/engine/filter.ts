/** Which events of `$all` a reader asked for (EventFilter): by prefixes or by a regular expression, of the stream's name or of the type. */
import type { RecordedEvent } from "./model.ts";

export type EventFilter = (event: RecordedEvent) => boolean;

export interface FilterExpression {
  readonly on: "stream" | "type";
  /** Empty: `prefixes` count. */
  readonly regex: string;
  readonly prefixes: readonly string[];
}

export const everything: EventFilter = () => true;

/** Throws SyntaxError for an expression that .NET may know and JavaScript does not. */
export function eventFilter({ on, regex, prefixes }: FilterExpression): EventFilter {
  const textOf = on === "stream" ? (event: RecordedEvent) => event.stream : (event: RecordedEvent) => event.type;
  if (regex === "") return (event) => prefixes.some((prefix) => textOf(event).startsWith(prefix));
  const expression = new RegExp(regex);
  return (event) => expression.test(textOf(event));
}
