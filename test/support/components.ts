/**
 * Components that a test needs and a machine may lack. They are looked for once for each run of the tests (global-setup.ts), which prints one line for each
 * that is missing; tests that need it are skipped. Where `TIDEMARK_REQUIRE` (a list such as `browser,postgres`) names it, the run fails instead.
 */
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { inject } from "vitest";

export const componentNames = ["browser", "postgres", "pgbouncer", "kafka", "kafka-server", "javac", "kcat", "eventstoredb"] as const;

export type ComponentName = (typeof componentNames)[number];

export interface Component {
  readonly available: boolean;
  /** Where it is, or why it is missing. */
  readonly reason: string;
}

export type Components = Readonly<Record<ComponentName, Component>>;

declare module "vitest" {
  interface ProvidedContext {
    components: Components;
  }
}

type Variables = Readonly<Record<string, string | undefined>>;

/** Tells whether the component is here, for `describe.skipIf(!component("browser").available)`. */
export function component(name: ComponentName): Component {
  return inject("components")[name];
}

/** Looks for all components. */
export async function findComponents(variables: Variables): Promise<Components> {
  return {
    browser: browser(variables),
    postgres: await postgres(variables),
    pgbouncer: pgbouncer(variables),
    kafka: kafka(variables),
    "kafka-server": kafkaServer(variables),
    javac: program(variables, "javac", "install a JDK"),
    kcat: program(variables, "kcat", "install the package kcat"),
    eventstoredb: eventstoredb(variables),
  };
}

/** One line for each component that is missing. Throws when one of them is required. */
export function missingComponents(components: Components, variables: Variables): readonly string[] {
  const required = (variables["TIDEMARK_REQUIRE"] ?? "").split(/[\s,]+/).filter((name) => name !== "");
  for (const name of required) {
    if (!isComponentName(name)) throw new Error(`TIDEMARK_REQUIRE names ${JSON.stringify(name)}; known: ${componentNames.join(", ")}`);
    const { available, reason } = components[name];
    if (!available) throw new Error(`TIDEMARK_REQUIRE names ${name}, but it is missing: ${reason}`);
  }
  return componentNames.filter((name) => !components[name].available).map((name) => `tests that need ${name} are skipped: ${components[name].reason}`);
}

function isComponentName(name: string): name is ComponentName {
  return (componentNames as readonly string[]).includes(name);
}

function browser(variables: Variables): Component {
  const path = variables["CHROMIUM"] ?? "/usr/bin/chromium";
  return existsSync(path) ? { available: true, reason: path } : { available: false, reason: `no Chromium at ${path} (set CHROMIUM, or install the package chromium)` };
}

async function postgres(variables: Variables): Promise<Component> {
  const url = given(variables, "DATABASE_URL") ?? "postgres://postgres@127.0.0.1:5432/postgres";
  const { hostname, port } = new URL(url);
  const place = `${hostname}:${port === "" ? "5432" : port}`;
  return (await listens(hostname, Number(port === "" ? "5432" : port)))
    ? { available: true, reason: url }
    : { available: false, reason: `no PostgreSQL at ${place} (start one, or set DATABASE_URL)` };
}

function pgbouncer(variables: Variables): Component {
  // Debian puts it where only an administrator's PATH leads.
  const path = given(variables, "PGBOUNCER") ?? "/usr/sbin/pgbouncer";
  return existsSync(path) ? { available: true, reason: path } : { available: false, reason: `no PgBouncer at ${path} (set PGBOUNCER, or install the package pgbouncer)` };
}

function kafka(variables: Variables): Component {
  const brokers = given(variables, "KAFKA_BROKERS");
  if (brokers !== undefined) return { available: true, reason: brokers };
  const { available, reason } = kafkaServer(variables);
  return available ? { available, reason } : { available, reason: `no Kafka: set KAFKA_BROKERS, or ${reason.replace(/^.*: /, "")}` };
}

/** What starts a Kafka of a test's own. */
function kafkaServer(variables: Variables): Component {
  const lacking = ["java", "mvn"].filter((name) => !onPath(variables, name));
  return lacking.length === 0
    ? { available: true, reason: "java and mvn, which start a broker" }
    : { available: false, reason: `no Kafka can be started: install ${lacking.join(" and ")} to have a broker started` };
}

function program(variables: Variables, name: string, remedy: string): Component {
  return onPath(variables, name) ? { available: true, reason: name } : { available: false, reason: `no ${name} on the PATH (${remedy})` };
}

function onPath(variables: Variables, name: string): boolean {
  return (variables["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, name)));
}

/** A real server, on which the cases run that otherwise hold the test server to its word. */
function eventstoredb(variables: Variables): Component {
  const url = given(variables, "EVENTSTORE_CONNECTION_STRING");
  return url === undefined ? { available: false, reason: "no EventStoreDB (start one, and set EVENTSTORE_CONNECTION_STRING)" } : { available: true, reason: url };
}

function given(variables: Variables, name: string): string | undefined {
  const value = variables[name];
  return value === "" ? undefined : value;
}

function listens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 2000 });
    const answer = (found: boolean) => (): void => {
      socket.destroy();
      resolve(found);
    };
    socket.once("connect", answer(true)).once("timeout", answer(false)).once("error", answer(false));
  });
}
