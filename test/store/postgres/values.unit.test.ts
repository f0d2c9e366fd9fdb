import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareScalars } from "../../../src/readmodel/where.ts";
import { bigintArray, doubleArray, intArray, textArray } from "../../../src/store/postgres/binary-array.ts";
import { keyText, storable } from "../../../src/store/postgres/view-key.ts";

/** What the bytes say, read as PostgreSQL reads them. */
function elements(array: Buffer): { readonly type: number; readonly values: (Buffer | null)[] } {
  const type = array.readInt32BE(8);
  if (array.readInt32BE(0) === 0) {
    expect(array).toHaveLength(12);
    return { type, values: [] };
  }
  const values: (Buffer | null)[] = [];
  let offset = 20;
  while (offset < array.length) {
    const size = array.readInt32BE(offset);
    values.push(size < 0 ? null : array.subarray(offset + 4, offset + 4 + size));
    offset += 4 + Math.max(0, size);
  }
  expect(values).toHaveLength(array.readInt32BE(12));
  expect(offset).toBe(array.length);
  return { type, values };
}

describe("arrays in the binary format", () => {
  it("hold every text, null and number as it was given", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.string({ unit: "binary" }))), fc.array(fc.maxSafeInteger()), fc.array(fc.integer()), fc.array(fc.option(fc.double({ noNaN: true }))), (texts, bigs, ints, doubles) => {
        expect(elements(textArray(texts)).values.map((value) => value?.toString() ?? null)).toEqual(texts);
        expect(elements(bigintArray(bigs)).values.map((value) => Number(value?.readBigInt64BE()))).toEqual(bigs);
        expect(elements(intArray(ints)).values.map((value) => value?.readInt32BE())).toEqual(ints);
        expect(elements(doubleArray(doubles)).values.map((value) => value?.readDoubleBE() ?? null)).toEqual(doubles);
      }),
    );
    expect([textArray([]), intArray([]), bigintArray([]), doubleArray([])].map((array) => elements(array).type)).toEqual([25, 23, 20, 701]);
  });
});

describe("the key of a row as text", () => {
  it("sorts as keys do, and tells every two keys apart", () => {
    const key = fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer(), fc.string({ unit: "binary" }).filter((text) => !text.includes("\0")));
    fc.assert(
      fc.property(key, key, (a, b) => {
        const bytes = Buffer.compare(Buffer.from(keyText(a)), Buffer.from(keyText(b)));
        expect(Math.sign(bytes)).toBe(Math.sign(compareScalars(a === 0 ? 0 : a, b === 0 ? 0 : b)));
      }),
      { numRuns: 1000 },
    );
  });

  it("holds what PostgreSQL can hold", () => {
    expect(storable("a\0b\ud800")).toBe("a\ufffdb\ufffd");
    expect(keyText(-0)).toBe(keyText(0));
  });
});
