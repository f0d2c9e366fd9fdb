/**
 * The 25 cases of an append that tell a faithful server from a toy, each through Append and through BatchAppend.
 * They hold the test server to what the real one does: where EVENTSTORE_CONNECTION_STRING names a real one they run there, unchanged.
 */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { idOf, readRequest, Wire, type Expected, type Outcome, type WireName } from "./protocol.ts";
import { freshStream, targets, type Target } from "./targets.ts";

const wires: readonly WireName[] = ["Append", "BatchAppend"];

describe.each(targets())("appends on $name", ({ open }) => {
  let target: Target;
  let wire: Wire;

  beforeAll(async () => {
    target = await open();
    wire = new Wire(target.connectionString);
  });

  afterAll(async () => {
    await wire.dispose();
    await target.stop();
  });

  describe.each(wires)("through %s", (name) => {
    /** A stream of its own, and events that are named by letters. */
    function given() {
      const stream = freshStream();
      const ids = new Map<string, string>();
      const idFor = (letter: string): string => {
        const id = ids.get(letter) ?? randomUUID();
        ids.set(letter, id);
        return id;
      };
      const append = (expected: Expected, letters: string, to = stream): Promise<Outcome> =>
        wire.append(name, to, expected, letters.split("").map((letter) => ({ id: idFor(letter), data: JSON.stringify({ letter }) })));
      const letterOf = (id: string | undefined): string => [...ids].find(([, known]) => known === id)?.[0] ?? "?";
      /** What a reader of the stream sees, as letters; or how the read ends. */
      const content = async (of = stream): Promise<string> => {
        const { messages, error } = await wire.read(readRequest({ stream: of, count: 1000 }));
        if (error !== undefined) return String(error.metadata.get("exception")[0]);
        return messages.some((message) => message.hasStreamNotFound()) ? "not found" : messages.map((message) => letterOf(idOf(message))).join("");
      };
      /** What `$all` holds of the stream. */
      const inAll = async (): Promise<string> => {
        const { messages } = await wire.read(readRequest({ count: 1000, filter: { on: "stream", prefixes: [stream], window: 10_000 } }));
        return messages.map((message) => letterOf(idOf(message))).join("");
      };
      const setMetadata = (): Promise<Outcome> => wire.append(name, `$$${stream}`, "any", [{ id: randomUUID(), type: "$metadata", data: "{}" }]);
      const remove = (how: "delete" | "tombstone", expected: Expected = "any") => wire.remove(how, stream, expected);
      return { stream, append, content, inAll, setMetadata, remove };
    }

    const at = (revision: number) => ({ revision: BigInt(revision), position: expect.any(BigInt) });
    const wrong = (expected: Expected, current: number | "no_stream") => ({ wrongVersion: current === "no_stream" ? current : BigInt(current), expected });
    const deleted = { status: name === "Append" ? "9 stream-deleted" : "event_store.client.StreamDeleted" };

    it("1: no stream, on a new stream, writes revision 0", async () => {
      const { append, content } = given();
      expect(await append("no_stream", "a")).toEqual(at(0));
      expect(await content()).toBe("a");
    });

    it("2: any, on a new stream, writes revision 0", async () => {
      const { append, content } = given();
      expect(await append("any", "a")).toEqual(at(0));
      expect(await content()).toBe("a");
    });

    it("3: stream exists, on a missing stream, is a wrong version", async () => {
      const { append, content } = given();
      expect(await append("stream_exists", "a")).toEqual(wrong("stream_exists", "no_stream"));
      expect(await content()).toBe("not found");
    });

    it("4: stream exists, on a stream that has metadata alone, writes revision 0", async () => {
      const { append, content, setMetadata } = given();
      await setMetadata();
      expect(await append("stream_exists", "a")).toEqual(at(0));
      expect(await content()).toBe("a");
    });

    it("5: an exact revision, on a missing stream, is a wrong version of no stream", async () => {
      const { append, content } = given();
      expect(await append(0n, "a")).toEqual(wrong(0n, "no_stream"));
      expect(await content()).toBe("not found");
    });

    it("6: the current revision writes, a later one is a wrong version", async () => {
      const { append, content } = given();
      await append("no_stream", "ab");
      expect(await append(1n, "c")).toEqual(at(2));
      expect(await append(3n, "d")).toEqual(wrong(3n, 2));
      expect(await content()).toBe("abc");
    });

    it("7: no stream, on an existing stream, with a new id, is a wrong version", async () => {
      const { append, content } = given();
      await append("no_stream", "ab");
      expect(await append("no_stream", "c")).toEqual(wrong("no_stream", 1));
      expect(await content()).toBe("ab");
    });

    it("8: no stream again with the first id is revision 0, whatever came after", async () => {
      const { append, content } = given();
      const first = await append("no_stream", "a");
      await append(0n, "bcdef");
      expect(await append("no_stream", "a")).toEqual(first);
      expect(await content()).toBe("abcdef");
    });

    it("9: an exact revision again with the id that followed has its revision and its position", async () => {
      const { append, content } = given();
      await append("no_stream", "a");
      const second = await append(0n, "b");
      await append(1n, "cdef");
      expect(second).toEqual(at(1));
      expect(await append(0n, "b")).toEqual(second);
      expect(await content()).toBe("abcdef");
    });

    it("10: the beginning of an append again is its revision", async () => {
      const { append, content } = given();
      await append("no_stream", "abc");
      expect(await append("no_stream", "ab")).toEqual(at(1));
      expect(await content()).toBe("abc");
    });

    it("11: an append again with one event more is a wrong version, and nothing is written", async () => {
      const { append, content } = given();
      await append("no_stream", "ab");
      expect(await append("no_stream", "abc")).toEqual(wrong("no_stream", 1));
      expect(await content()).toBe("ab");
    });

    it("12: the same events in another order are a wrong version", async () => {
      const { append, content } = given();
      await append("no_stream", "ab");
      expect(await append("no_stream", "ba")).toEqual(wrong("no_stream", 1));
      expect(await content()).toBe("ab");
    });

    it("13: a known id at the current revision is written a second time", async () => {
      const { append, content } = given();
      await append("no_stream", "ab");
      expect(await append(1n, "a")).toEqual(at(2));
      expect(await content()).toBe("aba");
    });

    it("14: a known id after another revision than its own is a wrong version", async () => {
      const { append, content } = given();
      await append("no_stream", "abc");
      expect(await append(0n, "c")).toEqual(wrong(0n, 2));
      expect(await content()).toBe("abc");
    });

    it("15: any with a known id is its revision and position", async () => {
      const { append, content } = given();
      const first = await append("any", "a");
      await append("any", "b");
      expect(await append("any", "a")).toEqual(first);
      expect(await content()).toBe("ab");
    });

    it("16: any with known ids is the revision of the one given last", async () => {
      const { append, content } = given();
      const first = await append("any", "a");
      await append("any", "b");
      expect(await append("any", "ba")).toEqual(first);
      expect(await content()).toBe("ab");
    });

    it("17: any with a known id and then a new one is a wrong version", async () => {
      const { append, content } = given();
      await append("any", "a");
      expect(await append("any", "ab")).toEqual(wrong("any", 0));
      expect(await content()).toBe("a");
    });

    it("18: any with a new id and then a known one writes both", async () => {
      const { append, content } = given();
      await append("any", "a");
      expect(await append("any", "ba")).toEqual(at(2));
      expect(await content()).toBe("aba");
    });

    it("19: an id that is known of another stream is written", async () => {
      const { append, content } = given();
      const other = freshStream();
      await append("any", "a");
      expect(await append("any", "a", other)).toEqual(at(0));
      expect(await content(other)).toBe("a");
    });

    it("20: one id six times is written six times; again it is the first for any, the last for no stream", async () => {
      const { append, content } = given();
      expect(await append("any", "xxxxxx")).toEqual(at(5));
      expect(await append("any", "xxxxxx")).toEqual(at(0));
      expect(await append("no_stream", "xxxxxx")).toEqual(at(5));
      expect(await append("no_stream", "xxxxxx")).toEqual(at(5));
      expect(await content()).toBe("xxxxxx");
    });

    it("21: after a restart any writes a known id again, an exact revision does not", async ({ skip }) => {
      if (target.server === undefined) return skip("a real server is not restarted");
      const { append, content } = given();
      await append("no_stream", "a");
      const second = await append(0n, "b");
      await target.server.restart();
      await wire.dispose();
      wire = new Wire(target.connectionString);
      await wire.connected();
      expect(await append(0n, "b")).toEqual(second);
      expect(await append("any", "b")).toEqual(at(2));
      expect(await content()).toBe("abb");
    });

    it.each(["any", "no_stream", 1n] as const)("22: a stream that was deleted softly goes on with its numbering, expecting %s; $all keeps what was deleted", async (expected) => {
      const { append, content, inAll, remove } = given();
      await append("no_stream", "ab");
      expect(await remove("delete")).toEqual({ position: expect.any(BigInt) });
      expect(await content()).toBe("not found");
      expect(await append(expected, "c")).toEqual(at(2));
      expect(await content()).toBe("c");
      expect(await append(2n, "d")).toEqual(at(3));
      expect(await content()).toBe("cd");
      expect(await inAll()).toBe("abcd");
    });

    it("23: stream exists, on a stream that was deleted softly, is deleted", async () => {
      const { append, content, remove } = given();
      await append("no_stream", "ab");
      await remove("delete");
      expect(await append("stream_exists", "c")).toEqual(deleted);
      expect(await content()).toBe("not found");
    });

    it("24: no stream again with the first ids, on a stream that was deleted softly, succeeds without a position and opens nothing", async () => {
      const { append, content, remove } = given();
      await append("no_stream", "ab");
      await remove("delete");
      expect(await append("no_stream", "ab")).toEqual({ revision: 1n, position: undefined });
      expect(await content()).toBe("not found");
    });

    it.each(["", "ab"])("25: a tombstone, on a stream of %j, refuses every append, read and second tombstone", async (letters) => {
      const { stream, append, content, remove } = given();
      if (letters !== "") await append("no_stream", letters);
      expect(await remove("tombstone")).toEqual({ position: expect.any(BigInt) });
      for (const expected of ["any", "no_stream", "stream_exists", 0n, 1n] as const) {
        expect(await append(expected, "c")).toEqual(deleted);
        if (letters !== "") expect(await append(expected, letters)).toEqual(deleted);
      }
      expect(await content()).toBe("stream-deleted");
      for (const how of ["tombstone", "delete"] as const) {
        expect(await remove(how)).toEqual({ status: "9 stream-deleted", trailers: expect.objectContaining({ "stream-name": stream }) });
      }
    });
  });
});
