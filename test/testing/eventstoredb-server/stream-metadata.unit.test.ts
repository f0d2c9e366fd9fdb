import { describe, expect, it } from "vitest";
import { DELETED } from "../../../src/testing/eventstoredb-server/engine/model.ts";
import { parseMetadata, softDeletion, withTruncateBefore } from "../../../src/testing/eventstoredb-server/engine/stream-metadata.ts";

describe("metadata of a stream", () => {
  it.each([
    ["{}", {}],
    ['{"$maxCount":3}', { maxCount: 3 }],
    ['{"$maxAge":2}', { maxAgeMs: 2000 }],
    ['{"$tb":4}', { truncateBefore: 4 }],
    ['{"$tb":0,"own":1}', { truncateBefore: 0 }],
    ['{"$tb":9223372036854775807}', { truncateBefore: DELETED }],
    ['{"$acl":{"$r":"$all","$w":["a","$admins"],"$d":[],"$mr":"a","$mw":"b"}}', { acl: { read: ["$all"], write: ["a", "$admins"], delete: [], metadataRead: ["a"], metadataWrite: ["b"] } }],
    // What the server cannot read counts as none at all.
    ['{"$maxCount":0,"$tb":2}', {}],
    ['{"$maxCount":1.5}', {}],
    ['{"$maxAge":"1"}', {}],
    ['{"$tb":-1}', {}],
    ['{"$acl":{"$r":1}}', {}],
    ["[]", {}],
    ["no json", {}],
  ])("%s", (text, expected) => {
    expect(parseMetadata(Buffer.from(text))).toEqual(expected);
  });

  it("of a soft deletion is read as one", () => {
    expect(parseMetadata(softDeletion())).toEqual({ truncateBefore: DELETED });
  });

  it("keeps what it holds when a stream is opened again, and stays as it is when it is no object", () => {
    expect(JSON.parse(Buffer.from(withTruncateBefore(Buffer.from('{"a":1,"$tb":9223372036854775807}'), 5)!).toString())).toEqual({ a: 1, $tb: 5 });
    expect(withTruncateBefore(Buffer.from("[]"), 5)).toBeUndefined();
    expect(withTruncateBefore(Buffer.from("{"), 5)).toBeUndefined();
  });
});
