/**
 * Rows of one build as this process has committed or read them, so that a pipeline which reads what it writes needs no round trip for each event.
 *
 * K1 Everything in it stands as of one revision, the newest that this process knows of. A commit of its own moves it there; news of another process's
 *    commit, and a checkpoint that was read with a higher revision, empty it. So a query that has waited for a checkpoint sees at least that.
 * K2 What a pipeline read from it is confirmed by the commit: were another process further, the revision would not fit, and nothing is written. A commit
 *    on an older revision than that of the cache is not even sent: either it would be lost, or the database was restored and the cache is of another past.
 * K3 A row that was read from the database is kept only where nothing has moved while it was read.
 * K4 The news of a commit may come before its own answer. Until that is here, the revision that it would make is in doubt, and the database is asked.
 * K5 While it holds every row since the empty table, a key that is not in it is not in the table either.
 * K6 It is bounded in characters, in two generations: what is used moves to the young one, and the old one is dropped when that is full.
 */
const MOST_CHARACTERS = 16 * 1024 * 1024;
/** Roughly what an entry costs beside its text. */
const ENTRY_CHARACTERS = 100;

/** A row's JSON; null: it is known that there is no such row. */
type Known = string | null;

export class RowCache {
  #revision = -1;
  /** K4: what the commit under way makes of it, and whether somebody has seen that already. */
  #expected = -1;
  #inDoubt = false;
  #complete = false;
  #young = new Map<string, Known>();
  #old = new Map<string, Known>();
  #characters = 0;

  get revision(): number {
    return this.#revision;
  }

  /** The row, null where there is none, undefined where the database must be asked. */
  get(key: string): Known | undefined {
    if (this.#inDoubt) return undefined;
    let row = this.#young.get(key);
    if (row !== undefined) return row;
    row = this.#old.get(key);
    if (row !== undefined) {
      this.#old.delete(key);
      this.#keep(key, row);
      return row;
    }
    return this.#complete ? null : undefined;
  }

  /** K3: what was read while the revision was `asOf`. */
  learn(key: string, row: Known, asOf: number): void {
    if (asOf === this.#revision && asOf >= 0 && !this.#inDoubt && !this.#young.has(key)) this.#keep(key, row);
  }

  /** K1: a checkpoint was read, or another process's commit was heard of. */
  seen(revision: number): void {
    if (revision <= this.#revision) return;
    if (revision === this.#expected) {
      this.#inDoubt = true;
      return;
    }
    this.forget();
    this.#revision = revision;
    // K5.
    this.#complete = revision === 0;
  }

  /** Whether a commit on `revision` may be sent (K2); then `committed` or `forget` follows (K4). */
  committing(revision: number): boolean {
    if (revision < this.#revision) {
      this.forget();
      return false;
    }
    if (revision === this.#revision) this.#expected = revision + 1;
    return true;
  }

  /** K1: a commit of this process made `revision` of the one before. */
  committed(written: ReadonlyMap<string, Known>, revision: number): void {
    const fits = revision === this.#expected;
    this.#expected = -1;
    this.#inDoubt = false;
    if (!fits) return this.seen(revision);
    this.#revision = revision;
    for (const [key, row] of written) this.#keep(key, row);
  }

  forget(): void {
    this.#revision = -1;
    this.#expected = -1;
    this.#inDoubt = false;
    this.#complete = false;
    this.#young = new Map();
    this.#old = new Map();
    this.#characters = 0;
  }

  /** K6. */
  #keep(key: string, row: Known): void {
    this.#young.set(key, row);
    this.#old.delete(key);
    this.#characters += key.length + (row?.length ?? 0) + ENTRY_CHARACTERS;
    if (this.#characters < MOST_CHARACTERS / 2) return;
    if (this.#old.size > 0) this.#complete = false;
    this.#old = this.#young;
    this.#young = new Map();
    this.#characters = 0;
  }
}
