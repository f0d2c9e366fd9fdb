/**
 * `npm run eventstoredb`: the test server for EventStoreDB in the foreground, until SIGINT or SIGTERM.
 * Prints its address when it serves; with `--control N` the address of its control channel is the second line.
 */
import { readFileSync } from "node:fs";
import { InvalidArgumentError, program } from "commander";
import { eventStoreDbControl, eventStoreDbServer, type User } from "../src/testing/eventstoredb-server/index.ts";

interface Settings {
  readonly port: number;
  readonly host: string;
  readonly file?: string;
  readonly control?: number;
  readonly user?: readonly User[];
  readonly cert?: string;
  readonly key?: string;
}

program
  .name("npm run eventstoredb --")
  .description("The test server for EventStoreDB in the foreground, in memory unless --file is given. Prints its URL when it serves.")
  .option("--port <number>", "where it listens; 0: any free one", portOf, 2113)
  .option("--host <address>", "the address of that port", "127.0.0.1")
  .option("--file <path>", "keeps the log there")
  .option("--control <port>", "serves the control channel there, for faults; its URL is the second line", portOf)
  .option("--user <name:password[:group]>", "turns access control on; as often as you like, $admins is a group", addUser)
  .option("--cert <path>", "turns TLS on, together with --key")
  .option("--key <path>", "of the certificate")
  .addHelpText("after", "\nThe URL is one for a store: openStore(url), tidemark({ store: url }), npm start -- --store URL.\nMore: docs/eventstoredb/test-server.md")
  .action(serve);

try {
  await program.parseAsync();
} catch (error) {
  // A port in use, a file that cannot be read: the message is enough.
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}

async function serve({ host, port, control: controlPort, file, user: users, cert, key }: Settings): Promise<void> {
  const server = await eventStoreDbServer({
    host,
    port,
    ...(file === undefined ? {} : { file }),
    ...(users === undefined ? {} : { users }),
    ...(cert === undefined || key === undefined ? {} : { tls: { cert: readFileSync(cert), key: readFileSync(key) } }),
  });
  let control: Awaited<ReturnType<typeof eventStoreDbControl>> | undefined;
  const stop = async (): Promise<void> => {
    await control?.close();
    await server.close();
  };
  try {
    if (controlPort !== undefined) control = await eventStoreDbControl(server, { port: controlPort });
  } catch (error) {
    await stop();
    throw error;
  }
  process.stdout.write(`${server.connectionString}\n${control === undefined ? "" : `${control.url}\n`}`);
  // Everything is closed then. Left to end by itself, Node has been seen to wait for ever for a handle of a connection that was reset.
  const exit = (): void => void stop().finally(() => process.exit());
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, exit);
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError("It must be a whole number from 0 to 65535.");
  return port;
}

function addUser(text: string, users: readonly User[] = []): readonly User[] {
  const [name = "", password = "", ...groups] = text.split(":");
  return [...users, { name, password, groups }];
}
