/** `npm run orders -- import | stats | generate`. The result is the last line of stdout; everything else goes to stderr. Exit code: 0 done, 1 failed, 2 done but for bad rows. */
import { createWriteStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { InvalidArgumentError, program } from "commander";
import { tidemark, type App } from "../../src/index.ts";
import { Order } from "./domain.ts";
import { generateLines } from "./import/generate.ts";
import { importProgress } from "./import/progress.ts";
import { importOrders, summaryOf } from "./import/run.ts";
import { orderReadModels } from "./read-models.ts";
import { addStoreOptions, type StoreSettings } from "./settings.ts";

const EXIT_BAD_ROWS = 2;

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) throw new InvalidArgumentError("It must be a whole number.");
  return number;
}

const { statistics } = orderReadModels();

/** The statistics are all that the command line reads; the service builds the other read models when it starts. */
const openApp = (settings: StoreSettings): Promise<App> => tidemark({ ...settings, aggregates: [Order], readModels: [statistics] });
const printJson = (result: object): boolean => process.stdout.write(`${JSON.stringify(result)}\n`);

async function runImport(file: string, { limit, ...stores }: StoreSettings & { readonly limit?: number }): Promise<void> {
  await using app = await openApp(stores);
  const progress = importProgress(process.stderr);
  const summary = await importOrders(app, { statistics }, file, {
    ...(limit === undefined ? {} : { limit }),
    onBadRow: ({ line, reason }) => process.stderr.write(`line ${line}: ${reason}\n`),
    onProgress: progress.update,
  }).finally(progress.stop);
  printJson(summary);
  if (summary.badRows > 0) process.exitCode = EXIT_BAD_ROWS;
}

async function runStats(stores: StoreSettings): Promise<void> {
  await using app = await openApp(stores);
  await caughtUp(app);
  printJson({ readModel: await summaryOf(app, statistics) });
}

/** Resolves when the statistics have seen the log up to its end. */
async function caughtUp(app: App): Promise<void> {
  const control = app.readModel(statistics);
  await new Promise<void>((resolve, reject) => {
    const look = (): void => {
      const { state, error } = control.progress();
      if (state === "live") resolve();
      else if (error !== undefined) reject(error);
    };
    control.onAdvance(look);
    look();
  });
}

async function runGenerate(rows: number, { seed, out }: { readonly seed: number; readonly out?: string }): Promise<void> {
  const lines = Readable.from(lineEnds(generateLines(rows, seed)));
  if (out === undefined) for await (const line of lines) process.stdout.write(line as string);
  else await pipeline(lines, createWriteStream(out));
}

function* lineEnds(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}

program.name("npm run orders --").description("Orders from files, and what has become of them.");

addStoreOptions(program.command("import"))
  .description("replay a file of orders as commands; run again, it goes on where it was")
  .argument("<file>", "CSV")
  .option("--limit <n>", "read at most so many rows", wholeNumber)
  .action(runImport);

addStoreOptions(program.command("stats")).description("print the read model's counts as JSON").action(runStats);

program
  .command("generate")
  .description("write a file of made-up orders, oddities included; the same for the same seed")
  .argument("<n>", "rows", wholeNumber)
  .option("--seed <s>", "whole number", wholeNumber, 1)
  .option("--out <file>", "default: stdout")
  .action(runGenerate);

await program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
