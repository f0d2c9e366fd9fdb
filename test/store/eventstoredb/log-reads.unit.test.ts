import { describe, expect, it } from "vitest";
import { entryOf, filterOf, wholeCommits } from "../../../src/store/eventstoredb/log-reads.ts";
import type { RecordedEvent } from "../../../src/store/eventstoredb/protocol.ts";

const event = (stream: string, { type = "Happened", commit = 10, prepare = commit }: { readonly type?: string; readonly commit?: number; readonly prepare?: number } = {}): RecordedEvent => ({
  id: "00000000-0000-4000-8000-000000000001",
  type,
  stream,
  revision: 0,
  commit,
  prepare,
  createdAt: 0,
  data: Buffer.from("{}"),
  metadata: Buffer.alloc(0),
});

describe("what of the log is ours", () => {
  it.each(["order-1", "order-$ce-order", "a-\n", "snapshots-1", "order_2--", `order-${"i".repeat(256)}`])("%j is", (stream) => {
    expect(entryOf(event(stream), undefined)?.event.stream).toBe(stream);
    const filter = filterOf(undefined);
    expect("regex" in filter && new RegExp(filter.regex).test(stream)).toBe(true);
  });

  it.each(["order", "order-", "-1", "1order-1", "ordér-1", "$ce-order", "$$order-1", "snapshot-order-1", "tidemark.identity", `order-${"i".repeat(257)}`, `${"c".repeat(65)}-1`])("%j is not", (stream) => {
    expect(entryOf(event(stream), undefined)).toBeUndefined();
  });

  it("is of the categories that were asked for", () => {
    expect(entryOf(event("order-1"), new Set(["order"]))).toBeDefined();
    for (const other of ["order2-1", "cart-1"]) expect(entryOf(event(other), new Set(["order"]))).toBeUndefined();
  });

  it("is no event whose type is the system's", () => {
    expect(entryOf(event("order-1", { type: "$>" }), undefined)).toBeUndefined();
  });

  it("is asked for by the beginnings of names, which never let the snapshots through", () => {
    expect(filterOf(new Set(["order", "cart"]))).toEqual({ prefixes: ["order-", "cart-"] });
    expect(filterOf(new Set(["snapshot", "cart"]))).toEqual({ prefixes: ["cart-"] });
    for (const none of [new Set<string>(), new Set(["snapshot"])]) expect(filterOf(none), "no prefix at all would be no filter").toEqual({ prefixes: ["-"] });
  });
});

describe("events that share a commit", () => {
  const entries = (...places: readonly (readonly [commit: number, prepare: number])[]) => places.map(([commit, prepare]) => entryOf(event("order-1", { commit, prepare }), undefined)!);
  const commits = (list: readonly { readonly commit: number }[]) => list.map(({ commit }) => commit);

  it("are left for later while more of them may follow", () => {
    expect(commits(wholeCommits(entries([10, 10], [20, 20])))).toEqual([10, 20]);
    expect(commits(wholeCommits(entries([10, 10], [30, 20], [30, 25])))).toEqual([10]);
    expect(commits(wholeCommits(entries([30, 20], [30, 25], [40, 40])))).toEqual([30, 30, 40]);
    expect(wholeCommits(entries([30, 20]))).toEqual([]);
  });
});
