/**
 * Brings a stream into memory: its snapshot, where there is one to be believed, and the events after it.
 *
 * H1 A snapshot is believed only if its checksum holds, its schema version and window are this code's, and the log still holds its last event at its version.
 *    Anything else costs a full replay, a warning and a count, never a wrong state.
 * H2 With a snapshot only the rest is read, and the one event that is compared with it.
 * H3 A long replay gives way to others.
 */
import { checksumOf } from "../snapshot/checksum.ts";
import type { Snapshotter } from "../snapshot/snapshotter.ts";
import type { StoredSnapshot } from "../snapshot/snapshot-store.ts";
import { freezeData } from "../aggregate/json.ts";
import { turns } from "../environment.ts";
import { isTidemarkError, StoreCorrupt } from "../errors.ts";
import type { StoredEvent } from "../store/event-store.ts";
import type { ActorPorts } from "./actor-ports.ts";
import { CommandWindow } from "./command-window.ts";
import { StreamState } from "./stream-state.ts";

const PAGE = 1000;

export interface Hydrated {
  readonly state: StreamState;
  /** The snapshot that it began with. */
  readonly snapshot: StoredSnapshot | undefined;
}

/** What is known of a stream that holds nothing. */
export function emptyState({ behaviour, options }: ActorPorts): StreamState {
  return new StreamState(behaviour.initial(), options.commandWindow);
}

/** `whole`: all events of the stream, where they are known already. Errors: those of the store, UnknownEventType, EventUnreadable, StoreCorrupt. */
export async function hydrate(stream: string, ports: ActorPorts, whole?: readonly StoredEvent[]): Promise<Hydrated> {
  ports.counters.hydrations++;
  if (whole !== undefined) {
    const state = emptyState(ports);
    await state.fold(whole, ports.behaviour, ports.codec);
    ports.counters.eventsReplayed += whole.length;
    return { state, snapshot: undefined };
  }
  const snapshot = ports.snapshotter === undefined ? undefined : await loadSnapshot(stream, ports, ports.snapshotter);
  if (snapshot !== undefined) {
    const begun = restore(stream, snapshot, ports);
    if (begun !== undefined && (await replay(stream, begun, snapshot, ports))) {
      ports.counters.snapshotsUsed++;
      return { state: begun, snapshot };
    }
    ports.counters.snapshotsIgnored++;
  }
  const state = emptyState(ports);
  await replay(stream, state, undefined, ports);
  return { state, snapshot: undefined };
}

async function loadSnapshot(stream: string, ports: ActorPorts, snapshotter: Snapshotter): Promise<StoredSnapshot | undefined> {
  try {
    return await snapshotter.load(stream, ports.ending);
  } catch (error) {
    if (isTidemarkError(error, "Aborted")) throw error;
    ports.environment.logger.warn({ stream, error }, "the snapshot could not be loaded; the stream is replayed");
    return undefined;
  }
}

/** H1, as far as the snapshot alone can tell. */
function restore(stream: string, snapshot: StoredSnapshot, ports: ActorPorts): StreamState | undefined {
  const { version } = snapshot;
  const ignore = (why: string): undefined => {
    ports.environment.logger.warn({ stream, version, why }, "a snapshot is ignored; the stream is replayed");
    return undefined;
  };
  if (snapshot.stream !== stream) return ignore(`it is one of ${snapshot.stream}`);
  const wanted = ports.behaviour.snapshot?.schemaVersion ?? 1;
  if (snapshot.schemaVersion !== wanted) return ignore(`its state has schema version ${snapshot.schemaVersion}, this code knows ${wanted}`);
  if (snapshot.checksum !== checksumOf(snapshot)) return ignore("its checksum is wrong");
  try {
    const restored = new StreamState(freezeData(JSON.parse(snapshot.state) as unknown), ports.options.commandWindow);
    restored.window = CommandWindow.restore(snapshot.window, ports.options.commandWindow);
    restored.version = version;
    restored.position = snapshot.position;
    restored.lastEventId = snapshot.eventId;
    return restored;
  } catch (error) {
    return ignore(error instanceof Error ? error.message : String(error));
  }
}

/** Folds what comes after `state`; false when the log does not hold the event that the snapshot ends with (H1). */
async function replay(stream: string, state: StreamState, snapshot: StoredSnapshot | undefined, ports: ActorPorts): Promise<boolean> {
  const { store, environment, behaviour, codec, counters, ending } = ports;
  let next: number | undefined = snapshot?.version ?? 1;
  let turn: ReturnType<typeof turns> | undefined;
  while (next !== undefined) {
    const from: number = next;
    const slice = await store.readStream(stream, { from, limit: PAGE, signal: ending });
    let events: readonly StoredEvent[] = slice.events;
    if (snapshot !== undefined && from === snapshot.version) {
      const last = events[0];
      if (last?.version !== snapshot.version || last.id !== snapshot.eventId) {
        environment.logger.warn({ stream, version: snapshot.version, streamVersion: slice.version }, "a snapshot is not of this stream's past and is ignored; the stream is replayed");
        return false;
      }
      events = events.slice(1);
    }
    const first = events[0];
    if (first?.version !== state.version + 1 && slice.firstVersion > state.version + 1) {
      throw new StoreCorrupt(`${stream} was truncated up to version ${slice.firstVersion - 1}, and no snapshot reaches that far`, { details: { stream, version: slice.firstVersion } });
    }
    await state.fold(events, behaviour, codec);
    counters.eventsReplayed += events.length;
    next = slice.next;
    if (next !== undefined) await (turn ??= turns(environment.clock))();
  }
  return true;
}
