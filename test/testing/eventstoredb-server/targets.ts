/** Where the cases of the protocol run: on the test server, and on a real one where EVENTSTORE_CONNECTION_STRING names it. */
import { randomUUID } from "node:crypto";
import { component } from "../../support/components.ts";
import { eventStoreDbServer, type EventStoreDbServer } from "../../../src/testing/eventstoredb-server/index.ts";

export interface Target {
  readonly connectionString: string;
  /** Only of the test server. */
  readonly server: EventStoreDbServer | undefined;
  stop(): Promise<void>;
}

export interface TargetChoice {
  readonly name: string;
  readonly open: () => Promise<Target>;
}

const own: TargetChoice = {
  name: "the test server",
  async open() {
    const server = await eventStoreDbServer();
    return { connectionString: server.connectionString, server, stop: () => server.close() };
  },
};

export function targets(): readonly TargetChoice[] {
  const real = component("eventstoredb");
  return real.available ? [own, { name: "a real server", open: () => Promise.resolve({ connectionString: real.reason, server: undefined, stop: () => Promise.resolve() }) }] : [own];
}

/** A name that no other test has, on a server that keeps what tests wrote. */
export function freshStream(category = "case"): string {
  return `${category}${randomUUID().slice(0, 8)}-${randomUUID()}`;
}
