/** A store that does what a test says, over a real one in memory, and an app on it whose time stands still. */
import type { Append, AppendOutcome, EventStore, NewEvent, ReadStreamOptions, StoredEvent, StreamSlice } from "../../src/store/event-store.ts";
import type { Backend } from "../../src/store/backend.ts";
import { memoryBackend, memoryLog, memoryStore, type MemoryLog } from "../../src/store/memory/index.ts";
import { testApp, type TestApp, type TestAppOptions } from "../../src/testing/index.ts";

type Send = (appends: readonly Append[]) => Promise<readonly AppendOutcome[]>;
type Tell = (index: number, outcome: AppendOutcome) => void;
/** What becomes of one group of appends; `send` hands appends on to the real store, `tell` tells an outcome before the whole is answered. */
export type AppendScript = (appends: readonly Append[], send: Send, tell: Tell) => Promise<readonly AppendOutcome[]>;
/** What becomes of one read of a stream; `read` asks the real store. */
export type ReadScript = (read: () => Promise<StreamSlice>, stream: string) => Promise<StreamSlice>;

export interface ScriptedStore {
  readonly backend: Backend;
  readonly log: MemoryLog;
  /** The same log as another process sees it: no script stands between. */
  readonly other: EventStore;
  /** Groups of appends, as they came. */
  readonly groups: (readonly Append[])[];
  /** Reads of streams, as they came. */
  readonly reads: { readonly stream: string; readonly from: number | undefined; readonly events: number }[];
  /** Taken one by one by the groups to come; without one, groups go to the real store. */
  readonly appendScripts: AppendScript[];
  readonly readScripts: ReadScript[];
  /** Groups from now on wait before they are written. */
  hold(): void;
  /** What waits is written, in order, and nothing waits any more. */
  release(): Promise<void>;
}

export interface ScriptedOptions {
  readonly maxAppendBytes?: number;
  readonly groupsInFlight?: number;
  readonly maxAppendsInBatch?: number;
  readonly remembersStreams?: boolean;
}

export function scriptedStore({ maxAppendBytes, ...capabilities }: ScriptedOptions = {}): ScriptedStore {
  const log = memoryLog();
  const inner = memoryBackend({ log, ...(maxAppendBytes === undefined ? {} : { maxAppendBytes }) });
  const { events } = inner;
  const groups: (readonly Append[])[] = [];
  const reads: { stream: string; from: number | undefined; events: number }[] = [];
  const appendScripts: AppendScript[] = [];
  const readScripts: ReadScript[] = [];
  let held: (() => void)[] | undefined;
  const send: Send = (appends) => events.append(appends);
  const scripted: EventStore = {
    capabilities: { ...events.capabilities, ...capabilities },
    identity: (signal) => events.identity(signal),
    async append(appends, tell = () => undefined) {
      groups.push(appends);
      if (held !== undefined) await new Promise<void>((resolve) => held?.push(resolve));
      const script = appendScripts.shift();
      return script === undefined ? send(appends) : script(appends, send, tell);
    },
    async readStream(stream: string, options: ReadStreamOptions = {}) {
      const read = async (): Promise<StreamSlice> => events.readStream(stream, options);
      const script = readScripts.shift();
      const noted = { stream, from: options.from, events: 0 };
      reads.push(noted);
      const slice = await (script === undefined ? read() : script(read, stream));
      noted.events = slice.events.length;
      return slice;
    },
    readAll: (options) => events.readAll(options),
    subscribe: (options) => events.subscribe(options),
    head: (signal) => events.head?.(signal) ?? Promise.resolve({}),
    close: () => events.close(),
  };
  return {
    backend: { ...inner, events: scripted },
    log,
    other: memoryStore({ log }),
    groups,
    reads,
    appendScripts,
    readScripts,
    hold: () => void (held ??= []),
    async release() {
      const waiting = held ?? [];
      held = undefined;
      for (const go of waiting) {
        go();
        await Promise.resolve();
      }
    },
  };
}

export interface Scene extends TestApp {
  readonly store: ScriptedStore;
}

/** An app over a scripted store. */
export async function scene(options: Omit<TestAppOptions, "store">, scripted: ScriptedOptions = {}): Promise<Scene> {
  const store = scriptedStore(scripted);
  const test = await testApp({ ...options, store: store.backend });
  return { ...test, store };
}

/** A second app on the log of another one, with time and seed of its own: another process, as far as the log can tell. */
export function besides(log: MemoryLog, options: Omit<TestAppOptions, "store">): Promise<TestApp> {
  return testApp({ seed: 2, ...options, store: memoryBackend({ log }) });
}

/** What became of a promise so far. */
export interface Watched<T> {
  readonly answered: boolean;
  /** Throws when there is none. */
  readonly value: T;
  /** The error's code, where it failed. */
  readonly code: string | undefined;
  readonly error: unknown;
}

export function watch<T>(work: Promise<T>): Watched<T> {
  let state: { value: T } | { error: unknown } | undefined;
  work.then(
    (value) => (state = { value }),
    (error: unknown) => (state = { error }),
  );
  return {
    get answered() {
      return state !== undefined;
    },
    get value() {
      if (state === undefined || !("value" in state)) throw new Error(state === undefined ? "there is no answer yet" : "it failed", { cause: state });
      return state.value;
    },
    get code() {
      return state !== undefined && "error" in state ? (state.error as { code: string }).code : undefined;
    },
    get error() {
      return state !== undefined && "error" in state ? state.error : undefined;
    },
  };
}

let strangers = 0;

export function eventOf(type: string, data: unknown, given: Partial<NewEvent> = {}): NewEvent {
  const id = `stranger-${strangers++}`;
  return { id, type, data: JSON.stringify(data), metadata: { correlationId: id, causationId: id, commandId: id }, recordedAt: Date.UTC(2026, 0, 1), ...given };
}

/** Another writer, who knows nothing of Tidemark's actors, deposits. */
export async function stranger(store: EventStore, stream: string, ...amounts: readonly number[]): Promise<void> {
  const [outcome] = await store.append([{ stream, expected: "any", events: amounts.map((amount) => eventOf("Deposited", { amount, note: "stranger" })) }]);
  if (outcome?.kind !== "committed") throw new Error(`the stranger's append was answered ${JSON.stringify(outcome)}`);
}

export async function eventsOf(store: EventStore, stream: string): Promise<readonly StoredEvent[]> {
  return (await store.readStream(stream)).events;
}

/** The amounts of a stream's events, as `+5` and `-5`. */
export async function amountsOf(store: EventStore, stream: string): Promise<string[]> {
  return (await eventsOf(store, stream)).map(({ type, data }) => `${type === "Withdrawn" ? "-" : "+"}${String((JSON.parse(data) as { amount: number }).amount)}`);
}
