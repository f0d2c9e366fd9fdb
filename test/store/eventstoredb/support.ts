import { recordingLogger } from "../../../src/testing/manual-environment.ts";
import type { EventStoreDbServer, EventStoreDbServerOptions } from "../../../src/testing/eventstoredb-server/index.ts";
import { eventStoreDbServer } from "../../../src/testing/eventstoredb-server/index.ts";

export { recordingLogger };

/** A connection string for a server without TLS. */
export function urlOf(server: Pick<EventStoreDbServer, "port">, parameters = ""): string {
  return `esdb://127.0.0.1:${server.port}?tls=false${parameters}`;
}

export function testServer(options: EventStoreDbServerOptions = {}): Promise<EventStoreDbServer> {
  return eventStoreDbServer(options);
}
