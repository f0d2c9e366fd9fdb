/** The bare client of EventStoreDB, one call for each append, as its documentation shows it. */
import { randomUUID } from "node:crypto";
import { EventStoreDBClient, jsonEvent, streamNameFilter } from "@eventstore/db-client";
import { movement } from "./account.ts";

export interface RawClient {
  /** One event to a stream, on the revision that the last one left. */
  deposit(stream: string, index: number): Promise<void>;
  /** Events of the streams with this prefix, by a subscription to the whole log; resolves at the `count`-th. */
  catchUp(prefix: string, count: number): Promise<void>;
  close(): Promise<void>;
}

export function rawClient(connectionString: string): RawClient {
  const client = EventStoreDBClient.connectionString(connectionString);
  const revisions = new Map<string, bigint>();
  return {
    async deposit(stream, index) {
      const id = randomUUID();
      const event = jsonEvent({ type: "Deposited", data: movement(index), metadata: { $correlationId: id, $causationId: id, recordedAt: Date.now() } });
      const { nextExpectedRevision } = await client.appendToStream(stream, event, { expectedRevision: revisions.get(stream) ?? "no_stream" });
      revisions.set(stream, nextExpectedRevision);
    },
    async catchUp(prefix, count) {
      const subscription = client.subscribeToAll({ fromPosition: "start", filter: streamNameFilter({ prefixes: [prefix] }) });
      let seen = 0;
      for await (const { event } of subscription) {
        if (event !== undefined && ++seen >= count) break;
      }
      await subscription.unsubscribe();
    },
    close: () => client.dispose(),
  };
}
