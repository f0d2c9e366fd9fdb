/**
 * One run of a pipeline over one page.
 *
 * G1 The pipeline is subscribed anew, gets all events of the page and then the completion: operators flush, and nothing of theirs outlives the page.
 * G2 Completion, after every write of the view has settled, is the only success; an error, a time-out or an abort throws the page's writes away.
 * G3 After any outcome the pipeline is unsubscribed and the view closed: a later write is a LateWrite.
 */
import { from, isObservable, type Subscription } from "rxjs";
import { Aborted, InvalidArgument, PipelineStalled, type LateWrite } from "../errors.ts";
import type { Clock, Timer } from "../environment.ts";
import type { AnyRecorded, ProjectContext, ReadModel } from "./read-model.ts";
import { StagedTable } from "./staged-table.ts";
import type { OpenPage, OpenView, TableChanges, TableDefinition, TableReader } from "./view-store.ts";

export interface PageOptions {
  readonly clock: Clock;
  /** Gives the page up. */
  readonly signal: AbortSignal;
  readonly maxRows: number;
  readonly onLateWrite: (error: LateWrite) => void;
}

/** What a page needs of whatever its pipeline writes to. */
type Writes = Pick<OpenPage, "busy" | "settle">;

/**
 * Runs the page on a revision and returns its net effect, ready to be committed; "lost" when another process has moved on meanwhile.
 * Errors: PipelineStalled, Aborted, PageTooLarge, and whatever the pipeline fails with.
 */
export function runPage(model: ReadModel<unknown>, events: readonly AnyRecorded[], view: OpenView, onRevision: number, options: PageOptions): Promise<TableChanges | OpenPage | "lost"> {
  const { definition } = model.view;
  return definition.kind === "table" ? runTablePage(model, definition, events, view.reader, options) : runSqlPage(model, events, view, onRevision, options);
}

/** As runPage, for a table. */
export async function runTablePage(model: ReadModel<unknown>, definition: TableDefinition, events: readonly AnyRecorded[], reader: TableReader, options: PageOptions): Promise<TableChanges> {
  const table = new StagedTable(reader, definition, options);
  try {
    await completion(model, events, table, table, options);
    return table.seal();
  } finally {
    table.discard();
  }
}

async function runSqlPage(model: ReadModel<unknown>, events: readonly AnyRecorded[], { sql }: OpenView, onRevision: number, options: PageOptions): Promise<OpenPage | "lost"> {
  if (sql === undefined) throw new InvalidArgument(`the view store of read model ${model.name} opened a view in SQL without access to it`, { details: { model: model.name } });
  const page = sql.page(onRevision, { timeoutMs: model.pageTimeoutMs, onLateWrite: options.onLateWrite });
  try {
    await completion(model, events, page.held, page, options);
    page.seal();
    return page;
  } catch (error) {
    page.discard();
    const verdict = page.verdict(error);
    if (verdict === "lost") return verdict;
    throw verdict.error;
  }
}

/** G1, G2. One timer at most, and none for a pipeline that completes synchronously. */
function completion(model: ReadModel<unknown>, events: readonly AnyRecorded[], view: unknown, writes: Writes, options: PageOptions): Promise<void> {
  const { clock, signal } = options;
  return new Promise((resolve, reject) => {
    let subscription: Subscription | undefined;
    let timer: Timer | undefined;
    let finished = false;
    let abandon: AbortController | undefined;

    const finish = (outcome: () => void): void => {
      if (finished) return;
      finished = true;
      timer?.cancel();
      signal.removeEventListener("abort", onAbort);
      outcome();
    };
    const giveUp = (error: Error): void => {
      finish(() => {
        try {
          abandon?.abort(error);
          subscription?.unsubscribe();
        } catch {
          // A tear-down of the pipeline threw; the page is lost for the reason given.
        }
        reject(error);
      });
    };
    const fail = (error: unknown): void => finish(() => reject(error as Error));
    const onAbort = (): void => giveUp(new Aborted(`read model ${model.name} was stopped in the middle of a page`));
    const context: ProjectContext<unknown> = {
      view,
      get signal() {
        abandon ??= new AbortController();
        return abandon.signal;
      },
    };

    if (signal.aborted) return onAbort();
    try {
      const result: unknown = model.project(from(events), context);
      if (!isObservable(result)) throw new InvalidArgument(`project() of read model ${model.name} must return an Observable`, { details: { model: model.name } });
      subscription = result.subscribe({ error: fail, complete: () => void writes.settle().then(() => finish(resolve), fail) });
    } catch (error) {
      fail(error);
    }
    if (finished) return;
    signal.addEventListener("abort", onAbort, { once: true });
    if (subscription?.closed === true && !writes.busy) return;
    timer = clock.setTimer(model.pageTimeoutMs, () => {
      giveUp(
        new PipelineStalled(`the pipeline of read model ${model.name} did not complete within ${model.pageTimeoutMs} ms: what project() returns must complete when its source does`, {
          details: { model: model.name, pageTimeoutMs: model.pageTimeoutMs },
        }),
      );
    });
  });
}
