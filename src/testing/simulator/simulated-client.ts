/**
 * What a process of a simulation holds of the simulated store: a backend whose every operation travels (simulated-store.ts says what that means, N1 to N5).
 */
import { Aborted, StoreClosed, StoreUnavailable } from "../../errors.ts";
import type { BuildKey, OpenView, TableReader, ViewStore } from "../../readmodel/view-store.ts";
import { checksumOf } from "../../snapshot/checksum.ts";
import type { SnapshotStore, StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import type { Backend } from "../../store/backend.ts";
import type { Append, AppendOutcome, EventStore, LogPage, ReadLogOptions } from "../../store/event-store.ts";
import { refuseClosed, refused } from "../../store/validate-append.ts";
import type { SimulatedStore, SimulatedStoreOptions } from "./simulated-store.ts";
import type { Host } from "./world.ts";

/** Rows of a view that a commit is recorded with, at most. */
const MAX_ROWS = 10_000;

export class SimulatedClient {
  readonly backend: Backend;
  readonly #store: SimulatedStore;
  readonly #host: Host;
  readonly #options: SimulatedStoreOptions;
  readonly #unsettled = new Set<string>();
  readonly #loading = new Set<string>();
  /** What close() ends. */
  readonly #open = new Set<() => void>();
  #groups = 0;
  #closed = false;

  constructor(store: SimulatedStore, host: Host, options: SimulatedStoreOptions) {
    this.#store = store;
    this.#host = host;
    this.#options = options;
    const { snapshots, views } = store.backend;
    const parts = { events: this.#events(), close: () => this.#close() };
    this.backend = { ...parts, ...(snapshots && { snapshots: this.#snapshots(snapshots) }), ...(views && { views: this.#views(views) }) };
  }

  async #close(): Promise<void> {
    this.#closed = true;
    for (const end of Array.from(this.#open)) end();
  }

  /** There and back again (N1, N4). `run` is carried out at the server. */
  #ask<T>(what: string, run: () => Promise<T>, options: { readonly signal?: AbortSignal | undefined; readonly fails?: () => boolean } = {}): Promise<T> {
    const { signal } = options;
    const store = this.#store;
    if (signal?.aborted === true) return Promise.reject(new Aborted(`${what} was aborted`, { cause: signal.reason as unknown }));
    if (this.#closed) return Promise.reject(new StoreClosed(`${what}: the store is closed`));
    return new Promise<T>((resolve, reject) => {
      const onAbort = (): void => reject(new Aborted(`${what} was aborted`, { cause: signal?.reason as unknown }));
      signal?.addEventListener("abort", onAbort, { once: true });
      const reply = (answer: () => void, ms = store.latency()): void => {
        this.#host.deliver(ms, () => {
          signal?.removeEventListener("abort", onAbort);
          answer();
        });
      };
      const unavailable = (): void => {
        // A failure on its way is what went wrong before: calls of the calm that share the read must not meet it.
        const ms = store.latency();
        store.late++;
        store.world.post(ms, () => void store.late--);
        reply(() => reject(new StoreUnavailable(`${what}: the store cannot be reached`, { retryable: true })), ms);
      };
      store.world.post(store.latency(), () => {
        if (store.down || options.fails?.() === true) return unavailable();
        run().then(
          (value) => reply(() => resolve(value)),
          (error: unknown) => reply(() => reject(error as Error)),
        );
      });
    });
  }

  // ---- events

  #events(): EventStore {
    const inner = this.#store.backend.events;
    const failsToRead = (): boolean => this.#store.faults.take("failed-read");
    return {
      capabilities: this.#store.capabilities,
      identity: (signal) => this.#ask("identity", () => inner.identity(), { signal }),
      append: (appends) => this.#append(appends),
      readStream: (stream, { signal, ...options } = {}) => this.#ask(`reading ${stream}`, () => inner.readStream(stream, options), { signal, fails: failsToRead }),
      readAll: (options = {}) => ({ [Symbol.asyncIterator]: () => this.#pages(inner.readAll(withoutSignal(options)), options.signal, failsToRead) }),
      subscribe: (options = {}) => ({ [Symbol.asyncIterator]: () => this.#pages(inner.subscribe(withoutSignal(options)), options.signal, undefined) }),
      ...(inner.head && { head: (signal?: AbortSignal) => this.#ask("head", () => (inner.head as NonNullable<EventStore["head"]>)(), { signal }) }),
      close: () => this.#close(),
    };
  }

  #append(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    if (this.#closed) return Promise.resolve(refuseClosed(appends));
    this.#watch(appends);
    const sent = structuredClone(appends) as readonly Append[];
    return this.#send(sent).finally(() => {
      this.#groups--;
      for (const { stream } of appends) this.#unsettled.delete(stream);
    });
  }

  /** N5. */
  #watch(appends: readonly Append[]): void {
    const { onMisuse } = this.#options;
    this.#groups++;
    if (this.#groups > this.#store.capabilities.groupsInFlight) onMisuse(`${this.#host.name} has ${this.#groups} groups in flight`);
    for (const { stream } of appends) {
      if (this.#unsettled.has(stream)) onMisuse(`${this.#host.name} has two unsettled appends of ${stream}`);
      this.#unsettled.add(stream);
    }
  }

  #send(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    const store = this.#store;
    const { draws } = this.#options;
    const { faults, world } = store;
    const unknown = (): AppendOutcome[] => appends.map(() => ({ kind: "unknown", cause: new StoreUnavailable("no reply from the store", { retryable: true }) }));
    const later = (some: readonly Append[], withinMs: number, afterMs = 0): void => {
      store.late++;
      world.post(afterMs + draws.next() * withinMs, () =>
        store.whenUp(() => {
          store.late--;
          void store.execute(some);
        }),
      );
    };
    return new Promise((resolve) => {
      const timeOut = (): void => this.#host.deliver(store.timeoutMs, () => resolve(unknown()));
      const answer = (outcomes: readonly AppendOutcome[]): void => {
        let lost = false;
        const ended = store.losable(() => {
          lost = true;
          ended();
          timeOut();
        });
        this.#host.deliver(store.latency(), () => {
          ended();
          if (!lost) resolve(outcomes);
        });
      };
      const refuse = (code: string): void => answer(appends.map(() => refused(code, `the store is ${code}; nothing was written`, { retryable: true })));
      const arrive = async (): Promise<void> => {
        if (store.down) return draws.chance(0.5) ? refuse("unavailable") : timeOut();
        if (faults.take("refused-append")) return refuse("busy");
        if (faults.take("lost-request")) return timeOut();
        if (faults.take("late-append")) {
          // Soon after the client has given it up is when it does most harm.
          if (draws.chance(0.5)) later(appends, store.timeoutMs * 8);
          else later(appends, 15, store.timeoutMs);
          return timeOut();
        }
        if (appends.length > 1 && faults.take("torn-group")) {
          const cut = draws.int(1, appends.length - 1);
          const committed = await store.execute(appends.slice(0, cut));
          if (draws.chance(0.5)) later(appends.slice(cut), store.timeoutMs * 8);
          return answer([...committed, ...unknown().slice(cut)]);
        }
        const outcomes = await store.execute(appends);
        if (faults.take("lost-reply")) return timeOut();
        const standing = appends.filter((_, index) => outcomes[index]?.kind === "committed");
        if (standing.length > 0 && faults.take("duplicate-delivery")) later(standing, store.timeoutMs * 2);
        answer(outcomes);
      };
      world.post(store.latency(), () => void arrive());
    });
  }

  /** N4. `fails`: whether the next page finds the store unavailable; undefined where the iterator reconnects by itself. */
  #pages(pages: AsyncIterable<LogPage>, signal: AbortSignal | undefined, fails: (() => boolean) | undefined): AsyncIterableIterator<LogPage> {
    const store = this.#store;
    const iterator = pages[Symbol.asyncIterator]();
    /** What it ended with and nobody was told yet. */
    let failure: Error | undefined;
    let done = false;
    let turn: Promise<unknown> = Promise.resolve();
    let settle: (() => void) | undefined;
    const finish = (error?: Error): void => {
      if (done) return;
      done = true;
      failure = error;
      this.#open.delete(closed);
      signal?.removeEventListener("abort", onAbort);
      void iterator.return?.();
      settle?.();
    };
    const closed = (): void => finish(new StoreClosed("the store was closed"));
    const onAbort = (): void => finish(new Aborted("reading the log was aborted", { cause: signal?.reason as unknown }));
    if (this.#closed) closed();
    else if (signal?.aborted === true) onAbort();
    else this.#open.add(closed);
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#host.onDeath(() => finish());

    const ended = (): Promise<IteratorResult<LogPage>> => {
      const error = failure;
      failure = undefined;
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    };
    const step = (): Promise<IteratorResult<LogPage>> => {
      if (done) return ended();
      return new Promise((resolve) => {
        settle = () => {
          settle = undefined;
          resolve(ended());
        };
        const reply = (answer: () => void): void => this.#host.deliver(store.latency(), () => (done ? undefined : answer()));
        const arrive = (): void => {
          if (done) return;
          if (fails !== undefined && (store.down || fails())) return reply(() => finish(new StoreUnavailable("reading the log: the store cannot be reached", { retryable: true })));
          store.whenUp(() => {
            iterator.next().then(
              (result) =>
                reply(() => {
                  settle = undefined;
                  resolve(result);
                }),
              (error: unknown) => reply(() => finish(error as Error)),
            );
          });
        };
        store.world.post(store.latency(), arrive);
      });
    };
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next() {
        const result = turn.then(step);
        turn = result.catch(() => undefined);
        return result;
      },
      async return() {
        finish();
        return { done: true, value: undefined };
      },
    };
  }

  // ---- snapshots

  #snapshots(inner: SnapshotStore): SnapshotStore {
    const { faults } = this.#store;
    const fails = (): boolean => faults.take("failed-snapshot");
    return {
      load: async (stream, signal) => {
        if (this.#loading.has(stream)) this.#options.onMisuse(`${this.#host.name} loads the snapshot of ${stream} twice at once`);
        this.#loading.add(stream);
        try {
          const snapshot = await this.#ask(`loading the snapshot of ${stream}`, () => inner.load(stream), { signal, fails });
          if (snapshot !== undefined && faults.take("damaged-snapshot")) return damaged(snapshot);
          const { lastSnapshot } = this.#store;
          if (lastSnapshot === undefined || lastSnapshot.stream === stream) return snapshot;
          if (faults.take("mixed-up-snapshot")) return lastSnapshot;
          return faults.take("foreign-snapshot") ? relabelled(lastSnapshot, stream) : snapshot;
        } finally {
          this.#loading.delete(stream);
        }
      },
      save: async (snapshots) => {
        await this.#ask("saving snapshots", () => inner.save(snapshots), { fails });
        this.#store.lastSnapshot = snapshots.at(-1);
      },
      delete: (stream) => this.#ask(`deleting the snapshot of ${stream}`, () => inner.delete(stream)),
      close: () => this.#close(),
    };
  }

  // ---- views

  #views(inner: ViewStore): ViewStore {
    return {
      builds: (model) => this.#ask("builds", () => inner.builds(model)),
      open: async (key, table) => this.#view(key, await this.#ask("opening a view", () => inner.open(key, table))),
      activate: (key) => this.#ask("activate", () => inner.activate(key)),
      drop: (key) => this.#ask("drop", () => inner.drop(key)),
      close: () => this.#close(),
    };
  }

  #view(key: BuildKey, inner: OpenView): OpenView {
    const { faults } = this.#store;
    const table = inner.reader;
    const reader: TableReader = {
      get: (row) => this.#ask("get", () => table.get(row)),
      find: (where, options) => this.#ask("find", () => table.find(where, options)),
      count: (where) => this.#ask("count", () => table.count(where)),
      ...(table.sql && { sql: (text, ...parameters) => this.#ask("sql", () => (table.sql as NonNullable<TableReader["sql"]>)(text, ...parameters)) }),
    };
    return {
      reader,
      checkpoint: () => this.#ask("checkpoint", () => inner.checkpoint()),
      commit: (changes, next, onRevision) =>
        this.#ask("commit of a view", async () => {
          const outcome = await inner.commit(changes, next, onRevision);
          this.#options.count(`view commit ${outcome}`);
          if (outcome === "committed") {
            const [rows, checkpoint] = await Promise.all([table.find({}, { limit: MAX_ROWS }), inner.checkpoint()]);
            this.#store.viewCommits.push({ key, checkpoint, rows });
          }
          if (faults.take("lost-view-commit")) throw new StoreUnavailable("no reply from the view store", { retryable: true });
          return outcome;
        }),
      watch: (listener) => {
        const stop = inner.watch(() => this.#host.deliver(this.#store.latency(), listener));
        this.#host.onDeath(stop);
        return stop;
      },
    };
  }
}

/** The server knows nothing of its clients' signals. */
function withoutSignal(options: ReadLogOptions): ReadLogOptions {
  const { signal, ...rest } = options;
  return signal === undefined ? options : rest;
}

function relabelled(snapshot: StoredSnapshot, stream: string): StoredSnapshot {
  return { ...snapshot, stream, checksum: checksumOf({ ...snapshot, stream }) };
}

/** The same snapshot with another digit in its state, or another character where it holds none. */
function damaged(snapshot: StoredSnapshot): StoredSnapshot {
  const { state } = snapshot;
  const place = state.search(/\d/);
  const digit = place < 0 ? undefined : String((Number(state.charAt(place)) + 1) % 10);
  return { ...snapshot, state: digit === undefined ? `${state} ` : `${state.slice(0, place)}${digit}${state.slice(place + 1)}` };
}
