/**
 * Makes the partitions of a log before they are needed.
 *
 * K1 Whoever appends looks at how far the partitions reach: less than a whole one beyond the last event, and more are made, off the path of the append.
 * K2 Should an append come before that, it fails for certain, makes them itself, and goes again (A6 of the writer): none fails because a partition is missing.
 * K3 One call at a time in each process; between processes the function takes a lock.
 */
import { quoted, type Database } from "./database.ts";

export class Partitions {
  readonly #db: Database;
  readonly #text: string;
  readonly #size: number;
  /** The last position that has a partition, as far as this process knows. */
  #reach = 0;
  #making: Promise<number> | undefined;

  constructor(db: Database, schema: string, eventsPerPartition: number) {
    this.#db = db;
    this.#text = `SELECT ${quoted(schema)}.ensure_partitions($1)`;
    this.#size = eventsPerPartition;
  }

  /** K1. The last event stands at `head`. */
  ahead(head: number): void {
    if (head + this.#size <= this.#reach || this.#making !== undefined) return;
    this.make(0).catch((error: unknown) => this.#db.environment.logger.warn({ database: this.#db.name, error }, "the next partitions could not be made ahead; the next append tries again"));
  }

  /** K2. Resolves when there is room for so many events more. Errors: those of the database. */
  async make(more: number): Promise<void> {
    // K3: one that is under way may have been asked for less.
    await this.#making?.catch(() => undefined);
    const making = this.#db.query(this.#text, [more]).then((rows) => Number(rows[0]?.[0]));
    this.#making = making;
    try {
      this.#reach = await making;
    } finally {
      if (this.#making === making) this.#making = undefined;
    }
  }
}
