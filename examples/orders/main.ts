/** `npm start`: the orders service, until SIGTERM or SIGINT. */
import { program } from "commander";
import { pino } from "pino";
import { startService, type Service } from "./service.ts";
import { addStoreOptions, type StoreSettings } from "./settings.ts";

/** npm passes on the Ctrl-C that the terminal has sent to all of its group already. */
const SAME_SIGNAL_MS = 1000;

addStoreOptions(program)
  .name("npm start --")
  .description("The orders service, on HOST (default 127.0.0.1) and PORT (default 8080).")
  .option("--demo", "let a simulated shop trickle orders in")
  .action(run)
  .addHelpText("after", "\nLOG_LEVEL chooses what is logged, default info.");

async function run({ demo = false, ...stores }: StoreSettings & { readonly demo?: boolean }): Promise<void> {
  const logger = pino({ level: process.env["LOG_LEVEL"] ?? "info", base: null }, pino.destination(2)); // stdout is for the address
  const host = process.env["HOST"] ?? "127.0.0.1";
  const port = portOf(process.env["PORT"] ?? "8080");
  const service = await startService({ ...stores, host, port, demo, logger });
  process.stdout.write(`The orders service listens on ${service.url}, its events are in ${withoutPassword(stores.store)}\n`);
  closeOnSignals(service);
}

function withoutPassword(url: string): string {
  return url.replace(/(\/\/[^:/?#@]*):[^@/?#]*@/, "$1:…@");
}

function portOf(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new Error(`PORT must be a number from 0 to 65535, not ${JSON.stringify(text)}`);
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
