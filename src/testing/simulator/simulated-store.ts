/**
 * A store behind a network: the processes of a simulation are its clients, a backend (in memory unless told otherwise) is its server.
 *
 * N1 Every operation takes time both ways and is carried out in one step when it arrives. Without faults the client keeps what the server promises (S1–S7, V1–V4).
 * N2 Faults stay within the ports' promises: a definite failure never appears later, an append that may appear is `unknown`, what was acknowledged stands.
 * N3 A request that is under way when its client dies may still arrive; its reply reaches nobody.
 * N4 Subscriptions outlive an outage: they wait and go on where they were. Everything else finds the store unavailable.
 * N5 What a client may not do is told to `onMisuse`: two unsettled appends of one stream, more groups in flight than the store takes, two loads of one snapshot at once.
 */
import type { BuildKey, Row, SavedCheckpoint } from "../../readmodel/view-store.ts";
import type { StoredSnapshot } from "../../snapshot/snapshot-store.ts";
import type { Backend } from "../../store/backend.ts";
import type { Append, AppendOutcome, StoreCapabilities } from "../../store/event-store.ts";
import { offsetOf } from "../../store/position.ts";
import type { Draws } from "./draws.ts";
import type { FaultKind, Faults } from "./faults.ts";
import { SimulatedClient } from "./simulated-client.ts";
import type { Host, World } from "./world.ts";

/** Rows and checkpoint of a view, as they stood right after a commit. */
export interface ViewCommit {
  readonly key: BuildKey;
  readonly checkpoint: SavedCheckpoint;
  readonly rows: readonly Row[];
}

export interface SimulatedStoreOptions {
  readonly world: World;
  readonly draws: Draws;
  readonly faults: Faults;
  readonly backend: Backend;
  /** What of the server's capabilities is narrowed. */
  readonly capabilities?: Partial<StoreCapabilities>;
  /** When an append without a reply is `unknown`, in milliseconds. */
  readonly timeoutMs?: number;
  /** N5. */
  readonly onMisuse: (what: string) => void;
  readonly count: (what: string) => void;
}

export class SimulatedStore {
  readonly backend: Backend;
  readonly capabilities: StoreCapabilities;
  /** What the server has committed, by stream. */
  readonly versions = new Map<string, number>();
  /** Offset of the end of the log, as readers can see it. */
  length = 0;
  /** Events that were committed. */
  events = 0;
  /** Appends that will still arrive, answered as unknown or not, and failures that are still on their way. */
  late = 0;
  lastSnapshot: StoredSnapshot | undefined;
  readonly viewCommits: ViewCommit[] = [];
  readonly world: World;
  readonly faults: Faults;
  readonly timeoutMs: number;
  readonly #options: SimulatedStoreOptions;
  readonly #underWay = new Set<() => void>();
  #downUntil = 0;
  #slowUntil = 0;
  #slowness = 1;

  constructor(options: SimulatedStoreOptions) {
    this.#options = options;
    this.world = options.world;
    this.faults = options.faults;
    this.backend = options.backend;
    this.timeoutMs = options.timeoutMs ?? 150;
    // The server outlives its clients, which are many.
    this.capabilities = Object.freeze({ ...options.backend.events.capabilities, durable: true, multiProcess: true, ...options.capabilities });
  }

  /** What a process on this host opens; `place`: which of the processes it is, also after it has started again. */
  connect(host: Host, _place = 0): Backend {
    return new SimulatedClient(this, host, this.#options).backend;
  }

  get down(): boolean {
    return this.world.now < this.#downUntil;
  }

  /** Does what is planned to the store itself, `size` in [0, 1); false where the fault is none of the store's. */
  attack(fault: FaultKind, size: number): boolean {
    if (fault === "store-crash") this.crash(10 + size * 200);
    else if (fault === "slow-store") this.slow(2 + size * 20, 30 + size * 150);
    else return false;
    return true;
  }

  /** Gone for so long; of the replies under way some are lost. */
  crash(forMs: number): void {
    this.#downUntil = Math.max(this.#downUntil, this.world.now + forMs);
    for (const lose of Array.from(this.#underWay)) if (this.#options.draws.chance(0.5)) lose();
  }

  slow(factor: number, forMs: number): void {
    this.#slowness = factor;
    this.#slowUntil = this.world.now + forMs;
  }

  /** Nothing goes wrong any more. */
  heal(): void {
    this.faults.clear();
    this.#downUntil = 0;
    this.#slowUntil = 0;
  }

  /** One way, in milliseconds. */
  latency(): number {
    const { draws } = this.#options;
    const usual = draws.chance(0.05) ? draws.next() * 25 : 0.1 + draws.next() * 2;
    return this.world.now < this.#slowUntil ? usual * this.#slowness : usual;
  }

  /** Calls back at the next moment at which the store is up (N4). */
  whenUp(task: () => void): void {
    if (!this.down) return task();
    this.world.post(this.#downUntil - this.world.now + this.latency(), () => this.whenUp(task));
  }

  /** Replies that a crash may lose; the result ends it. */
  losable(lose: () => void): () => void {
    this.#underWay.add(lose);
    return () => this.#underWay.delete(lose);
  }

  /** N1: carries out appends in one step. */
  async execute(appends: readonly Append[]): Promise<readonly AppendOutcome[]> {
    const outcomes = await this.backend.events.append(appends);
    outcomes.forEach((outcome, index) => {
      this.#options.count(`append ${outcome.kind}`);
      if (outcome.kind !== "committed") return;
      const { stream } = appends[index] as Append;
      this.versions.set(stream, Math.max(this.versions.get(stream) ?? 0, outcome.version));
      this.length = Math.max(this.length, offsetOf(outcome.position));
      this.events = this.length;
    });
    return outcomes;
  }
}
