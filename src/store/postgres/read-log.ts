/**
 * The function that reads a page of a log, of every shape.
 *
 * Its plans are kept, since to plan takes longer than to read what has just been appended, and over many partitions ten times as long. A kept plan may be of a time
 * when the table was empty: so no plan is allowed that sorts, and the only one left is the one through the index, which is right for every size. `max` and the
 * comparisons with arguments let all partitions but those that are read from be left out when it starts.
 */
import { quoted } from "./database.ts";
import type { LogShape } from "./log-shape.ts";
import { EVENT_COLUMNS, MAX_ANSWER_BYTES } from "./stored-event.ts";

/**
 * A row with the end of the log, whose stream is null, and the rows of the page. The end has its position (0 where $1 is not of this log), the horizon as id, the
 * end of what was archived as type.
 */
export function readLog(schema: string, shape: LogShape): string {
  const s = quoted(schema);
  const horizon = shape.commitOrder === "horizon";
  const partitioned = shape.eventsPerPartition !== undefined;
  const columns = EVENT_COLUMNS.join(", ");
  // An end that is not beyond the place to begin at is there, or this is another log.
  const head = partitioned
    ? `coalesce((SELECT max(h.position) FROM ${s}.events h WHERE h.position > $1), (SELECT h.position FROM ${s}.events h WHERE h.position = $1), 0)`
    : `(SELECT coalesce(max(h.position), 0) FROM ${s}.events h)`;
  const archived = partitioned ? `(SELECT max(a.last) FROM ${s}.partitions a WHERE a.archived IS NOT NULL)::text` : "NULL::text";
  const page = (where: string): string => `
      SELECT NULL::text AS stream, NULL::int AS version, ${head} AS position, ${horizon ? "upto::text" : "NULL::text"} AS id, ${archived} AS type, NULL::bigint AS recorded_at, NULL::text AS metadata, NULL::text AS data
      UNION ALL (
        SELECT stream, ${columns} FROM (
          SELECT p.*, sum(octet_length(p.data) + octet_length(p.metadata)) OVER (ORDER BY p.position ROWS UNBOUNDED PRECEDING) - octet_length(p.data) - octet_length(p.metadata) AS before
          FROM (SELECT * FROM ${s}.events e WHERE e.position > $1${where}${horizon ? " AND e.position <= upto" : ""} ORDER BY e.position LIMIT $2) p
        ) q
        WHERE before < ${MAX_ANSWER_BYTES} ORDER BY position
      );`;
  return `
CREATE FUNCTION ${s}.read_log(after bigint, most int, considered bigint, categories text[])
RETURNS TABLE (stream text, version int, "position" bigint, id text, type text, recorded_at bigint, metadata text, data text)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
${horizon ? `DECLARE\n  upto bigint := ${s}.log_horizon();\n` : ""}BEGIN
  IF categories IS NULL THEN
    RETURN QUERY ${page("")}
  ELSE
    RETURN QUERY ${page(" AND e.position <= $1 + $3 AND split_part(e.stream, '-', 1) = ANY ($4)")}
  END IF;
END $$;
COMMENT ON FUNCTION ${s}.read_log IS 'A page of the log after a position, up to the horizon where there is one, which is looked for first.';`;
}
