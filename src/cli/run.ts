/** Reads the command line and does what it says. Each group of commands loads its backend when it is asked for. */
import { parseArgs } from "node:util";
import { InvalidArgument } from "../errors.ts";

const USAGE = `Usage: tidemark postgres migrate --store URL [--dry-run]

  Makes or updates the schemas of Tidemark in a PostgreSQL database.

  --store URL   postgres://user@host:5432/database?schema=tidemark&viewsSchema=tidemark_views (default: TIDEMARK_STORE)
  --dry-run     prints the SQL and runs nothing
  --help        prints this
`;

/** The exit code. Errors: InvalidArgument, those of the backend. */
export async function run(args: readonly string[], print: (text: string) => void, variables: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { values, positionals } = parsed(args);
  if (values.help === true || positionals.length === 0) {
    print(USAGE);
    return values.help === true ? 0 : 2;
  }
  if (positionals.join(" ") !== "postgres migrate") throw new InvalidArgument(`there is no command ${JSON.stringify(positionals.join(" ").slice(0, 80))}\n\n${USAGE}`);
  const store = values.store ?? variables["TIDEMARK_STORE"];
  if (store === undefined || !/^postgres(ql)?:\/\//.test(store)) throw new InvalidArgument(`--store (or TIDEMARK_STORE) names a database: postgres://user@host:5432/database\n\n${USAGE}`);
  const dryRun = values["dry-run"] === true;
  const { migratePostgres } = await import("../store/postgres/index.ts");
  const sql = await migratePostgres({ ...optionsOf(store), dryRun });
  if (sql.length === 0) print("-- the schemas are up to date\n");
  else if (dryRun) print(`BEGIN;\n${sql.join("\n")}\nCOMMIT;\n`);
  else print("the schemas were brought up to date\n");
  return 0;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { store: { type: "string" }, "dry-run": { type: "boolean" }, help: { type: "boolean", short: "h" } },
    });
  } catch (cause) {
    throw new InvalidArgument(`${(cause as Error).message}\n\n${USAGE}`, { cause });
  }
}

/** The schemas in the URL are ours, the rest is for `pg`. */
function optionsOf(store: string): { readonly connection: string; readonly schema?: string; readonly viewsSchema?: string } {
  const url = new URL(store);
  const schema = url.searchParams.get("schema");
  const viewsSchema = url.searchParams.get("viewsSchema");
  for (const name of ["schema", "viewsSchema", "poolSize", "pgbouncer", "listener", "migrate"]) url.searchParams.delete(name);
  return { connection: url.href, ...(schema !== null && { schema }), ...(viewsSchema !== null && { viewsSchema }) };
}
