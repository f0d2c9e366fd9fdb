import { describe, expect, it } from "vitest";
import { tidemark, type EventStore } from "../../src/index.ts";
import { memoryStore } from "../../src/store/memory/memory-store.ts";
import { Account } from "../actor/account.ts";

/** Its reads of one stream fail as no store's should. */
function broken(store: EventStore, stream: string): EventStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === "readStream") return (asked: string, options: object) => (asked === stream ? Promise.reject(new RangeError("out of order")) : target.readStream(asked, options));
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

describe("a logger that throws", () => {
  it("keeps nobody from an answer, and the app from nothing", async () => {
    let lines = 0;
    const full = (): never => {
      lines++;
      throw new Error("the disk is full");
    };
    const logger = { debug: full, info: full, warn: full, error: full };
    const events = memoryStore();
    await using app = await tidemark({ store: { events: broken(events, "account-b"), close: () => events.close() }, aggregates: [Account], environment: { logger } });
    const answers = await Promise.allSettled(["a", "b", "c"].map((id) => app.at(Account, id).state()));
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(lines).toBeGreaterThan(0);
    expect((await app.at(Account, "a").deposit({ amount: 1 })).ok).toBe(true);
  });
});
