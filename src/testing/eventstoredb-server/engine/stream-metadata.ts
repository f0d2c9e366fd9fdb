/** What the last event of a metadata stream says (StreamMetadata of the server). */
import { DELETED } from "./model.ts";

export interface StreamAcl {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly delete?: readonly string[];
  readonly metadataRead?: readonly string[];
  readonly metadataWrite?: readonly string[];
}

export interface StreamMetadata {
  readonly maxCount?: number;
  readonly maxAgeMs?: number;
  /** First revision that is still there; `DELETED`: the stream was deleted softly. */
  readonly truncateBefore?: number;
  readonly acl?: StreamAcl;
}

export const NO_METADATA: StreamMetadata = {};

/** A metadata stream keeps its last event. */
export const OF_METASTREAMS: StreamMetadata = { maxCount: 1 };

const LONG_MAX = 2 ** 63;

/** What the server cannot read counts as no metadata at all. */
export function parseMetadata(data: Uint8Array): StreamMetadata {
  try {
    return read(JSON.parse(Buffer.from(data).toString("utf8")));
  } catch {
    return NO_METADATA;
  }
}

/** The raw metadata with another `$tb`, so that a deleted stream goes on from there; undefined where it is no JSON object (SoftUndeleteRawMeta). */
export function withTruncateBefore(data: Uint8Array, revision: number): Uint8Array | undefined {
  try {
    const raw: unknown = JSON.parse(Buffer.from(data).toString("utf8"));
    return isObject(raw) ? Buffer.from(JSON.stringify({ ...raw, $tb: revision })) : undefined;
  } catch {
    return undefined;
  }
}

/** The metadata that deletes a stream softly; it replaces all there was. */
export function softDeletion(): Uint8Array {
  return Buffer.from('{"$tb":9223372036854775807}');
}

function read(raw: unknown): StreamMetadata {
  if (!isObject(raw)) throw new TypeError("not an object");
  const maxCount = whole(raw["$maxCount"], 1);
  const maxAge = whole(raw["$maxAge"], 1);
  const truncateBefore = whole(raw["$tb"], 0);
  const acl = raw["$acl"] === undefined ? undefined : aclOf(raw["$acl"]);
  return {
    ...(maxCount === undefined ? {} : { maxCount }),
    ...(maxAge === undefined ? {} : { maxAgeMs: maxAge * 1000 }),
    ...(truncateBefore === undefined ? {} : { truncateBefore: truncateBefore >= LONG_MAX ? DELETED : truncateBefore }),
    ...(acl === undefined ? {} : { acl }),
  };
}

function aclOf(raw: unknown): StreamAcl {
  if (!isObject(raw)) throw new TypeError("not an object");
  const acl: Record<string, readonly string[]> = {};
  for (const [key, name] of [["$r", "read"], ["$w", "write"], ["$d", "delete"], ["$mr", "metadataRead"], ["$mw", "metadataWrite"]] as const) {
    const roles = raw[key];
    if (roles === undefined) continue;
    if (typeof roles === "string") acl[name] = [roles];
    else if (Array.isArray(roles) && roles.every((role): role is string => typeof role === "string")) acl[name] = roles;
    else throw new TypeError("roles are a text or a list of texts");
  }
  return acl;
}

function whole(value: unknown, least: number): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value) || value < least) throw new TypeError("not a whole number");
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
