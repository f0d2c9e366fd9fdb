/**
 * Whether an append may be written, was written before, or is refused: the server's IndexWriter.CheckCommit, in its order.
 *
 * A1 A tombstone refuses everything, before any look at ids.
 * A2 `stream_exists`: a stream that was deleted softly is deleted; without events and without a metadata stream it is a wrong version.
 * A3 `any` and `stream_exists` know repeats only by the cache of recent ids: the first id unknown (or known of another stream): written;
 *    all known: repeated, with the revision of the last id given; the first known and a later one not: wrong version.
 * A4 Expected before the current revision: repeated when the ids stand at the revisions that follow, in the log; else a wrong version.
 *    `no_stream` on a stream that was deleted softly, with another first id, is written.
 * A5 Expected after the current revision: wrong version. Equal: written, without a look at ids.
 */
import type { EventLog } from "./event-log.ts";
import type { KnownIds } from "./known-ids.ts";
import { DELETED, metastreamOf, NO_STREAM, type ExpectedRevision } from "./model.ts";

export type Verdict =
  | { readonly kind: "write"; readonly current: number; readonly undelete: boolean }
  /** Written before; the last of its events stands at this revision. */
  | { readonly kind: "repeated"; readonly revision: number }
  | { readonly kind: "wrong-version"; readonly current: number }
  | { readonly kind: "deleted" };

export function checkAppend(log: EventLog, known: KnownIds, stream: string, expected: ExpectedRevision, ids: readonly string[]): Verdict {
  const current = log.lastRevision(stream);
  if (current === DELETED) return { kind: "deleted" }; // A1

  const write = (): Verdict => ({ kind: "write", current, undelete: log.isSoftDeleted(stream) });
  const wrongVersion: Verdict = { kind: "wrong-version", current };

  if (expected === "stream_exists") {
    if (log.isSoftDeleted(stream)) return { kind: "deleted" }; // A2
    if (current === NO_STREAM && log.lastRevision(metastreamOf(stream)) === NO_STREAM) return wrongVersion;
  }

  if (expected === "any" || expected === "stream_exists") {
    let revision: number | undefined;
    for (const id of ids) {
      const at = known.get(id, stream);
      if (at === undefined) return revision === undefined ? write() : wrongVersion; // A3
      revision = at;
    }
    return revision === undefined ? write() : { kind: "repeated", revision };
  }

  const version = expected === "no_stream" ? NO_STREAM : expected;
  if (version < current) {
    if (ids.length === 0) return wrongVersion;
    for (const [index, id] of ids.entries()) {
      const revision = version + 1 + index;
      // The server asks its cache of ids first; for an exact revision it says what the log says.
      if (log.eventAt(stream, revision)?.id === id) continue;
      return index === 0 && version === NO_STREAM && log.isSoftDeleted(stream) ? write() : wrongVersion; // A4
    }
    return { kind: "repeated", revision: version + ids.length };
  }
  return version > current ? wrongVersion : write(); // A5
}
