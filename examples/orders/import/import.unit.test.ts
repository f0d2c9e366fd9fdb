import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { generateLines } from "./generate.ts";
import { columns, formatMoment, orderRecord, parseMoment, readOrderFile, type OrderRecord } from "./order-file.ts";
import { planOrder, planOrders } from "./plan.ts";
import { paceOf } from "./progress.ts";

const header = Object.values(columns).join(",");
let folder: string;
let files = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "orders-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function fileOf(...lines: readonly string[]): Promise<string> {
  const path = join(folder, `${++files}.csv`);
  await writeFile(path, lines.join("\n"));
  return path;
}

describe("moments of the file", () => {
  test("are read in both forms, as UTC", () => {
    expect(parseMoment("2/1/2017 9:05")).toBe(Date.UTC(2017, 1, 1, 9, 5));
    expect(parseMoment("2017-02-01 09:05:30")).toBe(Date.UTC(2017, 1, 1, 9, 5, 30));
  });

  test.each(["", "2/30/2017 9:05", "13/1/2017 9:05", "2/1/2017 24:00", "2/1/2017 9:60", "2/1/2017", "yesterday", "2017-02-01T25:00"])("%j is none", (text) => {
    expect(parseMoment(text)).toBeUndefined();
  });

  test("what is written is read back, to the minute", () => {
    fc.assert(
      fc.property(fc.integer({ min: Date.UTC(2000, 0) / 60_000, max: Date.UTC(2040, 0) / 60_000 }), (minute) => {
        expect(parseMoment(formatMoment(minute * 60_000))).toBe(minute * 60_000);
      }),
    );
  });
});

describe("rows of the file", () => {
  const good = "o-1,c-1,delivered,1/1/2017 10:00,1/1/2017 11:00,1/2/2017 10:00,1/3/2017 10:00,1/9/2017 0:00";

  test("bad ones are told with their line, and do no harm to the others", async () => {
    const path = await fileOf(
      header,
      good,
      "o-2,c-1,lost,1/1/2017 10:00,,,,",
      "o-3,c-1,shipped,32/1/2017 10:00,,,,",
      ",c-1,shipped,1/1/2017 10:00,,,,",
      "o-5,c-1,shipped",
      'o-6,"c-\n1",created,1/1/2017 10:00,,,,',
      "o-1,c-1,created,1/1/2017 10:00,,,,",
      "o-8,c-1,created,1/1/2017 10:00,1/1/2017 11:00,,,",
      "o-9,c-1,canceled,1/1/2017 10:00,,,,",
    );
    const { records, bad } = await readOrderFile(path);
    expect(records.map(({ id }) => id)).toEqual(["o-1", "o-6", "o-9"]);
    expect(bad.map(({ line }) => line)).toEqual([3, 4, 5, 6, 9, 10]);
    expect(bad.map(({ reason }) => reason)).toEqual([
      expect.stringContaining("order_status is unknown"),
      expect.stringContaining("order_purchase_timestamp is no moment"),
      expect.stringContaining("order_id is empty"),
      expect.stringContaining("number of fields"),
      expect.stringContaining("stands in line 2 already"),
      expect.stringContaining("order_status is created, but"),
    ]);
  });

  test("a limit counts rows, bad ones included", async () => {
    const path = await fileOf(header, good, "bad", good.replace("o-1", "o-2"));
    expect(await readOrderFile(path, 2)).toMatchObject({ records: [{ id: "o-1" }], bad: [{ line: 3 }] });
  });

  test("a file without a column, or no file, is an error", async () => {
    await expect(readOrderFile(await fileOf("order_id,customer_id", "o-1,c-1"))).rejects.toThrow(/missing order_status/);
    await expect(readOrderFile(join(folder, "none.csv"))).rejects.toThrow(/ENOENT/);
  });

  test("any cells make an order or a reason, never an exception", () => {
    const cell = fc.oneof(fc.string(), fc.constantFrom("", "delivered", "canceled", "1/1/2017 10:00", "x"));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.values(columns)), cell), (cells) => {
        const taken = orderRecord(cells, 7);
        expect(taken.line).toBe(7);
        if ("reason" in taken) expect(taken.reason).not.toBe("");
        else expect(planOrder(taken).length).toBeGreaterThan(0);
      }),
    );
  });
});

describe("the plan", () => {
  const minute = (n: number): number => Date.UTC(2017, 0, 1) + n * 60_000;
  const row = (given: Partial<OrderRecord>): OrderRecord => ({
    line: 2,
    id: "o-1",
    customer: "c-1",
    status: "delivered",
    purchased: minute(0),
    approved: undefined,
    shipped: undefined,
    delivered: undefined,
    promised: undefined,
    ...given,
  });
  const steps = (given: Partial<OrderRecord>): unknown[] => planOrder(row(given)).map(({ command, input }) => [command, Date.parse(String(input["at"]))]);

  test("each moment is a command that tells it", () => {
    expect(steps({ approved: minute(1), shipped: minute(2), delivered: minute(3) })).toEqual([["place", minute(0)], ["approve", minute(1)], ["ship", minute(2)], ["deliver", minute(3)]]);
  });

  test("a status without a moment happens one second after the last one that is known", () => {
    expect(steps({ status: "invoiced", approved: minute(1) }).at(-1)).toEqual(["invoice", minute(1) + 1000]);
    expect(steps({ status: "unavailable" }).at(-1)).toEqual(["markUnavailable", minute(0) + 1000]);
    expect(steps({ status: "canceled", approved: minute(9), shipped: minute(2), delivered: minute(3) }).at(-1)).toEqual(["cancel", minute(9) + 1000]);
  });

  test("a delivery without its date happens on the promised one", () => {
    expect(steps({ approved: minute(1), shipped: minute(2), promised: minute(5) }).at(-1)).toEqual(["deliver", minute(5)]);
  });

  test("a cancellation after the delivery is a return", () => {
    expect(planOrder(row({ status: "canceled", delivered: minute(3) })).at(-1)?.input).toMatchObject({ asReturn: true });
    expect(planOrder(row({ status: "canceled" })).at(-1)?.input).not.toHaveProperty("asReturn");
  });

  test("placing comes first, also where the file dates something before it", () => {
    expect(steps({ shipped: minute(-5), approved: minute(1), delivered: minute(3) })).toEqual([["place", minute(0)], ["ship", minute(-5)], ["approve", minute(1)], ["deliver", minute(3)]]);
  });

  test("goes through all orders in the order of time, and keeps that of each order's life", async () => {
    const { records } = await readOrderFile(await fileOf(...generateLines(400, 11)));
    const plan = planOrders(records);
    expect(plan.map(({ time }) => time)).toEqual(plan.map(({ time }) => time).toSorted((a, b) => a - b));
    for (const record of records.slice(0, 50)) expect(plan.filter(({ id }) => id === record.id)).toEqual(planOrder(record));
  });
});

describe("made-up orders", () => {
  test("are the same for the same seed, and others for another one", () => {
    expect([...generateLines(50, 1)]).toEqual([...generateLines(50, 1)]);
    expect([...generateLines(50, 1)]).not.toEqual([...generateLines(50, 2)]);
  });

  test("are all taken, whatever the seed", async () => {
    for (const seed of [1, 2, 3]) {
      const { records, bad } = await readOrderFile(await fileOf(...generateLines(1000, seed)));
      expect(bad).toEqual([]);
      expect(records).toHaveLength(1000);
    }
  });
});

test("the pace tells commands per second and the seconds left", () => {
  expect(paceOf(500, 2000, 250)).toEqual({ rate: 2000, etaSeconds: 1 });
  expect(paceOf(0, 10, 0)).toEqual({ rate: 0, etaSeconds: 0 });
});
