/** Where the service and its command line keep events and read models. */
import { Option, type Command } from "commander";

export interface StoreSettings {
  readonly store: string;
  /** Default: the store's own place for them. A SQLite store keeps them in a second file beside the events. */
  readonly views?: string;
}

/** `--store` and `--views`, the same for the service and for the command line. */
export function addStoreOptions(command: Command): Command {
  return command
    .addOption(new Option("--store <url>", "event store, such as memory: or sqlite:FILE").env("TIDEMARK_STORE").default("sqlite:data/orders.db"))
    .addOption(new Option("--views <url>", "where read models live (default: beside the events)").env("TIDEMARK_VIEWS"));
}
