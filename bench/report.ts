/** How results are printed: a table for people, one JSON document for programs. */
import { availableParallelism, cpus, platform, release, totalmem } from "node:os";
import { readFileSync } from "node:fs";
import type { Result } from "./figures.ts";

export interface Report {
  readonly benchmark: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryGiB: number; readonly system: string };
  readonly versions: Readonly<Record<string, string>>;
  readonly results: readonly Result[];
}

/** The results with the machine and the versions that they hold for. `packages`: what beside Node was measured. */
export function report(benchmark: string, results: readonly Result[], packages: readonly string[]): Report {
  const versions: Record<string, string> = { tidemark: versionIn("../package.json"), node: process.versions.node, v8: process.versions.v8 };
  if (process.versions["sqlite"] !== undefined) versions["sqlite"] = process.versions["sqlite"];
  for (const name of packages) versions[name] = versionIn(`../node_modules/${name}/package.json`);
  return {
    benchmark,
    machine: {
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${release()}`,
    },
    versions,
    results,
  };
}

/** The report as text: the machine, a row for each result, and how many goals hold. */
export function asText({ benchmark, machine, versions, results }: Report): string {
  const goals = results.filter((result) => result.goal !== null);
  const met = goals.filter((result) => result.holds).length;
  return [
    `${benchmark}: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}`,
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", "),
    "",
    asTable(results),
    "",
    `${met} of ${goals.length} goals hold`,
  ].join("\n");
}

const HEADINGS = ["case", "unit", "tidemark", "reference", "", "ratio", "goal", ""] as const;
/** Columns of numbers stand at the right. */
const NUMBERS: ReadonlySet<number> = new Set([2, 3, 5, 6]);

/** The results as aligned columns. */
export function asTable(results: readonly Result[]): string {
  const rows = results.map((result) => [
    result.case,
    result.unit,
    amount(result.tidemark),
    amount(result.reference),
    result.referenceName,
    `${amount(result.ratio)}×`,
    result.goal === null ? "" : `≥ ${amount(result.goal)}×`,
    result.goal === null ? "" : result.holds ? "holds" : "FALLS SHORT",
  ]);
  const widths = HEADINGS.map((heading, column) => Math.max(heading.length, ...rows.map((row) => (row[column] as string).length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (NUMBERS.has(column) ? cell.padStart(widths[column] as number) : cell.padEnd(widths[column] as number)))
      .join("  ")
      .trimEnd();
  return [line(HEADINGS), line(widths.map((width) => "─".repeat(width))), ...rows.map(line)].join("\n");
}

/** One result as a line: both figures and how they compare. */
export function inWords({ case: what, unit, tidemark, reference, referenceName, ratio }: Result): string {
  return `${what}: ${amount(tidemark)} ${unit}, ${referenceName} ${amount(reference)}, ${amount(ratio)}×`;
}

/** Three digits or the whole number, whichever is more, with commas between thousands. */
export function amount(value: number): string {
  const decimals = value === 0 ? 0 : Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toLocaleString("en-US", { maximumFractionDigits: decimals });
}

function versionIn(path: string): string {
  const { version } = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as { readonly version: string };
  return version;
}
