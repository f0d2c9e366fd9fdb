/**
 * Ids of commands, and the ids that follow from them: what a decision draws with `context.id()` is the same whenever the decision is repeated (RFC 9562, UUID version 5).
 * The fields of a name are joined by NUL; streams and command ids hold none and are well-formed, so no two tuples share a name.
 */
import { hash } from "node:crypto";
import { InvalidArgument } from "../errors.ts";

/** The namespace of all ids derived by Tidemark. */
export const TIDEMARK_NAMESPACE = "74696465-6dc3-85c3-a965-76656e74732e";

/** Its sixteen bytes are well-formed UTF-8, so that namespace and name are hashed as one text without building a buffer. */
const NAMESPACE_TEXT = "tidem\u{c5}\u{e9}events.";

/** The longest command id, in UTF-16 units. */
export const MAX_COMMAND_ID_LENGTH = 256;

/** Refuses a command id that is not well-formed text of 1 to 256 characters without NUL; errors: InvalidArgument. */
export function assertCommandId(commandId: string): void {
  if (
    typeof commandId !== "string" ||
    commandId.length === 0 ||
    commandId.length > MAX_COMMAND_ID_LENGTH ||
    commandId.includes("\0") ||
    !commandId.isWellFormed()
  ) {
    throw new InvalidArgument(`a commandId must be well-formed text of 1 to ${MAX_COMMAND_ID_LENGTH} characters without NUL`, {
      details: { commandId: typeof commandId === "string" ? commandId.slice(0, 64) : typeof commandId },
    });
  }
}

/** The `n`-th id (from 0) that a decision draws with `context.id()`. */
export function derivedId(stream: string, commandId: string, n: number): string {
  return format(hash("sha1", `${NAMESPACE_TEXT}${stream}\0${commandId}\0id\0${n}`, "hex"));
}

/** UUID version 5 of a name in any namespace. */
export function uuidV5(namespace: string, name: string): string {
  const bytes = Buffer.concat([Buffer.from(namespace.replaceAll("-", ""), "hex"), Buffer.from(name, "utf8")]);
  return format(hash("sha1", bytes, "hex"));
}

/** The first 128 bits of a digest with version 5 and the RFC's variant. */
function format(hex: string): string {
  const variant = "89ab"[Number.parseInt(hex.charAt(16), 16) & 3] as string;
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
