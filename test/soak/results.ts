/** What a run of one seed comes to, as it travels between processes. */
export interface SeedResult {
  readonly seed: number;
  readonly violations: readonly { readonly invariant: string; readonly what: string }[];
  readonly commands: number;
  readonly faults: number;
  readonly tokenisedReads: number;
  readonly events: number;
  readonly coverage: Readonly<Record<string, number>>;
  readonly ms: number;
}

/** What every seed has to try at least; one that tries less proves nothing. */
export const LEAST = { commands: 200, faults: 20, tokenisedReads: 50 } as const;

/** What a seed tried too little of, or undefined. */
export function idleIn(result: SeedResult): string | undefined {
  const idle = (["commands", "faults", "tokenisedReads"] as const).filter((what) => result[what] < LEAST[what]);
  return idle.length === 0 ? undefined : idle.map((what) => `${what}: ${result[what]}, at least ${LEAST[what]}`).join("; ");
}
