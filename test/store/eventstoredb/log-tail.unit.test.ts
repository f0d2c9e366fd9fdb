/** The subscription that begins again by itself, on a connection that is told what comes. */
import { EventEmitter } from "node:events";
import shared from "@eventstore/db-client/generated/shared_pb.js";
import streams from "@eventstore/db-client/generated/streams_pb.js";
import type { ReadReq, ReadResp } from "@eventstore/db-client/generated/streams_pb.js";
import { describe, expect, it } from "vitest";
import type { Connection } from "../../../src/store/eventstoredb/connection.ts";
import { LogTail } from "../../../src/store/eventstoredb/log-tail.ts";
import { systemClock, systemRandom, silentLogger } from "../../../src/environment.ts";
import { until } from "../postgres/shared.ts";

class Call extends EventEmitter {
  paused = false;
  cancelled = false;
  readonly request: ReadReq;
  constructor(request: ReadReq) {
    super();
    this.request = request;
  }
  pause = (): void => void (this.paused = true);
  resume = (): void => void (this.paused = false);
  isPaused = (): boolean => this.paused;
  cancel = (): void => void (this.cancelled = true);
  get after(): string {
    const all = this.request.getOptions()?.getAll();
    return all?.hasStart() === true ? "start" : (all?.getPosition()?.getCommitPosition() ?? "");
  }
}

/** An event of `order-1`; with another prepare position it shares its commit with others. */
function told(commit: number, prepare = commit, bytes = 2): ReadResp {
  const event = new streams.ReadResp.ReadEvent.RecordedEvent()
    .setId(new shared.UUID().setString(`00000000-0000-4000-8000-${String(prepare).padStart(12, "0")}`))
    .setStreamIdentifier(new shared.StreamIdentifier().setStreamName(Buffer.from("order-1")))
    .setStreamRevision("0")
    .setCommitPosition(String(commit))
    .setPreparePosition(String(prepare))
    .setData(Buffer.alloc(bytes, 32));
  event.getMetadataMap().set("type", "Happened");
  return new streams.ReadResp().setEvent(new streams.ReadResp.ReadEvent().setEvent(event).setCommitPosition(String(commit)));
}

const checkpoint = (position: number): ReadResp => new streams.ReadResp().setCheckpoint(new streams.ReadResp.Checkpoint().setCommitPosition(String(position)).setPreparePosition(String(position)));
const caughtUp = (): ReadResp => new streams.ReadResp().setCaughtUp(new streams.ReadResp.CaughtUp());

function tailOn(identity = (): Promise<string> => Promise.resolve("one"), onOpen: () => void = () => undefined) {
  const calls: Call[] = [];
  const connection = {
    name: "somewhere",
    environment: { clock: systemClock, random: systemRandom, logger: silentLogger },
    openRead: (request: ReadReq) => {
      onOpen();
      calls.push(new Call(request));
      return Promise.resolve(calls.at(-1));
    },
  } as unknown as Connection;
  const tail = new LogTail({ connection, categories: undefined, after: 5, identity, onNews: () => undefined });
  return {
    tail,
    calls,
    /** The n-th call, once it is listened to. */
    async call(n: number): Promise<Call> {
      await until(() => (calls[n]?.listenerCount("data") ?? 0) > 0, `call ${n}`);
      return calls[n] as Call;
    },
    commits: (after: number) => tail.peek(after).map(({ commit }) => commit),
  };
}

describe("a subscription to the log", () => {
  it("begins where it is told to, and again after the last place that it heard of, event or checkpoint, however it ended", async () => {
    const { tail, call, commits } = tailOn();
    const first = await call(0);
    expect(first.after).toBe("5");
    for (const response of [told(10), told(20), checkpoint(30), caughtUp()]) first.emit("data", response);
    expect([tail.told, tail.caughtUp]).toEqual([30, true]);
    first.emit("error", Object.assign(new Error("gone"), { code: 14 }));
    const second = await call(1);
    expect([second.after, tail.caughtUp]).toEqual(["30", false]);
    second.emit("data", told(40));
    second.emit("end");
    const third = await call(2);
    expect(third.after).toBe("40");
    third.emit("data", told(40));
    expect(commits(0), "nothing twice").toEqual([10, 20, 40]);
    expect(commits(20)).toEqual([40]);
    tail.end();
    expect(third.cancelled).toBe(true);
  });

  it("begins before a commit of which it was told a part", async () => {
    const { tail, call, commits } = tailOn();
    const first = await call(0);
    for (const response of [told(10), told(50, 20), told(50, 30)]) first.emit("data", response);
    expect(tail.told, "of which more may follow").toBe(10);
    first.emit("end");
    const second = await call(1);
    expect(second.after).toBe("10");
    expect(commits(0)).toEqual([10]);
    for (const response of [told(50, 20), told(50, 30), told(50, 40), told(60)]) second.emit("data", response);
    expect(commits(0)).toEqual([10, 50, 50, 50, 60]);
    second.emit("end");
    expect((await call(2)).after).toBe("60");
    tail.end();
  });

  it("pauses the server when much is kept, and goes on when it was taken", async () => {
    const { tail, call } = tailOn();
    const first = await call(0);
    for (let n = 1; n <= 3; n++) first.emit("data", told(100 * n, 100 * n, 3_000_000));
    expect(first.paused).toBe(true);
    tail.peek(100);
    expect(first.paused).toBe(false);
    for (let n = 1; n <= 4000; n++) first.emit("data", told(1000 + n));
    expect(first.paused).toBe(true);
    tail.peek(2000);
    expect(first.paused).toBe(false);
    tail.end();
  });

  it("ends when the log is another one", async () => {
    let identity = "one";
    const { tail, call } = tailOn(() => Promise.resolve(identity));
    const first = await call(0);
    identity = "two";
    first.emit("end");
    await until(() => tail.fatal !== undefined, "it ends");
    expect(tail.fatal).toMatchObject({ code: "StoreRewound", details: { expected: "one", found: "two" } });
    tail.end();
  });

  it("asks whose log it is of the server that it has reached, and takes nothing before", async () => {
    let [identity, reached] = ["one", 0];
    // Until the call is made, the former server answers.
    const { tail, call, calls } = tailOn(() => Promise.resolve(identity), () => (identity = ++reached > 1 ? "two" : "one"));
    (await call(0)).emit("end");
    await until(() => tail.fatal !== undefined, "it ends");
    expect(tail.fatal).toMatchObject({ code: "StoreRewound", details: { expected: "one", found: "two" } });
    expect(calls[1]).toMatchObject({ cancelled: true });
    expect(calls[1]?.listenerCount("data")).toBe(0);
    tail.end();
  });

  it("ends when its place is none of the log's", async () => {
    const { tail, call } = tailOn();
    (await call(0)).emit("error", Object.assign(new Error("3 INVALID_ARGUMENT"), { code: 3, details: "Trying to read from an invalid position." }));
    await until(() => tail.fatal !== undefined, "it ends");
    expect(tail.fatal).toMatchObject({ code: "StoreRewound" });
    tail.end();
  });
});
