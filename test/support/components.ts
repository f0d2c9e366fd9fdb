/**
 * Components that a test needs and a machine may lack. A test that lacks one is skipped, and a printed line says so;
 * where `TIDEMARK_REQUIRE` (a list such as `browser,postgres`) names the component, lacking it is a failure instead.
 */
import { existsSync } from "node:fs";

export type ComponentName = "browser" | "postgres" | "kafka";

export interface Component {
  readonly available: boolean;
  /** Where it is, or why it is missing. */
  readonly reason: string;
}

const browserPath = (): string => process.env["CHROMIUM"] ?? "/usr/bin/chromium";

const probes: Readonly<Record<ComponentName, () => Component>> = {
  browser: () =>
    existsSync(browserPath())
      ? { available: true, reason: browserPath() }
      : { available: false, reason: `no Chromium at ${browserPath()} (set CHROMIUM, or install the package chromium)` },
  postgres: () => given("DATABASE_URL", "no PostgreSQL: set DATABASE_URL"),
  kafka: () => given("KAFKA_BROKERS", "no Kafka: set KAFKA_BROKERS"),
};

function given(variable: string, missing: string): Component {
  const value = process.env[variable];
  return value === undefined || value === "" ? { available: false, reason: missing } : { available: true, reason: variable };
}

const known = new Map<ComponentName, Component>();

/** Tells whether the component is here, for `describe.skipIf(!component("browser").available)`; throws when it is missing and required. */
export function component(name: ComponentName): Component {
  const before = known.get(name);
  if (before !== undefined) return before;
  const found = probes[name]();
  const required = (process.env["TIDEMARK_REQUIRE"] ?? "").split(/[\s,]+/).includes(name);
  if (!found.available && required) throw new Error(`TIDEMARK_REQUIRE names ${name}, but it is missing: ${found.reason}`);
  if (!found.available) process.stdout.write(`skipped, ${name} is missing: ${found.reason}\n`);
  known.set(name, found);
  return found;
}
