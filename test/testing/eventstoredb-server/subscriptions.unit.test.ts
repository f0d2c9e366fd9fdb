import { describe, expect, it } from "vitest";
import { eventFilter } from "../../../src/testing/eventstoredb-server/engine/filter.ts";
import type { ReadResponse } from "../../../src/testing/eventstoredb-server/engine/read-response.ts";
import { subscribeToAll, subscribeToStream, type AllSubscription, type StreamSubscription } from "../../../src/testing/eventstoredb-server/engine/subscriptions.ts";
import { engineInManualTime, events, lettersOf } from "./support.ts";

type Engine = ReturnType<typeof engineInManualTime>["engine"];

/** Takes what a subscription sends, when the test asks for it. */
class Follower {
  readonly stop = new AbortController();
  readonly #responses: AsyncGenerator<ReadResponse>;
  readonly #engine: Engine;

  constructor(engine: Engine, start: (signal: AbortSignal) => AsyncGenerator<ReadResponse>) {
    this.#engine = engine;
    this.#responses = start(this.stop.signal);
  }

  /** So many answers: letters, `|` for confirmed, `!` for caught up, `<n>` for a checkpoint before the n-th event, `=n` for one at it. */
  async take(count: number): Promise<string> {
    let text = "";
    for (let taken = 0; taken < count; taken++) {
      const { value, done } = await this.#responses.next();
      if (done === true) return `${text}.`;
      text += this.#told(value);
    }
    return text;
  }

  #told(response: ReadResponse): string {
    switch (response.kind) {
      case "event":
        return response.event?.type === "$streamDeleted" ? "T" : lettersOf([response.event]);
      case "confirmed":
        return "|";
      case "caught-up":
        return "!";
      case "checkpoint":
        return Number.isInteger(response.place) && response.place > 0 ? `=${this.#engine.log.indexAt(response.place)}` : `<${this.#engine.log.indexAt(response.place)}>`;
      default:
        return ` ${response.kind} `;
    }
  }
}

const follow = (engine: Engine, options: Partial<AllSubscription> = {}): Follower =>
  new Follower(engine, (signal) => subscribeToAll(engine, { after: "start", mayRead: () => true, resolveLinks: false, signal, ...options }));
const followStream = (engine: Engine, options: Partial<StreamSubscription> = {}): Follower =>
  new Follower(engine, (signal) => subscribeToStream(engine, { stream: "s-1", after: "start", mayRead: () => true, resolveLinks: false, signal, ...options }));

const inFirst = eventFilter({ on: "stream", regex: "", prefixes: ["s-1"] });

/** So many events with one id: at the current revision it is written again. */
function fill(engine: Engine, stream: string, count: number): void {
  for (let index = 0; index < count; index++) engine.append(stream, engine.log.lastRevision(stream), events("z"));
}

describe("a subscription to $all", () => {
  it("is confirmed, gets what there is, is told that it has caught up, and gets what comes", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    const follower = follow(engine);
    expect(await follower.take(4)).toBe("|ab!");
    engine.append("s-2", "any", events("cd"));
    expect(await follower.take(2)).toBe("cd");
  });

  it("misses nothing that is written while it catches up", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    const follower = follow(engine);
    expect(await follower.take(2)).toBe("|a");
    engine.append("s-1", "any", events("cd"));
    expect(await follower.take(2)).toBe("b!");
    engine.append("s-1", "any", events("e"));
    expect(await follower.take(3)).toBe("cde");
  });

  it("after a position gets what follows it; after the end only what is new; on an empty log it has caught up at once", async () => {
    const { engine } = engineInManualTime();
    expect(await follow(engine).take(2)).toBe("|!");
    engine.append("s-1", "any", events("abc"));
    expect(await follow(engine, { after: engine.log.at(1)!.position }).take(3)).toBe("|c!");
    const atEnd = follow(engine, { after: "end" });
    expect(await atEnd.take(2)).toBe("|!");
    engine.append("s-1", "any", events("d"));
    expect(await atEnd.take(1)).toBe("d");
  });

  it("after a position that is not there yet skips what comes before it", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    const beyond = follow(engine, { after: engine.log.end });
    expect(await beyond.take(2)).toBe("|!");
    engine.append("s-1", "any", events("bc"));
    expect(await beyond.take(1)).toBe("c");
  });

  it("after a position where no record begins fails", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abc"));
    const lost = follow(engine, { after: engine.log.at(1)!.position + 1 });
    expect(await lost.take(1)).toBe("|");
    await expect(lost.take(1)).rejects.toThrow("invalid-position");
  });

  it("that is slower than the writers catches up again, says so again, and misses nothing", async () => {
    const { engine } = engineInManualTime();
    const follower = follow(engine);
    expect(await follower.take(2)).toBe("|!");
    fill(engine, "s-1", 40);
    engine.append("s-1", "any", events("a"));
    expect(await follower.take(42)).toBe(`${"z".repeat(40)}a!`);
  });

  it("ends when it is stopped, and is forgotten by the engine", async () => {
    const { engine } = engineInManualTime();
    const follower = follow(engine);
    expect(await follower.take(2)).toBe("|!");
    const next = follower.take(1);
    follower.stop.abort();
    expect(await next).toBe(".");
  });

  it("fails when its user may not read any more", async () => {
    const { engine } = engineInManualTime();
    let allowed = true;
    const follower = follow(engine, { mayRead: () => allowed });
    expect(await follower.take(2)).toBe("|!");
    engine.append("$$$all", "any", events("m"));
    expect(await follower.take(1)).toBe("m");
    allowed = false;
    engine.append("$$$all", "any", events("n"));
    expect(await follower.take(1)).toBe("n");
    await expect(follower.take(1)).rejects.toThrow("access-denied");
  });
});

describe("a filtered subscription to $all", () => {
  it("has a checkpoint when it has caught up, at the last event it got", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    engine.append("s-2", "any", events("b"));
    expect(await follow(engine, { filter: inFirst }).take(4)).toBe("|a=0!");
  });

  it("that finds nothing has its checkpoint where its last page began", async () => {
    const { engine } = engineInManualTime();
    fill(engine, "s-2", 10);
    expect(await follow(engine, { filter: inFirst }).take(3)).toBe("|<0>!");
    fill(engine, "s-2", 30);
    // 32 events are one page: the second page begins before event 32.
    expect(await follow(engine, { filter: inFirst }).take(4)).toBe("|<0><32>!");
  });

  it("has checkpoints while it catches up, after every interval of windows", async () => {
    const { engine } = engineInManualTime();
    fill(engine, "s-2", 100);
    expect(await follow(engine, { filter: inFirst, window: 10, interval: 3 }).take(6)).toBe("|<20><50><80><90>!");
  });

  it("tells a checkpoint once, when the interval ends where the log does", async () => {
    const { engine } = engineInManualTime();
    fill(engine, "s-2", 10);
    expect(await follow(engine, { filter: inFirst, window: 10, interval: 1 }).take(3)).toBe("|<0>!");
  });

  it("has live checkpoints at every interval of events, whether they fit or not", async () => {
    const { engine } = engineInManualTime();
    const follower = follow(engine, { filter: inFirst, window: 4, interval: 2 });
    expect(await follower.take(2)).toBe("|!");
    fill(engine, "s-2", 7);
    engine.append("s-1", "any", events("a"));
    expect(await follower.take(2)).toBe("a=7");
    fill(engine, "s-2", 8);
    expect(await follower.take(1)).toBe("=15");
  });
});

describe("a subscription to a stream", () => {
  it("is confirmed, gets what there is, is told that it has caught up, and gets what comes", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    engine.append("s-2", "any", events("x"));
    const follower = followStream(engine);
    expect(await follower.take(4)).toBe("|ab!");
    engine.append("s-2", "any", events("y"));
    engine.append("s-1", "any", events("c"));
    expect(await follower.take(1)).toBe("c");
  });

  it("waits for a stream that is not there", async () => {
    const { engine } = engineInManualTime();
    const follower = followStream(engine);
    expect(await follower.take(2)).toBe("|!");
    engine.append("s-1", "any", events("a"));
    expect(await follower.take(1)).toBe("a");
  });

  it("after a revision gets what follows it; after the end only what is new", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("abc"));
    expect(await followStream(engine, { after: 0 }).take(4)).toBe("|bc!");
    const atEnd = followStream(engine, { after: "end" });
    expect(await atEnd.take(2)).toBe("|!");
    engine.append("s-1", "any", events("d"));
    expect(await atEnd.take(1)).toBe("d");
  });

  it("fails after the tombstone; on a tombstoned stream it fails at once", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("a"));
    const follower = followStream(engine);
    expect(await follower.take(3)).toBe("|a!");
    engine.tombstone("s-1", "any");
    expect(await follower.take(1)).toBe("T");
    await expect(follower.take(1)).rejects.toThrow("stream-deleted");
    await expect(followStream(engine).take(1)).rejects.toThrow("stream-deleted");
  });

  it("goes on over a soft deletion", async () => {
    const { engine } = engineInManualTime();
    engine.append("s-1", "any", events("ab"));
    const follower = followStream(engine);
    expect(await follower.take(4)).toBe("|ab!");
    engine.delete("s-1", "any");
    engine.append("s-1", "any", events("c"));
    expect(await follower.take(1)).toBe("c");
  });

  it("that is slower than the writers catches up again", async () => {
    const { engine } = engineInManualTime();
    const follower = followStream(engine);
    expect(await follower.take(2)).toBe("|!");
    fill(engine, "s-1", 50);
    engine.append("s-1", "any", events("a"));
    expect(await follower.take(52)).toBe(`${"z".repeat(50)}a!`);
  });
});
