/** Pages that are read before they are asked for (A1 to A4): what is given is what would have been read, and no news is missed. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LogPage } from "../../../src/store/event-store.ts";
import { at, offsetOf, type Position } from "../../../src/store/position.ts";
import { readingAhead } from "../../../src/store/postgres/read-ahead.ts";

/** A log of so many events; its pages hold no events here, their ends tell all. */
function logOf(head: number, pageSize: number) {
  const log = { head, reads: [] as number[], failing: 0, lengthOf: (_from: number): number => pageSize };
  const read = async (after: Position): Promise<LogPage> => {
    const from = offsetOf(after);
    log.reads.push(from);
    await Promise.resolve();
    if (log.failing > 0) {
      log.failing--;
      throw new Error("the log could not be read");
    }
    if (from > log.head) throw new Error("beyond the end");
    const through = Math.min(log.head, from + log.lengthOf(from));
    return { events: [], through: at(through), caughtUp: through === log.head };
  };
  return { log, page: readingAhead(read, pageSize) };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("reading ahead", () => {
  it("A1 begins with the second page, and stays one ahead of full pages", async () => {
    const { log, page } = logOf(1000, 10);
    await page(at(0));
    await settle();
    expect(log.reads).toEqual([0]);
    await page(at(10));
    await settle();
    expect(log.reads).toEqual([0, 10, 20]);
    for (const from of [20, 30, 40]) await page(at(from));
    await settle();
    expect(log.reads).toEqual([0, 10, 20, 30, 40, 50]);
  });

  it("A2 reads the end of the log again when it is asked for: what came since is on it", async () => {
    const { log, page } = logOf(40, 10);
    for (const from of [0, 10, 20]) await page(at(from));
    await settle();
    expect(log.reads).toContain(30);
    log.head = 45;
    expect(await page(at(30))).toMatchObject({ through: at(40), caughtUp: false });
    await settle();
    log.head = 46;
    expect(await page(at(40))).toMatchObject({ through: at(46), caughtUp: true });
  });

  it("A2 gives nothing that begins elsewhere", async () => {
    const { page } = logOf(1000, 10);
    for (const from of [0, 10, 20]) await page(at(from));
    await settle();
    expect(await page(at(500))).toMatchObject({ through: at(510) });
    expect(await page(at(5))).toMatchObject({ through: at(15) });
  });

  it("A4 forgets what failed ahead, and fails when what is asked for does", async () => {
    const { log, page } = logOf(1000, 10);
    for (const from of [0, 10]) await page(at(from));
    log.failing = 1;
    await page(at(20)).catch(() => undefined);
    await settle();
    expect(await page(at(30))).toMatchObject({ through: at(40) });
    log.failing = 9;
    await settle();
    await page(at(40)).catch(() => undefined);
    await expect(page(at(50))).rejects.toThrow("could not be read");
  });

  it("is the same as not reading ahead, whatever the pages hold and whenever the log grows", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 20 }), fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 30 }), async (lengths, grown) => {
        const { log, page } = logOf(20, 4);
        log.lengthOf = (from) => lengths[from % lengths.length] as number;
        let from = 0;
        for (const more of [...grown, 0]) {
          for (let caughtUp = false, growing = more; !caughtUp; growing--) {
            const { head } = log;
            const got = await page(at(from));
            const through = Math.min(head, from + log.lengthOf(from));
            // Never a page that is the end without being it: whoever waits for news after it would miss what came before.
            expect([offsetOf(got.through), got.caughtUp && through < head]).toEqual([through, false]);
            caughtUp = got.caughtUp;
            from = offsetOf(got.through);
            if (!caughtUp && growing > 0) log.head += more % 3;
          }
          log.head += more;
        }
      }),
    );
  });
});
