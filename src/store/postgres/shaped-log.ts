/**
 * What stands in the schema of a log that is not plain: appends that commit side by side, partitions, or both (ADR 18 and 19).
 *
 * H1 Positions are drawn from a sequence. Those of an append that fails are never used: there are gaps, which mean nothing.
 * H2 With `horizon`, an append first takes a shared lock whose key is the last position that had been drawn by then, and only then draws its own, which are
 *    higher. The lock is given up after the commit has become visible. So for whoever reads the last drawn position first and the locks after it: every position
 *    up to the lowest key and to the last drawn one is decided for ever, and its event is seen by every later snapshot. Nobody else's transactions matter.
 * H3 The three looks (last position, locks, events) are statements of their own in a function that is VOLATILE: each has a snapshot of its own, in this order.
 * H4 With `lock`, appends draw under the exclusive lock of the log, held until the commit is done, as in a plain log.
 * H5 The check of versions is a unique index. On a partitioned table it would have to hold the position, so there is a table beside it with one row for each
 *    event, in the same transaction. Like the log it is only inserted into; where a front was archived its rows may go, but never the last one of a stream.
 * H6 Appends of one call go in the order of their streams' names (the writer sorts them): two calls never wait for each other in a circle.
 */
import { quoted } from "./database.ts";
import { lock, eventsChannel } from "./log-names.ts";
import { keysOf, type LogShape } from "./log-shape.ts";

const COLUMNS = `
  position bigint NOT NULL,
  stream text COLLATE "C" NOT NULL,
  version int NOT NULL,
  id text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  recorded_at bigint NOT NULL,
  metadata text NOT NULL,
  data text NOT NULL`;

export function shapedTables(schema: string, shape: LogShape): string {
  const s = quoted(schema);
  const sequence = `
CREATE SEQUENCE ${s}.positions AS bigint MINVALUE 0;
SELECT setval('${s}.positions', 0);
COMMENT ON SEQUENCE ${s}.positions IS 'The last position that was drawn (H1).';`;
  if (shape.eventsPerPartition === undefined) {
    return `
CREATE TABLE ${s}.events (${COLUMNS},
  PRIMARY KEY (position),
  CONSTRAINT events_stream_version UNIQUE (stream, version)
);
COMMENT ON TABLE ${s}.events IS 'The log. Written by the functions append_exact and append_each alone; never updated, never deleted from.';${sequence}`;
  }
  return `
CREATE TABLE ${s}.events (${COLUMNS},
  PRIMARY KEY (position)
) PARTITION BY RANGE (position);
COMMENT ON TABLE ${s}.events IS 'The log. Written by the functions append_exact and append_each alone; never updated, never deleted from.';
CREATE TABLE ${s}.event_keys (
  stream text COLLATE "C" NOT NULL,
  version int NOT NULL,
  position bigint NOT NULL,
  CONSTRAINT event_keys_stream_version PRIMARY KEY (stream, version) INCLUDE (position)
);
COMMENT ON TABLE ${s}.event_keys IS 'Where each event of a stream stands, and the check of versions (H5).';
CREATE TABLE ${s}.partitions (
  first bigint PRIMARY KEY,
  last bigint NOT NULL,
  name text NOT NULL,
  archived text
);
COMMENT ON TABLE ${s}.partitions IS 'All partitions that ever were; archived: the schema that one was moved to.';${sequence}
${ensurePartitions(schema, shape.eventsPerPartition)}
SELECT ${s}.ensure_partitions(0);`;
}

/**
 * Made beside the log and then attached, which holds up neither readers nor writers. It runs with the rights of the schema's owner: whoever may append needs no
 * right to make tables.
 */
function ensurePartitions(schema: string, size: number): string {
  const s = quoted(schema);
  return `
CREATE FUNCTION ${s}.ensure_partitions(more bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  needed bigint := (SELECT p.last_value FROM ${s}.positions p) + more + 2 * ${size}::bigint;
  upper bigint;
  name text;
BEGIN
  ${lock(schema, "partitions")}
  SELECT coalesce(max(p.last), 0) INTO upper FROM ${s}.partitions p;
  WHILE upper < needed LOOP
    name := 'events_from_' || (upper + 1);
    EXECUTE format('CREATE TABLE ${s}.%I (LIKE ${s}.events INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE ${s}.events ATTACH PARTITION ${s}.%I FOR VALUES FROM (%s) TO (%s)', name, upper + 1, upper + 1 + ${size}::bigint);
    INSERT INTO ${s}.partitions (first, last, name) VALUES (upper + 1, upper + ${size}::bigint, name);
    upper := upper + ${size}::bigint;
  END LOOP;
  RETURN upper;
END $$;
COMMENT ON FUNCTION ${s}.ensure_partitions IS 'Makes partitions for this many events more, and two ahead. Returns the last position that has one.';`;
}

/** H2 or H4. */
function hold(schema: string, { commitOrder }: LogShape): string {
  const s = quoted(schema);
  if (commitOrder === "lock") return lock(schema, "events");
  return `PERFORM pg_advisory_xact_lock_shared('${s}.events'::regclass::oid::int, (SELECT p.last_value FROM ${s}.positions p)::bit(32)::int);`;
}

/** H2, H3: up to where everything is decided, as a function of its own and as a part of the one that reads. */
export function logHorizon(schema: string): string {
  const s = quoted(schema);
  return `
CREATE FUNCTION ${s}.log_horizon() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  drawn bigint := (SELECT p.last_value FROM ${s}.positions p);
  behind bigint;
BEGIN
  -- A key holds the lower half of a position: how far it lies behind the last one, as a signed number of 32 bits.
  SELECT min((l.objid::bigint - drawn % 4294967296 + 6442450944) % 4294967296 - 2147483648) INTO behind FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.classid = '${s}.events'::regclass::oid AND l.objsubid = 2
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
  RETURN drawn + least(0, behind);
END $$;
COMMENT ON FUNCTION ${s}.log_horizon IS 'Up to this position nothing can appear any more.';`;
}

const PARAMETERS = "ids text[], types text[], recorded bigint[], metadatas text[], datas text[]";

export function shapedAppendExact(schema: string, shape: LogShape): string {
  const s = quoted(schema);
  const keys = keysOf(schema, shape);
  const partitioned = shape.eventsPerPartition !== undefined;
  return `
CREATE FUNCTION ${s}.append_exact(continued int[], streams text[], versions int[], ${PARAMETERS})
RETURNS bigint[] LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  drawn bigint[];
BEGIN
  ${hold(schema, shape)}
  IF cardinality(continued) > 0 AND EXISTS (
    SELECT FROM unnest(continued) c
    WHERE (SELECT k.version FROM ${keys} k WHERE k.stream = streams[c] AND k.version = versions[c] - 1) IS NULL
  ) THEN
    RAISE EXCEPTION 'an append expects a version beyond the end of its stream' USING ERRCODE = 'TM001';
  END IF;
  drawn := ARRAY(SELECT nextval('${s}.positions') FROM generate_series(1, cardinality(versions)));
  ${partitioned ? `INSERT INTO ${keys} (stream, version, position) SELECT unnest(streams), unnest(versions), unnest(drawn);` : ""}
  INSERT INTO ${s}.events (position, stream, version, id, type, recorded_at, metadata, data)
    SELECT unnest(drawn), unnest(streams), unnest(versions), unnest(ids), unnest(types), unnest(recorded), unnest(metadatas), unnest(datas);
  ${shape.commitOrder === "lock" ? `PERFORM pg_notify('${eventsChannel(schema)}', drawn[cardinality(drawn)]::text);` : ""}
  RETURN drawn;
END $$;
COMMENT ON FUNCTION ${s}.append_exact IS 'Appends events on known versions; continued: ordinals of the events that begin an append to a stream that exists. Returns their positions.';`;
}

/**
 * For every shape. An append whose place was taken while it waited for it is decided again. What a stream holds beyond the expected version comes along with a
 * conflict, within bounds: at most `most_missing` events and about `missing_bytes` of them for each append, and four times that for the call.
 */
export function appendEach(schema: string, shape: LogShape): string {
  const s = quoted(schema);
  const keys = keysOf(schema, shape);
  const partitioned = shape.eventsPerPartition !== undefined;
  const plain = shape.commitOrder === "lock" && !partitioned;
  const horizon = shape.commitOrder === "horizon";
  const draw = plain
    ? "drawn := ARRAY(SELECT head + k FROM generate_series(1, counts[a]) k);"
    : `drawn := ARRAY(SELECT nextval('${s}.positions') FROM generate_series(1, counts[a]));`;
  const insert = `${draw}
        ${partitioned ? `INSERT INTO ${keys} (stream, version, position) SELECT streams[a], last + k, drawn[k] FROM generate_series(1, counts[a]) k;` : ""}
        INSERT INTO ${s}.events (position, stream, version, id, type, recorded_at, metadata, data)
          SELECT drawn[k], streams[a], last + k, ids[done + k], types[done + k], recorded[done + k], metadatas[done + k], datas[done + k] FROM generate_series(1, counts[a]) k;`;
  // In a block with a handler: the wait for another append of the same stream ends with its commit, and then this one is decided again.
  const guarded = `BEGIN
        ${insert}
        EXCEPTION WHEN unique_violation THEN CONTINUE;
        END;`;
  const events = partitioned ? `${keys} k JOIN ${s}.events e ON e.position = k.position` : `${s}.events e`;
  const key = partitioned ? "k" : "e";
  return `
CREATE FUNCTION ${s}.append_each(streams text[], expected int[], counts int[], ${PARAMETERS}, most_missing int, missing_bytes int,
  OUT versions int[], OUT positions bigint[], OUT missing text)
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  head bigint := 0;
  told bigint := 0;
  done int := 0;
  last int;
  stands bigint;
  drawn bigint[];
  found text;
  room bigint := 4 * missing_bytes::bigint;
BEGIN
  ${hold(schema, shape)}
  ${plain ? `SELECT coalesce(max(e.position), 0) INTO head FROM ${s}.events e;` : ""}
  FOR a IN 1 .. cardinality(streams) LOOP
    LOOP
      last := coalesce((SELECT k.version FROM ${keys} k WHERE k.stream = streams[a] ORDER BY k.version DESC LIMIT 1), 0);
      IF expected[a] = last OR expected[a] = -1 OR (expected[a] = -2 AND last > 0) THEN
        ${horizon ? guarded : insert}
        head := drawn[counts[a]];
        told := head;
        versions[a] := last + counts[a];
        positions[a] := head;
        EXIT;
      END IF;
      stands := NULL;
      IF expected[a] >= 0 AND expected[a] <= last - counts[a] THEN
        SELECT max(e.position) INTO stands FROM ${events}
          WHERE ${key}.stream = streams[a] AND ${key}.version > expected[a] AND ${key}.version <= expected[a] + counts[a]
          HAVING count(*) FILTER (WHERE e.id = ids[done + e.version - expected[a]]) = counts[a];
      END IF;
      versions[a] := CASE WHEN stands IS NULL THEN -1 - last ELSE expected[a] + counts[a] END;
      positions[a] := coalesce(stands, 0);
      IF stands IS NULL AND expected[a] >= 0 AND expected[a] < last AND room > 0 THEN
        SELECT string_agg(json_build_array(a, f.version, f.position, f.id, f.type, f.recorded_at, f.metadata, f.data)::text, ',' ORDER BY f.version) INTO found FROM (
          SELECT m.*, sum(octet_length(m.data) + octet_length(m.metadata)) OVER (ORDER BY m.version ROWS UNBOUNDED PRECEDING) AS bytes FROM (
            SELECT e.* FROM ${events} WHERE ${key}.stream = streams[a] AND ${key}.version > expected[a] ORDER BY ${key}.version LIMIT most_missing
          ) m
        ) f WHERE f.bytes <= missing_bytes;
        IF found IS NOT NULL THEN
          missing := coalesce(missing || ',', '') || found;
          room := room - octet_length(found);
        END IF;
      END IF;
      EXIT;
    END LOOP;
    done := done + counts[a];
  END LOOP;
  ${horizon ? "" : `IF told > 0 THEN
    PERFORM pg_notify('${eventsChannel(schema)}', told::text);
  END IF;`}
END $$;
COMMENT ON FUNCTION ${s}.append_each IS 'Appends where the stream is at the expected version (-1: any, -2: it exists). For each append its new version, or -1 minus the actual one, and its last position; missing: arrays of JSON, each an event after an expected version, begun by the ordinal of its append.';`;
}
