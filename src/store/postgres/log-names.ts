/** Names that all parts of a log agree on. */
import { quoted } from "./database.ts";
import { LOCK_SPACE } from "./migrate.ts";

/** The channel on which appends are told. */
export function eventsChannel(schema: string): string {
  return `${schema}_events`;
}

/** A statement of PL/pgSQL: the lock of the transaction on the order of commits, or on the making of partitions. Named by the table, so that several logs of one database do not wait for each other. */
export function lock(schema: string, what: "events" | "partitions"): string {
  return `PERFORM pg_advisory_xact_lock(${LOCK_SPACE}, '${quoted(schema)}.${what}'::regclass::oid::int);`;
}
