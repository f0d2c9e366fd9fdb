/**
 * `npm run eventstoredb -- --port N [--file F]`: the test server for EventStoreDB in the foreground, until SIGINT or SIGTERM.
 * Prints its address when it serves; with `--control N` the address of its control channel is the second line.
 * `--user name:password` or `--user name:password:$group`, as often as one likes, turns access control on; `--cert` and `--key` turn TLS on.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { eventStoreDbControl, eventStoreDbServer, type User } from "../src/testing/eventstoredb-server/index.ts";

const settings = {
  options: {
    port: { type: "string", default: "2113" },
    host: { type: "string", default: "127.0.0.1" },
    file: { type: "string" },
    control: { type: "string" },
    user: { type: "string", multiple: true },
    cert: { type: "string" },
    key: { type: "string" },
  },
} as const;

try {
  await serve(parseArgs(settings).values);
} catch (error) {
  // A misspelt option, a port in use, a file that cannot be read: the message is enough.
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}

async function serve(values: ReturnType<typeof parseArgs<typeof settings>>["values"]): Promise<void> {
  const { host, file, cert, key } = values;
  const port = portOf(values.port);
  const server = await eventStoreDbServer({
    host,
    port,
    ...(file === undefined ? {} : { file }),
    ...(values.user === undefined ? {} : { users: values.user.map(userOf) }),
    ...(cert === undefined || key === undefined ? {} : { tls: { cert: readFileSync(cert), key: readFileSync(key) } }),
  });
  let control: Awaited<ReturnType<typeof eventStoreDbControl>> | undefined;
  const stop = async (): Promise<void> => {
    await control?.close();
    await server.close();
  };
  try {
    if (values.control !== undefined) control = await eventStoreDbControl(server, { port: portOf(values.control) });
  } catch (error) {
    await stop();
    throw error;
  }
  process.stdout.write(`${server.connectionString}\n${control === undefined ? "" : `${control.url}\n`}`);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stop());
}

function portOf(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`a port is a whole number from 0 to 65535, not ${JSON.stringify(text)}`);
  return port;
}

function userOf(text: string): User {
  const [name = "", password = "", ...groups] = text.split(":");
  return { name, password, groups };
}
