/** Reads the command line and does what it says. Each group of commands loads its backend when it is asked for. */
import { parseArgs } from "node:util";
import { INSTALL, loadClient } from "../app/open-store.ts";
import { InvalidArgument } from "../errors.ts";
import { runKafka } from "./kafka.ts";
import type { CommitOrder, ViewBuild } from "../store/postgres/index.ts";

const loadPostgres = () => loadClient("pg", INSTALL.pg, () => import("../store/postgres/index.ts"));

const USAGE = `Usage: tidemark postgres COMMAND --store URL [options]

  migrate      makes or updates the schemas of Tidemark in a PostgreSQL database
  partitions   lists the partitions of a log; --ahead N makes room for N events more
  archive      moves the partitions that end at --through POSITION or before out of the log, to the schema --into (default: with _archive behind the log's own);
               refuses where streams could not be read any more, unless --unreadable allows it
  restore      brings archived partitions back, from the youngest on, down to the one with --from POSITION
  views        lists read models, their versions and who moves them; --drop MODEL drops what is old of one, with --version N that version alone

  --store URL   postgres://user@host:5432/database?schema=tidemark&viewsSchema=tidemark_views (default: TIDEMARK_STORE)
  --dry-run     prints what would be done and does nothing
  --help        prints this

       tidemark kafka acls --topic-prefix PREFIX --principal PRINCIPAL: see tidemark kafka --help
`;

interface Call {
  readonly options: ReturnType<typeof optionsOf>;
  readonly values: ReturnType<typeof parsed>["values"];
  readonly dryRun: boolean;
  readonly print: (text: string) => void;
}

const COMMANDS: Readonly<Record<string, (call: Call) => Promise<void>>> = {
  async migrate({ options, dryRun, print }) {
    const { migratePostgres } = await loadPostgres();
    const sql = await migratePostgres({ ...options, dryRun });
    if (sql.length === 0) print("-- the schemas are up to date\n");
    else if (dryRun) print(`BEGIN;\n${sql.join("\n")}\nCOMMIT;\n`);
    else print("the schemas were brought up to date\n");
  },

  async partitions({ options, values, dryRun, print }) {
    const { postgresPartitions } = await loadPostgres();
    const ahead = whole("ahead", values.ahead);
    if (dryRun && ahead !== undefined) print(`-- would make partitions for ${ahead} events more; now there are:\n`);
    for (const { first, last, name, archived, bytes } of await postgresPartitions({ ...options, ...(ahead !== undefined && !dryRun && { ahead }) })) {
      print(`${name}  ${first} to ${last}  ${bytes === undefined ? "dropped" : `${(bytes / 2 ** 20).toFixed(1)} MiB`}${archived === undefined ? "" : `  archived in ${archived}`}\n`);
    }
  },

  async archive({ options, values, dryRun, print }) {
    const { archivePostgres } = await loadPostgres();
    const through = needed("through", values.through);
    const { partitions, sql, streams } = await archivePostgres({ ...options, through, into: values.into, unreadable: values.unreadable, dryRun });
    if (partitions.length === 0) return print(`-- no partition ends at ${through} or before it\n`);
    print(`-- ${partitions.length} partitions, ${streams.touched} streams: of ${streams.whole} nothing is left in the log, ${streams.cut} have no snapshot that goes on from there\n`);
    if (streams.examples.length > 0) print(`-- not readable any more: ${streams.examples.join(", ")}${streams.whole + streams.cut > streams.examples.length ? " …" : ""}\n`);
    print(dryRun ? `${sql.join("\n")}\n` : `${partitions.map(({ name }) => name).join(", ")} moved\n`);
  },

  async restore({ options, values, dryRun, print }) {
    const { restorePostgres } = await loadPostgres();
    const { partitions, sql } = await restorePostgres({ ...options, from: needed("from", values.from), dryRun });
    if (partitions.length === 0) return print("-- nothing is archived there\n");
    print(dryRun ? `${sql.join("\n")}\n` : `${partitions.map(({ name }) => name).join(", ")} restored\n`);
  },

  async views({ options, values, dryRun, print }) {
    const { dropPostgresViews, postgresViewBuilds } = await loadPostgres();
    const { drop: model } = values;
    const version = whole("version", values.version);
    if (model === undefined) {
      for (const build of await postgresViewBuilds(options)) print(lineOf(build));
      return;
    }
    const dropped = await dropPostgresViews({ ...options, model, dryRun, ...(version !== undefined && { version }) });
    if (dropped.length === 0) return print(`-- nothing of ${model} is old\n`);
    print(dryRun ? "-- would drop:\n" : "dropped:\n");
    for (const build of dropped) print(lineOf(build));
  },
};

/** The exit code. Errors: InvalidArgument, those of the backend. */
export async function run(args: readonly string[], print: (text: string) => void, variables: Readonly<Record<string, string | undefined>>): Promise<number> {
  if (args[0] === "kafka") return runKafka(args.slice(1), print);
  const { values, positionals } = parsed(args);
  if (values.help === true || positionals.length === 0) {
    print(USAGE);
    return values.help === true ? 0 : 2;
  }
  const [group, name = "", ...more] = positionals;
  const command = group === "postgres" && more.length === 0 && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new InvalidArgument(`there is no command ${JSON.stringify(positionals.join(" ").slice(0, 80))}\n\n${USAGE}`);
  const store = values.store ?? variables["TIDEMARK_STORE"];
  if (store === undefined || !/^postgres(ql)?:\/\//.test(store)) throw new InvalidArgument(`--store (or TIDEMARK_STORE) names a database: postgres://user@host:5432/database\n\n${USAGE}`);
  await command({ options: optionsOf(store), values, dryRun: values["dry-run"] === true, print });
  return 0;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        store: { type: "string" },
        "dry-run": { type: "boolean" },
        help: { type: "boolean", short: "h" },
        ahead: { type: "string" },
        through: { type: "string" },
        from: { type: "string" },
        into: { type: "string" },
        unreadable: { type: "boolean" },
        drop: { type: "string" },
        version: { type: "string" },
      },
    });
  } catch (cause) {
    throw new InvalidArgument(`${(cause as Error).message}\n\n${USAGE}`, { cause });
  }
}

function lineOf({ model, version, build, state, place, shards, events, bytes, owners }: ViewBuild): string {
  const moved = owners.length === 0 ? "" : `  moved by ${owners.join(", ")}`;
  return `${model}  version ${version} build ${build}  ${state}  ${events} events${shards > 1 ? `  ${shards} shards` : ""}  ${(bytes / 2 ** 20).toFixed(1)} MiB  ${place}${moved}\n`;
}

function needed(name: string, text: string | undefined): number {
  const value = whole(name, text);
  if (value === undefined) throw new InvalidArgument(`--${name} is needed\n\n${USAGE}`);
  return value;
}

function whole(name: string, text: string | undefined): number | undefined {
  if (text !== undefined && !/^[0-9]{1,15}$/.test(text)) throw new InvalidArgument(`--${name} is a whole number`);
  return text === undefined ? undefined : Number(text);
}

/** The schemas in the URL are ours, the rest is for `pg`. */
function optionsOf(store: string): { readonly connection: string; readonly schema?: string; readonly viewsSchema?: string; readonly commitOrder?: CommitOrder; readonly eventsPerPartition?: number } {
  const url = new URL(store);
  const take = (name: string): string | undefined => {
    const value = url.searchParams.get(name) ?? undefined;
    url.searchParams.delete(name);
    return value;
  };
  const [schema, viewsSchema, commitOrder, eventsPerPartition] = ["schema", "viewsSchema", "commitOrder", "eventsPerPartition"].map(take);
  for (const name of ["poolSize", "pgbouncer", "listener", "migrate"]) take(name);
  return {
    connection: url.href,
    ...(schema !== undefined && { schema }),
    ...(viewsSchema !== undefined && { viewsSchema }),
    // Checked by the backend, as all options are.
    ...(commitOrder !== undefined && { commitOrder: commitOrder as CommitOrder }),
    ...(eventsPerPartition !== undefined && { eventsPerPartition: Number(eventsPerPartition) }),
  };
}
