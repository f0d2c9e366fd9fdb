/**
 * Which process moves which read model: advisory locks of the one session that listens.
 *
 * O1 Whoever holds the lock of a build, or of a shard of it, moves it; the others stand by and read nothing of the log. A lock ends with its session: when the
 *    process ends, however it ends, and when somebody terminates the connection.
 * O2 A lock is no fence: its holder may be paused and wake up long after. So an owner takes a new epoch in the checkpoint's row before it moves anything, and
 *    every commit names the epoch that it was begun in (postgres-views.ts).
 * O3 The server does not notice a process that is stopped, or one that a broken network has cut off. Each look of an owner is a statement on its session, and the
 *    server notes when that was. Whoever stands by and finds the session silent for `SILENCE_MS`, in two looks, terminates it, which its role may do to sessions
 *    of the same role; otherwise the server's own time-outs decide.
 * O4 Of a read model in shards each process marks its presence by a shared lock, takes at most its share of the shards, rounded up, and gives up what it has
 *    beyond, after the page under way. So shards move when processes come and go, and are never cut anew.
 * O5 A process that cannot get a session for `PATIENCE_MS` goes on without locks, and without an epoch: then the checkpoint's revision alone decides who writes.
 */
import { hash } from "node:crypto";
import { Aborted } from "../../errors.ts";
import type { Environment, Timer } from "../../environment.ts";
import type { Queryable } from "./database.ts";
import type { Ask, Tenant } from "./listener.ts";

/** How often an owner shows that it is alive, and whoever stands by looks. */
export const LOOK_MS = 250;
/** O3. */
export const SILENCE_MS = 900;
/** O5. */
export const PATIENCE_MS = 3000;

/** What is owned: a build, in as many shards as it has. */
export interface Estate {
  readonly name: string;
  readonly shards: number;
}

export interface Hold {
  /** False: there is no session to hold a lock in (O5). */
  readonly locked: boolean;
  /** Aborts when the lock was lost, or is to be given up (O4). */
  readonly ended: AbortSignal;
  /** Idempotent. */
  release(): void;
}

/** One wish to own one shard. */
interface Seat {
  readonly key: string;
  readonly ended: AbortController;
  held: boolean;
  readonly grant: (locked: boolean) => void;
}

interface Group {
  readonly presence: string | undefined;
  readonly shards: number;
  readonly seats: Set<Seat>;
}

interface Holder {
  readonly key: string;
  readonly pid: string;
  readonly session: string;
  readonly mine: boolean;
  readonly shared: boolean;
  readonly silent: boolean;
}

const LOCKS = `SELECT ((l.classid::bigint << 32) | l.objid::bigint) AS key, l.pid, l.mode, a.backend_start,
    coalesce(a.state = 'idle' AND clock_timestamp() - a.state_change > interval '${SILENCE_MS} ms', false) AS silent
  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())`;
const LOOK = `SELECT key::text, pid::text, pid || ' ' || coalesce(backend_start::text, ''), pid = pg_backend_pid(), mode = 'ShareLock', silent FROM (${LOCKS}) l WHERE key = ANY ($1::bigint[])`;
/** Looks once more, as it may have woken up. */
const TERMINATE = `SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM (${LOCKS}) l WHERE silent AND pid::text = ANY ($1::text[])) s`;

/** Sessions that hold the lock whose key is $1. */
export const HELD = `(SELECT DISTINCT pid FROM (${LOCKS}) l WHERE key = $1::bigint AND pid <> pg_backend_pid()) held`;

/** Names of the processes that hold any of the locks. */
export async function holdersOf(session: Queryable, keys: readonly string[]): Promise<readonly string[]> {
  const rows = await session.query(`SELECT DISTINCT coalesce(nullif(a.application_name, ''), 'process') || ' (pid ' || l.pid || ')' FROM (${LOCKS}) l JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE l.key = ANY ($1::bigint[]) ORDER BY 1`, [
    keys,
  ]);
  return rows.map(([name]) => String(name));
}

/** The key of an advisory lock, by what it is for. */
export function lockKey(name: string): string {
  return BigInt.asIntN(64, BigInt(`0x${hash("sha256", `tidemark ${name}`, "hex").slice(0, 16)}`)).toString();
}

/** The name of the lock of one shard. */
export function seatName(estate: string, shard: number): string {
  return `owner ${estate} ${shard}`;
}

export class Ownership implements Tenant {
  readonly #environment: Environment;
  readonly #groups = new Map<string, Group>();
  #ask: Ask | undefined;
  #timer: Timer | undefined;
  #patience: Timer | undefined;
  #alone = false;
  #looking = false;
  /** O3: sessions that were silent at the last look. */
  #silent: ReadonlySet<string> = new Set();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Waits until this process owns the shard. Errors: Aborted. */
  claim({ name, shards }: Estate, shard: number, signal: AbortSignal): Promise<Hold> {
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = { presence: shards > 1 ? lockKey(`present ${name}`) : undefined, shards, seats: new Set() };
      this.#groups.set(name, group);
      this.#present(group);
    }
    const { seats } = group;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#leave(name, seat);
        reject(new Aborted("waiting for the ownership of a read model was given up", { cause: signal.reason as unknown }));
      };
      const seat: Seat = {
        key: lockKey(seatName(name, shard)),
        ended: new AbortController(),
        held: false,
        grant: (locked) => {
          signal.removeEventListener("abort", onAbort);
          seat.held = true;
          resolve({ locked, ended: seat.ended.signal, release: () => this.#leave(name, seat) });
        },
      };
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      seats.add(seat);
      if (this.#ask === undefined) this.#bearWith();
      else this.#lookSoon(0);
    });
  }

  connected(ask: Ask): void {
    // O5: from now on there are locks.
    this.#endHeld();
    this.#patience?.cancel();
    this.#patience = undefined;
    this.#alone = false;
    this.#ask = ask;
    for (const group of this.#groups.values()) this.#present(group);
    this.#lookSoon(0);
  }

  /** O1. */
  lost(): void {
    this.#ask = undefined;
    this.#endHeld();
    this.#bearWith();
  }

  #endHeld(): void {
    for (const { seats } of this.#groups.values()) {
      for (const seat of seats) {
        if (!seat.held) continue;
        seats.delete(seat);
        seat.ended.abort();
      }
    }
  }

  /** O5. */
  #bearWith(): void {
    if (this.#alone) return this.#grantAlone();
    this.#patience ??= this.#environment.clock.setTimer(PATIENCE_MS, () => {
      if (this.#ask !== undefined) return;
      this.#alone = true;
      if (this.#groups.size > 0) this.#environment.logger.warn({ afterMs: PATIENCE_MS }, "there is no connection to listen on: read models are followed without an owner");
      this.#grantAlone();
    });
  }

  #grantAlone(): void {
    for (const { seats } of this.#groups.values()) for (const seat of seats) if (!seat.held) seat.grant(false);
  }

  #leave(name: string, seat: Seat): void {
    const group = this.#groups.get(name);
    if (group?.seats.delete(seat) !== true) return;
    if (seat.held) this.#quietly("SELECT pg_advisory_unlock($1::bigint)", [seat.key]);
    seat.ended.abort();
    if (group.seats.size > 0) return;
    this.#groups.delete(name);
    if (group.presence !== undefined) this.#quietly("SELECT pg_advisory_unlock_shared($1::bigint)", [group.presence]);
  }

  /** O4. */
  #present({ presence }: Group): void {
    if (presence !== undefined) this.#quietly("SELECT pg_advisory_lock_shared($1::bigint)", [presence]);
  }

  /** The listener finds out by itself when its connection fails. */
  #quietly(text: string, values: readonly unknown[]): void {
    this.#ask?.(text, values).catch(() => undefined);
  }

  #lookSoon(delayMs: number): void {
    if (this.#looking) return;
    this.#timer?.cancel();
    this.#timer = this.#environment.clock.setTimer(delayMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    const ask = this.#ask;
    if (ask === undefined || this.#groups.size === 0) return;
    this.#looking = true;
    let again = LOOK_MS * (0.8 + 0.4 * this.#environment.random.next());
    try {
      const groups = [...this.#groups.values()].filter(({ presence, seats }) => presence !== undefined || [...seats].some((seat) => !seat.held));
      // O3: also where there is nothing to look for.
      if (groups.length === 0) await ask("SELECT 1");
      else if (await this.#distribute(ask, groups)) again = 20;
    } catch (error) {
      if (this.#ask === ask) this.#environment.logger.warn({ error }, "the owners of read models could not be looked at");
    } finally {
      this.#looking = false;
      this.#lookSoon(again);
    }
  }

  /** True when a lock may be free in a moment. */
  async #distribute(ask: Ask, groups: readonly Group[]): Promise<boolean> {
    const keys = groups.flatMap(({ presence, seats }) => [...(presence === undefined ? [] : [presence]), ...[...seats].map(({ key }) => key)]);
    const holders = await this.#holders(ask, keys);
    for (const group of groups) {
      const mine = [...group.seats].filter(({ held }) => held);
      const present = new Set(holders.filter(({ key, shared }) => shared && key === group.presence).map(({ pid }) => pid)).size;
      const share = Math.ceil(group.shards / Math.max(1, present));
      for (const seat of mine.slice(share)) seat.ended.abort();
      const taken = new Set([...holders.map(({ key }) => key), ...mine.map(({ key }) => key)]);
      const free = this.#shuffled([...group.seats].filter(({ key, held }) => !held && !taken.has(key)));
      await this.#take(ask, free.slice(0, Math.max(0, share - mine.length)));
    }
    return this.#terminate(ask, holders.filter(({ mine, silent }) => silent && !mine));
  }

  /** So that processes which look at the same moment do not all reach for the same ones. */
  #shuffled(seats: readonly Seat[]): readonly Seat[] {
    const from = Math.floor(this.#environment.random.next() * seats.length);
    return [...seats.slice(from), ...seats.slice(0, from)];
  }

  async #holders(ask: Ask, keys: readonly string[]): Promise<readonly Holder[]> {
    const rows = await ask<[string, string, string, boolean, boolean, boolean]>(LOOK, [keys]);
    return rows.map(([key, pid, session, mine, shared, silent]) => ({ key, pid, session, mine, shared, silent }));
  }

  async #take(ask: Ask, seats: readonly Seat[]): Promise<void> {
    for (const seat of seats) {
      const [row] = await ask<[boolean]>("SELECT pg_try_advisory_lock($1::bigint)", [seat.key]);
      if (row?.[0] !== true) continue;
      const wanted = this.#ask === ask && [...this.#groups.values()].some((group) => group.seats.has(seat));
      if (wanted) seat.grant(true);
      else if (this.#ask === ask) this.#quietly("SELECT pg_advisory_unlock($1::bigint)", [seat.key]);
    }
  }

  /** O3. */
  async #terminate(ask: Ask, silent: readonly Holder[]): Promise<boolean> {
    const again = silent.filter(({ session }) => this.#silent.has(session));
    this.#silent = new Set(silent.map(({ session }) => session));
    if (again.length === 0) return false;
    this.#environment.logger.warn({ sessions: again.length }, "the owner of a read model has been silent for too long: its session is ended");
    await ask(TERMINATE, [again.map(({ pid }) => pid)]);
    return true;
  }
}
