/**
 * Events and snapshots on EventStoreDB (24.10 and newer, also as KurrentDB) through `@eventstore/db-client` 6.2. Views live elsewhere: in memory, in SQLite, in PostgreSQL.
 */
import { EventStoreDBClient } from "@eventstore/db-client";
import { environmentOf, type Environment } from "../../environment.ts";
import { InvalidArgument } from "../../errors.ts";
import type { SnapshotStore } from "../../snapshot/snapshot-store.ts";
import type { Backend } from "../backend.ts";
import type { EventStore } from "../event-store.ts";
import { Connection } from "./connection.ts";
import { parseConnectionString } from "./connection-string.ts";
import { eventsOn } from "./eventstoredb-events.ts";
import { snapshotsOn } from "./eventstoredb-snapshots.ts";

export interface EventStoreDBOptions {
  /** `esdb://user:password@host:2113?tls=true`; also `esdb+discover:`, `kurrentdb:` and `kurrentdb+discover:`. One of `connection` and `client` is needed. */
  readonly connection?: string;
  /** A client of the caller's own, of `@eventstore/db-client` 6.2; it is not disposed here. */
  readonly client?: EventStoreDBClient;
  /** Longest wait for an answer, in milliseconds. An append without one is `unknown` then; a read fails with StoreUnavailable. */
  readonly timeoutMs?: number;
  readonly environment?: Partial<Environment>;
}

export const eventStoreDBDefaults = { timeoutMs: 10_000 } as const;

/** Events and snapshots of one service, on one connection. Connects at once. Errors: InvalidArgument, StoreUnavailable, StoreCorrupt. */
export async function eventStoreDBBackend(options: EventStoreDBOptions): Promise<Backend> {
  const connection = connect(options);
  const events = await closedOnFailure(connection, () => eventsOn(connection));
  const snapshots = snapshotsOn(connection);
  return {
    events,
    snapshots,
    async close() {
      await snapshots.close();
      await events.close();
      await connection.release();
    },
  };
}

/** Events alone. Errors: as eventStoreDBBackend. */
export async function eventStoreDBStore(options: EventStoreDBOptions): Promise<EventStore> {
  const connection = connect(options);
  const events = await closedOnFailure(connection, () => eventsOn(connection));
  await connection.release();
  return events;
}

/** Snapshots alone. Connects when it is used. Errors: InvalidArgument. */
export function eventStoreDBSnapshots(options: EventStoreDBOptions): SnapshotStore {
  return snapshotsOn(connect(options, 0));
}

function connect({ connection, client, timeoutMs = eventStoreDBDefaults.timeoutMs, environment }: EventStoreDBOptions, holders = 1): Connection {
  if ((connection === undefined) === (client === undefined)) throw new InvalidArgument("EventStoreDB needs one of connection and client", { details: { option: "connection" } });
  if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1) throw new InvalidArgument("timeoutMs must be whole milliseconds from 1", { details: { option: "timeoutMs" } });
  const common = { timeoutMs, environment: environmentOf(environment) };
  const made = client === undefined ? named(connection as string) : { client, name: client.connectionName, owned: false };
  const link = new Connection(made.client, { ...common, name: made.name, owned: made.owned });
  return holders === 0 ? link : link.retain();
}

function named(connection: string): { readonly client: EventStoreDBClient; readonly name: string; readonly owned: boolean } {
  const { text, hosts } = parseConnectionString(connection);
  try {
    return { client: EventStoreDBClient.connectionString(text), name: hosts, owned: true };
  } catch (error) {
    // The client's own words may quote what it was given.
    const reason = error instanceof Error && /certificate|userCertFile|keepAlive|deadline/i.test(error.message) ? error.message : "the client does not understand it";
    const files = Array.from(text.matchAll(/[?&]((?:tlsCAFile|userCertFile|userKeyFile)=[^&]*)/g), ([, named]) => named);
    throw new InvalidArgument(`the connection string is not valid: ${reason}${files.length === 0 ? "" : ` (${files.join(", ")})`}`, { details: { option: "connection" } });
  }
}

async function closedOnFailure<T>(connection: Connection, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    await connection.release();
    throw error;
  }
}
