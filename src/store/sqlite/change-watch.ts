/**
 * Tells when another connection, of this or any process, has committed to a file.
 *
 * W1 `PRAGMA data_version` changes if and only if another connection has committed: nothing is missed, whatever wakes us to look.
 * W2 The file system's word on the write-ahead log makes it quick; a look every `POLL_MS` makes it certain. Both run only while somebody listens.
 */
import { watch, type FSWatcher } from "node:fs";
import type { StatementSync } from "node:sqlite";
import type { Timer } from "../../environment.ts";
import type { SqliteFile } from "./sqlite-file.ts";

const POLL_MS = 25;

export class ChangeWatch {
  readonly #file: SqliteFile;
  readonly #dataVersion: StatementSync;
  readonly #listeners = new Set<() => void>();
  #seen: unknown;
  #watcher: FSWatcher | undefined;
  #timer: Timer | undefined;

  constructor(file: SqliteFile) {
    this.#file = file;
    this.#dataVersion = file.db.prepare("PRAGMA data_version");
  }

  /** Calls back after each commit of another connection from now on, perhaps once for several. Returns what ends it. */
  add(listener: () => void): () => void {
    if (this.#listeners.size === 0) this.#start();
    this.#listeners.add(listener);
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.close();
    };
  }

  close(): void {
    this.#listeners.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #start(): void {
    this.#seen = this.#look();
    this.#poll();
    try {
      this.#watcher = watch(`${this.#file.path}-wal`, { persistent: false }, () => this.#check());
      this.#watcher.on("error", () => this.#watcher?.close());
    } catch {
      // W2: polling alone is certain.
    }
  }

  #poll(): void {
    this.#timer = this.#file.environment.clock.setTimer(POLL_MS, () => {
      this.#check();
      if (this.#listeners.size > 0) this.#poll();
    });
  }

  #check(): void {
    const now = this.#look();
    if (now === undefined || now === this.#seen) return;
    this.#seen = now;
    for (const listener of this.#listeners) listener();
  }

  #look(): unknown {
    try {
      return this.#dataVersion.get()?.["data_version"];
    } catch {
      // Locked for a moment, or closed: the next look tells.
      return undefined;
    }
  }
}
