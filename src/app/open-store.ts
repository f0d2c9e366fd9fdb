/**
 * A store named by a URL. The backend is loaded when its scheme is asked for, so that nobody installs the clients of the others:
 * the one place of the core that knows backends.
 */
import type { Environment } from "../environment.ts";
import { InvalidArgument, MissingClient, UnknownScheme } from "../errors.ts";
import type { ViewStore } from "../readmodel/view-store.ts";
import type { Backend } from "../store/backend.ts";
import type { EventStoreDBOptions } from "../store/eventstoredb/index.ts";
import type { PostgresBackendOptions } from "../store/postgres/index.ts";

export interface OpenStoreOptions {
  readonly environment?: Partial<Environment>;
}

/** A URL taken apart; parameters are checked against those that the scheme knows. */
interface StoreUrl {
  readonly scheme: string;
  readonly target: string;
  readonly parameters: ReadonlyMap<string, string>;
}

interface Scheme {
  readonly parameters: readonly string[];
  readonly open: (url: StoreUrl, options: OpenStoreOptions) => Promise<Backend>;
  readonly openViews: (url: StoreUrl, options: OpenStoreOptions) => Promise<ViewStore>;
}

/** What a postgres: URL hands on to `pg`. */
const PG_PARAMETERS = ["application_name", "host", "options", "sslcert", "sslkey", "sslmode", "sslrootcert", "uselibpqcompat"] as const;

/** How the clients come, for messages. (The loaders themselves are not shared: their types would bring those of the clients into everybody's declarations.) */
export const INSTALL = { pg: "npm install pg", kafkajs: "npm install kafkajs@2.2.4", eventStoreDB: "npm install @eventstore/db-client@6" } as const;

const loadMemory = () => import("../store/memory/index.ts");
const loadSqlite = () => loadClient("node:sqlite", "use Node.js 22.13 or newer, where it is built in", () => import("../store/sqlite/index.ts"));

const loadPostgres = () => loadClient("pg", INSTALL.pg, () => import("../store/postgres/index.ts"));

const POSTGRES: Scheme = {
  parameters: ["schema", "viewsSchema", "commitOrder", "eventsPerPartition", "poolSize", "pgbouncer", "listener", "migrate", ...PG_PARAMETERS],
  open: async (url, options) => (await loadPostgres()).postgresBackend({ ...postgresOptions(url), ...options }),
  openViews: async (url, options) => (await loadPostgres()).postgresViews({ ...postgresOptions(url), ...options }),
};

const loadEventStoreDB = () => loadClient("@eventstore/db-client", INSTALL.eventStoreDB, () => import("../store/eventstoredb/index.ts"));

/** What an esdb: URL hands on as a connection string. */
const ESDB_PARAMETERS = ["connectionName", "defaultDeadline", "discoveryInterval", "gossipTimeout", "keepAliveInterval", "keepAliveTimeout", "maxDiscoverAttempts", "nodePreference", "throwOnAppendFailure", "tls", "tlsCAFile", "tlsVerifyCert", "userCertFile", "userKeyFile"] as const;

const EVENTSTOREDB: Scheme = {
  parameters: ["timeoutMs", ...ESDB_PARAMETERS],
  open: async (url, options) => (await loadEventStoreDB()).eventStoreDBBackend({ ...eventStoreDBOptions(url), ...options }),
  openViews: async ({ scheme }) => {
    throw new InvalidArgument(`${oneOf(scheme)} URL names events and snapshots; read models live elsewhere: memory:, sqlite:views.db or postgres://…`);
  },
};

const loadKafka = () => loadClient("kafkajs", INSTALL.kafkajs, () => import("../store/kafka/index.ts"));

const TOPIC_PARAMETERS = ["topicPrefix", "partitions", "replicationFactor", "minInsyncReplicas", "maxMessageBytes"] as const;

const KAFKA: Scheme = {
  parameters: [...TOPIC_PARAMETERS, "clientId", "owner", "index", "claimOnly", "minHoldMs", "requestTimeoutMs", "appendTimeoutMs", "sasl", "tls"],
  open: async ({ target, parameters }, options) => {
    const { kafkaBackend, kafkaUrlOptions } = await loadKafka();
    return kafkaBackend({ ...kafkaUrlOptions(target, parameters), ...options });
  },
  openViews: async () => {
    throw new InvalidArgument("a kafka: URL names events; read models live elsewhere: memory:, sqlite:views.db or postgres://…");
  },
};

const SCHEMES = new Map<string, Scheme>([
  ["postgres", POSTGRES],
  ["postgresql", POSTGRES],
  ["esdb", EVENTSTOREDB],
  ["esdb+discover", EVENTSTOREDB],
  ["kurrentdb", EVENTSTOREDB],
  ["kurrentdb+discover", EVENTSTOREDB],
  ["kafka", KAFKA],
  [
    "memory",
    {
      parameters: [],
      async open(url) {
        assertNothingMore(url);
        return (await loadMemory()).memoryBackend();
      },
      async openViews(url) {
        assertNothingMore(url);
        return (await loadMemory()).memoryViews();
      },
    },
  ],
  [
    "sqlite",
    {
      parameters: ["synchronous"],
      async open(url, options) {
        const file = fileOf(url);
        const synchronous = url.parameters.get("synchronous");
        if (synchronous !== undefined && synchronous !== "full" && synchronous !== "normal") {
          throw new InvalidArgument("the parameter synchronous of a sqlite: URL is full or normal", { details: { synchronous } });
        }
        return (await loadSqlite()).sqliteBackend({ file, ...options, ...(synchronous === undefined ? {} : { synchronous }) });
      },
      async openViews(url, options) {
        if (url.parameters.size > 0) throw new InvalidArgument("the sqlite: URL of views takes no parameters");
        const file = fileOf(url);
        return (await loadSqlite()).sqliteViews({ file, ...options });
      },
    },
  ],
]);

/**
 * Opens the store that a URL names: `memory:`, `sqlite:orders.db`, `sqlite:/data/orders.db?synchronous=normal`, `postgres://user@host/database?schema=orders`,
 * `esdb://user:password@host:2113?tls=true`, `kafka://host:9092,host2:9092/?topicPrefix=orders`. What is special in a name is percent-encoded.
 * Errors: UnknownScheme, InvalidArgument, MissingClient, and those of the backend.
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<Backend> {
  const { scheme, parsed } = parse(url);
  return scheme.open(parsed, options);
}

/** Opens the views that a URL names, without an event store: `memory:`, `sqlite:views.db`, `postgres://user@host/database?viewsSchema=read_models`. Errors: as openStore. */
export async function openViews(url: string, options: OpenStoreOptions = {}): Promise<ViewStore> {
  const { scheme, parsed } = parse(url);
  return scheme.openViews(parsed, options);
}

/** Loads a backend; an error that says its client is not there becomes MissingClient with `remedy`, every other one stands. */
export async function loadClient<T>(client: string, remedy: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const { code, message } = cause as { code?: unknown; message?: unknown };
    const missing = code === "ERR_MODULE_NOT_FOUND" || code === "ERR_UNKNOWN_BUILTIN_MODULE";
    if (!missing || !String(message).includes(client)) throw cause;
    throw new MissingClient(`this store needs ${client}, which is not installed: ${remedy}`, { cause, details: { client } });
  }
}

/** Messages name the scheme and the parameter alone: the rest of a URL may hold a password. */
function parse(url: string): { scheme: Scheme; parsed: StoreUrl } {
  // One letter before the colon is a drive, not a scheme.
  const match = /^([A-Za-z][A-Za-z0-9+.-]+):([^?]*)(?:\?(.*))?$/s.exec(typeof url === "string" ? url : "");
  const known = [...SCHEMES.keys()].map((name) => `${name}:`).join(", ");
  if (match === null) throw new InvalidArgument(`a store is named by a URL with a scheme (${known}); for a file write sqlite:orders.db`);
  const name = (match[1] as string).toLowerCase();
  const scheme = SCHEMES.get(name);
  if (scheme === undefined) throw new UnknownScheme(`no store is known for the scheme ${name}:, only for ${known}`, { details: { scheme: name, known: [...SCHEMES.keys()] } });
  const parameters = new Map<string, string>();
  for (const [parameter, value] of new URLSearchParams(match[3] ?? "")) {
    if (!scheme.parameters.includes(parameter) || parameters.has(parameter)) {
      const allowed = scheme.parameters.length === 0 ? "none" : scheme.parameters.join(", ");
      throw new InvalidArgument(`the parameter ${JSON.stringify(parameter)} of ${oneOf(name)} URL is not known or given twice; known: ${allowed}`, { details: { parameter } });
    }
    parameters.set(parameter, value);
  }
  return { scheme, parsed: { scheme: name, target: match[2] as string, parameters } };
}

/** The URL's own parameters as options; the rest of it goes to `pg` as it is. */
function postgresOptions({ scheme, target, parameters }: StoreUrl): PostgresBackendOptions {
  if (!target.startsWith("//")) throw new InvalidArgument(`${oneOf(scheme)} URL names a server: ${scheme}://user@host:5432/database`);
  const handedOn = new URLSearchParams(PG_PARAMETERS.flatMap((name): [string, string][] => (parameters.has(name) ? [[name, parameters.get(name) as string]] : [])));
  const flag = (name: string): boolean | undefined => {
    const value = parameters.get(name);
    if (value !== undefined && value !== "true" && value !== "false") throw new InvalidArgument(`the parameter ${name} of ${oneOf(scheme)} URL is true or false`, { details: { [name]: value } });
    return value === undefined ? undefined : value === "true";
  };
  const [schema, viewsSchema, commitOrder, eventsPerPartition, poolSize, listener] = ["schema", "viewsSchema", "commitOrder", "eventsPerPartition", "poolSize", "listener"].map((name) => parameters.get(name));
  const [pgbouncer, migrate] = [flag("pgbouncer"), flag("migrate")];
  return {
    connection: `${scheme}:${target}${handedOn.size > 0 ? `?${handedOn.toString()}` : ""}`,
    ...(schema !== undefined && { schema }),
    ...(viewsSchema !== undefined && { viewsSchema }),
    // Checked where it is used, as all options are.
    ...(commitOrder !== undefined && { commitOrder: commitOrder as "lock" }),
    ...(eventsPerPartition !== undefined && { eventsPerPartition: Number(eventsPerPartition) }),
    ...(poolSize !== undefined && { poolSize: Number(poolSize) }),
    ...(listener !== undefined && { listener: listener === "false" ? false : listener }),
    ...(pgbouncer !== undefined && { pgbouncer }),
    ...(migrate !== undefined && { migrate }),
  };
}

/** Written anew as a connection string; the backend checks it. */
function eventStoreDBOptions({ scheme, target, parameters }: StoreUrl): EventStoreDBOptions {
  if (!target.startsWith("//")) throw new InvalidArgument(`${oneOf(scheme)} URL names a server: ${scheme}://user:password@host:2113`);
  const handedOn = ESDB_PARAMETERS.flatMap((name) => (parameters.has(name) ? [`${name}=${encodeURIComponent(parameters.get(name) as string)}`] : []));
  const timeoutMs = parameters.get("timeoutMs");
  return {
    connection: `${scheme}:${target}${handedOn.length > 0 ? `?${handedOn.join("&")}` : ""}`,
    ...(timeoutMs !== undefined && { timeoutMs: Number(timeoutMs) }),
  };
}

/** `a kafka:`, `an esdb:`. */
function oneOf(scheme: string): string {
  return `${scheme.startsWith("e") ? "an" : "a"} ${scheme}:`;
}

function assertNothingMore(url: StoreUrl): void {
  if (url.target !== "" && url.target !== "//") throw new InvalidArgument(`${oneOf(url.scheme)} URL has nothing after the colon`);
}

/** `orders.db`, `./data/x.db`, `/abs/x.db` or `///abs/x.db`. */
function fileOf(url: StoreUrl): string {
  let file: string;
  try {
    file = decodeURIComponent(url.target.replace(/^\/\/(?=\/)/, ""));
  } catch (cause) {
    throw new InvalidArgument(`the file name of ${oneOf(url.scheme)} URL is not well percent-encoded`, { cause });
  }
  if (file === "" || file === ":memory:" || file.startsWith("//") || file.includes("\0")) {
    throw new InvalidArgument(`${oneOf(url.scheme)} URL names a file: ${url.scheme}:orders.db or ${url.scheme}:/data/orders.db (for a store without a file use memory:)`);
  }
  return file;
}
