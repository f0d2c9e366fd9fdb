/** Where the service and its command line keep events and read models. */
import { Option } from "commander";

export const DEFAULT_STORE = "sqlite:data/orders.db";

export interface StoreSettings {
  readonly store: string;
  readonly views?: string;
}

/** `--store` and `--views`, the same for the service and for the command line. */
export const storeOptions = (): readonly Option[] => [
  new Option("--store <url>", "event store: memory:, sqlite:FILE").env("TIDEMARK_STORE").default(DEFAULT_STORE),
  new Option("--views <url>", "read models; default: beside the events").env("TIDEMARK_VIEWS"),
];

const SQLITE = /^(sqlite:[^?]*?)(\.[^./?]+)?(?:\?.*)?$/;

/** Read models stand beside the events: for a SQLite store in a second file, so that neither waits for the other; any other store's app decides. */
export function storeSettings(options: { readonly store: string; readonly views?: string | undefined }): StoreSettings {
  const { store, views = besides(store) } = options;
  return views === undefined ? { store } : { store, views };
}

function besides(store: string): string | undefined {
  const sqlite = SQLITE.exec(store);
  return sqlite === null ? undefined : `${sqlite[1]}-views${sqlite[2] ?? ""}`;
}
