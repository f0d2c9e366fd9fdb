import { describe, expect, it } from "vitest";
import type { JournalEntry } from "../../../src/testing/eventstoredb-server/engine/engine.ts";
import { DELETED, type RecordedEvent } from "../../../src/testing/eventstoredb-server/engine/model.ts";
import { readStream } from "../../../src/testing/eventstoredb-server/engine/reads.ts";
import { engineInManualTime, event, events, lettersOf } from "./support.ts";

const success = (revision: number) => ({ kind: "success", revision, position: expect.any(Number) });

function contentOf(engine: ReturnType<typeof engineInManualTime>["engine"], stream: string): string {
  const responses = [...readStream(engine, { stream, from: 0, backwards: false, count: 1000, resolveLinks: false, compatibility: 0 })];
  return responses[0]?.kind === "stream-not-found" ? "not found" : lettersOf(responses.map((response) => (response.kind === "event" ? response.event : undefined)));
}

describe("an append", () => {
  it("that begins with the first event of a stream that was deleted softly, and goes on otherwise, is a wrong version", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "no_stream", events("ab"));
    engine.delete("s-1", "any");
    expect(engine.append("s-1", "no_stream", events("ac"))).toEqual({ kind: "wrong-version", current: 1 });
    expect(contentOf(engine, "s-1")).toBe("not found");
  });

  it("without events takes a place in the log, and no revision", () => {
    const { engine } = engineInManualTime();
    const empty = engine.append("s-1", "any", []);
    expect(empty).toEqual(success(-1));
    expect(contentOf(engine, "s-1")).toBe("not found");
    engine.append("s-1", "no_stream", events("a"));
    expect(engine.log.at(0)!.position).toBeGreaterThan((empty as { position: number }).position);
    expect(engine.append("s-1", 0, [])).toEqual(success(0));
    expect(engine.append("s-1", "no_stream", [])).toEqual({ kind: "wrong-version", current: 0 });
    expect(engine.append("s-1", 4, [])).toEqual({ kind: "wrong-version", current: 0 });
  });

  it("again has no position when its last event was truncated", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "no_stream", events("ab"));
    engine.append("$$s-1", "any", [event("m", { type: "$metadata", data: '{"$tb":2}' })]);
    expect(engine.append("s-1", "no_stream", events("ab"))).toEqual({ kind: "success", revision: 1, position: undefined });
  });

  it("to the metadata of a stream that was deleted softly opens the stream behind what was deleted, with the metadata that was given", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "no_stream", events("ab"));
    engine.delete("s-1", "any");
    engine.append("$$s-1", "any", [event("m", { type: "$metadata", data: '{"$maxCount":5,"own":true}' })]);
    expect(engine.log.metadataOf("s-1")).toEqual({ maxCount: 5, truncateBefore: 2 });
    expect(JSON.parse(Buffer.from(engine.log.metadataEventOf("s-1")!.data).toString())).toEqual({ $maxCount: 5, own: true, $tb: 2 });
    expect(contentOf(engine, "s-1")).toBe("");
    expect(engine.append("s-1", 1, events("c"))).toEqual(success(2));
    expect(contentOf(engine, "s-1")).toBe("c");
  });

  it("that cannot be written leaves nothing, and the next one takes its place", () => {
    const written: JournalEntry[] = [];
    let full = false;
    const { engine } = engineInManualTime({
      journal: {
        write(entry) {
          if (full) throw new Error("no space left on device");
          written.push(entry);
        },
      },
    });
    const heard: RecordedEvent[] = [];
    engine.onCommit((one) => heard.push(one));
    engine.append("s-1", "no_stream", events("a"));
    full = true;
    expect(() => engine.append("s-1", 0, events("bc"))).toThrow("no space left");
    expect(contentOf(engine, "s-1")).toBe("a");
    full = false;
    expect(engine.append("s-1", "any", events("b"))).toEqual(success(1));
    expect(contentOf(engine, "s-1")).toBe("ab");
    expect(lettersOf(heard)).toBe("ab");
    expect(written.map((entry) => lettersOf(entry.events))).toEqual(["a", "b"]);
  });

  it("is told to listeners event by event, when all of it can be read", () => {
    const { engine } = engineInManualTime();
    const seen: string[] = [];
    const stop = engine.onCommit((one) => seen.push(`${one.revision} of ${contentOf(engine, "s-1")}`));
    engine.append("s-1", "any", events("abc"));
    stop();
    engine.append("s-1", "any", events("d"));
    expect(seen).toEqual(["0 of abc", "1 of abc", "2 of abc"]);
  });

  it("has positions that grow, also after the log was opened again", () => {
    const entries: JournalEntry[] = [];
    const first = engineInManualTime({ journal: { write: (entry) => void entries.push(entry) } }).engine;
    first.append("s-1", "any", events("ab"));
    const empty = first.append("s-2", "any", []) as { position: number };
    const second = engineInManualTime({ history: entries }).engine;
    second.append("s-1", 1, events("c"));
    const positions = [0, 1, 2].map((index) => second.log.at(index)!.position);
    expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    expect(positions[2]).toBeGreaterThan(empty.position);
    expect(positions[0]).toBeGreaterThan(0);
  });
});

describe("a soft delete", () => {
  it("of a missing stream is a wrong version, of one with metadata alone is none", () => {
    const { engine } = engineInManualTime();
    expect(engine.delete("s-1", "any")).toEqual({ kind: "wrong-version", current: -1 });
    engine.append("$$s-1", "any", [event("m", { type: "$metadata", data: "{}" })]);
    expect(engine.delete("s-1", "any")).toEqual(success(-1));
  });

  it("checks what is expected, and may be repeated", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    expect(engine.delete("s-1", 0)).toEqual({ kind: "wrong-version", current: 1 });
    expect(engine.delete("s-1", 1)).toEqual(success(1));
    expect(engine.delete("s-1", "any")).toEqual(success(1));
    expect(engine.delete("s-1", "stream_exists")).toEqual({ kind: "deleted" });
  });

  it("replaces the metadata that was there", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    engine.append("$$s-1", "any", [event("m", { type: "$metadata", data: '{"$maxCount":7}' })]);
    engine.delete("s-1", "any");
    expect(engine.log.metadataOf("s-1")).toEqual({ truncateBefore: DELETED });
  });
});

describe("a tombstone", () => {
  it("stands in the log and deletes the metadata stream too", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    engine.append("$$s-1", "any", [event("m", { type: "$metadata", data: "{}" })]);
    engine.tombstone("s-1", 0);
    expect(engine.log.at(2)).toMatchObject({ stream: "s-1", type: "$streamDeleted", revision: DELETED });
    expect(engine.append("$$s-1", "any", [event("n")])).toEqual({ kind: "deleted" });
  });

  it("checks what is expected", () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    expect(engine.tombstone("s-1", 0)).toEqual({ kind: "wrong-version", current: 1 });
    expect(engine.tombstone("s-1", "no_stream")).toEqual({ kind: "wrong-version", current: 1 });
    expect(contentOf(engine, "s-1")).toBe("ab");
  });
});
