/**
 * One connection that listens for notifications, for a whole process.
 *
 * N1 A notification only says "look": whoever hears it reads the tables. So nothing depends on one arriving, but how soon is known what it tells.
 * N2 After every connecting all listeners are told to look: what was told meanwhile was lost.
 * N3 A heartbeat finds a connection that is dead without a word; it is made anew with growing, jittered pauses.
 * N4 The safety net: all listeners are told to look now and then, and often while there is no connection.
 * N5 It runs from the first listener or tenant to `close()`.
 */
import type { ClientConfig } from "pg";
import pg from "pg";
import type { Environment, Timer } from "../../environment.ts";
import { CONNECT_BOUND_MS, pause, quoted } from "./database.ts";
import { NoAnswer } from "./postgres-error.ts";

/** N3: how often the connection is tried, and how long it may take to answer. */
const HEARTBEAT_MS = 5000;
const ANSWER_BOUND_MS = 3000;
/** N4: with and without a connection. */
const SLOW_POLL_MS = 5000;
const FAST_POLL_MS = 90;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;

/** `payload`: undefined says that something may have been missed. */
export type OnNotification = (payload: string | undefined) => void;

export type Ask = <R extends readonly unknown[] = readonly unknown[]>(text: string, values?: readonly unknown[]) => Promise<readonly R[]>;

/** What else lives in the session. */
export interface Tenant {
  /** There is a session, a new one each time; `ask` runs a statement in it, one after the other, and gives its rows as lists. */
  connected(ask: Ask): void;
  /** It has ended, and everything in it. */
  lost(): void;
}

export class Listener {
  readonly #config: ClientConfig | undefined;
  readonly #environment: Environment;
  readonly #listeners = new Map<string, Set<OnNotification>>();
  readonly #tenants = new Set<Tenant>();
  #started = false;
  #connected = false;
  #client: pg.Client | undefined;
  #ask: Ask | undefined;
  #poll: Timer | undefined;
  readonly #closing = new AbortController();

  /** `config`: how to connect past any pooler; undefined: nothing is heard, and listeners are told to look every `FAST_POLL_MS`. */
  constructor(config: ClientConfig | undefined, environment: Environment) {
    this.#config = config;
    this.#environment = environment;
  }

  /** Calls back for each notification of the channel, from now on. Returns what ends it. */
  add(channel: string, listener: OnNotification): () => void {
    const own: OnNotification = (payload) => listener(payload);
    const others = this.#listeners.get(channel);
    if (others === undefined) {
      this.#listeners.set(channel, new Set([own]));
      this.#ask?.(`LISTEN ${quoted(channel)}`).then(
        () => own(undefined),
        () => undefined,
      );
    } else others.add(own);
    this.#start();
    return () => this.#listeners.get(channel)?.delete(own);
  }

  /** Whether there ever is a session. */
  get connects(): boolean {
    return this.#config !== undefined;
  }

  /** Tells the tenant of each session from now on. */
  house(tenant: Tenant): void {
    this.#tenants.add(tenant);
    if (this.#connected && this.#ask !== undefined) tenant.connected(this.#ask);
    this.#start();
  }

  close(): void {
    this.#closing.abort();
    this.#poll?.cancel();
    this.#listeners.clear();
    this.#evict();
    this.#tenants.clear();
    this.#giveUp();
  }

  #start(): void {
    if (this.#started || this.#closing.signal.aborted) return;
    this.#started = true;
    this.#pollOn();
    if (this.#config !== undefined) void this.#run(this.#config);
  }

  /** N2, N3. Never rejects. */
  async #run(config: ClientConfig): Promise<void> {
    const { signal } = this.#closing;
    for (let failures = 0; !signal.aborted; ) {
      const client = new pg.Client({ application_name: "tidemark listener", ...config, keepAlive: true, connectionTimeoutMillis: CONNECT_BOUND_MS });
      const lost = new Promise<Error>((resolve) => {
        client.on("error", resolve);
        client.on("end", () => resolve(new Error("the connection ended")));
      });
      client.on("notification", ({ channel, payload }) => this.#tell(channel, payload));
      this.#client = client;
      try {
        await client.connect();
        const ask = oneByOne(client);
        this.#ask = ask;
        for (const channel of this.#listeners.keys()) await ask(`LISTEN ${quoted(channel)}`);
        if (signal.aborted) return this.#giveUp();
        this.#connected = true;
        failures = 0;
        this.#tellAll();
        for (const tenant of this.#tenants) tenant.connected(ask);
        await this.#heartbeats(ask, lost);
      } catch (error) {
        if (signal.aborted) return;
        this.#environment.logger.warn({ error }, "the connection that listens for notifications was lost and is made anew");
      }
      this.#evict();
      this.#connected = false;
      this.#giveUp();
      await pause(this.#environment, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++), signal);
    }
  }

  /** N3. Returns never; throws when the connection is lost or silent. */
  async #heartbeats(ask: Ask, lost: Promise<Error>): Promise<never> {
    for (;;) {
      const failure = await this.#within(HEARTBEAT_MS, lost);
      if (failure !== undefined) throw failure;
      const answer = ask("SELECT 1").then(
        () => "alive" as const,
        (error: Error) => error,
      );
      const alive = await this.#within(ANSWER_BOUND_MS, Promise.race([answer, lost]));
      if (alive !== "alive") throw alive ?? new NoAnswer(ANSWER_BOUND_MS);
    }
  }

  /** What the promise resolves with, or undefined when it takes longer. */
  async #within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
    let timer: Timer | undefined;
    const expired = new Promise<undefined>((resolve) => {
      timer = this.#environment.clock.setTimer(ms, () => resolve(undefined));
    });
    try {
      return await Promise.race([promise, expired]);
    } finally {
      timer?.cancel();
    }
  }

  /** N4. */
  #pollOn(): void {
    this.#poll = this.#environment.clock.setTimer(this.#connected ? SLOW_POLL_MS : FAST_POLL_MS, () => {
      this.#tellAll();
      if (!this.#closing.signal.aborted) this.#pollOn();
    });
  }

  #tellAll(): void {
    for (const channel of this.#listeners.keys()) this.#tell(channel, undefined);
  }

  #tell(channel: string, payload: string | undefined): void {
    for (const listener of this.#listeners.get(channel) ?? []) listener(payload);
  }

  #evict(): void {
    if (this.#connected) for (const tenant of this.#tenants) tenant.lost();
  }

  #giveUp(): void {
    const client = this.#client;
    this.#client = undefined;
    this.#ask = undefined;
    // With a question under way `end` destroys the socket at once; otherwise it says goodbye first.
    client?.end().catch(() => undefined);
  }
}

/** A client takes the next statement when the one before is answered. */
function oneByOne(client: pg.Client): Ask {
  let turn: Promise<unknown> = Promise.resolve();
  return async <R extends readonly unknown[]>(text: string, values: readonly unknown[] = []) => {
    const answer = turn.then(() => client.query<R & unknown[]>({ text, values: [...values], rowMode: "array" }));
    turn = answer.catch(() => undefined);
    return (await answer).rows;
  };
}
