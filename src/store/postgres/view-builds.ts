/** What stands of the read models of a schema, for whoever looks after them: versions, sizes, owners, and what nobody needs any more. */
import { InvalidArgument } from "../../errors.ts";
import type { BuildKey } from "../../readmodel/view-store.ts";
import { quoted, type Database, type Session } from "./database.ts";
import { holdersOf, lockKey, seatName } from "./ownership.ts";
import { toTidemarkError } from "./postgres-error.ts";
import { estateName } from "./view-moves.ts";
import { dropBuild, isSqlBuild, viewsChannel } from "./view-schema.ts";

export interface ViewBuild extends BuildKey {
  /** `active` answers queries; `old` is of a version or a build before that; `new` is being made, or was. */
  readonly state: "active" | "old" | "new";
  /** The table, or the schema of a view in SQL. */
  readonly place: string;
  readonly shards: number;
  /** Events that its pipeline has seen. */
  readonly events: number;
  /** With indexes. */
  readonly bytes: number;
  /** Processes that move it now, as their connections are named (`application_name`). */
  readonly owners: readonly string[];
}

export interface DropOptions {
  readonly model: string;
  /** This version alone, also a newer one that is not active; default: all old builds. */
  readonly version?: number;
  readonly dryRun?: boolean;
}

/** The builds of all read models of the schema. Errors: StoreUnavailable. */
export async function listBuilds(db: Database, schema: string): Promise<readonly ViewBuild[]> {
  try {
    return await db.session((session) => buildsOf(session, schema));
  } catch (error) {
    throw toTidemarkError(error, db.name);
  }
}

/** Drops old builds of a read model and returns them; processes that have them open find that out. Errors: InvalidArgument for one that answers, or that a process moves; StoreUnavailable. */
export async function dropBuilds(db: Database, schema: string, { model, version, dryRun = false }: DropOptions): Promise<readonly ViewBuild[]> {
  try {
    return await db.transaction(async (session) => {
      const builds = (await buildsOf(session, schema)).filter((build) => build.model === model);
      if (builds.length === 0) throw new InvalidArgument(`schema ${schema} holds no read model ${model}`, { details: { schema, model } });
      const chosen = builds.filter((build) => (version === undefined ? build.state === "old" : build.version === version));
      if (chosen.length === 0 && version !== undefined) throw new InvalidArgument(`read model ${model} has no version ${version}`, { details: { model, version } });
      for (const build of chosen) {
        const name = `build ${build.build} of version ${build.version} of read model ${model}`;
        if (build.state === "active") throw new InvalidArgument(`${name} answers queries: it is dropped when a newer version has taken over`, { details: { model, version: build.version } });
        if (build.owners.length > 0) throw new InvalidArgument(`${name} is moved by ${build.owners.join(", ")}: stop these processes first`, { details: { model, version: build.version, owners: build.owners } });
      }
      if (dryRun) return chosen;
      for (const build of chosen) await dropBuild(session, schema, build);
      await session.query("SELECT pg_notify($1, '*')", [viewsChannel(schema)]);
      return chosen;
    });
  } catch (error) {
    throw toTidemarkError(error, db.name);
  }
}

async function buildsOf(session: Session, schema: string): Promise<readonly ViewBuild[]> {
  const rows = await session.query(
    `SELECT model, version, build, bool_or(active), min(table_name), min(definition), count(*), sum(events) FROM ${quoted(schema)}.checkpoints GROUP BY model, version, build ORDER BY model, version, build`,
  );
  const active = new Map(rows.filter((row) => row[3] === "t").map(([model, version, build]) => [model, [Number(version), Number(build)] as const]));
  const builds: ViewBuild[] = [];
  for (const [model, versionText, buildText, isActive, place, definition, shards, events] of rows) {
    const key: BuildKey = { model: String(model), version: Number(versionText), build: Number(buildText) };
    const [version, build] = active.get(String(model)) ?? [0, 0];
    const isOld = key.version < version || (key.version === version && key.build < build);
    const sql = isSqlBuild(String(definition));
    builds.push({
      ...key,
      state: isActive === "t" ? "active" : isOld ? "old" : "new",
      place: sql ? String(place) : `${schema}.${String(place)}`,
      shards: Number(shards),
      events: Number(events),
      bytes: await bytesOf(session, schema, String(place), sql),
      owners: await holdersOf(session, Array.from({ length: Number(shards) }, (_, shard) => lockKey(seatName(estateName(viewsChannel(schema), key), shard)))),
    });
  }
  return builds;
}

async function bytesOf(session: Session, schema: string, place: string, sql: boolean): Promise<number> {
  const [row] = sql
    ? await session.query("SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'm')", [place])
    : await session.query("SELECT pg_total_relation_size(to_regclass($1))", [`${quoted(schema)}.${quoted(place)}`]);
  return Number(row?.[0] ?? 0);
}
