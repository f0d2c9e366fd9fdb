/**
 * Commands on some streams, as an actor gives them to a store: each append is decided on the last event that was read or acknowledged, and says so. After a conflict or
 * an unknown outcome the stream is read and the next append is decided on what stands.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { isTidemarkError } from "../../../../src/errors.ts";
import type { EventStore, NewEvent } from "../../../../src/store/event-store.ts";
import { now, type Line } from "./ledger.ts";

export interface Workload {
  readonly store: EventStore;
  readonly streams: readonly string[];
  readonly record: (line: Line) => void;
  readonly signal: AbortSignal;
  /** Between two appends of a stream, milliseconds. */
  readonly pauseMs?: number;
}

/** Works until the signal aborts and everything under way was answered. */
export async function work({ streams, ...rest }: Workload): Promise<void> {
  await Promise.all(streams.map((stream) => workOn(stream, rest)));
}

async function workOn(stream: string, { store, record, signal, pauseMs = 1 }: Omit<Workload, "streams">): Promise<void> {
  const wait = (ms: number): Promise<void> => delay(ms, undefined, { signal }).catch(() => undefined);

  /** Undefined: it could not be read. */
  async function look(): Promise<{ version: number; last: string | null } | undefined> {
    const began = now();
    try {
      const { version, events } = await store.readStream(stream, { direction: "backward", limit: 1 });
      const last = events[0]?.id ?? null;
      record({ what: "read", stream, began, version, last });
      return { version, last };
    } catch (error) {
      record({ what: "error", stream, code: isTidemarkError(error) ? error.code : String(error) });
      await wait(50);
      return undefined;
    }
  }

  let known: { version: number; last: string | null } | undefined;
  for (let round = 0; !signal.aborted; round++) {
    known ??= await look();
    if (known === undefined) continue;
    const events = Array.from({ length: 1 + (round % 3) }, () => newEvent(stream));
    const ids = events.map(({ id }) => id);
    const [id] = ids as [string];
    record({ what: "append", stream, expected: known.version, after: known.last, ids });
    const [outcome] = await store.append([{ stream, expected: known.version, events }]);
    if (outcome?.kind === "committed") {
      record({ what: "outcome", id, at: now(), kind: "committed", version: outcome.version, offset: Object.values(outcome.position)[0] ?? -1 });
      known = { version: outcome.version, last: ids.at(-1) ?? null };
    } else {
      record({ what: "outcome", id, at: now(), kind: outcome?.kind ?? "none", ...(outcome?.kind === "refused" ? { code: outcome.code } : {}) });
      if (outcome?.kind !== "refused") known = undefined;
      else await wait(20);
    }
    // Now and then what stands is read, although it is known.
    if (round % 16 === 15) known = undefined;
    await wait(pauseMs);
  }
}

export function newEvent(stream: string): NewEvent {
  const id = randomUUID();
  return { id, type: "Happened", data: JSON.stringify({ stream, text: "x".repeat(40) }), metadata: { commandId: id, correlationId: id, causationId: id }, recordedAt: Date.now() };
}
