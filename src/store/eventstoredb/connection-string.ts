/**
 * Connection strings of EventStoreDB and KurrentDB, as the client understands them. It cuts a password at its second colon, prints the whole string with what it does not
 * know, and echoes parts of it in its errors: so the string is checked and written anew before the client sees it, and no message of ours holds a secret.
 */
import { InvalidArgument } from "../../errors.ts";

/** What a connection string may hold after the `?`. */
export const CONNECTION_PARAMETERS = [
  "connectionName",
  "defaultDeadline",
  "discoveryInterval",
  "gossipTimeout",
  "keepAliveInterval",
  "keepAliveTimeout",
  "maxDiscoverAttempts",
  "nodePreference",
  "throwOnAppendFailure",
  "tls",
  "tlsCAFile",
  "tlsVerifyCert",
  "userCertFile",
  "userKeyFile",
] as const;

export interface ConnectionString {
  /** For the client. */
  readonly text: string;
  /** Hosts without credentials, for messages. */
  readonly hosts: string;
}

const SHAPE = "esdb://user:password@host:2113?tls=true, or with the scheme esdb+discover, kurrentdb or kurrentdb+discover";

/** Errors: InvalidArgument, which names what is wrong and never a secret. */
export function parseConnectionString(given: string): ConnectionString {
  const match = /^(esdb|kurrentdb|kurrent|kdb)(\+discover)?:\/\/(?:([^/?]*)@)?([^/?@]+)\/?(?:\?(.*))?$/is.exec(typeof given === "string" ? given.trim() : "");
  if (match === null) throw invalid(`a connection string is written ${SHAPE}; what is special in a password (: / ? @) is percent-encoded`);
  const [, , discover = "", user, hosts = "", query = ""] = match;
  for (const host of hosts.split(",")) {
    const port = /^[A-Za-z0-9._-]+(?::(\d{1,5}))?$/.exec(host);
    if (port === null || Number(port[1] ?? 1) > 65_535) throw invalid(`the host ${JSON.stringify(host)} of a connection string is written host or host:port`);
  }
  const parameters = query === "" ? [] : query.split("&").map(parameter);
  const text = `esdb${discover.toLowerCase()}://${user === undefined ? "" : `${credentials(user)}@`}${hosts}${parameters.length > 0 ? `?${parameters.join("&")}` : ""}`;
  return { text, hosts };
}

/** With every special character encoded: the password is all that follows the first colon. */
function credentials(given: string): string {
  const colon = given.indexOf(":");
  if (colon < 1) throw invalid("the credentials of a connection string are written user:password");
  try {
    return [given.slice(0, colon), given.slice(colon + 1)].map((part) => encodeURIComponent(decodeURIComponent(part))).join(":");
  } catch {
    throw invalid("the credentials of a connection string are not well percent-encoded: write % as %25");
  }
}

function parameter(pair: string): string {
  const at = pair.indexOf("=");
  const key = at < 0 ? pair : pair.slice(0, at);
  const value = at < 0 ? "" : pair.slice(at + 1);
  const name = CONNECTION_PARAMETERS.find((each) => each.toLowerCase() === key.toLowerCase());
  if (name === undefined) throw invalid(`the parameter ${JSON.stringify(key.slice(0, 64))} of a connection string is not known; known: ${CONNECTION_PARAMETERS.join(", ")}`);
  if (value === "" || value.includes("?")) throw invalid(`the parameter ${name} of a connection string has no value, or a ? in it`);
  // Its client does not check certificates less strictly, and without this one it answers appends with wrong revisions.
  if (name === "tlsVerifyCert" && value === "false") throw invalid("tlsVerifyCert=false is not supported: name the certificate's authority in tlsCAFile, or in the environment variable NODE_EXTRA_CA_CERTS");
  if (name === "throwOnAppendFailure" && value === "false") throw invalid("throwOnAppendFailure=false is not supported: conflicts are answered as outcomes in any case");
  return `${name}=${value}`;
}

function invalid(message: string): InvalidArgument {
  return new InvalidArgument(message, { details: { option: "connection" } });
}
