/** Services in processes of their own, asked over their input, and who of them owns which read model. */
import { join } from "node:path";
import { start, type Child } from "../../support/processes.ts";
import { until } from "./shared.ts";
import type { TestDatabase } from "./support.ts";

export interface Service {
  /** Its connections tell it. */
  readonly name: string;
  readonly child: Child;
  /** Errors: when the service says so, or its process ends. */
  ask(verb: "add" | "pause" | "read" | "end", id: string, token?: string): Promise<readonly string[]>;
}

const SCRIPT = join(import.meta.dirname, "service.ts");
let services = 0;

export async function startService(database: TestDatabase, schema: string, children: Child[], kind: "table" | "shards" | "sql" = "table"): Promise<Service> {
  const name = `service-${++services}`;
  const child = start(SCRIPT, `${database.url}?schema=${schema}&viewsSchema=${schema}_views&poolSize=6&application_name=${name}`, kind);
  children.push(child);
  const waiting = new Map<string, { readonly resolve: (words: readonly string[]) => void; readonly reject: (error: Error) => void }>();
  let asked = 0;
  child.onLine = (line) => {
    const [number = "", ...words] = line.split(" ");
    const call = waiting.get(number);
    waiting.delete(number);
    if (words[0] === "failed") call?.reject(new Error(words.join(" ")));
    else call?.resolve(words);
  };
  let ended = false;
  void child.exited.then(() => {
    ended = true;
    for (const { reject } of waiting.values()) reject(new Error(`${name} has ended`));
  });
  await until(() => child.lines[0] === "ready", "the service being ready", 30_000);
  return {
    name,
    child,
    ask: (verb, id, token) =>
      new Promise((resolve, reject) => {
        if (ended) return reject(new Error(`${name} has ended`));
        const number = String(++asked);
        waiting.set(number, { resolve, reject });
        child.send([number, verb, id, ...(token === undefined ? [] : [token])].join(" "));
      }),
  };
}

/** How many exclusive locks each session of a service holds for longer than a transaction: of read models, or shards of them. */
export async function owners(database: TestDatabase): Promise<ReadonlyMap<string, { readonly owned: number; readonly pid: number }>> {
  const rows = await database.sql<{ name: string; owned: number; pid: number }>(
    `SELECT a.application_name AS name, count(*)::int AS owned, a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.objsubid = 1 AND l.granted AND a.datname = $1 GROUP BY 1, 3`,
    database.name,
  );
  return new Map(rows.map(({ name, owned, pid }) => [name, { owned, pid }]));
}
