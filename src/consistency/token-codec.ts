/**
 * Tokens as text: URL-, header- and cookie-safe ([A-Za-z0-9_.~-]), versioned, with a check sum against damage, and signed where keys are given.
 *
 *   t1.<entries>.<check>                  s1.<entries>.<check>.<key id>.<signature>
 *   entry = store.category.id.version.position       store and category are empty where they equal those of the entry before
 *
 * T1 `decode` answers entries or throws TokenMalformed or TokenForged, whatever it is given; its work is bounded by MAX_TOKEN_LENGTH.
 * T2 With keys, only a text that one of them signed is read: entries are parsed after the signature (HMAC-SHA-256, its first 132 bits, over all before it) was compared in constant time.
 * T3 What `encode` writes, `decode` reads back; a token too long for MAX_TOKEN_LENGTH folds streams first (C2) and is never cut.
 * T4 A lane is never a name that objects inherit: positions are plain objects.
 */
import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from "node:crypto";
import { InvalidArgument, TokenForged, TokenMalformed } from "../errors.ts";
import { assertKnown, type OptionNames } from "../known-options.ts";
import { SINGLE_LANE, type Position } from "../store/position.ts";
import { assertCategory, streamName } from "../store/stream-name.ts";
import { foldStreams, mergeEntries, type TokenEntry } from "./token.ts";

/** The longest text that is read, in characters. */
export const MAX_TOKEN_LENGTH = 4096;

/** A key for signing tokens; `id`: 1 to 16 characters of [A-Za-z0-9_-]; `secret`: at least 16 bytes. */
export interface TokenKey {
  readonly id: string;
  readonly secret: string | Uint8Array;
}

export interface TokenOptions {
  /** The first signs, all verify: rotate by putting a new key first. None: tokens are not signed. */
  readonly keys?: readonly TokenKey[];
}

export interface TokenCodec {
  /** Text of these entries. Errors: InvalidArgument when it cannot be held in MAX_TOKEN_LENGTH characters. */
  encode(entries: readonly TokenEntry[]): string;
  /** The entries of a text. Errors: TokenMalformed, TokenForged. */
  decode(text: string): readonly TokenEntry[];
  /** One token (of a session) that demands what all of these demand. Errors: as encode and decode. */
  merge(...texts: readonly string[]): string;
}

const NAMES: OptionNames<TokenOptions> = { keys: true };

/** Makes the codec of an app's tokens. Errors: InvalidArgument for an unusable key. */
export function tokens(options: TokenOptions = {}): TokenCodec {
  assertKnown(options, NAMES, "tokens");
  const keys = new Map((options.keys ?? []).map((key) => [key.id, secretOf(key)]));
  const first = options.keys?.[0];
  if (keys.size !== (options.keys?.length ?? 0)) throw new InvalidArgument("two token keys have the same id");

  const write = (entries: readonly TokenEntry[]): string => {
    const body = writeEntries(entries);
    if (first === undefined) return checked(`t1${body}`);
    const text = `${checked(`s1${body}`)}.${first.id}`;
    return `${text}.${signature(text, keys.get(first.id) as KeyObject)}`;
  };
  const encode = (entries: readonly TokenEntry[]): string => {
    let text = entries.length === 1 && first === undefined ? writeOne(entries[0] as TokenEntry) : write(entries);
    // T3
    for (let keep = 8; text.length > MAX_TOKEN_LENGTH && keep >= 1; keep >>= 1) text = write(foldStreams(entries, keep));
    if (text.length > MAX_TOKEN_LENGTH) text = write(foldStreams(entries, 0));
    if (text.length <= MAX_TOKEN_LENGTH) return text;
    throw new InvalidArgument(`a token of ${entries.length} entries does not fit in ${MAX_TOKEN_LENGTH} characters`, { details: { entries: entries.length } });
  };
  const decode = (text: string): readonly TokenEntry[] => {
    if (typeof text !== "string" || text.length > MAX_TOKEN_LENGTH) throw malformed(`it is not text of at most ${MAX_TOKEN_LENGTH} characters`);
    const parts = text.split(".");
    const signed = parts[0] === "s1";
    if (!signed && parts[0] !== "t1") throw malformed('it does not begin as a token does (with "t1." or "s1."), or was made by a newer version');
    const [keyId, sent] = signed ? parts.splice(-2) : [];
    const check = parts.pop();
    const body = parts.join(".");
    if (check !== checkOf(body)) throw malformed("its check sum is wrong");
    if (keys.size > 0) verify(text, keyId, sent, keys);
    return readEntries(parts);
  };
  return { encode, decode, merge: (...texts) => encode(mergeEntries(...texts.map(decode))) };
}

function malformed(why: string): TokenMalformed {
  return new TokenMalformed(`the token cannot be read: ${why}`);
}

// ---- signatures (T2)

/** A key object: an HMAC under one is several times as fast as under bytes. */
function secretOf(key: TokenKey): KeyObject {
  if (typeof key.id !== "string" || !/^[A-Za-z0-9_-]{1,16}$/.test(key.id)) throw new InvalidArgument("the id of a token key must match [A-Za-z0-9_-]{1,16}");
  const secret = typeof key.secret === "string" ? Buffer.from(key.secret, "utf8") : key.secret;
  if (!(secret instanceof Uint8Array) || secret.length < 16) throw new InvalidArgument(`the secret of token key ${key.id} must be at least 16 bytes long`);
  return createSecretKey(secret);
}

function signature(text: string, secret: KeyObject): string {
  return createHmac("sha256", secret).update(text).digest("base64url").slice(0, 22);
}

function verify(text: string, keyId: string | undefined, sent: string | undefined, keys: ReadonlyMap<string, KeyObject>): void {
  const secret = keyId === undefined ? undefined : keys.get(keyId);
  if (sent === undefined) throw new TokenForged("the token is not signed, and this app takes only tokens that are");
  if (!/^[A-Za-z0-9_-]{22}$/.test(sent)) throw new TokenForged("the token's signature is wrong");
  if (secret === undefined) throw new TokenForged("the token's key is not accepted");
  const wanted = Buffer.from(signature(text.slice(0, text.length - sent.length - 1), secret), "latin1");
  const given = Buffer.from(sent, "latin1");
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) throw new TokenForged("the token's signature is wrong");
}

// ---- entries

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function checked(text: string): string {
  return `${text}.${checkOf(text)}`;
}

/** 24 bits against damage, not against malice: a multiplicative hash of the characters. */
function checkOf(text: string): string {
  return digitsOf(sumOf(text, FIRST_SUM));
}

const FIRST_SUM = 0x2f0b4c47;

function sumOf(text: string, before: number): number {
  let sum = before;
  for (let i = 0; i < text.length; i++) sum = Math.imul(sum ^ text.charCodeAt(i), 0x01000193);
  return sum;
}

function digitsOf(whole: number): string {
  const sum = whole ^ (whole >>> 15);
  return `${DIGITS[sum & 63]}${DIGITS[(sum >>> 6) & 63]}${DIGITS[(sum >>> 12) & 63]}${DIGITS[(sum >>> 18) & 63]}`;
}

/** What the token of every write to one category begins with. */
let begun = { store: "", category: "", text: "", sum: 0 };

/** The unsigned token of one entry, as each write is answered with: what it begins with is written and summed once. */
function writeOne({ store, category, id, version, position }: TokenEntry): string {
  if (begun.store !== store || begun.category !== category) {
    const text = `t1.${storeText(store)}.${category}.`;
    begun = { store, category, text, sum: sumOf(text, FIRST_SUM) };
  }
  const rest = `${id === undefined ? "" : escaped(id)}.${version.toString(36)}.${positionText(position)}`;
  return `${begun.text}${rest}.${digitsOf(sumOf(rest, begun.sum))}`;
}

function writeEntries(entries: readonly TokenEntry[]): string {
  let text = "";
  let store = "";
  let category = "";
  for (const entry of entries) {
    const sameStore = entry.store === store;
    text += `.${sameStore ? "" : storeText(entry.store)}.${sameStore && entry.category === category ? "" : entry.category}`;
    text += `.${entry.id === undefined ? "" : escaped(entry.id)}.${entry.version.toString(36)}.${positionText(entry.position)}`;
    ({ store, category } = entry);
  }
  return text;
}

/** `parts`: the version of the format, then five fields an entry. */
function readEntries(parts: readonly string[]): readonly TokenEntry[] {
  if (parts.length % 5 !== 1) throw malformed("an entry is not complete");
  const entries: TokenEntry[] = [];
  let store = "";
  let category = "";
  for (let i = 1; i < parts.length; i += 5) {
    const [storeField, categoryField, idField, versionField, positionField] = parts.slice(i, i + 5) as [string, string, string, string, string];
    if (storeField !== "") [store, category] = [readStore(storeField), ""];
    if (categoryField !== "") category = categoryField;
    if (store === "") throw malformed("no store is named");
    const id = unescaped(idField);
    try {
      assertCategory(category);
      if (id !== "") streamName(category, id);
    } catch {
      throw malformed("a stream's name is not allowed");
    }
    const version = readNumber(versionField);
    const position = readPosition(positionField);
    entries.push(id === "" ? { store, category, version, position } : { store, category, id, version, position });
  }
  return entries;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
let writtenStore = "";
let writtenStoreText = "";

/** A store's id; one that is a UUID is packed into 22 characters after `~`. The last one is kept: nearly all tokens of a process name one store. */
function storeText(store: string): string {
  if (store !== writtenStore) {
    writtenStoreText = UUID.test(store) ? `~${Buffer.from(store.replaceAll("-", ""), "hex").toString("base64url")}` : store;
    writtenStore = store;
  }
  return writtenStoreText;
}

function readStore(text: string): string {
  if (/^[A-Za-z0-9-]{12,36}$/.test(text)) return text;
  if (!/^~[A-Za-z0-9_-]{22}$/.test(text)) throw malformed("a store's id is not allowed");
  const hex = Buffer.from(text.slice(1), "base64url").toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Offsets in base 36: `lane-offset` joined by `_`, the offset alone for the lane of single-lane stores. */
function positionText(position: Position): string {
  let text = "";
  for (const lane in position) {
    const name = lane === SINGLE_LANE ? "" : `${escaped(lane).replaceAll("-", "~2d").replaceAll("_", "~5f")}-`;
    text += `${text === "" ? "" : "_"}${name}${(position[lane] as number).toString(36)}`;
  }
  return text;
}

function readPosition(text: string): Position {
  const position: Record<string, number> = {};
  if (text === "") return position;
  for (const part of text.split("_")) {
    const dash = part.indexOf("-");
    const lane = dash < 0 ? SINGLE_LANE : unescaped(part.slice(0, dash));
    // T4: `in` sees inherited names too.
    if (lane === "" || lane in position) throw malformed("a lane's name is not allowed");
    position[lane] = readNumber(part.slice(dash + 1));
  }
  return position;
}

function readNumber(text: string): number {
  const number = Number.parseInt(text, 36);
  if (!(Number.isSafeInteger(number) && number >= 0 && number.toString(36) === text)) throw malformed("a number is not one");
  return number;
}

const PLAIN = /^[A-Za-z0-9_-]*$/;

/** Characters outside [A-Za-z0-9_-] become `~` and two hex digits, or `~u` and four, for each UTF-16 unit. */
function escaped(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replaceAll(/[^A-Za-z0-9_-]/g, (unit) => {
    const hex = unit.charCodeAt(0).toString(16);
    return hex.length <= 2 ? `~${hex.padStart(2, "0")}` : `~u${hex.padStart(4, "0")}`;
  });
}

function unescaped(text: string): string {
  if (PLAIN.test(text)) return text;
  const plain = text.replaceAll(/~(?:u([0-9a-f]{4})|([0-9a-f]{2}))/g, (_, long: string | undefined, short: string | undefined) =>
    String.fromCharCode(Number.parseInt(long ?? short ?? "", 16)),
  );
  if (!/^(?:[A-Za-z0-9_-]|~u[0-9a-f]{4}|~[0-9a-f]{2})*$/.test(text)) throw malformed("a name is not well escaped");
  return plain;
}
