/**
 * Who may do what to a stream (LegacyStreamPermissionAssertion with the default policy of the server).
 * A server without users lets everybody do everything, as the real one does with `--insecure`.
 */
import type { EventLog } from "./event-log.ts";
import { isMetastream, originalOf } from "./model.ts";
import type { StreamAcl } from "./stream-metadata.ts";

export interface User {
  readonly name: string;
  readonly password: string;
  /** Roles, such as `$admins`; the name is one too. */
  readonly groups?: readonly string[];
}

/** Who calls: nobody asks, nobody said who he is, or a user. */
export type Caller = "trusted" | "anonymous" | User;

export type Access = "read" | "write" | "delete";

const ADMINS = "$admins";
const EVERYBODY = "$all";
const ALL_EVENTS = "$all";

export function mayAccess(log: EventLog, caller: Caller, access: Access, stream: string): boolean {
  if (caller === "trusted") return true;
  if (caller === "anonymous") return false;
  const name = stream === "" ? ALL_EVENTS : stream;
  if (name === ALL_EVENTS && access !== "read") return false;
  if (isMetastream(name) && access === "delete") return false;
  const roles = new Set([caller.name, ...(caller.groups ?? [])]);
  if (roles.has(ADMINS) || caller.name === "admin") return true;
  const of = isMetastream(name) ? originalOf(name) : name;
  const allowed = log.metadataOf(of).acl?.[rightOf(access, isMetastream(name))] ?? [of.startsWith("$") ? ADMINS : EVERYBODY];
  return allowed.includes(EVERYBODY) || allowed.some((role) => roles.has(role));
}

function rightOf(access: Access, metadata: boolean): keyof StreamAcl {
  if (access === "delete") return "delete";
  if (access === "read") return metadata ? "metadataRead" : "read";
  return metadata ? "metadataWrite" : "write";
}
