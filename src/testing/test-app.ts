/**
 * An app in memory whose time, randomness and logger a test controls: nothing happens but when the test says so, and it happens the same in every run.
 */
import type { App, AppOptions } from "../app/app.ts";
import { tidemark } from "../app/tidemark.ts";
import { systemClock } from "../environment.ts";
import type { Backend } from "../store/backend.ts";
import { memoryBackend } from "../store/memory/index.ts";
import { manualEnvironment, type ManualClock } from "./manual-environment.ts";

export interface TestAppOptions extends Omit<AppOptions, "store" | "environment"> {
  /** Default: a new memory backend. */
  readonly store?: Backend;
  /** Milliseconds since the epoch; default 2026-01-01. */
  readonly now?: number;
  /** Ids and jitter follow from it; default 1. */
  readonly seed?: number;
}

/** How long, in real milliseconds, `close` waits for what needs no time of the test's clock. */
const CLOSE_PATIENCE_MS = 500;

export interface TestApp {
  readonly app: App;
  readonly clock: ManualClock;
  readonly logger: ReturnType<typeof manualEnvironment>["logger"];
  /** Lets everything happen that happens without time passing: commands, read models. */
  settle(): Promise<void>;
  /** Settles while a promise of the app is under way, and gives its result: `await test.run(app.at(Order, "1").place(…))`. */
  run<T>(work: Promise<T>): Promise<T>;
  /** Closes the app; what never completes is given up as `closeTimeoutMs` says, for which the clock moves on. */
  close(): Promise<void>;
}

/** Opens the app; close it at the end of the test. Errors: as `tidemark`. */
export async function testApp(options: TestAppOptions): Promise<TestApp> {
  const { store, now, seed, ...rest } = options;
  const { closeTimeoutMs = 10_000 } = options;
  const environment = manualEnvironment({ ...(now === undefined ? {} : { now }), ...(seed === undefined ? {} : { seed }) });
  const backend = store ?? memoryBackend({ environment });
  const { clock, logger } = environment;

  const run = async <T>(work: Promise<T>): Promise<T> => {
    let done = false;
    const noted = work.finally(() => (done = true));
    noted.catch(() => undefined);
    while (!done) {
      const before = clock.pendingTimers;
      await clock.settle();
      // Real input and output, where a test has some, takes turns of the real loop.
      if (!done && before === clock.pendingTimers) await new Promise<void>((resolve) => systemClock.immediate(resolve));
    }
    return noted;
  };
  const app = await run(tidemark({ ...rest, store: backend, environment }));
  return {
    app,
    clock,
    logger,
    settle: () => clock.settle(),
    run,
    async close() {
      const closing = app.close();
      const begun = systemClock.elapsed();
      let closed = false;
      const noted = closing.finally(() => (closed = true));
      await Promise.race([run(noted), patience(() => closed || systemClock.elapsed() - begun > CLOSE_PATIENCE_MS)]);
      // A pipeline or a store that never answers is given up by time, which nobody moves on any more.
      if (!closed) await clock.advance(closeTimeoutMs);
      await noted;
      if (store === undefined) await backend.close();
    },
  };
}

/** Resolves when the condition holds, looked at in every turn of the real loop. */
async function patience(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>((resolve) => systemClock.immediate(resolve));
}
