/** Users, access lists and TLS, through the client of the package: it sends a password only over TLS. */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AccessDeniedError, EventStoreDBClient, jsonEvent } from "@eventstore/db-client";
import { status, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventStoreDbServer, type EventStoreDbServer } from "../../../src/testing/eventstoredb-server/index.ts";
import { selfSigned } from "./certificate.ts";
import { readRequest, Wire } from "./protocol.ts";

describe("a server with users", () => {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-esdb-tls-"));
  const caFile = join(folder, "ca.pem");
  const clients: EventStoreDBClient[] = [];
  let server: EventStoreDbServer;

  beforeAll(async () => {
    const tls = selfSigned();
    writeFileSync(caFile, tls.cert);
    server = await eventStoreDbServer({
      tls,
      users: [
        { name: "root", password: "a:b c", groups: ["$admins"] },
        { name: "ada", password: "lace", groups: ["writers"] },
        { name: "bob", password: "b" },
      ],
    });
  });

  afterAll(async () => {
    await Promise.all(clients.map((client) => client.dispose()));
    await server.close();
    rmSync(folder, { recursive: true });
  });

  const urlFor = (user: string): string => `esdb://${user}localhost:${server.port}?tls=true&tlsCAFile=${caFile}`;

  function as(user: string): EventStoreDBClient {
    const client = EventStoreDBClient.connectionString(urlFor(user));
    clients.push(client);
    return client;
  }

  const event = () => jsonEvent({ type: "Tested", data: {} });
  const read = async (client: EventStoreDBClient, stream: string): Promise<number> => {
    let count = 0;
    for await (const _ of client.readStream(stream, { maxCount: 10 })) count++;
    return count;
  };

  it("serves who is known over TLS, and says so in its address", async () => {
    expect(server.connectionString).toBe(`esdb://127.0.0.1:${server.port}?tls=true`);
    const ada = as("ada:lace@");
    await ada.appendToStream("free-1", event());
    expect(await read(ada, "free-1")).toBe(1);
  });

  it("survives who does not speak TLS, and who speaks nothing it knows", async () => {
    await using plain = await eventStoreDbServer();
    for (const { port } of [server, plain]) {
      for (const bytes of ["GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "\u0016\u0003\u0001nonsense", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is long enough for a frame"]) {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => undefined).resume().end(bytes);
        await once(socket, "close");
      }
    }
    await as("ada:lace@").appendToStream("free-4", event());
    const wire = new Wire(plain.connectionString);
    expect(await wire.append("BatchAppend", "free-4", "any", [])).toMatchObject({ revision: -1n });
    await wire.dispose();
  });

  it("refuses who has no name, in both kinds of appends and in reads", async () => {
    const nobody = as("");
    await expect(nobody.appendToStream("free-2", event())).rejects.toBeInstanceOf(AccessDeniedError);
    await expect(read(nobody, "free-2")).rejects.toBeInstanceOf(AccessDeniedError);
    await expect(nobody.deleteStream("free-2")).rejects.toBeInstanceOf(AccessDeniedError);
    const wire = new Wire(urlFor(""));
    expect(await wire.append("Append", "free-2", "any", [])).toEqual({ status: "7 access-denied" });
    expect(await wire.append("BatchAppend", "free-2", "any", [])).toEqual({ status: "event_store.client.AccessDenied" });
    await wire.dispose();
  });

  it("refuses a wrong password before anything else", async () => {
    const wire = new Wire(urlFor("ada:wrong@"));
    const { error } = await wire.read(readRequest({ stream: "free-3", count: 1 }));
    expect(error?.code).toBe(status.UNAUTHENTICATED);
    expect(await wire.append("BatchAppend", "free-3", "any", [])).toEqual({ status: expect.stringMatching(/^16 /) });
    await wire.dispose();
  });

  it("holds to the access list of a stream", async () => {
    const root = as("root:a%3Ab%20c@");
    await root.setStreamMetadata("guarded-1", { acl: { readRoles: ["bob"], writeRoles: ["writers"], deleteRoles: ["$admins"], metaReadRoles: ["$all"], metaWriteRoles: ["$admins"] } });
    const [ada, bob] = [as("ada:lace@"), as("bob:b@")];
    await ada.appendToStream("guarded-1", event());
    await expect(bob.appendToStream("guarded-1", event())).rejects.toBeInstanceOf(AccessDeniedError);
    expect(await read(bob, "guarded-1")).toBe(1);
    await expect(read(ada, "guarded-1")).rejects.toBeInstanceOf(AccessDeniedError);
    await expect(ada.tombstoneStream("guarded-1")).rejects.toBeInstanceOf(AccessDeniedError);
    await expect(ada.setStreamMetadata("guarded-1", {})).rejects.toBeInstanceOf(AccessDeniedError);
    await root.tombstoneStream("guarded-1");
  });

  it("drops a subscription whose user may not read any more", async () => {
    const root = as("root:a%3Ab%20c@");
    const bob = as("bob:b@");
    const subscription = bob.subscribeToStream("watched-1");
    const failed = new Promise<ServiceError>((resolve) => subscription.once("error", resolve as (error: Error) => void));
    await new Promise<void>((resolve) => subscription.once("caughtUp", () => resolve()));
    await root.setStreamMetadata("watched-1", { acl: { readRoles: ["ada"] } });
    expect(await failed).toBeInstanceOf(AccessDeniedError);
  });

  it("shows $all to administrators alone", async () => {
    const all = async (client: EventStoreDBClient): Promise<void> => {
      for await (const _ of client.readAll({ maxCount: 1 }));
    };
    await all(as("root:a%3Ab%20c@"));
    await expect(all(as("ada:lace@"))).rejects.toBeInstanceOf(AccessDeniedError);
  });
});
