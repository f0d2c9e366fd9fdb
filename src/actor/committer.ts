/**
 * Group commit: joins the appends of many actors into one round trip to the store.
 *
 * G1 As soon as the store can take another group, whatever is waiting goes; the first of a group waits for the end of the current turn of the loop and for nothing else.
 * G2 A group holds at most the store's number of appends, MAX_GROUP_EVENTS and MAX_GROUP_CHARACTERS; at most `groupsInFlight` groups are under way. First come, first sent.
 * G3 Each append gets its own outcome; a store that breaks its promise (it throws, or answers too few) makes the outcome `unknown`, never "failed".
 * G4 Two appends of one stream are never in one group: actors send one at a time.
 * G5 A store of several lanes may tell an outcome before the whole group is answered: its sender goes on at once, and is told once.
 * G6 A store that takes several groups at once gets what is open in equal shares, of LEAST_SHARE or more: while it works on one, the callers of another are answered and
 *    decide anew. One group of everything would leave the store idle while they do, and them while it works.
 */
import type { Clock } from "../environment.ts";
import type { Append, AppendOutcome, EventStore } from "../store/event-store.ts";
import type { Counters } from "./metrics.ts";

/** G6: fewer appends than this are not worth a round trip of their own. */
const LEAST_SHARE = 64;
/** Most events, and most characters of data, in a group; a single append may be larger. */
const MAX_GROUP_EVENTS = 10_000;
const MAX_GROUP_CHARACTERS = 8 * 1024 * 1024;

/** Who sent an append; called once for each. */
export interface AppendSender {
  settled(outcome: AppendOutcome): void;
}

interface Waiting {
  readonly append: Append;
  readonly characters: number;
  readonly sender: AppendSender;
}

export class Committer {
  readonly #store: EventStore;
  readonly #clock: Clock;
  readonly #counters: Counters;
  #waiting: Waiting[] = [];
  #inFlight = 0;
  /** Appends of the groups that are under way. */
  #underWay = 0;
  #scheduled = false;

  constructor(store: EventStore, clock: Clock, counters: Counters) {
    this.#store = store;
    this.#clock = clock;
    this.#counters = counters;
  }

  append(append: Append, sender: AppendSender): void {
    let characters = 0;
    for (const event of append.events) characters += event.data.length;
    this.#waiting.push({ append, characters, sender });
    if (this.#scheduled || this.#inFlight >= this.#store.capabilities.groupsInFlight) return;
    this.#scheduled = true;
    this.#clock.immediate(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  /** G1, G2. */
  #send(): void {
    while (this.#waiting.length > 0 && this.#inFlight < this.#store.capabilities.groupsInFlight) {
      const group = this.#nextGroup();
      this.#inFlight++;
      this.#underWay += group.length;
      this.#counters.groups++;
      this.#counters.appends += group.length;
      void this.#commit(group);
    }
  }

  #nextGroup(): Waiting[] {
    const { maxAppendsInBatch, groupsInFlight } = this.#store.capabilities;
    const open = this.#waiting.length + this.#underWay;
    const shares = Math.min(groupsInFlight, Math.max(1, Math.floor(open / LEAST_SHARE))); // G6
    const most = Math.min(maxAppendsInBatch, Math.ceil(open / shares));
    let count = 0;
    let events = 0;
    let characters = 0;
    for (const waiting of this.#waiting) {
      events += waiting.append.events.length;
      characters += waiting.characters;
      if (count === most || (count > 0 && (events > MAX_GROUP_EVENTS || characters > MAX_GROUP_CHARACTERS))) break;
      count++;
    }
    if (count === this.#waiting.length) {
      const all = this.#waiting;
      this.#waiting = [];
      return all;
    }
    return this.#waiting.splice(0, count);
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    const told = Array<boolean>(group.length).fill(false);
    let failure: { readonly error: unknown } | undefined;
    const settle = (index: number, outcome: AppendOutcome): void => {
      if (told[index] !== false) return; // G5
      told[index] = true;
      try {
        (group[index] as Waiting).sender.settled(outcome);
      } catch (error) {
        failure ??= { error }; // its neighbours are told all the same
      }
    };
    let outcomes: readonly AppendOutcome[];
    let cause: unknown;
    try {
      outcomes = await this.#store.append(
        group.map((waiting) => waiting.append),
        settle,
      );
    } catch (error) {
      outcomes = [];
      cause = error;
    }
    this.#inFlight--;
    this.#underWay -= group.length;
    for (let index = 0; index < group.length; index++) settle(index, outcomes[index] ?? { kind: "unknown", cause: cause ?? new Error("the store did not answer this append") }); // G3
    this.#send();
    if (failure !== undefined) throw failure.error;
  }
}
