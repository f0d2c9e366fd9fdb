import { DomainRejection } from "../errors.ts";

/** The answer of a command that was accepted; for those who like exceptions. Errors: DomainRejection with the rejection's own code and details. */
export function accepted<T extends { readonly ok: boolean }>(result: T): Extract<T, { readonly ok: true }> {
  if (result.ok) return result as Extract<T, { readonly ok: true }>;
  const { code, details, decidedAt } = result as { code?: unknown; details?: unknown; decidedAt?: { readonly version?: unknown } };
  const version = decidedAt?.version;
  throw new DomainRejection({ code: String(code), details }, typeof version === "number" ? { details: { version } } : undefined);
}
