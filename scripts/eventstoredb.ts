/**
 * `npm run eventstoredb -- --port N [--file F] [--host H] [--control N]`: the test server for EventStoreDB in the foreground.
 * Prints its address when it serves, and stops on SIGINT and SIGTERM.
 */
import { parseArgs } from "node:util";
import { eventStoreDbServer } from "../src/testing/eventstoredb-server/index.ts";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "2113" },
    host: { type: "string", default: "127.0.0.1" },
    file: { type: "string" },
  },
});

const server = await eventStoreDbServer({ host: values.host, port: Number(values.port), ...(values.file === undefined ? {} : { file: values.file }) });
process.stdout.write(`${server.connectionString}\n`);

const stop = (): void => {
  void server.close();
};
process.once("SIGINT", stop);
process.once("SIGTERM", stop);
