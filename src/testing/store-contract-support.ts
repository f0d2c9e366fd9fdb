/**
 * What the cases of the store contract are made of: events to append, readers that collect, and waits with a bound.
 */
import assert from "node:assert/strict";
import { systemClock, systemRandom } from "../environment.ts";
import type { Append, AppendOutcome, EventStore, ExpectedVersion, LogPage, NewEvent, ReadLogOptions, StoreCapabilities, StoredEvent } from "../store/event-store.ts";
import { START, covers } from "../store/position.ts";
import type { Position } from "../store/position.ts";

/** One opened store of a harness; it holds nothing yet. */
export interface OpenedStore {
  readonly store: EventStore;
  /** A second instance on the same data, as another process would have it. */
  another(): Promise<EventStore>;
  /** Closes `store` and opens it again; called only where the store is `durable`. */
  reopen(): Promise<EventStore>;
  /** The store at the same address, emptied as by an operator who starts anew; absent: the case is skipped. */
  reset?(): Promise<EventStore>;
  /** Closes everything that was opened and removes the data. */
  dispose(): Promise<void>;
}

export interface StoreHarness {
  readonly name: string;
  open(): Promise<OpenedStore>;
  /** How long a case waits for what must happen, in milliseconds; default 5000. */
  readonly boundMs?: number;
}

/** What a case may need beyond the port; where it is missing the case is skipped, and says so. */
export type StoreNeed = "idempotentAny" | "durable" | "totalOrder" | "reset";

export interface StoreCase {
  readonly name: string;
  readonly needs?: readonly StoreNeed[];
  /** Opens, attacks, disposes; resolves with the reason where it was skipped; rejects where the store broke its promise. */
  run(harness: StoreHarness): Promise<{ readonly skipped: string } | undefined>;
}

/** What a case works with. */
export interface CaseContext {
  readonly store: EventStore;
  readonly another: () => Promise<EventStore>;
  readonly reopen: () => Promise<EventStore>;
  readonly reset: () => Promise<EventStore>;
  readonly boundMs: number;
}

/** Makes a case of its body. */
export function storeCase(name: string, body: (context: CaseContext) => Promise<void>, ...needs: readonly StoreNeed[]): StoreCase {
  return {
    name,
    ...(needs.length > 0 ? { needs } : {}),
    async run(harness) {
      const opened = await harness.open();
      try {
        const { capabilities } = opened.store;
        const missing = needs.find((need) => (need === "reset" ? opened.reset === undefined : !capabilities[need satisfies keyof StoreCapabilities]));
        if (missing !== undefined) return { skipped: `${harness.name} does not have ${missing}` };
        await body({
          store: opened.store,
          another: () => opened.another(),
          reopen: () => opened.reopen(),
          reset: async () => opened.reset?.() ?? assert.fail("the case needs reset"),
          boundMs: harness.boundMs ?? 5000,
        });
        return undefined;
      } finally {
        await opened.dispose();
      }
    },
  };
}

let serial = 0;

/** A new event with an id of its own; `data` is JSON text with a running number unless given. */
export function event(overrides: Partial<NewEvent> = {}): NewEvent {
  serial++;
  const commandId = `command-${serial}`;
  return {
    id: systemRandom.uuid(),
    type: "Happened",
    data: JSON.stringify({ serial }),
    metadata: { correlationId: commandId, causationId: commandId, commandId },
    recordedAt: 1_700_000_000_000 + serial,
    ...overrides,
  };
}

export function events(count: number, overrides: Partial<NewEvent> = {}): NewEvent[] {
  return Array.from({ length: count }, () => event(overrides));
}

/** Appends to one stream and gives the one outcome. */
export async function appendTo(store: EventStore, stream: string, expected: ExpectedVersion, news: readonly NewEvent[] = [event()]): Promise<AppendOutcome> {
  const outcomes = await store.append([{ stream, expected, events: news }]).catch((error: unknown) => assert.fail(`append never rejects, but: ${String(error)}`));
  assert.equal(outcomes.length, 1, "one outcome for one append");
  return outcomes[0] as AppendOutcome;
}

export type Committed = Extract<AppendOutcome, { kind: "committed" }>;
export type Conflict = Extract<AppendOutcome, { kind: "conflict" }>;
export type Refused = Extract<AppendOutcome, { kind: "refused" }>;

export function assertCommitted(outcome: AppendOutcome | undefined): Committed {
  assert.ok(outcome?.kind === "committed", `expected a commit, got ${shown(outcome)}`);
  return outcome;
}

export function assertConflict(outcome: AppendOutcome | undefined, actual: number): Conflict {
  assert.ok(outcome?.kind === "conflict", `expected a conflict, got ${shown(outcome)}`);
  assert.equal(outcome.actual, actual, "a conflict names the version that the stream is at");
  return outcome;
}

export function assertRefused(outcome: AppendOutcome | undefined, ...codes: readonly string[]): Refused {
  assert.ok(outcome?.kind === "refused", `expected a refusal, got ${shown(outcome)}`);
  assert.ok(codes.includes(outcome.code), `expected a refusal with ${codes.join(" or ")}, got ${outcome.code}: ${outcome.message}`);
  assert.ok(outcome.message.length > 0, "a refusal says why");
  return outcome;
}

/** Appends and insists on the commit. */
export async function commit(store: EventStore, stream: string, expected: ExpectedVersion, news: readonly NewEvent[] = [event()]): Promise<Committed> {
  return assertCommitted(await appendTo(store, stream, expected, news));
}

/** `count` events, one append after the other, dealt out over the streams in turn, which must be empty. */
export async function fill(store: EventStore, streams: readonly string[], count: number): Promise<NewEvent[]> {
  const news = events(count);
  for (const [index, one] of news.entries()) await commit(store, streams[index % streams.length] as string, Math.floor(index / streams.length), [one]);
  return news;
}

/** A whole stream, following `next`. */
export async function readWhole(store: EventStore, stream: string, direction: "forward" | "backward" = "forward", limit?: number): Promise<StoredEvent[]> {
  const all: StoredEvent[] = [];
  let from: number | undefined;
  do {
    const slice = await store.readStream(stream, { direction, ...(from === undefined ? {} : { from }), ...(limit === undefined ? {} : { limit }) });
    assert.ok(limit === undefined || slice.events.length <= limit, "a slice never holds more than its limit");
    assert.ok(slice.next === undefined || slice.events.length > 0, "a slice that is not the last one holds something");
    all.push(...slice.events);
    from = slice.next;
  } while (from !== undefined);
  return all;
}

export interface ReadResult {
  readonly pages: readonly LogPage[];
  readonly events: readonly StoredEvent[];
  readonly through: Position;
}

/** The whole log, with the checks that hold for every page of every read. */
export async function readLog(store: EventStore, options: ReadLogOptions = {}): Promise<ReadResult> {
  const pages: LogPage[] = [];
  for await (const page of store.readAll(options)) pages.push(page);
  assert.ok(pages.length > 0, "a read of the log gives at least one page");
  assertPages(pages, options);
  for (const [index, page] of pages.entries()) assert.equal(page.caughtUp, index === pages.length - 1, "the last page, and no other, has caught up");
  return { pages, events: pages.flatMap((page) => page.events), through: (pages.at(-1) as LogPage).through };
}

/** S7: sizes, growing `through`, growing offsets in every lane, nothing outside of what `through` says. */
export function assertPages(pages: readonly LogPage[], options: ReadLogOptions = {}): void {
  let before: Position = options.after ?? START;
  const seen = new Set<string>();
  for (const page of pages) {
    assert.ok(page.events.length <= (options.pageSize ?? 1000), `a page holds at most pageSize events, this one ${page.events.length}`);
    assert.ok(covers(page.through, before), `through never goes back: ${shown(before)} then ${shown(page.through)}`);
    const reached: Record<string, number> = { ...before };
    for (const one of page.events) {
      const lanes = Object.entries(one.position);
      assert.equal(lanes.length, 1, "an event stands in one lane");
      const [lane, offset] = lanes[0] as [string, number];
      assert.ok(offset > (reached[lane] ?? Number.NEGATIVE_INFINITY), `a lane is read in its order: ${shown(one.position)} after ${shown(reached)}`);
      reached[lane] = offset;
      assert.ok(!seen.has(one.id), `an event comes once: ${one.id}`);
      seen.add(one.id);
    }
    assert.ok(covers(page.through, reached), "through covers the events of its page");
    before = page.through;
  }
}

/** A subscription under way that collects what it gets. */
export interface Follower {
  readonly pages: readonly LogPage[];
  readonly events: readonly StoredEvent[];
  /** The error that the subscription ended with. */
  readonly ended: Promise<unknown>;
  until(condition: () => boolean, what: string): Promise<void>;
  /** Ends it by its signal, and checks all of its pages. */
  stop(): Promise<void>;
}

export function follow(context: CaseContext, store: EventStore, options: ReadLogOptions = {}): Follower {
  const abort = new AbortController();
  const pages: LogPage[] = [];
  const collected: StoredEvent[] = [];
  let look: () => void = () => undefined;
  let over: { readonly error: unknown } | undefined;
  const ended = (async (): Promise<unknown> => {
    try {
      for await (const page of store.subscribe({ ...options, signal: abort.signal })) {
        pages.push(page);
        collected.push(...page.events);
        look();
      }
      return new Error("the subscription ended without an error");
    } catch (error) {
      return error;
    }
  })();
  void ended.then((error) => {
    over = { error };
    look();
  });
  return {
    pages,
    events: collected,
    ended,
    async until(condition, what) {
      const reached = new Promise<void>((resolve, reject) => {
        look = () => {
          if (condition()) resolve();
          else if (over !== undefined) reject(new assert.AssertionError({ message: `the subscription ended before: ${what}: ${String(over.error)}` }));
        };
        look();
      });
      await within(context, reached, `${what} (after ${pages.length} pages, ${collected.length} events)`);
    },
    async stop() {
      abort.abort();
      assertCode(await within(context, ended, "an aborted subscription ends"), "Aborted");
      assertPages(pages, options);
    },
  };
}

/** Work that goes on beside the case, which awaits it in the end: when the case fails first, its failure is the one that counts. */
export function beside<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

/** The promise's result, or a failure when it takes longer than the bound. */
export async function within<T>(context: { readonly boundMs: number }, promise: Promise<T>, what: string): Promise<T> {
  let expire: () => void = () => undefined;
  const expired = new Promise<never>((_, reject) => {
    expire = () => reject(new assert.AssertionError({ message: `not within ${context.boundMs} ms: ${what}` }));
  });
  const timer = systemClock.setTimer(context.boundMs, () => expire(), { keepAlive: true });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    timer.cancel();
  }
}

/** Lets whatever waits for its turn run once. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => systemClock.immediate(resolve));
}

export function now(): number {
  return systemClock.now();
}

export function assertCode(error: unknown, code: string): void {
  assert.equal((error as { code?: unknown } | undefined)?.code, code, `expected ${code}, got ${String((error as Error | undefined)?.stack ?? error)}`);
}

/** Calls, also one that throws at once, must reject with the code. */
export async function assertRejects(context: { readonly boundMs: number }, call: () => Promise<unknown>, code: string): Promise<void> {
  let error: unknown;
  try {
    await within(context, (async () => call())(), `${code} is thrown`);
  } catch (caught) {
    error = caught;
  }
  assertCode(error, code);
}

/** The first page of a read or a subscription. */
export async function firstPage(pages: AsyncIterable<LogPage>): Promise<LogPage> {
  for await (const page of pages) return page;
  return assert.fail("there is at least one page");
}

export function ids(list: readonly { readonly id: string }[]): string[] {
  return list.map((one) => one.id);
}

/** Every stream's events in a log, in the order of the log. */
export function byStream(list: readonly StoredEvent[]): Map<string, StoredEvent[]> {
  return Map.groupBy(list, (one) => one.stream);
}

/** Every lane's events in a log, in the order of the log. */
export function byLane(list: readonly StoredEvent[]): Map<string, StoredEvent[]> {
  return Map.groupBy(list, (one) => Object.keys(one.position).join());
}

/** S1 for everything that was read from the start: versions 1, 2, 3 … in every stream, in this order. */
export function assertContiguous(list: readonly StoredEvent[]): void {
  for (const [stream, own] of byStream(list)) {
    assert.deepEqual(
      own.map((one) => one.version),
      own.map((_, index) => index + 1),
      `the versions of ${JSON.stringify(stream)} are 1, 2, 3 … in order`,
    );
  }
}

/** What a read must give for what was appended. */
export function asStored(append: Append, firstVersion: number): Omit<StoredEvent, "position">[] {
  return append.events.map((one, index) => ({ ...one, stream: append.stream, version: firstVersion + index }));
}

export function withoutPosition(list: readonly StoredEvent[]): Omit<StoredEvent, "position">[] {
  return list.map(({ position, ...rest }) => {
    assert.equal(typeof position, "object", "a stored event has a position");
    return rest;
  });
}

export function shown(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 500) ?? String(value);
}
