/** Arbitrary tokens over few stores, categories, streams and lanes, so that they meet. */
import fc from "fast-check";
import type { TokenEntry } from "../../src/consistency/token.ts";

export const STORES = ["0b7e4d52-6c1f-4a53-9d0e-3f5a7c9b1e20", "store-000001", "Another-Store-1234"] as const;
export const CATEGORIES = ["order", "customer", "a_1"] as const;

const position = fc.dictionary(fc.constantFrom("log", "order/0", "order-1", "x_y", "ü"), fc.oneof(fc.nat(20), fc.maxSafeNat()), { maxKeys: 3, noNullPrototype: true });
const id = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("1", "2", "ord-42", "a.b", "a/b c", "größe", "🙂", "~2e", "__proto__") },
  { weight: 1, arbitrary: fc.string({ unit: "binary", minLength: 1, maxLength: 40 }).filter((text) => text.isWellFormed() && text.length <= 256 && !text.includes("\0")) },
);

export const entry: fc.Arbitrary<TokenEntry> = fc
  .record({ store: fc.constantFrom(...STORES), category: fc.constantFrom(...CATEGORIES), id: fc.option(id, { nil: undefined }), version: fc.maxSafeNat(), position })
  .map(({ id: stream, ...rest }) => (stream === undefined ? { ...rest, version: 0 } : { ...rest, id: stream }));

export const token = fc.array(entry, { maxLength: 24 });
