/** Fills an event store through its port, many events an append, so that getting ready takes no time. */
import { randomUUID } from "node:crypto";
import type { EventStore, NewEvent } from "../src/index.ts";
import { movement } from "./account.ts";

export interface Filling {
  readonly streams: readonly string[];
  readonly perStream: number;
  /** Events of one stream that stand together in the log. Default 1. */
  readonly perAppend?: number;
  /** As if every command's id had been chosen by its caller. */
  readonly chosenIds?: boolean;
}

/** Most appends in a batch. */
const MAX_APPENDS = 1000;
/** Between the `recordedAt` of two events, so that no window of command ids forgets one. */
const STEP_MS = 10;

/** Appends deposits to new streams, going round them. */
export async function fill(store: EventStore, { streams, perStream, perAppend = 1, chosenIds = false }: Filling): Promise<void> {
  const start = Date.now() - perStream * STEP_MS;
  for (let version = 0; version < perStream; version += perAppend) {
    const count = Math.min(perAppend, perStream - version);
    for (let from = 0; from < streams.length; from += MAX_APPENDS) {
      const appends = streams.slice(from, from + MAX_APPENDS).map((stream, index) => ({
        stream,
        expected: version,
        events: Array.from({ length: count }, (_, i) => deposit((version + i) * streams.length + from + index, start + (version + i) * STEP_MS, chosenIds)),
      }));
      const failed = (await store.append(appends)).find((outcome) => outcome.kind !== "committed");
      if (failed !== undefined) throw new Error(`filling the store failed: ${JSON.stringify(failed)}`);
    }
  }
}

function deposit(index: number, recordedAt: number, chosenIds: boolean): NewEvent {
  const commandId = randomUUID();
  const told = { correlationId: commandId, causationId: commandId, commandId };
  return {
    id: randomUUID(),
    type: "Deposited",
    data: JSON.stringify(movement(index)),
    metadata: chosenIds ? { ...told, fingerprint: "mJ0nq2Qm8Wc1xXo5vD7tKg" } : told,
    recordedAt,
  };
}
