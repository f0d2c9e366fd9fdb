/** Lets the faults of a plan happen. */
import { behaviourOf } from "../../aggregate/aggregate.ts";
import type { Stranger } from "./checker.ts";
import type { Cluster } from "./cluster.ts";
import type { Faults } from "./faults.ts";
import type { Step } from "./plan.ts";
import { decideOn, foldAll } from "./reference.ts";
import type { SimulatedStore } from "./simulated-store.ts";
import { streamOf } from "./users.ts";
import type { Wish } from "./workload.ts";

export class Attacker {
  /** Those who appended without the app. */
  readonly strangers: Stranger[] = [];
  readonly #store: SimulatedStore;
  readonly #cluster: Cluster;
  readonly #faults: Faults;

  constructor(store: SimulatedStore, cluster: Cluster, faults: Faults) {
    this.#store = store;
    this.#cluster = cluster;
    this.#faults = faults;
  }

  attack({ fault, process, ms, times, wish }: Extract<Step, { readonly kind: "fault" }>): void {
    const [store, cluster] = [this.#store, this.#cluster];
    if (store.attack(fault, ms)) return this.#faults.happened(fault);
    switch (fault) {
      case "crash":
        cluster.crash(process, 20 + ms * 300);
        break;
      case "restart":
        cluster.restart(process);
        break;
      case "stall":
        cluster.stall(process, 20 + ms * ms * 900);
        break;
      case "clock-jump":
        cluster.jump(process, ms < 0.5 ? -ms * 4000 : (ms - 0.5) * 40_000);
        break;
      case "second-writer":
        return void this.#intrude(wish);
      default:
        return this.#faults.arm(fault, times);
    }
    this.#faults.happened(fault);
  }

  /** Somebody decides well, and appends without the app. */
  async #intrude(wish: Wish): Promise<void> {
    const { backend, world } = this.#store;
    const stream = streamOf(wish);
    const id = `stranger-${this.strangers.length}`;
    const user = { user: id };
    this.strangers.push({ id, wish, metadata: user });
    const { events } = await backend.events.readStream(stream);
    const now = Math.floor(world.now);
    const state = foldAll(events, behaviourOf(wish.aggregate)).at(-1);
    const decided = decideOn(wish, state, events.length, { now, commandId: id, metadata: user });
    if (!decided.ok || decided.events.length === 0) return;
    const metadata = { correlationId: id, causationId: id, commandId: id, user };
    const news = decided.events.map(({ type, data }, index) => ({ id: `${id}-${index}`, type, data: JSON.stringify(data), metadata, recordedAt: now }));
    const [outcome] = await this.#store.execute([{ stream, expected: events.length, events: news }]);
    if (outcome?.kind === "committed") this.#faults.happened("second-writer");
  }
}
