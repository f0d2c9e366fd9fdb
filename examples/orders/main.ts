/** `npm start`: the orders service, until SIGTERM or SIGINT. */
import { InvalidArgumentError, Option, program } from "commander";
import { pino } from "pino";
import { startService, type Service } from "./service.ts";
import { addStoreOptions, type StoreSettings } from "./settings.ts";

/** npm passes on the Ctrl-C that the terminal has sent to all of its group already. */
const SAME_SIGNAL_MS = 1000;

addStoreOptions(program)
  .name("npm start --")
  .description("The orders service.")
  .addOption(new Option("--port <number>", "where it listens; 0: any free one").env("PORT").default(8080).argParser(portOf))
  .addOption(new Option("--host <address>", "the address of that port; 0.0.0.0: of the whole machine").env("HOST").default("127.0.0.1"))
  .option("--demo", "let a simulated shop trickle orders in")
  .action(run)
  .addHelpText("after", "\nLOG_LEVEL chooses what is logged, default info.");

interface Settings extends StoreSettings {
  readonly port: number;
  readonly host: string;
  readonly demo?: boolean;
}

async function run({ port, host, demo = false, ...stores }: Settings): Promise<void> {
  const logger = pino({ level: process.env["LOG_LEVEL"] ?? "info", base: null }, pino.destination(2)); // stdout is for the address
  const service = await startService({ ...stores, host, port, demo, logger }).catch((error: unknown) => {
    throw explained(error, host, port);
  });
  process.stdout.write(`The orders service listens on ${service.url}, its events are in ${withoutPassword(stores.store)}\n`);
  closeOnSignals(service);
}

function withoutPassword(url: string): string {
  return url.replace(/(\/\/[^:/?#@]*):[^@/?#]*@/, "$1:…@");
}

function portOf(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new InvalidArgumentError("It must be a whole number from 0 to 65535.");
}

/** What to do where the address cannot be had; every other error stands. */
function explained(error: unknown, host: string, port: number): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (syscall !== "listen" && syscall !== "getaddrinfo") return error;
  if (code === "EADDRINUSE") return new Error(`port ${port} of ${host} is in use: choose another with --port or PORT (0: any free one)`, { cause: error });
  if (code === "EACCES") return new Error(`port ${port} needs rights that this process does not have: choose one from 1024 on with --port or PORT`, { cause: error });
  return new Error(`${host} is no address of this machine (${code}): choose another with --host or HOST`, { cause: error });
}

/** The first signal closes cleanly; a later one does not wait. */
function closeOnSignals(service: Service): void {
  let since: number | undefined;
  const close = (): void => {
    if (since !== undefined && performance.now() - since < SAME_SIGNAL_MS) return;
    if (since !== undefined) process.exit(1);
    since = performance.now();
    service.close().then(
      () => process.exit(0),
      (error: unknown) => fail(error),
    );
  };
  process.on("SIGTERM", close).on("SIGINT", close);
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

await program.parseAsync().catch(fail);
