/**
 * What stands in the schema of Tidemark, as steps: step k brings version k to k + 1. A step that was released is never changed; what it made is.
 *
 * A plain log is one table that is only ever inserted into: its primary key is the position, and the unique index (stream, version) is the check of versions.
 * There is no row of a counter and no table of streams, whose dead versions would pile up under a long report; and no index on event ids.
 *
 * L1 Whoever appends holds the position lock from before positions are drawn until the commit is done: positions have the order of commits and no gaps,
 *    so a reader that has seen one has seen all before it. The lock is taken in a statement of its own: the next one then sees what the last holder committed.
 * L2 It is taken when everything else is done (the arguments are here and decoded), and given up by the commit or the end of the connection.
 * L3 `append_exact` inserts on known versions. The unique index refuses what stands already; an append that does not begin a stream must find its predecessor,
 *    so that no hole can come about. Either fails the whole call, which then goes again through `append_checked`.
 * L4 `append_each` (in the first version `append_checked`, which stays for processes that have not been updated) decides for each append alone. The same ids
 *    again on an exact version are answered as the first time.
 *
 * A log of another shape, which is chosen when the schema is made, has tables and functions of its own: shaped-log.ts.
 */
import { quoted } from "./database.ts";
import { eventsChannel, lock } from "./log-names.ts";
import { isPlain, shapeSql, type LogShape } from "./log-shape.ts";
import type { SchemaKind } from "./migrate.ts";
import { readLog } from "./read-log.ts";
import { readStreams } from "./read-streams.ts";
import { appendEach, logHorizon, shapedAppendExact, shapedTables } from "./shaped-log.ts";

/** What makes a log of a shape; one that stands is updated by the steps of its own shape. */
export function logSchema(shape: LogShape): SchemaKind {
  return {
    what: "an event log",
    versionName: "log_version",
    migrations: [
      (schema, identity) =>
        isPlain(shape)
          ? [plainTable(schema), snapshotTable(schema, identity), appendExact(schema), appendChecked(schema), readStreamsOfOld(schema)].join("\n")
          : [snapshotTable(schema, identity), shapeSql(schema, shape), ...shaped(schema, shape)].join("\n"),
      (schema) => [appendEach(schema, shape), readLog(schema, shape), readStreams(schema, shape)].join("\n"),
    ],
  };
}

function shaped(schema: string, shape: LogShape): readonly string[] {
  return [
    shapedTables(schema, shape),
    shapedAppendExact(schema, shape),
    ...(shape.commitOrder === "horizon" ? [logHorizon(schema)] : []),
  ];
}

function plainTable(schema: string): string {
  const s = quoted(schema);
  return `
CREATE TABLE ${s}.events (
  position bigint PRIMARY KEY,
  stream text COLLATE "C" NOT NULL,
  version int NOT NULL,
  id text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  recorded_at bigint NOT NULL,
  metadata text NOT NULL,
  data text NOT NULL,
  CONSTRAINT events_stream_version UNIQUE (stream, version)
);
COMMENT ON TABLE ${s}.events IS 'The log. Written by the functions append_exact and append_checked alone; never updated, never deleted from.';`;
}

function snapshotTable(schema: string, identity: string): string {
  const s = quoted(schema);
  return `
CREATE TABLE ${s}.snapshots (
  stream text COLLATE "C" PRIMARY KEY,
  version int NOT NULL,
  event_id text NOT NULL,
  position text NOT NULL,
  schema_version int NOT NULL,
  taken_at bigint NOT NULL,
  checksum text NOT NULL,
  "window" text NOT NULL,
  state text NOT NULL
);
INSERT INTO ${s}.meta (name, value) VALUES ('identity', '${identity}');`;
}

function appendExact(schema: string): string {
  const s = quoted(schema);
  return `
CREATE FUNCTION ${s}.append_exact(continued int[], streams text[], versions int[], ids text[], types text[], recorded bigint[], metadatas text[], datas text[])
RETURNS bigint LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  base bigint;
BEGIN
  ${lock(schema, "events")}
  SELECT coalesce(max(e.position), 0) INTO base FROM ${s}.events e;
  IF cardinality(continued) > 0 AND EXISTS (
    SELECT FROM unnest(continued) c
    WHERE (SELECT e.version FROM ${s}.events e WHERE e.stream = streams[c] AND e.version = versions[c] - 1) IS NULL
  ) THEN
    RAISE EXCEPTION 'an append expects a version beyond the end of its stream' USING ERRCODE = 'TM001';
  END IF;
  INSERT INTO ${s}.events (position, stream, version, id, type, recorded_at, metadata, data)
    SELECT base + generate_series(1, cardinality(versions)), unnest(streams), unnest(versions), unnest(ids), unnest(types), unnest(recorded), unnest(metadatas), unnest(datas);
  PERFORM pg_notify('${eventsChannel(schema)}', (base + cardinality(versions))::text);
  RETURN base;
END $$;
COMMENT ON FUNCTION ${s}.append_exact IS 'Appends events on known versions; continued: ordinals of the events that begin an append to a stream that exists. Returns the position before the first.';`;
}

function appendChecked(schema: string): string {
  const s = quoted(schema);
  return `
CREATE FUNCTION ${s}.append_checked(streams text[], expected int[], counts int[], ids text[], types text[], recorded bigint[], metadatas text[], datas text[],
  OUT versions int[], OUT positions bigint[])
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  base bigint;
  head bigint;
  done int := 0;
  last int;
  stands bigint;
BEGIN
  ${lock(schema, "events")}
  SELECT coalesce(max(e.position), 0) INTO base FROM ${s}.events e;
  head := base;
  FOR a IN 1 .. cardinality(streams) LOOP
    last := coalesce((SELECT e.version FROM ${s}.events e WHERE e.stream = streams[a] ORDER BY e.version DESC LIMIT 1), 0);
    IF expected[a] = last OR expected[a] = -1 OR (expected[a] = -2 AND last > 0) THEN
      INSERT INTO ${s}.events (position, stream, version, id, type, recorded_at, metadata, data)
        SELECT head + k, streams[a], last + k, ids[done + k], types[done + k], recorded[done + k], metadatas[done + k], datas[done + k] FROM generate_series(1, counts[a]) k;
      head := head + counts[a];
      versions[a] := last + counts[a];
      positions[a] := head;
    ELSE
      stands := NULL;
      IF expected[a] >= 0 AND expected[a] <= last - counts[a] THEN
        SELECT max(e.position) INTO stands FROM ${s}.events e
          WHERE e.stream = streams[a] AND e.version > expected[a] AND e.version <= expected[a] + counts[a]
          HAVING count(*) FILTER (WHERE e.id = ids[done + e.version - expected[a]]) = counts[a];
      END IF;
      versions[a] := CASE WHEN stands IS NULL THEN -1 - last ELSE expected[a] + counts[a] END;
      positions[a] := coalesce(stands, 0);
    END IF;
    done := done + counts[a];
  END LOOP;
  IF head > base THEN
    PERFORM pg_notify('${eventsChannel(schema)}', head::text);
  END IF;
END $$;
COMMENT ON FUNCTION ${s}.append_checked IS 'Appends where the stream is at the expected version (-1: any, -2: it exists). For each append its new version, or -1 minus the actual one, and its last position.';`;
}

/** Of the first version; the second has replaced it. The lateral queries have limits, so that no plan of theirs can become a join over the whole log. */
function readStreamsOfOld(schema: string): string {
  const s = quoted(schema);
  return `
CREATE FUNCTION ${s}.read_streams(streams text[], firsts int[], mosts int[], max_bytes bigint)
RETURNS TABLE (ordinal bigint, last int, version int, "position" bigint, id text, type text, recorded_at bigint, metadata text, data text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN QUERY
    SELECT q.o, q.head, q.version, q.position, q.id, q.type, q.recorded_at, q.metadata, q.data
    FROM (
      SELECT r.o, h.head, e.*, sum(octet_length(e.data) + octet_length(e.metadata)) OVER (ORDER BY r.o, e.version ROWS UNBOUNDED PRECEDING) - octet_length(e.data) - octet_length(e.metadata) AS before
      FROM unnest(streams, firsts, mosts) WITH ORDINALITY r(stream, first, most, o)
      CROSS JOIN LATERAL (SELECT coalesce((SELECT x.version FROM ${s}.events x WHERE x.stream = r.stream ORDER BY x.version DESC LIMIT 1), 0) AS head) h
      LEFT JOIN LATERAL (
        SELECT x.version, x.position, x.id, x.type, x.recorded_at, x.metadata, x.data FROM ${s}.events x
        WHERE x.stream = r.stream AND x.version >= r.first ORDER BY x.version LIMIT r.most
      ) e ON true
    ) q
    WHERE q.version IS NULL OR q.before < max_bytes
    ORDER BY q.o, q.version;
END $$;
COMMENT ON FUNCTION ${s}.read_streams IS 'Slices of several streams in one answer of about max_bytes; a stream without a row did not fit.';`;
}
