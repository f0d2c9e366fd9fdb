import { describe, expect, it } from "vitest";
import { eventFilter } from "../../../src/testing/eventstoredb-server/engine/filter.ts";
import { commitOf, placeOf, prepareOf } from "../../../src/testing/eventstoredb-server/engine/model.ts";
import { readAllForwards } from "../../../src/testing/eventstoredb-server/engine/read-pages.ts";
import type { ReadResponse } from "../../../src/testing/eventstoredb-server/engine/read-response.ts";
import { readAll, readStream, type AllRead, type StreamRead } from "../../../src/testing/eventstoredb-server/engine/reads.ts";
import { engineInManualTime, event, events, lettersOf } from "./support.ts";

type Engine = ReturnType<typeof engineInManualTime>["engine"];

/** Letters of events, and other answers by name. */
function told(responses: Iterable<ReadResponse>): string {
  return [...responses]
    .map((response) => {
      switch (response.kind) {
        case "event":
          return lettersOf([response.event]);
        case "first-stream-position":
        case "last-stream-position":
          return ` ${response.kind}:${response.revision} `;
        default:
          return ` ${response.kind} `;
      }
    })
    .join("")
    .trim();
}

const stream = (engine: Engine, read: Partial<StreamRead>): string =>
  told(readStream(engine, { stream: "s-1", from: 0, backwards: false, count: 1000, resolveLinks: false, compatibility: 0, ...read }));
const all = (engine: Engine, read: Partial<AllRead>): string => told(readAll(engine, { from: 0, backwards: false, count: 1000, resolveLinks: false, ...read }));

function withMetadata(engine: Engine, metadata: object): void {
  engine.append("$$s-1", "any", [event(String.fromCodePoint(1000 + engine.log.length), { type: "$metadata", data: JSON.stringify(metadata) })]);
}

describe("a read of a stream", () => {
  it("forwards includes the revision it begins at, and ends at the count or the end", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcdef"));
    expect(stream(engine, { from: 2 })).toBe("cdef");
    expect(stream(engine, { from: 2, count: 2 })).toBe("cd");
    expect(stream(engine, { from: 9 })).toBe("");
  });

  it("backwards includes the revision it begins at; from the end it begins with the last event", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcdef"));
    expect(stream(engine, { from: "end", backwards: true })).toBe("fedcba");
    expect(stream(engine, { from: 2, backwards: true })).toBe("cba");
    expect(stream(engine, { from: 2, backwards: true, count: 2 })).toBe("cb");
    expect(stream(engine, { from: 99, backwards: true, count: 2 })).toBe("fe");
  });

  it("goes over many pages", () => {
    const { engine } = engineInManualTime();
    for (let index = 0; index < 100; index++) engine.append("s-1", "any", [event(String.fromCodePoint(1000 + index))]);
    const forwards = stream(engine, {});
    expect(forwards).toHaveLength(100);
    expect(stream(engine, { from: "end", backwards: true })).toBe(forwards.split("").toReversed().join(""));
    expect(stream(engine, { count: 70 })).toHaveLength(70);
  });

  it("of a missing stream says so, of a tombstoned one fails", () => {
    const { engine } = engineInManualTime();
    expect(stream(engine, {})).toBe("stream-not-found");
    expect(stream(engine, { from: "end", backwards: true })).toBe("stream-not-found");
    engine.tombstone("s-1", "any");
    expect(() => stream(engine, {})).toThrow("stream-deleted");
    expect(() => stream(engine, { backwards: true, from: "end" })).toThrow("stream-deleted");
  });

  it("forwards from the end, of no events, or of a stream without a name is an error", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    expect(() => stream(engine, { from: "end" })).toThrow("error");
    expect(() => stream(engine, { count: 0 })).toThrow("error");
    expect(() => stream(engine, { stream: "" })).toThrow("error");
  });

  it("sees the last $maxCount events, and none before $tb", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcdef"));
    withMetadata(engine, { $maxCount: 4 });
    expect(stream(engine, {})).toBe("cdef");
    expect(stream(engine, { from: "end", backwards: true })).toBe("fedc");
    expect(stream(engine, { from: 1, backwards: true })).toBe("");
    withMetadata(engine, { $maxCount: 4, $tb: 5 });
    expect(stream(engine, {})).toBe("f");
    withMetadata(engine, { $tb: 9 });
    expect(stream(engine, {})).toBe("");
  });

  it("sees no event that is older than $maxAge", async () => {
    const { engine, clock } = engineInManualTime();
    for (const letter of "abcd") {
      engine.append("s-1", "any", events(letter));
      await clock.advance(1000);
    }
    withMetadata(engine, { $maxAge: 2 });
    expect(stream(engine, {})).toBe("cd");
    expect(stream(engine, { from: "end", backwards: true })).toBe("dc");
    await clock.advance(5000);
    expect(stream(engine, {})).toBe("");
    expect(engine.append("s-1", 3, events("e"))).toMatchObject({ revision: 4 });
    expect(stream(engine, {})).toBe("e");
  });

  it("of metadata sees the last event", () => {
    const { engine } = engineInManualTime();
    engine.append("$$s-1", "any", events("ab"));
    expect(stream(engine, { stream: "$$s-1" })).toBe("b");
  });

  it("tells a client of today where the stream begins and ends", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcdef"));
    withMetadata(engine, { $tb: 4 });
    expect(stream(engine, { compatibility: 1, count: 1 })).toBe("first-stream-position:4 e last-stream-position:5");
    expect(stream(engine, { compatibility: 1, from: "end", backwards: true, count: 1 })).toBe("f last-stream-position:5");
    expect(stream(engine, { compatibility: 0, count: 1 })).toBe("e");
  });

  it("follows links when it is asked to", () => {
    const { engine } = engineInManualTime();
    engine.append("s-2", "any", events("ab"));
    engine.append("s-1", "any", [event("x", { type: "$>", data: "1@s-2" }), event("y", { type: "$>", data: "7@s-2" }), event("z", { type: "$>", data: "no link" })]);
    expect(stream(engine, {})).toBe("xyz");
    expect(stream(engine, { resolveLinks: true })).toBe("b?z");
  });
});

describe("a read of $all", () => {
  it("has the order of the appends, forwards and backwards", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    engine.append("s-2", "any", events("c"));
    engine.append("s-1", "any", events("d"));
    expect(all(engine, {})).toBe("abcd");
    expect(all(engine, { from: "end", backwards: true })).toBe("dcba");
    expect(all(engine, { from: "end" })).toBe("");
    expect(all(engine, { count: 3 })).toBe("abc");
  });

  it("from a position includes its event forwards, and leaves it out backwards", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcd"));
    const position = engine.log.at(2)!.position;
    expect(all(engine, { from: position })).toBe("cd");
    expect(all(engine, { from: position, backwards: true })).toBe("ba");
    expect(all(engine, { from: placeOf(position, 0) })).toBe("cd");
    expect(all(engine, { from: placeOf(position, 0), backwards: true })).toBe("a");
  });

  it("from a position where no record begins fails; beyond the end there is nothing, yet", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcd"));
    const position = engine.log.at(2)!.position;
    expect(() => all(engine, { from: position + 1 })).toThrow("invalid-position");
    expect(() => all(engine, { from: position + 1, backwards: true })).toThrow("invalid-position");
    expect(all(engine, { from: engine.log.end + 1000 })).toBe("");
    expect(() => all(engine, { from: engine.log.end + 1000, backwards: true })).toThrow("invalid-position");
  });

  it("can begin where an append of nothing stands", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    const { position } = engine.append("s-1", "any", []) as { position: number };
    engine.append("s-1", "any", events("b"));
    expect(all(engine, { from: position })).toBe("b");
    expect(all(engine, { from: position, backwards: true })).toBe("a");
  });

  it("keeps what was truncated and deleted", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    engine.delete("s-1", "any");
    engine.tombstone("s-1", "any");
    expect(all(engine, { filter: (one) => one.stream === "s-1" && one.type === "Tested" })).toBe("ab");
    expect(engine.log.length).toBe(4);
  });

  it.each([
    ["stream", { regex: "", prefixes: ["s-1", "x"] }, "ac"],
    ["stream", { regex: "-2$", prefixes: [] }, "b"],
    ["type", { regex: "", prefixes: ["Oth"] }, "c"],
    ["type", { regex: "^[^$].*", prefixes: [] }, "abc"],
    ["type", { regex: "", prefixes: [] }, ""],
  ] as const)("by %s takes %j", (on, expression, expected) => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    engine.append("s-2", "any", events("b"));
    engine.append("s-1", "any", [event("c", { type: "Other" })]);
    withMetadata(engine, {});
    expect(all(engine, { filter: eventFilter({ on, ...expression }) })).toBe(expected);
    expect(all(engine, { filter: eventFilter({ on, ...expression }), backwards: true, from: "end" })).toBe(expected.split("").toReversed().join(""));
  });

  it("goes over many pages, also where a page holds nothing that fits", () => {
    const { engine } = engineInManualTime();
    for (let index = 0; index < 200; index++) engine.append(index % 67 === 0 ? "s-1" : "s-2", "any", [event(String.fromCodePoint(1000 + index))]);
    const filter = eventFilter({ on: "stream", regex: "", prefixes: ["s-1"] });
    expect(all(engine, { filter })).toHaveLength(3);
    expect(all(engine, { filter, backwards: true, from: "end" })).toHaveLength(3);
    expect(all(engine, { filter, count: 2 })).toHaveLength(2);
  });
});

describe("a page of $all", () => {
  it("ends at its count, or when it has looked at its window, and the next one goes on there", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abcdefgh"));
    const page = readAllForwards(engine.log, 0, 2, 5, (one) => "adeh".includes(lettersOf([one])))!;
    expect({ ...page, events: lettersOf(page.events) }).toEqual({ events: "ad", from: 0, next: placeOf(engine.log.at(4)!.position, 0), atEnd: false, considered: 4 });
    const next = readAllForwards(engine.log, page.next, 2, 2, (one) => "adeh".includes(lettersOf([one])))!;
    expect({ events: lettersOf(next.events), considered: next.considered }).toEqual({ events: "e", considered: 2 });
  });
});

describe("a place", () => {
  it("is one number for commit and prepare position, in their order", () => {
    expect([placeOf(5, 5), placeOf(5, 0), placeOf(0, 0)]).toEqual([5, 4.5, 0]);
    expect([commitOf(4.5), prepareOf(4.5), commitOf(5), prepareOf(5)]).toEqual([5, 0, 5, 5]);
  });
});
