import { describe, expect, it, onTestFinished } from "vitest";
import { StoreUnavailable } from "../../src/errors.ts";
import type { LogPage } from "../../src/store/event-store.ts";
import { LogPages } from "../../src/store/log-pages.ts";
import { at, type Position } from "../../src/store/position.ts";
import { manualEnvironment } from "../../src/testing/index.ts";

interface Given {
  readonly live?: boolean;
  readonly signal?: AbortSignal;
  readonly after?: Position;
}

/** An iteration over pages that a test answers one by one. */
function pagesOf({ live = true, signal, after = {} }: Given = {}) {
  const environment = manualEnvironment();
  const asked: { readonly after: Position; answer(page: LogPage): void; fail(error: Error): void }[] = [];
  const state = { closed: false, ended: 0 };
  const pages: LogPages = new LogPages({
    environment,
    details: {},
    read: { after, categories: undefined, pageSize: 10 },
    live,
    signal,
    page: (from) => new Promise((answer, fail) => asked.push({ after: from, answer, fail })),
    isClosed: () => state.closed,
    onEnd: () => state.ended++,
  });
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  /** Answers what is asked now. */
  const answer = async (page: LogPage): Promise<void> => {
    await turn();
    asked.shift()?.answer(page);
    await turn();
  };
  onTestFinished(() => void pages.return());
  return { pages, asked, state, environment, turn, answer };
}

const page = (through: number | Position, caughtUp = true): LogPage => ({ events: [], through: typeof through === "number" ? at(through) : through, caughtUp });
const outage = (): Error => new StoreUnavailable("away", { retryable: true });

describe("the pages of a log", () => {
  it("are asked for when the consumer asks, one after the other, each after the one before (L1)", async () => {
    const { pages, asked, answer, turn } = pagesOf({ live: false });
    await turn();
    expect(asked).toHaveLength(0);
    const both = [pages.next(), pages.next(), pages.next()];
    await turn();
    expect(asked.map(({ after }) => after)).toEqual([{}]);
    await answer(page(3, false));
    expect(asked.map(({ after }) => after)).toEqual([at(3)]);
    await answer(page(4));
    expect((await Promise.all(both)).map(({ done }) => done)).toEqual([false, false, true]);
  });

  it("miss no news that come while one is read (L2)", async () => {
    const { pages, asked, answer, turn } = pagesOf();
    const first = pages.next();
    await turn();
    pages.wake();
    await answer(page(1));
    await first;
    void pages.next();
    await turn();
    expect(asked).toHaveLength(1);
  });

  it("are not asked for again without news, nor for news of what was read, and then without a page that says nothing new (L3)", async () => {
    const { pages, asked, answer, turn } = pagesOf();
    const first = pages.next();
    await answer(page(5));
    await first;
    const second = pages.next();
    pages.wake(5);
    await turn();
    expect(asked).toHaveLength(0);
    pages.wake();
    await answer(page(5));
    expect(asked).toHaveLength(0);
    pages.wake(6);
    await answer(page(6));
    expect(await second).toMatchObject({ value: { through: at(6) } });
  });

  it.each<[string, (given: ReturnType<typeof pagesOf>, abort: AbortController) => unknown, unknown]>([
    ["the signal", (_, abort) => abort.abort(), "Aborted"],
    ["the close of the store", ({ pages, state }) => ((state.closed = true), pages.wake()), "StoreClosed"],
    ["the consumer's leaving", ({ pages }) => pages.return(), { done: true, value: undefined }],
  ])("end with %s while they wait, and say so once (L3)", async (_, end, outcome) => {
    const abort = new AbortController();
    const given = pagesOf({ signal: abort.signal });
    const first = given.pages.next();
    await given.answer(page(1));
    await first;
    const waiting = given.pages.next().catch((error: { readonly code: string }) => error.code);
    await given.turn();
    await end(given, abort);
    expect(await waiting).toEqual(outcome);
    expect(await given.pages.next()).toEqual({ done: true, value: undefined });
    expect(given.state.ended).toBe(1);
  });

  it("are read again after an outage, also one that swallowed the news (L4)", async () => {
    const { pages, asked, answer, turn, environment } = pagesOf();
    const first = pages.next();
    await answer(page(1));
    await first;
    const second = pages.next();
    pages.wake(2);
    for (let failures = 0; failures < 3; failures++) {
      await turn();
      asked.shift()?.fail(outage());
      await turn();
      expect(asked).toHaveLength(0);
      await environment.clock.advance(1500);
    }
    await answer(page(2));
    expect(await second).toMatchObject({ value: { through: at(2) } });
  });

  it("end with an outage where they are not live, and with any other error", async () => {
    for (const [live, error] of [[false, outage()], [true, new TypeError("a mistake")]] as const) {
      const { pages, asked, turn, state } = pagesOf({ live });
      const next = pages.next();
      await turn();
      asked.shift()?.fail(error);
      await expect(next).rejects.toBe(error);
      expect(state.ended).toBe(1);
    }
  });

  it("are neither given nor taken for the end while the store may not show what it knows of (L5)", async () => {
    const { pages, asked, answer, environment } = pagesOf({ after: at(7) });
    const next = pages.next();
    await answer(page(7, false));
    expect(asked).toHaveLength(0);
    await environment.clock.advance(100);
    await answer(page(8));
    expect(await next).toMatchObject({ value: { through: at(8), caughtUp: true } });
  });

  it("move on when any lane does", async () => {
    const { pages, answer, turn } = pagesOf();
    const first = pages.next();
    await answer(page({ "a/0": 4, "b/0": 1 }));
    await first;
    const second = pages.next();
    await turn();
    pages.wake();
    await answer(page({ "a/0": 4, "b/0": 2 }));
    expect(await second).toMatchObject({ value: { through: { "b/0": 2 } } });
  });
});
