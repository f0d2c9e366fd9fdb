import { randomUUID } from "node:crypto";
import pg from "pg";
import { component } from "../../support/components.ts";

const postgres = component("postgres");

/** Whether there is a server to test with. */
export const available = postgres.available;

/** The address of the server, and of a database there. */
export function serverUrl(database?: string): string {
  const url = new URL(postgres.reason);
  if (database !== undefined) url.pathname = `/${database}`;
  return url.href;
}

/** Runs SQL as an administrator. */
export async function administer<T = Record<string, unknown>>(sql: string, values: readonly unknown[] = [], url: string = serverUrl()): Promise<T[]> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined); // the server may end it while it says goodbye
  await client.connect();
  try {
    return (await client.query(sql, values as unknown[])).rows as T[];
  } finally {
    await client.end();
  }
}

export interface TestDatabase {
  readonly name: string;
  readonly url: string;
  sql<T = Record<string, unknown>>(text: string, ...values: readonly unknown[]): Promise<T[]>;
  drop(): Promise<void>;
}

/** A database of its own, of which every case takes a schema. */
export async function testDatabase(): Promise<TestDatabase> {
  const name = `tidemark_test_${randomUUID().slice(0, 8)}`;
  await administer(`CREATE DATABASE ${name}`);
  const url = serverUrl(name);
  // Tests ask again and again until something has happened: a connection for each question would cost more than what is waited for.
  const pool = new pg.Pool({ connectionString: url, max: 4 });
  pool.on("error", () => undefined);
  return {
    name,
    url,
    sql: async <T>(text: string, ...values: readonly unknown[]) => (await pool.query(text, values as unknown[])).rows as T[],
    async drop() {
      await pool.end();
      await administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    },
  };
}

let schemas = 0;

/** A name that no other case of this file has. */
export function newSchema(): string {
  return `case_${++schemas}`;
}
