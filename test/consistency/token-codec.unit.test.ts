import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_TOKEN_LENGTH, tokens } from "../../src/consistency/token-codec.ts";
import { mergeEntries, tokenCovers, type TokenEntry } from "../../src/consistency/token.ts";
import { at } from "../../src/store/position.ts";
import { entry, STORES, token } from "./entries.ts";

const plain = tokens();
const key = (id: string): { id: string; secret: string } => ({ id, secret: `secret of key ${id} 0123456789` });
const signed = tokens({ keys: [key("k1")] });
const one: TokenEntry = { store: STORES[0], category: "order", id: "ord-42", version: 3, position: at(12_345) };
const coded = (code: string): unknown => expect.objectContaining({ code });

describe("tokens as text", () => {
  it("come back as they went, with odd ids and many lanes, signed or not", () => {
    fc.assert(
      fc.property(token, (entries) => {
        for (const codec of [plain, signed]) {
          const text = codec.encode(entries);
          if (text.length < 2000) expect(codec.decode(text)).toEqual(entries);
          expect(tokenCovers(codec.decode(text), entries)).toBe(true);
        }
      }),
    );
  });

  it("need no escaping in URLs, headers and cookies", () => {
    fc.assert(fc.property(token, (entries) => /^[A-Za-z0-9_.~-]+$/.test(plain.encode(entries)) && /^[A-Za-z0-9_.~-]+$/.test(signed.encode(entries))));
  });

  it("keep their format: they live longer than a release", () => {
    expect(plain.encode([one])).toBe("t1.~C35NUmwfSlOdDj9afJseIA.order.ord-42.3.9ix.iOPD");
    expect(plain.encode([{ ...one, id: "ä.b" }, { store: one.store, category: "order", version: 0, position: { "order/1": 7, "order/2": 8 } }])).toBe(
      "t1.~C35NUmwfSlOdDj9afJseIA.order.~e4~2eb.3.9ix....0.order~2f1-7_order~2f2-8.LXsk",
    );
  });

  it("are shorter than 60 characters for one write", () => {
    expect(plain.encode([one]).length).toBeLessThan(60);
  });

  it("fit in 4096 characters by folding streams, and still demand as much", () => {
    const long = Array.from({ length: 16 }, (_, i) => ({ ...one, id: "ü".repeat(250) + i, version: i, position: at(i) }));
    const text = plain.encode(long);
    expect(text.length).toBeLessThanOrEqual(MAX_TOKEN_LENGTH);
    expect(plain.decode(text).some((entry) => entry.id !== undefined)).toBe(true);
    expect(tokenCovers(plain.decode(text), long)).toBe(true);
    expect(tokenCovers(long, plain.decode(text))).toBe(true);
  });

  it("are never cut: what cannot fit is refused", () => {
    const lanes = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`lane${i}`, i]));
    expect(() => plain.encode([{ ...one, position: lanes }])).toThrow(coded("InvalidArgument"));
  });

  it("merge into one session token", () => {
    const other = { ...one, id: "ord-43", position: at(20_000) };
    for (const codec of [plain, signed]) {
      expect(codec.decode(codec.merge(codec.encode([one]), codec.encode([other])))).toEqual(mergeEntries([one], [other]));
    }
  });

  it("fast enough to make one for each command", () => {
    const ROUND = 20_000;
    let length = 0;
    // Of the CPU: what else the machine does is none of its business.
    const rounds = Array.from({ length: 5 }, () => {
      const before = process.threadCpuUsage();
      for (let i = 0; i < ROUND; i++) length += plain.encode([{ ...one, id: `ord-${i}` }]).length;
      const { user, system } = process.threadCpuUsage(before);
      return (user + system) / ROUND;
    });
    expect(length).toBeGreaterThan(0);
    // Microseconds, with slack; bench says what it is.
    expect(Math.min(...rounds)).toBeLessThan(15);
  });
});

describe("bad tokens", () => {
  it("are TokenMalformed or TokenForged and never anything else", () => {
    const good = [plain.encode([one]), signed.encode([one, { ...one, position: { "order/0": 1 } }])];
    const noise = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[ts]1[A-Za-z0-9_.~-]{0,80}$/));
    const spliced = fc.tuple(fc.constantFrom(...good), fc.nat(80), fc.nat(8), noise).map(([text, from, cut, put]) => text.slice(0, from) + put.slice(0, 6) + text.slice(from + cut));
    fc.assert(
      fc.property(fc.oneof(noise, spliced), (text) => {
        for (const codec of [plain, signed]) {
          try {
            codec.decode(text);
          } catch (error) {
            expect(["TokenMalformed", "TokenForged"]).toContain((error as { code?: string }).code);
          }
        }
      }),
      { numRuns: 3000 },
    );
  });

  it("are TokenMalformed when their fields are nonsense, though the check sum is right", () => {
    for (const body of [
      "t1.x", "t1.st.order.1.1.1", "t1.store-000001.9order.1.1.1", "t1.store-000001..1.1.1", "t1..order.1.1.1", "t1.store-000001.order.~00.1.1", "t1.store-000001.order.~ud800.1.1",
      "t1.store-000001.order.~zz.1.1", "t1.store-000001.order.1.01.1", "t1.store-000001.order.1.-1.1", "t1.store-000001.order.1.1.zzzzzzzzzzz", "t1.store-000001.order.1.1.1_1",
      "t1.store-000001.order.1.1.constructor-1", "t1.store-000001.order.1.1.~5f~5fproto~5f~5f-1", "t1.store-000001.order.1.1.-1", "t1.~short.order.1.1.1", "t1.store-000001.order.1.1.x-",
    ]) {
      expect(() => plain.decode(withCheckSum(body)), body).toThrow(coded("TokenMalformed"));
    }
    expect(plain.decode(withCheckSum("t1.store-000001.order.1.1.1"))).toEqual([{ store: "store-000001", category: "order", id: "1", version: 1, position: at(1) }]);
  });

  it("are TokenMalformed when one character is lost, added or changed", () => {
    const text = plain.encode([one]);
    for (let i = 0; i < text.length; i++) {
      const other = text[i] === "A" ? "B" : "A";
      for (const damaged of [text.slice(0, i) + text.slice(i + 1), text.slice(0, i) + other + text.slice(i), text.slice(0, i) + other + text.slice(i + 1)]) {
        expect(() => plain.decode(damaged), damaged).toThrow(coded("TokenMalformed"));
      }
    }
  });

  it("are TokenMalformed when too long, of another version, or no text", () => {
    const long = (length: number): string => withCheckSum(`t1.store-000001.order.${"a".repeat(200)}.1.1${"....1.1".repeat((length - 231) / 7)}`);
    expect(plain.decode(long(2000)).length).toBeGreaterThan(200);
    for (const bad of [long(MAX_TOKEN_LENGTH + 50), plain.encode([one]).replace("t1", "t2"), "", undefined, 7, {}]) {
      expect(() => plain.decode(bad as string)).toThrow(coded("TokenMalformed"));
    }
  });
});

describe("signed tokens", () => {
  it("are refused when the signature is missing, wrong or by an unknown key", () => {
    const text = signed.encode([one]);
    const forged = [
      plain.encode([one]),
      tokens({ keys: [key("k2")] }).encode([one]),
      tokens({ keys: [{ id: "k1", secret: "another secret of 0123456789" }] }).encode([one]),
      text.slice(0, -1) + (text.endsWith("A") ? "Q" : "A"),
      text.slice(0, -1),
    ];
    for (const bad of forged) expect(() => signed.decode(bad), bad).toThrow(coded("TokenForged"));
    expect(signed.decode(text)).toEqual([one]);
  });

  it("cannot be given other contents", () => {
    const [, , , key1, sent] = [...signed.encode([one]).split(".").slice(0, 3), ...signed.encode([one]).split(".").slice(-2)];
    const other = signed.encode([{ ...one, version: 4 }]).split(".").slice(0, -2).join(".");
    expect(() => signed.decode(`${other}.${key1}.${sent}`)).toThrow(coded("TokenForged"));
  });

  it("stay readable while their key is rotated out, and not after", () => {
    const old = signed.encode([one]);
    const rotating = tokens({ keys: [key("k2"), key("k1")] });
    expect(rotating.decode(old)).toEqual([one]);
    expect(tokens({ keys: [key("k2")] }).decode(rotating.encode([one]))).toEqual([one]);
    expect(() => tokens({ keys: [key("k2")] }).decode(old)).toThrow(coded("TokenForged"));
  });

  it("are read by an app without keys, which trusts all tokens alike", () => {
    expect(plain.decode(signed.encode([one]))).toEqual([one]);
  });

  it.each([
    [[{ id: "k", secret: "short" }]],
    [[{ id: "k.1", secret: "0123456789abcdef" }]],
    [[{ id: "", secret: "0123456789abcdef" }]],
    [[key("k1"), key("k1")]],
  ])("refuse the keys %j", (keys) => {
    expect(() => tokens({ keys })).toThrow(coded("InvalidArgument"));
  });
});

/** As a forger would, who can read the source. */
function withCheckSum(body: string): string {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  let sum = 0x2f0b4c47;
  for (const char of body) sum = Math.imul(sum ^ char.charCodeAt(0), 0x01000193);
  sum ^= sum >>> 15;
  return `${body}.${[0, 6, 12, 18].map((shift) => digits[(sum >>> shift) & 63]).join("")}`;
}

describe("a signature", () => {
  it("is of its alphabet: a character that means the same byte is refused", () => {
    const text = signed.encode([one]);
    const last = text.charCodeAt(text.length - 1);
    expect(() => signed.decode(text.slice(0, -1) + String.fromCharCode(last + 0x100))).toThrow(coded("TokenForged") as Error);
  });
});

describe("the token of one entry", () => {
  it("comes back as it went, whichever was written before it", () => {
    fc.assert(
      fc.property(entry, entry, (first, other) => {
        for (const given of [first, other, first]) {
          const text = plain.encode([given]);
          expect(plain.decode(text)).toEqual([given]);
          expect(plain.merge(text)).toBe(text);
        }
      }),
    );
  });
});
