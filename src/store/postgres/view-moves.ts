/**
 * How the checkpoint of one build, or of one shard of it, is read and moved (Q1, Q2 of postgres-views.ts), and by whom (O2 of ownership.ts).
 */
import { InvalidArgument, ReadModelStopped, StoreClosed } from "../../errors.ts";
import type { BuildKey, Checkpoint, Claim, OpenView, SavedCheckpoint } from "../../readmodel/view-store.ts";
import type { Position } from "../position.ts";
import type { Cells, Database, Session } from "./database.ts";
import { HELD, lockKey, type Estate, type Ownership } from "./ownership.ts";
import { PG, sqlState } from "./postgres-error.ts";
import type { RowCache } from "./row-cache.ts";
import { FENCED, moveStatement, OF_BUILD, tellStatement, type Writing } from "./view-commit.ts";

const NO_ROWS: ReadonlyMap<string, string | null> = new Map();

export interface MovesPorts {
  readonly db: Database;
  /** Quoted. */
  readonly checkpoints: string;
  readonly channel: string;
  readonly ownership: Ownership | undefined;
  readonly cacheOf: (name: string) => RowCache;
  readonly run: <T>(work: () => Promise<T>) => Promise<T>;
  readonly tell: (name: string, revision: number) => void;
  readonly isClosed: () => boolean;
}

/** Which build, and which part of it. */
export interface Part {
  readonly key: BuildKey;
  readonly definition: string;
  readonly shard: number;
  readonly shards: number;
}

export class Moves {
  /** By which the channel tells of it. */
  readonly name: string;
  readonly cache: RowCache;
  /** Held, shared, by the transaction of each page in SQL, so that a new owner finds those of an old one. */
  readonly pageLock: string;
  readonly #ports: MovesPorts;
  readonly #part: Part;
  readonly #estate: Estate;
  readonly #move: string;
  /** O2. Null: none was taken, as where nobody can be told from another. */
  #epoch: number | null = null;

  constructor(ports: MovesPorts, part: Part) {
    const { key, shard, shards } = part;
    this.#ports = ports;
    this.#part = part;
    this.#estate = { name: estateName(ports.channel, key), shards };
    this.name = `${key.model} ${key.version} ${key.build}${shards > 1 ? ` ${shard}` : ""}`;
    this.cache = ports.cacheOf(this.name);
    this.pageLock = lockKey(`page ${this.#estate.name} ${shard}`);
    this.#move = `${moveStatement(ports.checkpoints)} ${tellStatement(ports.channel)}`;
  }

  /** What an open view has of it. */
  get claiming(): Pick<OpenView, "claim"> {
    return this.#ports.ownership === undefined ? {} : { claim: (signal) => this.#claim(this.#ports.ownership as Ownership, signal) };
  }

  /** Errors: ReadModelStopped when the build was dropped. */
  async checkpoint(): Promise<SavedCheckpoint> {
    const { run, db, checkpoints } = this.#ports;
    const [row] = await run(() => db.query(`SELECT revision, store, position, last, events, recorded_at FROM ${checkpoints} WHERE ${OF_BUILD} AND shard = $4`, [...idOf(this.#part.key), this.#part.shard]));
    if (row === undefined) {
      this.cache.forget();
      throw gone(this.#part.key);
    }
    const checkpoint = toCheckpoint(row);
    this.cache.seen(checkpoint.revision);
    return checkpoint;
  }

  /** Moves it, with the rows of a page where there are any, by `statement` then. */
  async commit(next: Checkpoint, onRevision: number, writing?: Writing, statement = this.#move): Promise<"committed" | "lost"> {
    const { run, db, isClosed, tell } = this.#ports;
    const { cache } = this;
    if (isClosed()) throw closed(db);
    if (!cache.committing(onRevision)) return "lost";
    try {
      const moved = await run(() => db.query(statement, [...this.#values(next, onRevision), ...(writing?.values ?? [])]));
      if (moved.length === 0) {
        cache.forget();
        return "lost";
      }
    } catch (error) {
      // Whether it stands, only the next checkpoint tells.
      cache.forget();
      const state = sqlState((error as Error).cause);
      if (state === PG.undefinedTable) return "lost";
      if (state === PG.refused) {
        const { model } = this.#part.key;
        throw new InvalidArgument(`read model ${model} writes a row that another shard of it has written: in shards, rows are keyed by their streams`, { cause: error, details: { model, shard: this.#part.shard } });
      }
      throw error;
    }
    cache.committed(writing?.rows ?? NO_ROWS, onRevision + 1);
    tell(this.name, onRevision + 1);
    return "committed";
  }

  /** Locks the row in a transaction; false: it does not stand where the writer believes. */
  async lock(session: Session, onRevision: number): Promise<boolean> {
    return (await session.query(`SELECT 1 FROM ${this.#ports.checkpoints} WHERE ${OF_BUILD} AND ${FENCED} FOR NO KEY UPDATE`, this.#fence(onRevision))).length > 0;
  }

  /** Moves it in a transaction; false: as `lock`. */
  async move(session: Session, next: Checkpoint, onRevision: number): Promise<boolean> {
    return (await session.query(this.#move, this.#values(next, onRevision))).length > 0;
  }

  /** A page of a transaction was committed. */
  moved(revision: number): void {
    this.#ports.tell(this.name, revision);
  }

  #fence(onRevision: number): readonly unknown[] {
    return [...idOf(this.#part.key), onRevision, this.#part.definition, this.#epoch, this.#part.shard];
  }

  #values(next: Checkpoint, onRevision: number): readonly unknown[] {
    const last = next.last === undefined ? null : JSON.stringify(next.last);
    return [...this.#fence(onRevision), next.store, JSON.stringify(next.position), last, next.events, next.recordedAt ?? null, ` ${this.name}`];
  }

  /** O2. */
  async #claim(ownership: Ownership, signal: AbortSignal): Promise<Claim> {
    const hold = await ownership.claim(this.#estate, this.#part.shard, signal);
    try {
      this.#epoch = hold.locked ? await this.#nextEpoch() : null;
    } catch (error) {
      hold.release();
      throw error;
    }
    const release = (): void => {
      // Nothing is written any more without a new claim.
      this.#epoch = -1;
      hold.release();
    };
    return { ended: hold.ended, release };
  }

  /** Ends what an owner before has left open, and fences it off. Errors: ReadModelStopped, StoreUnavailable. */
  #nextEpoch(): Promise<number> {
    const { run, db, checkpoints } = this.#ports;
    return run(async () => {
      await db.query(`SELECT pg_terminate_backend(pid) FROM ${HELD}`, [this.pageLock]).catch((error: unknown) => {
        if (sqlState(error) !== PG.privilege) throw error;
      });
      const [row] = await db.query(`UPDATE ${checkpoints} SET epoch = epoch + 1 WHERE ${OF_BUILD} AND shard = $4 RETURNING epoch`, [...idOf(this.#part.key), this.#part.shard]);
      if (row === undefined) throw gone(this.#part.key);
      return Number(row[0]);
    });
  }
}

/** What owners of a build hold locks on; the channel names the schema. */
export function estateName(channel: string, { model, version, build }: BuildKey): string {
  return `${channel} ${model} ${version} ${build}`;
}

export function gone(key: BuildKey, cause?: unknown): ReadModelStopped {
  return new ReadModelStopped(`read model ${key.model} has no build ${key.build} of version ${key.version}`, { cause, details: { ...key } });
}

export function closed(db: Database): StoreClosed {
  return new StoreClosed("the view store is closed", { details: { database: db.name } });
}

function idOf({ model, version, build }: BuildKey): readonly [model: string, version: number, build: number] {
  return [model, version, build];
}

function toCheckpoint([revision, store, position, last, events, recordedAt]: Cells): SavedCheckpoint {
  return {
    position: JSON.parse(String(position)) as Position,
    store: String(store),
    events: Number(events),
    revision: Number(revision),
    ...(typeof last === "string" && { last: JSON.parse(last) as NonNullable<SavedCheckpoint["last"]> }),
    ...(typeof recordedAt === "string" && { recordedAt: Number(recordedAt) }),
  };
}
