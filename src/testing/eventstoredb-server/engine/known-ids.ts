/** Which event ids were written lately, and where: all that `any` and `stream_exists` are deduplicated by (BoundedCache in IndexWriter). Lost on restart. */

export interface KnownId {
  readonly stream: string;
  readonly revision: number;
}

export class KnownIds {
  readonly #limitBytes: number;
  readonly #known = new Map<string, KnownId>();
  /** Oldest first, and kept: one that begins anew steps over everything that was deleted since the map last grew. */
  readonly #oldest = this.#known.entries();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** An id that is known already keeps its first place. */
  put(id: string, stream: string, revision: number): void {
    if (this.#known.has(id)) return;
    this.#known.set(id, { stream, revision });
    this.#bytes += cost(stream);
    while (this.#bytes > this.#limitBytes) {
      const [oldest, { stream: of }] = this.#oldest.next().value as [string, KnownId];
      this.#known.delete(oldest);
      this.#bytes -= cost(of);
    }
  }

  get(id: string, stream: string): number | undefined {
    const known = this.#known.get(id);
    return known?.stream === stream ? known.revision : undefined;
  }
}

function cost(stream: string): number {
  return 28 + 2 * stream.length;
}
