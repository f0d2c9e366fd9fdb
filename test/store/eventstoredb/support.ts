import { EventStoreDBClient } from "@eventstore/db-client";
import type { Append, AppendOutcome, EventStore, StoredEvent } from "../../../src/store/event-store.ts";
import { eventStoreDBStore, type EventStoreDBOptions } from "../../../src/store/eventstoredb/index.ts";
import { eventStoreDbServer, type EventStoreDbServer, type EventStoreDbServerOptions } from "../../../src/testing/eventstoredb-server/index.ts";

/** A server, and whatever is opened on it; `close` ends all of it. */
export interface Bench {
  readonly server: EventStoreDbServer;
  open(options?: Partial<EventStoreDBOptions>): Promise<EventStore>;
  /** The client as it comes, for what Tidemark does not do. */
  raw(): EventStoreDBClient;
  close(): Promise<void>;
}

export async function bench(options: EventStoreDbServerOptions = {}): Promise<Bench> {
  const server = await eventStoreDbServer(options);
  const stores: EventStore[] = [];
  const clients: EventStoreDBClient[] = [];
  return {
    server,
    async open(own = {}) {
      const store = await eventStoreDBStore({ connection: server.connectionString, timeoutMs: 3000, ...own });
      stores.push(store);
      return store;
    },
    raw() {
      const client = plainClient(server.connectionString);
      clients.push(client);
      return client;
    },
    async close() {
      server.faults.clear();
      await Promise.all(stores.map((store) => store.close()));
      await Promise.all(clients.map((client) => client.dispose()));
      await server.close();
    },
  };
}

/** Its appends go one by one: in batches the clients of one process wait for each other's answers, and fall with each other. */
export function plainClient(connectionString: string, credentials = { username: "nobody", password: "" }): EventStoreDBClient {
  const client = EventStoreDBClient.connectionString(connectionString);
  const appendToStream = client.appendToStream.bind(client) as typeof client.appendToStream;
  client.appendToStream = (stream, events, options) => appendToStream(stream, events, { credentials, ...options });
  return client;
}

/** Appends one append and gives its outcome. */
export async function append(store: EventStore, one: Append): Promise<AppendOutcome> {
  return (await store.append([one]))[0] as AppendOutcome;
}

export async function idsOf(store: EventStore, stream: string): Promise<readonly string[]> {
  return (await store.readStream(stream)).events.map((event) => event.id);
}

/** A subscription that collects what it gets. */
export function follow(store: EventStore, options: { readonly categories?: readonly string[]; readonly pageSize?: number } = {}) {
  const abort = new AbortController();
  const events: StoredEvent[] = [];
  const state: { through: number; caughtUp: boolean; ended: unknown } = { through: 0, caughtUp: false, ended: undefined };
  const over = (async () => {
    try {
      for await (const page of store.subscribe({ ...options, signal: abort.signal })) {
        events.push(...page.events);
        state.through = page.through["log"] ?? 0;
        state.caughtUp = page.caughtUp;
      }
    } catch (error) {
      state.ended = error;
    }
  })();
  return {
    events,
    state,
    over,
    async stop() {
      abort.abort();
      await over;
    },
  };
}
