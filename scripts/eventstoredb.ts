/**
 * `npm run eventstoredb -- --port N [--file F]`: the test server for EventStoreDB in the foreground, until SIGINT or SIGTERM.
 * Prints its address when it serves; with `--control N` the address of its control channel is the second line.
 * `--user name:password` or `--user name:password:$group`, as often as one likes, turns access control on; `--cert` and `--key` turn TLS on.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { eventStoreDbControl, eventStoreDbServer, type User } from "../src/testing/eventstoredb-server/index.ts";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "2113" },
    host: { type: "string", default: "127.0.0.1" },
    file: { type: "string" },
    control: { type: "string" },
    user: { type: "string", multiple: true },
    cert: { type: "string" },
    key: { type: "string" },
  },
});

const { host, file, cert, key } = values;
const server = await eventStoreDbServer({
  host,
  port: Number(values.port),
  ...(file === undefined ? {} : { file }),
  ...(values.user === undefined ? {} : { users: values.user.map(userOf) }),
  ...(cert === undefined || key === undefined ? {} : { tls: { cert: readFileSync(cert), key: readFileSync(key) } }),
});
const control = values.control === undefined ? undefined : await eventStoreDbControl(server, { port: Number(values.control) });
process.stdout.write(`${server.connectionString}\n${control === undefined ? "" : `${control.url}\n`}`);

async function stop(): Promise<void> {
  await control?.close();
  await server.close();
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stop());

function userOf(text: string): User {
  const [name = "", password = "", ...groups] = text.split(":");
  return { name, password, groups };
}
