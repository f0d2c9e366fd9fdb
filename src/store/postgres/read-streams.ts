/**
 * The function that reads slices of several streams, of every shape of a log.
 *
 * G1 The lateral queries have limits, and what could be joined is a subquery of its own: no plan can become a join over the whole log.
 * G2 Streams that hold nothing, which is what most new ones are asked for first, are answered without looking into partitions or adding up bytes.
 * G3 In a partitioned log it is VOLATILE, so that each statement has a snapshot that is younger than its locks on the partitions: an archived front is never
 *    silently missing. Otherwise all of it has one snapshot.
 */
import { quoted } from "./database.ts";
import { keysOf, type LogShape } from "./log-shape.ts";

/** A stream without a row did not fit into `max_bytes`. `first`, only of a partitioned log: the first version that was not archived. */
export function readStreams(schema: string, shape: LogShape): string {
  const s = quoted(schema);
  const keys = keysOf(schema, shape);
  const partitioned = shape.eventsPerPartition !== undefined;
  const gone = partitioned ? `CROSS JOIN (SELECT coalesce(max(p.last), 0) AS through FROM ${s}.partitions p WHERE p.archived IS NOT NULL) gone` : "";
  const slice = partitioned
    ? `SELECT k.version, k.position, x.id, x.type, x.recorded_at, x.metadata, x.data FROM ${keys} k LEFT JOIN ${s}.events x ON x.position = k.position
          WHERE k.stream = r.stream AND k.version >= r.first AND k.position > gone.through ORDER BY k.version LIMIT r.most`
    : `SELECT x.version, x.position, x.id, x.type, x.recorded_at, x.metadata, x.data FROM ${s}.events x
          WHERE x.stream = r.stream AND x.version >= r.first ORDER BY x.version LIMIT r.most`;
  return `
CREATE OR REPLACE FUNCTION ${s}.read_streams(streams text[], firsts int[], mosts int[], max_bytes bigint)
RETURNS TABLE (ordinal bigint, last int, version int, "position" bigint, id text, type text, recorded_at bigint, metadata text, data text${partitioned ? ", first int" : ""})
LANGUAGE plpgsql ${partitioned ? "VOLATILE" : "STABLE"} AS $$
#variable_conflict use_column
BEGIN
  IF NOT EXISTS (SELECT FROM unnest(streams) n(stream) WHERE (SELECT x.version FROM ${keys} x WHERE x.stream = n.stream LIMIT 1) IS NOT NULL) THEN
    RETURN QUERY SELECT n.o, 0, NULL::int, NULL::bigint, NULL::text, NULL::text, NULL::bigint, NULL::text, NULL::text${partitioned ? ", 1" : ""} FROM unnest(streams) WITH ORDINALITY n(stream, o) ORDER BY n.o;
    RETURN;
  END IF;
  RETURN QUERY
    SELECT q.o, q.head, q.version, q.position, q.id, q.type, q.recorded_at, q.metadata, q.data${partitioned ? ", q.front" : ""}
    FROM (
      SELECT r.o, h.head, ${partitioned ? `${frontOf(schema)} AS front, ` : ""}e.*, sum(octet_length(e.data) + octet_length(e.metadata)) OVER (ORDER BY r.o, e.version ROWS UNBOUNDED PRECEDING) - octet_length(e.data) - octet_length(e.metadata) AS before
      FROM unnest(streams, firsts, mosts) WITH ORDINALITY r(stream, first, most, o)
      ${gone}
      CROSS JOIN LATERAL (SELECT coalesce((SELECT x.version FROM ${keys} x WHERE x.stream = r.stream ORDER BY x.version DESC LIMIT 1), 0) AS head) h
      LEFT JOIN LATERAL (
        ${slice}
      ) e ON true
    ) q
    WHERE q.version IS NULL OR q.before IS NULL OR q.before < max_bytes
    ORDER BY q.o, q.version;
END $$;
COMMENT ON FUNCTION ${s}.read_streams IS 'Slices of several streams in one answer of about max_bytes; a stream without a row did not fit.';`;
}

/** The first version of stream r whose event was not archived (gone.through); one beyond the last (h.head) where all were. */
export function frontOf(schema: string): string {
  return `CASE WHEN gone.through = 0 THEN 1 ELSE coalesce((SELECT x.version FROM ${quoted(schema)}.event_keys x WHERE x.stream = r.stream AND x.position > gone.through ORDER BY x.version LIMIT 1), h.head + 1) END`;
}
