/** The local index in this process's memory: built from the log each time it is opened. */
import type { Claim, IndexedEvent, IndexStep, LaneState, LogIndex } from "./log-index.ts";

interface Lane {
  state: LaneState;
  /** In the order of their offsets. */
  events: IndexedEvent[];
  claims: Claim[];
  readonly nonces: Set<string>;
}

export function memoryIndex(): LogIndex {
  return new MemoryIndex();
}

class MemoryIndex implements LogIndex {
  readonly #lanes = new Map<string, Lane>();
  readonly #streams = new Map<string, IndexedEvent[]>();

  lane(lane: string): LaneState | undefined {
    return this.#lanes.get(lane)?.state;
  }

  apply(lane: string, { events, claims, state }: IndexStep): void {
    const known = this.#lanes.get(lane) ?? { state, events: [], claims: [], nonces: new Set<string>() };
    this.#lanes.set(lane, known);
    for (const event of events) {
      known.events.push(event);
      const own = this.#streams.get(event.stream);
      if (own === undefined) this.#streams.set(event.stream, [event]);
      else own.push(event);
    }
    for (const claim of claims) {
      known.claims.push(claim);
      known.nonces.add(claim.nonce);
    }
    known.state = state;
  }

  reset(lane: string): void {
    for (const { stream } of this.#lanes.get(lane)?.events ?? []) this.#streams.delete(stream);
    this.#lanes.delete(lane);
  }

  versionOf(stream: string): number {
    return this.#streams.get(stream)?.length ?? 0;
  }

  stream(stream: string, first: number, last: number): readonly IndexedEvent[] {
    return this.#streams.get(stream)?.slice(first - 1, last) ?? [];
  }

  log(lane: string, from: number, to: number, most: number): readonly IndexedEvent[] {
    const events = this.#lanes.get(lane)?.events ?? [];
    const first = firstAtOrAfter(events, from);
    let last = Math.min(events.length, first + most);
    while (last > first && (events[last - 1] as IndexedEvent).offset >= to) last = Math.max(first, firstAtOrAfter(events, to));
    return events.slice(first, last);
  }

  claimAt(lane: string, offset: number): Claim | undefined {
    const claims = this.#lanes.get(lane)?.claims ?? [];
    return claims[firstAtOrAfter(claims, offset + 1) - 1];
  }

  hasClaim(lane: string, nonce: string): boolean {
    return this.#lanes.get(lane)?.nonces.has(nonce) ?? false;
  }

  close(): void {
    this.#lanes.clear();
    this.#streams.clear();
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
