/** Steps that an index has taken and not yet saved, in memory: what it answers from before it asks its file. */
import type { Claim, IndexedEvent, IndexStep, LaneState } from "./log-index.ts";
import type { LaneAdditions } from "./index-file.ts";

interface Lane {
  readonly events: IndexedEvent[];
  readonly claims: Claim[];
  state: LaneState;
}

export class UnsavedSteps {
  readonly #lanes = new Map<string, Lane>();
  readonly #streams = new Map<string, IndexedEvent[]>();
  #events = 0;
  #bytes = 0;

  get events(): number {
    return this.#events;
  }

  get bytes(): number {
    return this.#bytes;
  }

  apply(lane: string, { events, claims, state }: IndexStep): void {
    const known = this.#lanes.get(lane) ?? { events: [], claims: [], state };
    this.#lanes.set(lane, known);
    for (const event of events) {
      known.events.push(event);
      const own = this.#streams.get(event.stream);
      if (own === undefined) this.#streams.set(event.stream, [event]);
      else own.push(event);
      this.#bytes += event.record.length;
    }
    for (const claim of claims) known.claims.push(claim);
    known.state = state;
    this.#events += events.length;
  }

  reset(lane: string): void {
    const known = this.#lanes.get(lane);
    if (known === undefined) return;
    for (const { stream, record } of known.events) {
      this.#streams.delete(stream);
      this.#bytes -= record.length;
    }
    this.#events -= known.events.length;
    this.#lanes.delete(lane);
  }

  lane(lane: string): LaneState | undefined {
    return this.#lanes.get(lane)?.state;
  }

  /** Undefined: nothing of the stream is here. */
  versionOf(stream: string): number | undefined {
    return this.#streams.get(stream)?.at(-1)?.version;
  }

  /** All that is here of a stream: its end. */
  stream(stream: string): readonly IndexedEvent[] {
    return this.#streams.get(stream) ?? [];
  }

  log(lane: string, from: number, to: number, most: number): readonly IndexedEvent[] {
    const events = this.#lanes.get(lane)?.events ?? [];
    const first = firstAtOrAfter(events, from);
    return events.slice(first, Math.min(first + most, firstAtOrAfter(events, to)));
  }

  claimAt(lane: string, offset: number): Claim | undefined {
    const claims = this.#lanes.get(lane)?.claims ?? [];
    return claims[firstAtOrAfter(claims, offset + 1) - 1];
  }

  hasClaim(lane: string, nonce: string): boolean {
    return this.#lanes.get(lane)?.claims.some((claim) => claim.nonce === nonce) ?? false;
  }

  additions(): readonly LaneAdditions[] {
    return [...this.#lanes].map(([lane, { events, claims, state }]) => ({ lane, events, claims, state }));
  }
}

/** Index of the first whose offset is not below; `list` is ordered by it. */
function firstAtOrAfter(list: readonly { readonly offset: number }[], offset: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((list[middle] as { offset: number }).offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
