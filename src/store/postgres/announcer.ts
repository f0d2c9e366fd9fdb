/**
 * Tells listeners of appends after they have been committed. NOTIFY inside an append would take a lock of the whole server until the flush is done, and appends
 * that commit side by side would flush one after the other again.
 *
 * T1 One notification at a time, with the highest position that there is by then: those that come meanwhile are told together.
 * T2 It is not flushed: it holds nothing that is not in the log. Where it is lost, with the process or the server, the slow poll of the listeners finds the events.
 * T3 It never fails an append.
 */
import type { Database } from "./database.ts";

export class Announcer {
  readonly #db: Database;
  readonly #channel: string;
  #highest = 0;
  #told = 0;
  #telling: Promise<void> | undefined;

  constructor(db: Database, channel: string) {
    this.#db = db;
    this.#channel = channel;
  }

  /** T1. The log holds an event at `head`. */
  tell(head: number): void {
    this.#highest = Math.max(this.#highest, head);
    this.#telling ??= this.#run().finally(() => (this.#telling = undefined));
  }

  /** Resolves when everything has been told, or could not be. */
  async close(): Promise<void> {
    await this.#telling;
  }

  /** T2, T3. Never rejects. */
  async #run(): Promise<void> {
    while (this.#told < this.#highest) {
      this.#told = this.#highest;
      try {
        await this.#db.query("SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)", [this.#channel, String(this.#told)]);
      } catch (error) {
        this.#db.environment.logger.warn({ database: this.#db.name, error }, "an append could not be told to other processes; they find it when they look by themselves");
      }
    }
  }
}
