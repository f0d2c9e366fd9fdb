import { describe, expect, it } from "vitest";
import { RowCache } from "../../../src/store/postgres/row-cache.ts";

const written = (...rows: readonly [string, string | null][]): ReadonlyMap<string, string | null> => new Map(rows);

describe("the rows that a process knows of a build", () => {
  it("are all of them since the empty table: a key that is not known is not there", () => {
    const cache = new RowCache();
    expect(cache.get("a")).toBeUndefined();
    cache.seen(0);
    expect(cache.get("a")).toBeNull();
    cache.committing(0);
    cache.committed(written(["a", "1"], ["b", null]), 1);
    expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual(["1", null, null]);
  });

  it("say nothing of a key where the table was not empty, until it is read", () => {
    const cache = new RowCache();
    cache.seen(7);
    expect(cache.get("a")).toBeUndefined();
    cache.learn("a", "1", 7);
    cache.learn("b", null, 7);
    expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual(["1", null, undefined]);
  });

  it("are forgotten when another process has committed, and what was read meanwhile is not kept", () => {
    const cache = new RowCache();
    cache.seen(7);
    cache.learn("a", "1", 7);
    const asOf = cache.revision;
    cache.seen(8);
    cache.learn("b", "old", asOf);
    expect([cache.get("a"), cache.get("b")]).toEqual([undefined, undefined]);
    cache.seen(7);
    expect(cache.revision).toBe(8);
  });

  it("outlive the news of their own commit, which may come before its answer; until then the table is asked", () => {
    const cache = new RowCache();
    cache.seen(0);
    cache.committing(0);
    expect(cache.get("a")).toBeNull();
    cache.seen(1);
    expect(cache.get("a")).toBeUndefined();
    cache.committed(written(["a", "1"]), 1);
    cache.seen(1);
    expect([cache.get("a"), cache.get("b")]).toEqual(["1", null]);
  });

  it("are forgotten with a commit that was lost, and with one that builds on what is not known", () => {
    const cache = new RowCache();
    cache.seen(0);
    cache.committing(0);
    cache.seen(1);
    cache.forget();
    expect(cache.get("a")).toBeUndefined();
    cache.seen(3);
    cache.learn("a", "1", 3);
    cache.committing(9);
    cache.committed(written(["b", "2"]), 10);
    expect([cache.get("a"), cache.get("b"), cache.revision]).toEqual([undefined, undefined, 10]);
  });

  it("keep a commit on an older revision from being sent: it is lost, or the database was restored", () => {
    const cache = new RowCache();
    cache.seen(7);
    cache.learn("a", "1", 7);
    expect(cache.committing(5)).toBe(false);
    expect(cache.get("a")).toBeUndefined();
    cache.seen(5);
    expect([cache.revision, cache.committing(5)]).toEqual([5, true]);
  });

  it("are bounded: the least used go first, and then an unknown key is asked for", () => {
    const cache = new RowCache();
    cache.seen(0);
    const megabyte = "x".repeat(1024 * 1024);
    for (let revision = 0; revision < 40; revision++) {
      cache.committing(revision);
      cache.committed(written([`row-${revision}`, megabyte]), revision + 1);
      expect(cache.get("row-0")).toBe(megabyte);
    }
    expect(cache.get("row-39")).toBe(megabyte);
    expect([cache.get("row-1"), cache.get("never")]).toEqual([undefined, undefined]);
  });
});
