/**
 * Replays the orders of a file as commands.
 *
 * R1 Commands are handed over in the order of the plan. Many are in flight at once; those of one order are decided in the order in which they were handed over.
 * R2 Each command has an id of its own in its order's stream: run again, after the end or after a crash, nothing doubles.
 * R3 The summary is read after the statistics have seen every command of this run.
 */
import { isTidemarkError, type App } from "../../../src/index.ts";
import { Order } from "../domain.ts";
import { statisticsOf, type OrderReadModels, type Statistics } from "../read-models.ts";
import { readOrderFile, type BadRow } from "./order-file.ts";
import { planOrders, type Planned } from "./plan.ts";

/** Hides the time that a commit takes, and lets the store join many appends into one. */
const IN_FLIGHT = 512;
/** Tokens are merged in batches: one at a time would cost as much as the commands. */
const TOKEN_BATCH = 256;
const FRESH_TIMEOUT_MS = 10 * 60_000;

export interface ImportOptions {
  /** Most rows to read. */
  readonly limit?: number;
  readonly onBadRow: (row: BadRow) => void;
  /** Called as commands are answered. */
  readonly onProgress: (answered: number, commands: number) => void;
}

export type StatisticsSummary = Omit<Statistics, "byDay">;

export interface ImportSummary {
  /** Read from the file, bad ones included. */
  readonly rows: number;
  readonly badRows: number;
  readonly commands: number;
  /** Commands that an earlier run had brought already. */
  readonly duplicates: number;
  /** Events that this run appended. */
  readonly events: number;
  /** Refused commands by code. */
  readonly rejected: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly commandsPerSecond: number;
  readonly readModel: StatisticsSummary;
}

/** Errors: those of reading the file, and of the app; what was answered until then stands, and the same import goes on from there. */
export async function importOrders(app: App, { statistics }: Pick<OrderReadModels, "statistics">, path: string, options: ImportOptions): Promise<ImportSummary> {
  const { records, bad } = await readOrderFile(path, options.limit);
  for (const row of bad) options.onBadRow(row);
  const plan = planOrders(records);
  const before = app.metrics();
  const started = performance.now();
  const { token, rejected } = await replay(app, plan, (answered) => options.onProgress(answered, plan.length));
  const seconds = (performance.now() - started) / 1000;
  const after = app.metrics();
  return {
    rows: records.length + bad.length,
    badRows: bad.length,
    commands: plan.length,
    duplicates: after.duplicates - before.duplicates,
    events: after.eventsAppended - before.eventsAppended,
    rejected,
    seconds: Math.round(seconds * 1000) / 1000,
    commandsPerSecond: Math.round(plan.length / Math.max(seconds, 0.001)),
    readModel: await summaryOf(app, statistics, token),
  };
}

/** The statistics without the days, once they have seen what the token names. */
export async function summaryOf(app: App, statistics: OrderReadModels["statistics"], token?: string): Promise<StatisticsSummary> {
  const { byStatus, lateDeliveries, anomalies } = await app.query(
    statistics,
    (view) => statisticsOf(view, { days: false }),
    token === undefined ? {} : { atLeast: token, timeoutMs: FRESH_TIMEOUT_MS }, // R3
  );
  return { byStatus, lateDeliveries, anomalies };
}

async function replay(app: App, plan: readonly Planned[], onAnswered: (answered: number) => void): Promise<{ token: string | undefined; rejected: Record<string, number> }> {
  const rejected: Record<string, number> = {};
  let tokens: string[] = [];
  let inFlight = 0;
  let answered = 0;
  let failure: { readonly error: unknown } | undefined;
  let wake: (() => void) | undefined;

  async function send({ id, command, input }: Planned): Promise<void> {
    try {
      const result = await app.execute(Order, id, command, input, { commandId: `import-${command}` }); // R2
      if (!result.ok) count(rejected, result.code);
      tokens.push(result.ok ? result.token : result.decidedAt.token);
      if (tokens.length >= TOKEN_BATCH) tokens = [app.mergeTokens(...tokens)];
    } catch (error) {
      // The file tells another story of this moment than an earlier run did.
      if (isTidemarkError(error, "CommandIdReused")) count(rejected, error.code);
      else failure ??= { error };
    } finally {
      inFlight--;
      onAnswered(++answered);
      wake?.();
    }
  }

  const until = async (most: number): Promise<void> => {
    while (inFlight > most) {
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  for (const command of plan) {
    await until(IN_FLIGHT - 1);
    if (failure !== undefined) break;
    inFlight++;
    void send(command); // R1
  }
  await until(0);
  if (failure !== undefined) throw failure.error;
  return { token: tokens.length === 0 ? undefined : app.mergeTokens(...tokens), rejected };
}

function count(counts: Record<string, number>, code: string): void {
  counts[code] = (counts[code] ?? 0) + 1;
}
